"""Writing an object that grants share in AWS from rows: everything that does it goes through here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent, ref
from apps.connectors.base import Proof, Window
from apps.connectors.errors import Refused
from apps.core.locks import Lost, exclusive
from apps.core.privileges import ROLES
from apps.grants import narrowing
from apps.grants.models import Grant, Stop, StopWrite
from apps.grants.windows import Shared, windows_of

logger = logging.getLogger(__name__)

TOLD_AGAIN = timedelta(days=1)  # what is wrong is tried for ever, and told once a day


class WrongObject(Refused):
    """A row names another object in AWS than the one that would be written for it. Nothing was: it is an alarm."""


@contextmanager
def alone_with(shared: Shared) -> Iterator[None]:
    """Hold the object's lock for the block.

    Where the lock did not last, somebody else may have written the object meanwhile, and this block over it, with what was
    true before: an end that was read back would be gone, and nobody would write it again. So it is written once more, from
    the rows as they are by then, before `Lost` is raised.
    """
    try:
        with exclusive("shared", shared.key):
            yield
    except Lost:
        try:
            with exclusive("shared", shared.key):
                enforce(shared, windows_of(shared.key))
        except Exception:  # whatever it is, a comparison finds what is left
            logger.exception("%s could not be written once more", shared.key)
        raise


def enforce(shared: Shared, windows: Sequence[Window]) -> Proof:
    """Write the object from all of these windows and read it back, under its lock.

    What it must say is looked up by a key that stands in rows, and AWS is asked by a target. Unless the key is the one that
    every target computes, an object would be written from what is said about another, and would lose all its own ends:
    then nothing is written, and administrators are told. Nor is an object emptied by a database that may have forgotten
    what stands in it.
    """
    targets = [shared.target, *(window.target for window in windows)]
    if not all(shared.holds(target) for target in targets):
        refuse(shared.row, shared.key)
    if not windows and (why := narrowing.reason()):
        raise narrowing.OnlyNarrowing(why)  # that no row says anything there is no reason to empty it
    return shared.provisioner.enforce(shared.target, windows)


def refuse(row: Grant | StopWrite, key: str) -> None:
    """Tell that this row names a wrong object, and raise `WrongObject`."""
    why = f"{key} is not the object that AWS would change for this. Nothing was written."
    subject: Grant | Stop = row.stop if isinstance(row, StopWrite) else row
    event = "grants.stop.object_refused" if isinstance(subject, Stop) else "grants.grant.object_refused"
    logger.error("%s: %s", subject.number, why)
    lately = AuditEvent.objects.about(ref(subject)).filter(event=event, at__gt=timezone.now() - TOLD_AGAIN)
    with transaction.atomic():
        if not lately.exclude(written_as=ROLES["web"]).exists():
            audit.record(event, by=audit.WORKER, subject=subject, data={"object": key, "problem": why})
    raise WrongObject(why)

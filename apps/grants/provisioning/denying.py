"""One write for everything that shall end in one shared object: what lapses together, or is stopped at once, is denied
together, before each removal is carried out by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import transaction

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.base import Proof, Window
from apps.connectors.errors import ConnectorError
from apps.core.locks import Taken
from apps.grants.models import Grant
from apps.grants.provisioning.enforcing import alone_with, enforce
from apps.grants.provisioning.turns import Turn, about_of, appended, plain
from apps.grants.windows import target_of, window_for, windows_of

logger = logging.getLogger(__name__)


@budget.purpose("revoke")
def deny(shared_key: str) -> None:
    """Write one shared object, so that it denies every grant in it that is being ended, and keep the proof with each.

    What cannot be written now is written again by each grant's own removal, so this only saves time and calls.
    """
    first = Grant.objects.undenied().filter(shared_key=shared_key).with_names().first()
    if first is None or not first.promise.denies:
        return
    turn = Turn(first)
    try:
        with alone_with(turn.shared):
            ending = list(Grant.objects.undenied().filter(shared_key=shared_key).with_names())
            windows = windows_of(shared_key)
            proof = enforce(turn.shared, windows)
            note_denied(ending, windows, proof)
    except (ConnectorError, Taken) as error:
        logger.warning("%s could not be written for %s and others yet: %s", shared_key, first.number, error)


def note_denied(grants: Sequence[Grant], windows: Sequence[Window], proof: Proof) -> set[int]:
    """Keep with each of these grants since when AWS denies it, unless another grant keeps the same access open, or what
    was written denies nothing. Returns the keys of those that it was kept with now: a row that another session holds is
    left to the grant's own removal, which proves it once more."""
    denied = []
    for grant in grants:
        window = window_for(target_of(grant), windows)
        if grant.promise.denies and window is not None and not window.is_open:
            denied.append(grant)
    with transaction.atomic():
        fresh = (
            Grant.objects.undenied().filter(pk__in=[grant.pk for grant in denied]).select_for_update(skip_locked=True)
        )
        mine = set(fresh.values_list("pk", flat=True))
        Grant.objects.filter(pk__in=mine).update(denied_at=proof.read_at, receipt=appended([plain(proof)]))
        audit.record_all(
            audit.event(
                "grants.grant.denied",
                by=audit.WORKER,
                subject=grant,
                about=about_of(grant),
                data={"proof": plain(proof)},
            )
            for grant in denied
            if grant.pk in mine
        )
    return mine

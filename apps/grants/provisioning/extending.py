"""A later end: checked, written into AWS and read back, or refused with a reason. The old end holds until then."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.errors import ConnectorError, Refused
from apps.core.locks import Taken, exclusive
from apps.grants import presence, warrants
from apps.grants.models import Extension, Grant, State
from apps.grants.provisioning.opening import require_authority
from apps.grants.provisioning.turns import Turn, about_of, leave_for_later, tell
from apps.grants.windows import windows_of

logger = logging.getLogger(__name__)


@budget.purpose("grant")
def extend(extension_id: int) -> None:
    """Move a grant's end, if its extension has the authority for it and AWS has room for it.

    The later end is in the row first and in AWS after that; a worker killed in between leaves access that ends earlier
    than agreed, never later, and `narrow` writes it again. What cannot be written goes back to the old end.
    """
    extension = Extension.objects.unsettled().filter(pk=extension_id).first()
    if extension is None:
        return
    grant = Grant.objects.with_names().select_related("warrant").get(pk=extension.grant_id)
    extension.grant = grant
    turn = Turn(grant)
    try:
        require_authority(grant)
        warrants.check_extension(extension)
        warrants.ask_rules_again(grant, extension)
        with exclusive("shared", grant.shared_key):
            was = _move_the_end(extension)
            if was is None:
                return
            _write(turn, extension, was)
    except warrants.InvalidWarrant as error:
        _refuse(extension, "grants.grant.warrant_refused", error)
    except Refused as error:
        _refuse(extension, "grants.grant.extension_refused", error)
    except (ConnectorError, Taken) as error:
        leave_for_later(grant, "its later end is not in AWS yet", error)


def _move_the_end(extension: Extension) -> datetime | None:
    """Agree on the later end, unless the grant is over or the extension settled. Returns the end that held before."""
    with transaction.atomic():
        grant = Grant.objects.select_for_update().get(pk=extension.grant_id)
        if not Extension.objects.unsettled().filter(pk=extension.pk).exists():
            return None
        if grant.state != State.ACTIVE or grant.ends_at is None or grant.ends_at <= timezone.now():
            raise Refused("It was over before it could be extended.")
        presence.require(grant)
        was = grant.ends_at
        _set_end(extension.grant, was + extension.duration, narrowed_at=None)
        Extension.objects.filter(pk=extension.pk).update(applied_at=timezone.now())
        audit.record(
            "grants.grant.extended",
            by=audit.WORKER,
            subject=grant,
            about=about_of(extension.grant),
            data={"from": was.isoformat(), "to": (was + extension.duration).isoformat()},
        )
    return was


def _write(turn: Turn, extension: Extension, was: datetime) -> None:
    """Put the later end into AWS. When it has no room, the old end holds again, there and here."""
    windows = windows_of(turn.grant.shared_key)
    try:
        turn.provisioner.check(turn.target, windows)
        proof = turn.provisioner.enforce(turn.target, windows)
    except Refused:
        _set_end(turn.grant, was)
        Extension.objects.filter(pk=extension.pk).update(applied_at=None)
        raise
    Grant.objects.filter(pk=turn.grant.pk, state=State.ACTIVE).update(narrowed_at=timezone.now())
    tell(turn, "grants.grant.end_moved", proof)


def _set_end(grant: Grant, end: datetime, **fields: Any) -> None:
    Grant.objects.filter(pk=grant.pk, state=State.ACTIVE).update(ends_at=end, not_after=end, **fields)
    grant.ends_at = grant.not_after = end


def _refuse(extension: Extension, event: str, error: Exception) -> None:
    """It stays as it was. The person is told why."""
    logger.warning("%s is not extended: %s", extension.grant.number, error)
    with transaction.atomic():
        mine = Extension.objects.unsettled().filter(pk=extension.pk)
        if not mine.update(refused_at=timezone.now(), problem=str(error)[:1000]):
            return
        audit.record(
            event,
            by=audit.WORKER,
            subject=extension.grant,
            about=about_of(extension.grant),
            data={"problem": str(error)},
        )

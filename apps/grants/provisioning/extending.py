"""A later end: checked, written into AWS and read back, or refused with a reason. The old end holds until then."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.base import Target, Window
from apps.connectors.errors import ConnectorError, Refused
from apps.core.locks import Taken
from apps.grants import presence, warrants
from apps.grants.models import Extension, Grant, State
from apps.grants.provisioning.enforcing import alone_with, enforce
from apps.grants.provisioning.opening import require_authority
from apps.grants.provisioning.turns import Turn, about_of, leave_for_later, tell
from apps.grants.windows import window_for, windows_of

OVER = "It was over before it could be extended."

logger = logging.getLogger(__name__)


@budget.purpose("grant")
def extend(extension_id: int) -> None:
    """Move a grant's end, if its extension has the authority for it and AWS has room for it.

    The later end is in AWS, and read back, before the row says it, so that nobody is promised time that AWS does not give.
    A worker killed in between leaves a row that still counts as not narrowed: `narrow` takes AWS back to the row's end
    and the clock tries the extension again.
    """
    extension = Extension.objects.unsettled().filter(pk=extension_id).first()
    if extension is None:
        return
    grant = Grant.objects.with_names().select_related("warrant").get(pk=extension.grant_id)
    extension.grant = grant
    try:
        require_authority(grant)
        warrants.check_extension(extension)
        warrants.ask_rules_again(grant, extension)
        turn = Turn(grant)
        with alone_with(turn.shared):
            if Extension.objects.unsettled().filter(pk=extension.pk).exists():
                _move_the_end(turn, extension)
    except warrants.InvalidWarrant as error:
        _refuse(extension, "grants.grant.warrant_refused", error)
    except Refused as error:
        _refuse(extension, "grants.grant.extension_refused", error)
    except (ConnectorError, Taken) as error:
        leave_for_later(grant, "its later end is not in AWS yet", error)


def _move_the_end(turn: Turn, extension: Extension) -> None:
    """Under the object's lock: whoever ends the grant meanwhile writes the object after us."""
    grant = turn.grant
    grant.refresh_from_db(fields=["state", "ends_at"])
    was = grant.ends_at
    if grant.state != State.ACTIVE or was is None or was <= timezone.now():
        raise Refused(OVER)
    presence.require(grant)
    end = was + extension.duration
    windows = _with_later_end(windows_of(grant.shared_key), turn.target, end)
    turn.provisioner.check(turn.target, windows)
    if not Grant.objects.filter(pk=grant.pk, state=State.ACTIVE, ends_at=was).update(narrowed_at=None):
        raise Refused(OVER)
    proof = enforce(turn.shared, windows)
    _say(extension, was, end)
    tell(turn, "grants.grant.end_moved", proof)


def _with_later_end(windows: list[Window], target: Target, end: datetime) -> list[Window]:
    """The same, but for what this grant is for, which may last until `end`."""
    mine = window_for(target, windows)
    if mine is None or not mine.is_open:
        raise Refused(OVER)
    later = replace(mine, not_after=max(mine.not_after, end), lapses_at=max(mine.lapses_at or end, end))
    return [later if window is mine else window for window in windows]


def _say(extension: Extension, was: datetime, end: datetime) -> None:
    """The row and the extension, in one step."""
    now, grant = timezone.now(), extension.grant
    with transaction.atomic():
        mine = Grant.objects.filter(pk=grant.pk, state=State.ACTIVE, ends_at=was)
        if not mine.update(ends_at=end, not_after=end, narrowed_at=now):
            raise Refused(OVER)
        Extension.objects.filter(pk=extension.pk).update(applied_at=now)
        audit.record(
            "grants.grant.extended",
            by=audit.WORKER,
            subject=grant,
            about=about_of(grant),
            data={"from": was.isoformat(), "to": end.isoformat()},
        )


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

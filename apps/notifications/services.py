"""What people do with their inbox, what the clock finds worth telling, and moving the cursor by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent, ref
from apps.core.privileges import ROLES
from apps.grants.models import Grant, State
from apps.notifications.models import Cursor, Notification
from apps.users.models import User

ENDING_SOON = timedelta(minutes=10)
OVERDUE, SOON = "grants.grant.overdue", "grants.grant.ending_soon"


def mark_read(notification: Notification) -> None:
    """Its recipient has seen it. Nobody's decision, so no audit event."""
    Notification.objects.unread().filter(pk=notification.pk).update(read_at=timezone.now())


def mark_all_read(*, by: User, up_to: int) -> int:
    """Everything `by` was shown, up to and including the notification `up_to`; what came in meanwhile stays unread."""
    return Notification.objects.of(by).unread().filter(pk__lte=up_to).update(read_at=timezone.now())


def note_ending_soon(grants: Iterable[Grant], *, now: datetime) -> list[Grant]:
    """Put on record that these grants end within `ENDING_SOON`, once for each end; the record is what tells the holder.
    Those that are given for not much longer than that are left out: their holder has just been told."""
    soon = [
        grant
        for grant in grants
        if grant.ends_at
        and now < grant.ends_at <= now + ENDING_SOON
        and grant.duration
        and grant.duration > 2 * ENDING_SOON
    ]
    return _note_once(soon, SOON, State.ACTIVE)


def note_overdue(grants: Iterable[Grant]) -> list[Grant]:
    """Put on record that the removal of these grants should have been proven by now, once for each. An owner's task is
    overdue after its date."""
    now = timezone.now()
    late = [grant for grant in grants if not grant.is_owner_task or (grant.due_at and grant.due_at <= now)]
    return _note_once(late, OVERDUE, State.REVOKING)


@transaction.atomic
def _note_once(grants: Iterable[Grant], event: str, state: str) -> list[Grant]:
    """The rows are locked first, so that two clocks never record the same."""
    keys = [grant.pk for grant in grants]
    locked = Grant.objects.filter(pk__in=keys, state=state).select_for_update(of=("self",), skip_locked=True)
    rows = list(locked.select_related("entitlement__resource", "identity", "principal").order_by("pk"))
    refs = [ref(grant) for grant in rows]
    told = _already_told(event, refs) if refs else set()
    new = [grant for grant in rows if (ref(grant), _end_of(grant)) not in told]
    audit.record_all(
        audit.event(
            event,
            by=audit.CLOCK,
            subject=grant,
            about=[grant.identity or grant.principal, grant.entitlement],
            data={"ends_at": _end_of(grant)},
        )
        for grant in new
    )
    return new


def _already_told(event: str, refs: list[str]) -> set[tuple[str, str]]:
    """(grant, end) of what is on record. A grant that was extended since has another end. The web process tells nobody."""
    events = AuditEvent.objects.about(*refs).filter(event=event).exclude(written_as=ROLES["web"])
    rows = events.values_list("subject", "data__ends_at")
    return {(subject, ends_at or "") for subject, ends_at in rows}


def _end_of(grant: Grant) -> str:
    return grant.ends_at.isoformat() if grant.ends_at else ""


@transaction.atomic
def rebase_cursor(consumer: str, *, by: Any) -> Cursor:
    """Let `consumer` count everything that is in the audit log now as dealt with, and go on from here. After a restore
    from a dump: the old events then carry transaction ids of another cluster. Waits for running writers to finish."""
    with connection.cursor() as sql:
        sql.execute("LOCK TABLE audit_auditevent IN SHARE MODE")
        sql.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        [here] = sql.fetchone()
    newest = AuditEvent.objects.aggregate(newest=Max("pk"))["newest"] or 0
    cursor, _ = Cursor.objects.select_for_update().get_or_create(consumer=consumer)
    was = [cursor.xid, cursor.event]
    cursor.xid, cursor.event, cursor.floor = here - 1, newest, newest
    cursor.save()
    audit.record(
        "notifications.cursor.rebased",
        by=by,
        subject=cursor,
        data={"from": was, "to": [cursor.xid, cursor.event], "floor": newest},
    )
    return cursor


def forget_old(*, now: datetime) -> int:
    """Delete notifications that were kept long enough, with their deliveries. The audit log keeps what happened."""
    count, _ = Notification.objects.outdated(now).delete()
    return count

"""Follows the audit log and writes down who is to be told what.

A batch is one transaction: the notifications, their deliveries and the cursor move together or not at all, so whatever
is killed in between is done again, and the unique (event, recipient) keeps that from telling anybody twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.notifications.models import Cursor, Delivery, Notification
from apps.notifications.notes import SETTLES, TELLERS, Note, administrators, one_line

log = logging.getLogger(__name__)

NAME = "notifications"
WINDOW = 2000  # events a transaction looks at
BATCH = 200  # events it deals with: most mean nothing for people, and are passed over by their name alone


class NeedsRebase(Exception):
    """The cursor stands where this database cluster has not been yet: it was restored. Nothing is told until somebody
    runs `manage.py rebase_cursor`."""


def follow() -> int:
    """Deal with every settled event that is new, and return how many there were. When another process is at it, none."""
    Cursor.objects.get_or_create(consumer=NAME)
    count = 0
    while dealt_with := _next_batch():
        count += dealt_with
    return count


@transaction.atomic
def _next_batch() -> int:
    cursor = Cursor.objects.select_for_update(skip_locked=True).filter(consumer=NAME).first()
    if cursor is None:
        return 0
    _require_this_cluster(cursor)
    feed = AuditEvent.objects.after((cursor.xid, cursor.event)).filter(pk__gt=cursor.floor)
    window = list(feed.values_list("xid", "pk", "event")[:WINDOW])
    places = [place for place, (_, _, name) in enumerate(window) if name in TELLERS or name in SETTLES]
    if len(places) > BATCH:
        window = window[: places[BATCH]]
    if not window:
        return 0
    keys = [window[place][1] for place in places[:BATCH]]
    deal_with(list(AuditEvent.objects.filter(pk__in=keys).order_by("xid", "pk")))
    cursor.xid, cursor.event, _ = window[-1]
    cursor.save()
    return len(window)


def deal_with(events: Sequence[AuditEvent]) -> None:
    """Write down what these events mean for people. Doing it again changes nothing."""
    _write(events)
    _settle(events)


def _write(events: Sequence[AuditEvent]) -> None:
    mailed: dict[tuple[int, int], bool] = {}
    rows = []
    for event in events:
        for note in _notes(event):
            assert note.to is not None
            key = (event.pk, note.to.pk)
            if key not in mailed:  # one note for each person and event: the first says why it is theirs
                mailed[key] = note.is_mailed
                rows.append(_row(event, note))
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    made = Notification.objects.filter(event__in=[row.event for row in rows], deliveries=None)
    Delivery.objects.bulk_create(
        (
            Delivery(notification=row, channel=Delivery.Channel.EMAIL)
            for row in made
            if mailed.get((row.event, row.recipient_id))
        ),
        ignore_conflicts=True,
    )


def _row(event: AuditEvent, note: Note) -> Notification:
    return Notification(
        event=event.pk,
        recipient=note.to,
        kind=event.event,
        subject=event.subject,
        title=one_line(note.title, 200),
        text=one_line(note.text, 1000),
        url=note.url[:300],
        created_at=event.at,
    )


def _notes(event: AuditEvent) -> Iterator[Note]:
    """What the table says, for people who can sign in and did not do it themselves."""
    tell = TELLERS.get(event.event)
    if tell is None:
        return
    try:
        with transaction.atomic():
            notes = list(tell(event))
    except Exception:  # a note that cannot be made must not silence all that come after it
        log.exception("What %s %s means for people cannot be told", event.event, event.pk)
        notes = list(_untold(event))
    actor = event.actor_id if event.actor_kind == AuditEvent.ActorKind.PERSON else ""
    for note in notes:
        if note.to and note.to.is_active and (note.even_own or str(note.to.pk) != actor):
            yield note


def _untold(event: AuditEvent) -> Iterator[Note]:
    for user in administrators():
        yield Note(
            to=user,
            title=f"Somebody could not be told about {event.subject_name or event.subject}",
            text=f"Gatehouse failed to say what {event.event} means for people. The audit log has it; tell them yourself.",
            url=f"{reverse('evidence:audit')}?ref={event.subject}",
        )


def _settle(events: Sequence[AuditEvent]) -> None:
    """Take what asks for nothing any more out of the unread."""
    for event in events:
        if event.event in SETTLES:
            asked = Notification.objects.unread().filter(subject=event.subject, kind__in=SETTLES[event.event])
            asked.filter(event__lt=event.pk).update(read_at=timezone.now())


def _require_this_cluster(cursor: Cursor) -> None:
    with connection.cursor() as sql:
        sql.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        [here] = sql.fetchone()
    if cursor.xid > here:
        raise NeedsRebase(
            f"The cursor stands at transaction {cursor.xid}, this database is at {here}: it was restored. "
            "Run manage.py rebase_cursor, then notifications go on with what happens from now on."
        )

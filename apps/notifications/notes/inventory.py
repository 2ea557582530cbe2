"""What administrators are told about reading AWS, and about letting Gatehouse write there."""

from __future__ import annotations

from collections.abc import Iterator

from apps.audit.models import AuditEvent
from apps.inventory.models import Connection, SyncRun
from apps.notifications.notes.base import Note, Teller, administrators, row

SYNC_ENDED = {
    SyncRun.State.HELD: (
        "waits for you",
        "It would end more access than usual. Look at what it would end, then confirm it or find out what is wrong.",
    ),
    SyncRun.State.INCOMPLETE: (
        "was incomplete",
        "Some of it could not be read, so nothing was ended there, and pages show older data. See which, and why.",
    ),
    SyncRun.State.FAILED: ("failed", "Nothing new was read. Pages show older data until it works again."),
}


def sync_finished(event: AuditEvent) -> Iterator[Note]:
    """Told once when it starts to go wrong, not every quarter of an hour while it lasts."""
    said = SYNC_ENDED.get(event.data.get("to", ""))
    run = row(event, SyncRun.objects.select_related("connection"))
    if said is None or run is None:
        return
    earlier = run.connection.runs.finished().filter(pk__lt=run.pk).order_by("-pk").first()
    if earlier and earlier.state == event.data["to"]:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"The sync of {run.connection} {said[0]}",
            text=f"{said[1]} {event.data.get('problem', '')}".strip(),
            url=run.get_absolute_url(),
        )


def writing_proposed(event: AuditEvent) -> Iterator[Note]:
    yield from _connection(
        event,
        "{by} proposes to let Gatehouse change {what}",
        "It takes a second administrator. Until then Gatehouse only looks.",
    )


def writing_approved(event: AuditEvent) -> Iterator[Note]:
    yield from _connection(event, "Gatehouse may change {what} now", "{by} approved it. Access can be granted there.")


def paused(event: AuditEvent) -> Iterator[Note]:
    yield from _connection(
        event, "{by} paused {what}", "Nothing is read or changed there until it is resumed. What AWS ends still ends."
    )


def _connection(event: AuditEvent, title: str, text: str) -> Iterator[Note]:
    connection = row(event, Connection.objects.all())
    if connection is None:
        return
    facts = {"by": event.actor_name, "what": connection.name}
    for user in administrators():
        yield Note(to=user, title=title.format(**facts), text=text.format(**facts), url=connection.get_absolute_url())


TELLERS: dict[str, Teller] = {
    "inventory.sync_run.finished": sync_finished,
    "inventory.connection.writing_proposed": writing_proposed,
    "inventory.connection.writing_approved": writing_approved,
    "inventory.connection.paused": paused,
}

SETTLES = {"inventory.connection.writing_approved": ("inventory.connection.writing_proposed",)}

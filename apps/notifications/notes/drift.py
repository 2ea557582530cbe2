"""What administrators are told about differences between grants and AWS, and about the database itself."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.grants.models import Reconciliation
from apps.notifications.notes.base import Note, Teller, administrators, row, sentences


def compared(event: AuditEvent) -> Iterator[Note]:
    """A comparison saw something critical for the first time. One note, however much it was."""
    count, said = int(event.data.get("new_critical") or 0), [str(one) for one in event.data.get("critical") or ()]
    if not count:
        return
    run = _run(event)
    where = run.connection.name if run else "a connection"
    done = "It only reports for now." if event.data.get("only_reports") else "Gatehouse takes it back where it can."
    more = f"And {count - 3} more." if count > 3 else ""
    for user in administrators():
        yield Note(
            to=user,
            title=f"{count} critical difference{'' if count == 1 else 's'} in {where}",
            text=sentences(*said[:3], more, done if not event.data.get("problems") else "Something could not be read."),
            url=reverse("drift:every"),
        )


def held(event: AuditEvent) -> Iterator[Note]:
    """The brake bit: two administrators must look."""
    run = _run(event)
    if run is None or run.state != Reconciliation.State.HELD:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.data.get('repairs')} differences at once in {run.connection.name}: nothing was changed",
            text="That is more than Gatehouse puts right by itself. If it is real, two administrators say so. If rows were "
            "lost, find out how first.",
            url=reverse("drift:every"),
        )


def release_proposed(event: AuditEvent) -> Iterator[Note]:
    """The second administrator is asked."""
    run = _run(event)
    if run is None or run.state != Reconciliation.State.HELD:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.actor_name} says that the differences in {run.connection.name} are real",
            text="Look at them, and let them be put right if you agree. It takes a second person.",
            url=reverse("drift:every"),
        )


def doubted(event: AuditEvent) -> Iterator[Note]:
    """Nothing opens any more: everybody who asks will ask an administrator why."""
    why = "" if event.event == "grants.home.changed" else str(event.data.get("reason", ""))
    for user in administrators():
        yield Note(
            to=user,
            even_own=True,
            title="Gatehouse only takes access away now",
            text=sentences(
                why or "Its database was restored, or moved to another server.",
                "Nothing opens until AWS was compared with it and nothing is left to take away. That begins by itself.",
            ),
            url=reverse("drift:every"),
        )


def trusted(_event: AuditEvent) -> Iterator[Note]:
    for user in administrators():
        yield Note(
            to=user,
            title="Gatehouse opens access again",
            text="AWS was compared with the database, and nothing was left to take away.",
            url=reverse("drift:every"),
        )


TELLERS: dict[str, Teller] = {
    "grants.reconciliation.settled": compared,
    "grants.reconciliation.incomplete": compared,
    "grants.reconciliation.held": held,
    "grants.reconciliation.release_proposed": release_proposed,
    "grants.home.changed": doubted,
    "grants.home.doubted": doubted,
    "grants.home.trusted": trusted,
}

SETTLES = {
    "grants.reconciliation.released": ("grants.reconciliation.held", "grants.reconciliation.release_proposed"),
    "grants.home.trusted": ("grants.home.changed", "grants.home.doubted"),
}


def _run(event: AuditEvent) -> Reconciliation | None:
    return row(event, Reconciliation.objects.select_related("connection"))

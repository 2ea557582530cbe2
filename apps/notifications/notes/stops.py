"""What administrators are told about emergency stops, and about the ender's work: it is a sign that nobody else works."""

from __future__ import annotations

from collections.abc import Iterator

from apps.audit.models import AuditEvent
from apps.grants.models import Grant, Stop
from apps.notifications.notes.base import Note, Teller, administrators, quoted, row, sentences


def ordered(event: AuditEvent) -> Iterator[Note]:
    """Also whoever ordered it: it could have been somebody else."""
    if stop := _stop(event):
        title = f"{event.actor_name} stopped access: {stop.title}"
        said = f"{stop.count} grants end. See where AWS denies it, and where not yet."
        yield from _notes(stop, title, quoted(stop.reason), said, even_own=True)


def lift_proposed(event: AuditEvent) -> Iterator[Note]:
    """A second administrator is asked."""
    stop = _stop(event)
    if stop and stop.is_in_force:
        title = f"{event.actor_name} proposes to lift {stop}"
        yield from _notes(stop, title, quoted(stop.lift_reason), "It takes a second administrator.")


def lifted(event: AuditEvent) -> Iterator[Note]:
    if stop := _stop(event):
        said = "New access can be asked for again. Nothing that ended came back."
        yield from _notes(stop, f"{stop.lifted_by} lifted {stop}", quoted(stop.lift_reason), said)


def lift_refused(event: AuditEvent) -> Iterator[Note]:
    """Somebody said that two administrators signed, and they did not."""
    if stop := _stop(event):
        title = f"{stop} was not lifted: its signatures do not hold"
        said = "Who signed is not who they are said to be, or signed something else. Look who it was."
        yield from _notes(stop, title, str(event.data.get("problem", "")), said, even_own=True)


def object_refused(event: AuditEvent) -> Iterator[Note]:
    """An alarm: written as its row says, an object in AWS would have lost all ends that stand in it."""
    if stop := _stop(event):
        said = "Somebody wrote that row by hand, or the connection was set up anew since."
        yield from _notes(
            stop, f"{stop} names a wrong object in AWS", str(event.data.get("object", "")), said, even_own=True
        )


def ended_by_ender(event: AuditEvent) -> Iterator[Note]:
    grant = row(event, Grant.objects.with_names())
    if grant is None:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"The ender had to take {grant.entitlement} away",
            text="It was past its end, and no worker had ended it. Look whether workers and clock are at work.",
            url=grant.get_absolute_url(),
        )


TELLERS: dict[str, Teller] = {
    "grants.stop.ordered": ordered,
    "grants.stop.lift_proposed": lift_proposed,
    "grants.stop.lifted": lifted,
    "grants.stop.lift_refused": lift_refused,
    "grants.stop.object_refused": object_refused,
    "grants.grant.ended_by_ender": ended_by_ender,
}

SETTLES = {
    "grants.stop.lifted": ("grants.stop.lift_proposed",),
    "grants.stop.lift_signed": ("grants.stop.lift_proposed",),
}


def _stop(event: AuditEvent) -> Stop | None:
    return row(event, Stop.objects.with_names())


def _notes(stop: Stop, title: str, *said: str, even_own: bool = False) -> Iterator[Note]:
    """For administrators, without the person whom the stop is about."""
    about = stop.identity.user_id if stop.identity else None
    for user in administrators():
        if user.pk != about:
            yield Note(to=user, even_own=even_own, title=title, text=sentences(*said), url=stop.get_absolute_url())

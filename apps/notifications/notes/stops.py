"""What administrators are told about emergency stops, and about the ender's work: it is a sign that nobody else works."""

from __future__ import annotations

from collections.abc import Iterator

from apps.audit.models import AuditEvent
from apps.grants.models import Grant, Stop
from apps.notifications.notes.base import Note, Teller, administrators, quoted, row, sentences
from apps.users.models import User


def ordered(event: AuditEvent) -> Iterator[Note]:
    """Also whoever ordered it: it could have been somebody else."""
    stop = _stop(event)
    if stop is None:
        return
    for user in _overseeing(stop):
        yield Note(
            to=user,
            even_own=True,
            title=f"{event.actor_name} stopped access: {stop.title}",
            text=sentences(
                quoted(stop.reason), f"{stop.count} grants end. See where AWS denies it, and where not yet."
            ),
            url=stop.get_absolute_url(),
        )


def lift_proposed(event: AuditEvent) -> Iterator[Note]:
    """A second administrator is asked."""
    stop = _stop(event)
    if stop is None or not stop.is_in_force:
        return
    for user in _overseeing(stop):
        yield Note(
            to=user,
            title=f"{event.actor_name} proposes to lift {stop}",
            text=sentences(quoted(stop.lift_reason), "It takes a second administrator."),
            url=stop.get_absolute_url(),
        )


def lifted(event: AuditEvent) -> Iterator[Note]:
    stop = _stop(event)
    if stop is None:
        return
    for user in _overseeing(stop):
        yield Note(
            to=user,
            title=f"{stop.lifted_by} lifted {stop}",
            text=sentences(
                quoted(stop.lift_reason), "New access can be asked for again. Nothing that ended came back."
            ),
            url=stop.get_absolute_url(),
        )


def lift_refused(event: AuditEvent) -> Iterator[Note]:
    """Somebody said that two administrators signed, and they did not."""
    stop = _stop(event)
    if stop is None:
        return
    for user in _overseeing(stop):
        yield Note(
            to=user,
            even_own=True,
            title=f"{stop} was not lifted: its signatures do not hold",
            text=sentences(
                str(event.data.get("problem", "")),
                "Who signed is not who they are said to be, or signed something else. Look who it was.",
            ),
            url=stop.get_absolute_url(),
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
    "grants.grant.ended_by_ender": ended_by_ender,
}

SETTLES = {
    "grants.stop.lifted": ("grants.stop.lift_proposed",),
    "grants.stop.lift_signed": ("grants.stop.lift_proposed",),
}


def _stop(event: AuditEvent) -> Stop | None:
    return row(event, Stop.objects.with_names())


def _overseeing(stop: Stop) -> list[User]:
    """Administrators, without the person whom the stop is about."""
    about = stop.identity.user_id if stop.identity else None
    return [user for user in administrators() if user.pk != about]

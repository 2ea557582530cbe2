"""What people are told when somebody leaves or moves: who stands in, who waits for a yes, and administrators about the
brake."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from apps.access.models import AccessRequest
from apps.audit.models import AuditEvent
from apps.grants.leaving import counted
from apps.grants.models import Exodus, Leaving
from apps.notifications.notes.base import Note, Teller, administrators, row, sentences, user_of
from apps.reviews.models import Campaign
from apps.users.models import User


def noticed(event: AuditEvent) -> Iterator[Note]:
    """Who stands in for them, or where nobody does administrators, knows where to look."""
    leaving = row(event, Leaving.objects.with_names())
    if leaving is None or leaving.returned_at:
        return
    ended = counted(event.data.get("ended") or {})
    is_last = "" if administrators() else "There is no administrator left."
    for user in _standing_in(leaving):
        yield Note(
            to=user,
            title=f"{leaving.identity} has left",
            text=sentences(
                f"Gatehouse ended: {ended}." if ended else "There was nothing to end at once.",
                "What they held all the time goes next.",
                is_last,
            ),
            url=reverse("leavers:detail", args=[leaving.pk]),
            is_mailed=False,
        )


def passed_on(event: AuditEvent) -> Iterator[Note]:
    """Whoever took over what they answered for has something to do from now on."""
    leaving, passed = row(event, Leaving.objects.with_names()), counted(event.data.get("passed") or {})
    if leaving is None or not passed:
        return
    for user in _standing_in(leaving):
        yield Note(
            to=user,
            title=f"You answer for what {leaving.identity} answered for",
            text=f"They left. Passed on to you: {passed}. An administrator can name somebody else.",
            url=reverse("leavers:detail", args=[leaving.pk]),
        )


def returned(event: AuditEvent) -> Iterator[Note]:
    leaving = row(event, Leaving.objects.with_names())
    if leaving is None:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"{leaving.identity} is back",
            text="Nothing came back with them. If they work here again, let them in; they ask for what they need.",
            url=reverse("leavers:detail", args=[leaving.pk]),
        )


def held(event: AuditEvent) -> Iterator[Note]:
    """The brake bit: two administrators must look."""
    exodus = _exodus(event)
    if exodus is None:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.data.get('leavers')} people left {exodus.connection.name} at once: nothing was removed for good",
            text="Their sessions and timed access ended. What they hold all the time stays until two administrators say "
            "that they really left. If the directory or the HR file is broken, mend that first.",
            url=reverse("leavers:every"),
        )


def release_proposed(event: AuditEvent) -> Iterator[Note]:
    exodus = _exodus(event)
    if exodus is None:
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.actor_name} says that the leavers of {exodus.connection.name} are real",
            text="Look at who they are, and let it go if you agree. It takes a second person.",
            url=reverse("leavers:every"),
        )


def requester_left(event: AuditEvent) -> Iterator[Note]:
    """Approvers need not decide any more."""
    request = row(event, AccessRequest.objects.with_names())
    if request is None:
        return
    for approver in request.approvers.select_related("user"):
        yield Note(
            to=approver.user,
            title=f"{request.requester} left: the request for {request.entitlement} was withdrawn",
            text="There is nothing left to decide.",
            url=request.get_absolute_url(),
            is_mailed=False,
        )


def approver_left(event: AuditEvent) -> Iterator[Note]:
    """Whoever stands in is asked; whoever waits knows why."""
    request = row(event, AccessRequest.objects.with_names())
    if request is None or not request.is_undecided:
        return
    left = event.data.get("left", "An approver")
    for approver in request.approvers.filter(user__in=event.data.get("asked") or []).select_related("user"):
        yield Note(
            to=approver.user,
            title=f"{request.requester} asks for {request.entitlement}, and {left} can no longer decide",
            text=f"You can decide as {approver.why}.",
            url=request.get_absolute_url(),
        )
    if not event.data.get("can_decide"):
        yield Note(
            to=request.requester,
            title=f"Nobody can approve {request.entitlement} now",
            text=f"{left} left, and nobody else may say yes. Ask an administrator to name an owner, then ask again.",
            url=request.get_absolute_url(),
        )


def many_moved(event: AuditEvent) -> Iterator[Note]:
    count = Campaign.objects.filter(pk__in=event.data.get("campaigns") or (), state=Campaign.State.DRAFT).count()
    if not count:  # launched or discarded meanwhile
        return
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.data.get('movers')} people moved at once: {count} review{'' if count == 1 else 's'} drafted",
            text="Nobody was asked yet. Launch those you want, and discard the others.",
            url=f"{reverse('reviews:campaigns')}?state=draft",
        )


TELLERS: dict[str, Teller] = {
    "grants.leaving.noticed": noticed,
    "grants.leaving.passed_on": passed_on,
    "grants.leaving.returned": returned,
    "grants.exodus.held": held,
    "grants.exodus.release_proposed": release_proposed,
    "access.access_request.requester_left": requester_left,
    "access.access_request.approver_left": approver_left,
    "reviews.move.many_proposed": many_moved,
}

SETTLES = {
    "grants.exodus.released": ("grants.exodus.held", "grants.exodus.release_proposed"),
    "grants.exodus.over": ("grants.exodus.held", "grants.exodus.release_proposed"),
    "access.access_request.requester_left": ("access.access_request.asked", "access.access_request.approver_left"),
}


def _standing_in(leaving: Leaving) -> list[User]:
    user = user_of(leaving.passes_to)
    return [user] if user and user.is_active else administrators()


def _exodus(event: AuditEvent) -> Exodus | None:
    found = row(event, Exodus.objects.select_related("connection"))
    return found if found and found.state == Exodus.State.HELD else None

"""What people are told about requests."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from apps.access.models import AccessRequest, State
from apps.audit.models import AuditEvent
from apps.core import words
from apps.notifications.notes.base import Note, Teller, at, quoted, row, sentences


def asked(event: AuditEvent) -> Iterator[Note]:
    """Approvers are asked to decide; who must confirm is told where. What was decided meanwhile asks nobody."""
    request = _request(event)
    if request is None or not request.is_undecided:
        return
    lapses = f"It lapses at {at(request.lapses_at)} if nobody decides."
    if request.state == State.CONFIRMING:
        yield Note(
            to=request.requester,
            even_own=True,
            title=f"Confirm your request for {request.entitlement}",
            text="Open it on another device where you are signed in, or confirm with a passkey. If you did not ask for "
            f"this, tell an administrator. It lapses at {at(request.lapses_at)}.",
            url=_url(request),
        )
        return
    for approver in request.approvers.select_related("user"):
        yield Note(
            to=approver.user,
            title=f"{request.requester} asks for {_what(request)} for {words.duration(request.duration)}",
            text=sentences(
                quoted(request.reason),
                f"Ticket {request.ticket_ref}." if request.ticket_ref else "",
                f"You can decide as {approver.why}.",
                lapses,
            ),
            url=_url(request),
        )


def approved(event: AuditEvent) -> Iterator[Note]:
    request = _request(event)
    if request:
        yield Note(
            to=request.requester,
            title=f"{event.actor_name} approved {_what(request)}",
            text=sentences(quoted(event.data.get("reason")), "It starts in a moment. You are told when it is active."),
            url=_url(request),
        )


def denied(event: AuditEvent) -> Iterator[Note]:
    request = _request(event)
    if request:
        yield Note(
            to=request.requester,
            title=f"{event.actor_name} denied {_what(request)}",
            text=sentences(quoted(event.data.get("reason")), "Ask for less, or talk to them."),
            url=_url(request),
        )


def lapsed(event: AuditEvent) -> Iterator[Note]:
    request = _request(event)
    if request:
        why = "You did not confirm it in time." if request.tier == "self" else "Nobody decided in time."
        yield Note(
            to=request.requester,
            title=f"Your request for {_what(request)} has lapsed",
            text=f"{why} Ask again if you still need it.",
            url=_url(request),
        )


def withdrawn(event: AuditEvent) -> Iterator[Note]:
    request = _request(event)
    if request:
        for approver in request.approvers.select_related("user"):
            yield Note(
                to=approver.user,
                title=f"{event.actor_name} withdrew the request for {_what(request)}",
                text="There is nothing left to decide.",
                url=_url(request),
                is_mailed=False,
            )


TELLERS: dict[str, Teller] = {
    "access.access_request.asked": asked,
    "access.access_request.approved": approved,
    "access.access_request.denied": denied,
    "access.access_request.lapsed": lapsed,
    "access.access_request.withdrawn": withdrawn,
}

# What an event settles: the same subject's earlier notes of these kinds ask for nothing any more.
SETTLES = {
    f"access.access_request.{what}": ("access.access_request.asked",)
    for what in ("confirmed", "approved", "denied", "lapsed", "withdrawn")
}


def _request(event: AuditEvent) -> AccessRequest | None:
    return row(event, AccessRequest.objects.with_names())


def _what(request: AccessRequest) -> str:
    """What is asked for, and for whom when it is a machine."""
    own = request.identity.user_id == request.requester_id
    return str(request.entitlement) if own else f"{request.entitlement} for {request.identity}"


def _url(request: AccessRequest) -> str:
    return reverse("access:detail", args=[request.pk])

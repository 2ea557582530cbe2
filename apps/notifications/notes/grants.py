"""What people are told about grants: holders about theirs, owners about what is held of theirs, administrators about
what does not end as it should."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.core import words
from apps.grants.models import EndReason, Grant, State
from apps.notifications.notes.base import Note, Teller, administrators, at, quoted, row, sentences, user_of
from apps.users.models import User

# Endings that the holder expects. They see them in the inbox, and no mail says what they know.
EXPECTED = frozenset({EndReason.EXPIRED, EndReason.DONE})


def active(event: AuditEvent) -> Iterator[Note]:
    """The holder can begin. What nobody had to say yes to, the owners are told about."""
    grant = _grant(event)
    if grant is None or grant.state != State.ACTIVE:
        return
    holder = _holder(grant)
    confirmed = (
        "You confirmed it. If that was not you, end it now and tell an administrator." if _is_self(grant) else ""
    )
    yield Note(
        to=holder,
        title=f"{grant.entitlement} is active until {at(grant.ends_at)}",
        text=sentences(confirmed, "AWS ends it then, even if Gatehouse is down. End it earlier when you are done."),
        url=grant.get_absolute_url(),
    )
    verdict = _verdict(grant)
    if verdict.get("tier") == "auto":
        for owner in _owners(grant):
            if owner != holder:
                yield Note(
                    to=owner,
                    title=f"{grant.identity or grant.principal} holds {grant.entitlement} until {at(grant.ends_at)}",
                    text=sentences(
                        quoted(grant.reason), "The rules give this at once, and you own it. You can end it at any time."
                    ),
                    url=grant.get_absolute_url(),
                )


def ending_soon(event: AuditEvent) -> Iterator[Note]:
    grant = _grant(event)
    if grant and grant.state == State.ACTIVE:
        yield Note(
            to=_holder(grant),
            title=f"{grant.entitlement} ends at {at(grant.ends_at)}",
            text="Finish what you are doing. If you need longer, extend it on its page before it ends, or ask again.",
            url=grant.get_absolute_url(),
        )


def revoking(event: AuditEvent) -> Iterator[Note]:
    """Somebody or something took it away before its time."""
    grant = _grant(event)
    if grant is None or event.data.get("reason") in EXPECTED:
        return
    by = event.actor_name if event.actor_kind == AuditEvent.ActorKind.PERSON else "Gatehouse"
    yield Note(
        to=_holder(grant),
        title=f"{by} ended {grant.entitlement}",
        text=sentences(_why(event), quoted(event.data.get("note")), "It is being taken away in AWS now."),
        url=grant.get_absolute_url(),
    )


def removal_decided(event: AuditEvent) -> Iterator[Note]:
    """Standing access goes: its holder is told, and whoever must remove it by hand."""
    grant = _grant(event)
    if grant is None:
        return
    why = quoted(event.data.get("note"))
    yield Note(
        to=_holder(grant),
        title=f"{event.actor_name} decided that you no longer hold {grant.entitlement}",
        text=sentences(why, "If you need it for a task, ask for it for a time."),
        url=grant.get_absolute_url(),
    )
    if grant.is_owner_task:
        holder = grant.identity or grant.principal
        due = f"Due {grant.due_at.day} {grant.due_at:%B}." if grant.due_at else ""
        for user in [user_of(grant.task_owner)] if user_of(grant.task_owner) else administrators():
            yield Note(
                to=user,
                title=f"Remove {grant.entitlement} from {holder} by hand",
                text=sentences(
                    f"{event.actor_name} decided it.",
                    why,
                    "Gatehouse cannot remove this itself. It stays open until AWS no longer shows it.",
                    due,
                ),
                url=grant.get_absolute_url(),
            )


def cancelled(event: AuditEvent) -> Iterator[Note]:
    grant = _grant(event)
    if grant:
        yield Note(
            to=_holder(grant),
            title=f"{grant.entitlement} was cancelled before it began",
            text=sentences(_why(event), quoted(event.data.get("note"))),
            url=grant.get_absolute_url(),
        )


def revoked(event: AuditEvent) -> Iterator[Note]:
    grant = _grant(event)
    if grant:
        yield Note(
            to=_holder(grant),
            title=f"{grant.entitlement} has ended: removed and checked",
            text=sentences(f"{grant.get_end_reason_display()}.", "The receipt says what AWS showed."),
            url=grant.get_absolute_url(),
            is_mailed=False,
        )


def failed(event: AuditEvent) -> Iterator[Note]:
    grant = _grant(event)
    if grant:
        taken_back = "What AWS took of it is being taken back." if event.data.get("to") == State.REVOKING else ""
        yield Note(
            to=_holder(grant),
            title=f"{grant.entitlement} could not be opened",
            text=sentences(str(event.data.get("problem", "")), taken_back),
            url=grant.get_absolute_url(),
        )


def warrant_refused(event: AuditEvent) -> Iterator[Note]:
    """An alarm: a grant without authority. Rules changed between asking and opening, or somebody wrote rows by hand."""
    yield from failed(event)
    grant = _grant(event)
    if grant:
        for user in administrators():
            yield Note(
                to=user,
                title=f"{grant.number} was refused: its warrant does not hold",
                text=sentences(str(event.data.get("problem", "")), "Nothing was opened. Look at who asked, and how."),
                url=grant.get_absolute_url(),
            )


def object_refused(event: AuditEvent) -> Iterator[Note]:
    """An alarm, as for a stop: see `notes.stops`."""
    if grant := _grant(event):
        for user in administrators():
            yield Note(
                to=user,
                title=f"{grant.number} names a wrong object in AWS",
                text=sentences(
                    str(event.data.get("problem", "")),
                    "Somebody wrote that row by hand, or the connection was set up anew since.",
                ),
                url=grant.get_absolute_url(),
            )


def overdue(event: AuditEvent) -> Iterator[Note]:
    grant = _grant(event)
    if grant is None or grant.state != State.REVOKING:
        return
    holder = grant.identity or grant.principal
    since = words.duration(timezone.now() - grant.revoking_at) if grant.revoking_at else "some time"
    again = "It waits for its owner." if grant.is_owner_task else "Gatehouse tries again."
    problem = f"The last attempt said: {grant.problem}" if grant.problem else ""
    told = administrators()
    if grant.is_owner_task and (owner := user_of(grant.task_owner)):
        told.append(owner)
    for user in told:
        yield Note(
            to=user,
            title=f"The removal of {grant.entitlement} from {holder} is overdue",
            text=sentences(f"It was decided {since} ago and AWS may still show it. {again}", problem),
            url=grant.get_absolute_url(),
        )


TELLERS: dict[str, Teller] = {
    "grants.grant.active": active,
    "grants.grant.ending_soon": ending_soon,
    "grants.grant.revoking": revoking,
    "grants.grant.removal_decided": removal_decided,
    "grants.grant.cancelled": cancelled,
    "grants.grant.revoked": revoked,
    "grants.grant.failed": failed,
    "grants.grant.warrant_refused": warrant_refused,
    "grants.grant.object_refused": object_refused,
    "grants.grant.overdue": overdue,
}

SETTLES = {
    "grants.grant.revoking": ("grants.grant.ending_soon",),
    "grants.grant.revoked": ("grants.grant.ending_soon", "grants.grant.removal_decided", "grants.grant.overdue"),
}


def _grant(event: AuditEvent) -> Grant | None:
    rows = Grant.objects.with_names().select_related(
        "identity__user",
        "identity__owner__user",
        "entitlement__owner__user",
        "entitlement__resource__owner__user",
        "task_owner__user",
        "warrant",
    )
    return row(event, rows)


def _holder(grant: Grant) -> User | None:
    """The person to tell: who holds it, or who answers for the machine that does."""
    identity = grant.identity
    if identity is None:
        return None
    asked_by = grant.requested_by if grant.origin == Grant.Origin.REQUEST else None
    return identity.user or asked_by or user_of(identity.owner)


def _owners(grant: Grant) -> list[User]:
    resource = grant.entitlement.resource
    found = (user_of(grant.entitlement.owner), user_of(resource.owner if resource else None))
    return [user for user in found if user]


def _verdict(grant: Grant) -> dict[str, object]:
    return dict(grant.warrant.verdict) if hasattr(grant, "warrant") else {}


def _is_self(grant: Grant) -> bool:
    return _verdict(grant).get("tier") == "self"


def _why(event: AuditEvent) -> str:
    reason = event.data.get("reason", "")
    return f"{EndReason(reason).label}." if reason in EndReason.values else ""

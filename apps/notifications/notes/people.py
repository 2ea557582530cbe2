"""What people are told about their own sign-in, and administrators about who may do what here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.notifications.notes.base import Note, Teller, administrators, at, row
from apps.users.models import PortalRole, User

NOT_YOU = "If that was not you, tell an administrator at once."
AUTHENTICATORS = {"totp": "authenticator app", "webauthn": "passkey", "recovery_codes": "set of recovery codes"}


def authenticator(event: AuditEvent) -> Iterator[Note]:
    """Always told, whoever did it: a thief enrols their own. Of one's own act allauth sends the mail already."""
    user = row(event, User.objects.all())
    if user is None:
        return
    by_another = event.actor_id != str(user.pk)
    what = AUTHENTICATORS.get(str(event.data.get("type")), "authenticator")
    done = {"added": "was added", "removed": "was removed", "reset": "was made anew"}[event.event.rpartition(".")[2]]
    yield Note(
        to=user,
        even_own=True,
        is_mailed=by_another,
        title=f"Your {what} {done}" if done != "was added" else f"A{'n' if what[0] in 'ao' else ''} {what} {done}",
        text=f"{event.actor_name} did it. {NOT_YOU}" if by_another else NOT_YOU,
        url=reverse("users:settings"),
    )


def passkey(event: AuditEvent) -> Iterator[Note]:
    """Told by mail by the worker itself, whatever the web process says or keeps quiet."""
    user = row(event, User.objects.all())
    if user is not None:
        since = at(datetime.fromisoformat(event.data["from"]))
        yield Note(
            to=user,
            even_own=True,
            title=f"“{event.data['name']}” signs your approvals from {since}",
            text=f"It is a new passkey of yours. {NOT_YOU} Remove it in your settings before then.",
            url=reverse("users:settings"),
        )


def role_given(event: AuditEvent) -> Iterator[Note]:
    yield from _role(event, "is now", "You are now")


def role_taken(event: AuditEvent) -> Iterator[Note]:
    yield from _role(event, "is no longer", "You are no longer")


def _role(event: AuditEvent, says: str, says_you: str) -> Iterator[Note]:
    user = row(event, User.objects.all())
    if user is None:
        return
    name = "an administrator" if event.data.get("role") == PortalRole.Role.ADMINISTRATOR else "an auditor"
    by = f"{event.actor_name} decided it."
    yield Note(to=user, title=f"{says_you} {name} of Gatehouse", text=by, url=reverse("users:settings"))
    for administrator in administrators():
        if administrator != user:
            title = f"{user} {says} {name} of Gatehouse"
            yield Note(to=administrator, title=title, text=by, url=reverse("users:people"))


def emergency_sign_in(event: AuditEvent) -> Iterator[Note]:
    method, address = event.data.get("method", "an unknown method"), event.origin.get("address", "an unknown address")
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.actor_name} signed in past single sign-on",
            text=f"With {method}, from {address}. If nobody told you why, keep them out and ask.",
            url=reverse("users:people"),
        )


TELLERS: dict[str, Teller] = {
    "users.authenticator.added": authenticator,
    "users.authenticator.removed": authenticator,
    "users.authenticator.reset": authenticator,
    "users.passkey.seen": passkey,
    "users.portal_role.given": role_given,
    "users.portal_role.taken": role_taken,
    "users.user.emergency_sign_in": emergency_sign_in,
}

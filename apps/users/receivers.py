"""What allauth tells us about, turned into audit events. allauth has no other way to say it; our own apps use no
signals among themselves."""

from __future__ import annotations

from functools import partial
from typing import Any

from allauth.account import signals as account
from allauth.account.authentication import get_authentication_records
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from apps.audit import services as audit
from apps.users import devices, freshness, services, stepup
from apps.users.models import User

AUTHENTICATOR = {
    "added": mfa.authenticator_added,
    "removed": mfa.authenticator_removed,
    "reset": mfa.authenticator_reset,
}
PASSWORD = {"changed": account.password_changed, "set": account.password_set, "reset": account.password_reset}


def connect() -> None:
    """Called once, by `AppConfig.ready`."""
    account.user_logged_in.connect(on_sign_in, dispatch_uid="users.sign_in")
    for what, signal in AUTHENTICATOR.items():
        signal.connect(partial(on_authenticator, what), weak=False, dispatch_uid=f"users.authenticator.{what}")
    for what, signal in PASSWORD.items():
        signal.connect(partial(on_password, what), weak=False, dispatch_uid=f"users.password.{what}")


def on_sign_in(request: HttpRequest, user: User, sociallogin: Any = None, **_: Any) -> None:
    if sociallogin:
        freshness.remember_sso(request, sociallogin.account.extra_data["id_token"])
    stepup.clear(request)
    with audit.origin(**devices.origin(request)):  # signing in made a new session
        services.note_sign_in(user=user, method="sso" if sociallogin else _method(request, user))


def on_authenticator(what: str, request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    """`user` is who the authenticator belongs to, who is the one signed in."""
    stepup.clear(request)
    services.note_authenticator(user=user, what=what, authenticator=authenticator, by=user)


def on_password(what: str, user: User, **_: Any) -> None:
    services.note_password(user=user, what=what)


def _method(request: HttpRequest, user: User) -> str:
    """How somebody signed in: passkey, password, or password and what followed it ("password, totp")."""
    records = get_authentication_records(request, user)
    if any(record.get("passwordless") for record in records):
        return "passkey"
    steps = [str(record.get("type") or record["method"]) for record in records]
    return ", ".join(dict.fromkeys(steps))

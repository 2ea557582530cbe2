"""What allauth asks us before it acts. Nobody lets themselves in, links themselves or takes another address."""

from __future__ import annotations

import base64
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.stagekit import clear_login
from allauth.account.models import EmailAddress
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.encoding import force_bytes

from apps.users import permissions


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, _request: HttpRequest) -> bool:
        return False

    def can_delete_email(self, _email_address: EmailAddress) -> bool:
        return False

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        """With single sign-on, every other way in (a passkey too) is for emergency users: who was put out at the
        identity provider is out here."""
        is_social = "sociallogin" in (kwargs.get("signal_kwargs") or {})
        if not is_social and user.is_active and not permissions.can_use_password(user):
            clear_login(request)
            messages.error(request, f"Sign in with {settings.OIDC_NAME}. Passwords and passkeys are for emergencies.")
            return redirect("account_login")
        return super().pre_login(request, user, **kwargs)

    def set_password(self, user: Any, password: str) -> None:
        """The one place where allauth changes a password."""
        if not permissions.can_use_password(user):
            raise PermissionDenied("Passwords are for emergency users only.")
        super().set_password(user, password)

    def send_password_reset_mail(self, user: Any, email: str, context: dict[str, Any]) -> None:
        if permissions.can_use_password(user):
            super().send_password_reset_mail(user, email, context)


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def is_open_for_signup(self, _request: HttpRequest, _sociallogin: SocialLogin) -> bool:
        return False

    def can_authenticate_by_email(self, _login: SocialLogin, _email: str) -> bool:
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Only people who were linked beforehand come in. Nobody links themselves: not by signing in with the e-mail
        address of a user, and not from inside a session (process=connect)."""
        if sociallogin.state.get("process") != "login":
            raise ImmediateHttpResponse(render(request, "users/sso_refused.html", status=403))
        token = sociallogin.account.extra_data.get("id_token") or {}
        subject = sociallogin.account.uid
        if str(token.get("iss", "")).rstrip("/") != settings.OIDC_ISSUER.rstrip("/") or token.get("sub") != subject:
            raise ImmediateHttpResponse(render(request, "users/sso_refused.html", status=403))
        if not sociallogin.is_existing:
            facts = {"subject": subject, "issuer": settings.OIDC_ISSUER}
            raise ImmediateHttpResponse(render(request, "users/unlinked.html", facts, status=403))


class MFAAdapter(DefaultMFAAdapter):
    """Secrets of authenticators are encrypted, so that a stolen database (or its backup) cannot make codes."""

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _cipher().decrypt(encrypted_text.encode()).decode()

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {**super().get_public_key_credential_rp_entity(), "name": "Gatehouse"}


def _cipher() -> MultiFernet:
    """Writes with SECRET_KEY, reads with its fallbacks too, so that the key can be rotated."""
    return MultiFernet([Fernet(_key(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret: str | bytes) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"gatehouse.users.authenticators")
    return base64.urlsafe_b64encode(kdf.derive(force_bytes(secret)))

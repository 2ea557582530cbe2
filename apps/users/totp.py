"""Codes of authenticator apps (RFC 6238). A code counts once, wherever it is used."""

import time

from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa import app_settings
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth
from allauth.mfa.utils import decrypt
from django.core.cache import cache


def is_first_use(authenticator: Authenticator, code: str) -> bool:
    """Whether this code was not used yet; from now on it was. RFC 6238 §5.2 asks for it.

    allauth remembers used codes for one period (30 seconds), but with a tolerance a code is valid for longer.
    """
    lifetime = app_settings.TOTP_PERIOD * (2 * app_settings.TOTP_TOLERANCE + 1)
    return bool(cache.add(f"users.totp.used:{authenticator.pk}:{normalize_user_code(code)}", 1, timeout=lifetime))


def spend(authenticator: Authenticator, code: str) -> bool:
    """Whether `code` is valid now for this TOTP authenticator and was never used; from now on it was."""
    return authenticator.wrap().validate_code(code) and is_first_use(authenticator, code)


def now(authenticator: Authenticator) -> str:
    """The code that the person's app shows at this moment."""
    counter = int(time.time()) // app_settings.TOTP_PERIOD
    return auth.format_hotp_value(auth.hotp_value(decrypt(authenticator.data["secret"]), counter))

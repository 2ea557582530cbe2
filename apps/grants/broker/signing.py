"""Asking for a session of privileged access: the holder's passkey signs exactly that, so nobody can ask in their place.

The challenge is the digest of whose session of which grant, for some minutes, and of a nonce; one signature is one session.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from apps.grants import signatures
from apps.grants.models import Grant
from apps.users import assertions
from apps.users.models import User

PURPOSE = "gatehouse.session"
USABLE_FOR = timedelta(minutes=10)


class NotSigned(Exception):
    """The holder's passkey did not sign this. The text says why."""


@dataclass(frozen=True)
class Confirmed:
    """What a signature proves: the step-up, and the digest that was signed, which counts once."""

    step_up: Mapping[str, Any]
    digest: str


def challenge(grant: Grant, holder: User, *, nonce: str, expires: str) -> bytes:
    """The 32 bytes that the holder's passkey signs. `expires` is ISO 8601."""
    said = {"purpose": PURPOSE, "grant": grant.reference, "user": str(holder.pk), "nonce": nonce, "expires": expires}
    return hashlib.sha256(signatures.canonical(said)).digest()


def asked_of(grant: Grant, holder: User) -> dict[str, Any]:
    """What a page needs to have it signed: {passkey, nonce, expires}. `passkey` is empty when none of theirs counts."""
    nonce, expires = secrets.token_hex(16), (timezone.now() + USABLE_FOR).isoformat()
    options = assertions.options(holder, challenge(grant, holder, nonce=nonce, expires=expires))
    return {"passkey": options, "nonce": nonce, "expires": expires}


def verify(grant: Grant, holder: User, signed: Mapping[str, Any]) -> Confirmed:
    """Raise `NotSigned` unless a passkey of the holder that counts signed this a short time ago."""
    now = timezone.now()
    try:
        nonce, expires = str(signed["nonce"]), str(signed["expires"])
        if not now <= datetime.fromisoformat(expires) <= now + USABLE_FOR:
            raise NotSigned("It was signed for another time.")
        said = challenge(grant, holder, nonce=nonce, expires=expires)
        key = assertions.verify(signed["assertion"], challenge=said, user_id=str(holder.pk), at=now)
    except assertions.Invalid as error:
        raise NotSigned(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotSigned("It is not signed.") from error
    return Confirmed({"method": "passkey", "authenticator": key.authenticator, "at": now.isoformat()}, said.hex())

"""Signatures of passkeys over something that was decided (WebAuthn §7.2), checked from what was kept of them.

The challenge is not random here: it is the digest of what is signed, so that the signature holds for nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from django.conf import settings
from fido2 import cbor
from fido2.cose import CoseKey
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AuthenticatorData, CollectedClientData

from apps.users import passkeys
from apps.users.models import Passkey, User

LONGEST = 4096  # characters of each part; real ones have some hundred
TIMEOUT = 300_000  # milliseconds that a browser waits for the person


class Invalid(Exception):
    """This is no signature of a passkey that counts, over what it should be. The text says why."""


def options(user: User, challenge: bytes) -> dict[str, Any]:
    """What a browser asks the person's passkeys for: PublicKeyCredentialRequestOptions as JSON, binary parts in base64url.
    Empty when no passkey of theirs counts."""
    keys = passkeys.counting(user)
    if not keys:
        return {}
    return {
        "challenge": websafe_encode(challenge),
        "rpId": rp_id(),
        "userVerification": "required",
        "timeout": TIMEOUT,
        "allowCredentials": [{"type": "public-key", "id": key.credential_id} for key in keys],
    }


def kept(credential: Mapping[str, Any]) -> dict[str, str]:
    """What stays of a browser's answer: everything needed to check the signature again. Raises `Invalid`."""
    try:
        answer = credential["response"]
        parts = {
            "credential_id": credential["id"],
            "authenticator_data": answer["authenticatorData"],
            "client_data": answer["clientDataJSON"],
            "signature": answer["signature"],
        }
    except (KeyError, TypeError):
        raise Invalid("The browser's answer cannot be read.") from None
    if not all(isinstance(part, str) and 0 < len(part) <= LONGEST for part in parts.values()):
        raise Invalid("The browser's answer cannot be read.")
    return parts


def verify(assertion: Mapping[str, str], *, challenge: bytes, user_id: str, at: datetime) -> Passkey:
    """The key that signed `challenge` in the portal's name, with the person verified; one of `user_id` that counted `at`
    that instant. Raises `Invalid`."""
    key = Passkey.objects.counting(at).filter(credential_id=assertion["credential_id"], user_id=user_id).first()
    if key is None:
        raise Invalid("It is not signed with a passkey of the approver that counts.")
    try:
        client_data = CollectedClientData(websafe_decode(assertion["client_data"]))
        authenticator_data = AuthenticatorData(websafe_decode(assertion["authenticator_data"]))
        signature = websafe_decode(assertion["signature"])
        public_key = CoseKey.parse(cast("Mapping[int, Any]", cbor.decode(websafe_decode(key.public_key))))
        _require_ours(client_data, authenticator_data, challenge)
        public_key.verify(authenticator_data + client_data.hash, signature)
    except InvalidSignature:
        raise Invalid("The passkey's signature is wrong.") from None
    except (KeyError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise Invalid("The passkey's signature cannot be read.") from error
    return key


def _require_ours(client_data: CollectedClientData, authenticator_data: AuthenticatorData, challenge: bytes) -> None:
    if client_data.type != CollectedClientData.TYPE.GET or client_data.cross_origin:
        raise Invalid("What was signed is no confirmation.")
    if client_data.origin != settings.BASE_URL:
        raise Invalid("It was signed for another site.")
    if not secrets.compare_digest(client_data.challenge, challenge):
        raise Invalid("It was signed for something else.")
    if not secrets.compare_digest(authenticator_data.rp_id_hash, hashlib.sha256(rp_id().encode()).digest()):
        raise Invalid("It was signed for another site.")
    if not (authenticator_data.is_user_present() and authenticator_data.is_user_verified()):
        raise Invalid("The passkey did not verify who is there.")


def rp_id() -> str:
    """The name that passkeys of this portal are bound to."""
    return urlsplit(settings.BASE_URL).hostname or ""

"""A passkey in software: it registers and signs like a real one, and can leave out what a real one must not."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData, AuthenticatorData

from apps.users.models import User

PRESENT = AuthenticatorData.FLAG.UP
VERIFIED = AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.UV
HOST = "testserver"


class SoftKey:
    """`verifies=False` is a key that was only touched: nobody typed a PIN or showed a finger."""

    def __init__(self, *, origin: str = f"https://{HOST}", host: str = HOST, verifies: bool = True) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(16)
        self.origin = origin
        self.flags = VERIFIED if verifies else PRESENT
        self.rp = hashlib.sha256(host.encode()).digest()

    def enrol(self, user: User) -> Authenticator:
        """The row that allauth writes after a registration."""
        public = ES256.from_cryptography_key(self.private.public_key())
        data = AttestedCredentialData.create(Aaguid.NONE, self.id, public)
        registered = AuthenticatorData.create(
            self.rp, VERIFIED | AuthenticatorData.FLAG.AT, counter=0, credential_data=data
        )
        client = {"type": "webauthn.create", "challenge": "AAAA", "origin": self.origin}
        credential = {
            "id": websafe_encode(self.id),
            "rawId": websafe_encode(self.id),
            "type": "public-key",
            "response": {
                "clientDataJSON": websafe_encode(json.dumps(client).encode()),
                "attestationObject": websafe_encode(bytes(AttestationObject.create("none", registered, {}))),
            },
            "clientExtensionResults": {"credProps": {"rk": True}},
        }
        return Authenticator.objects.create(
            user=user, type=Authenticator.Type.WEBAUTHN, data={"name": "Laptop", "credential": credential}
        )

    def sign(self, challenge: str, *, flags: Any = None) -> dict[str, Any]:
        """What a browser posts after `navigator.credentials.get`. `challenge` is base64url, as the server sent it."""
        data = AuthenticatorData.create(self.rp, self.flags if flags is None else flags, counter=1)
        client = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": self.origin}).encode()
        signature = self.private.sign(bytes(data) + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return {
            "id": websafe_encode(self.id),
            "rawId": websafe_encode(self.id),
            "type": "public-key",
            "response": {
                "clientDataJSON": websafe_encode(client),
                "authenticatorData": websafe_encode(bytes(data)),
                "signature": websafe_encode(signature),
            },
            "clientExtensionResults": {},
        }

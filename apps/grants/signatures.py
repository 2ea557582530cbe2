"""What an approver of privileged access signs with a passkey, and whether it was signed.

The passkey's challenge is the digest of exactly one request: what is to be opened, for whom, how long, through which
provisioner, who approves it, and until when that yes may be used. Nothing else has this digest, and a warrant keeps it
under a unique constraint, so one signature serves one warrant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.grants.models import Authorization
from apps.users import assertions

PURPOSE = "gatehouse.approve"
LONGEST = timedelta(hours=24)  # a signature from which it could be used for longer ahead is not used yet


class NotSigned(Exception):
    """No approver's passkey signed this. The text says why."""


def canonical(facts: Mapping[str, Any]) -> bytes:
    """The same facts as the same bytes everywhere: JSON in ASCII, keys sorted, no spaces."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def challenge(spec: Mapping[str, Any], *, request: str, approver: str, expires: str) -> bytes:
    """The 32 bytes that the passkey of `approver` (a user id) signs for `spec`. `expires` is ISO 8601."""
    said = {"purpose": PURPOSE, "request": request, "spec": spec, "approver": approver, "expires": expires}
    return hashlib.sha256(canonical(said)).digest()


def digest_of(spec: Mapping[str, Any], approvals: Iterable[Mapping[str, Any]]) -> str | None:
    """The digest that one of the approvals says was signed; None when none of them does."""
    return next((_challenge_of(spec, one).hex() for one in approvals if one.get("signed")), None)


def require(
    warrant: Authorization, spec: Mapping[str, Any], approvals: Iterable[Mapping[str, Any]], *, at: datetime
) -> str:
    """The id of the user whose passkey signed exactly this, by an approval that could be used `at` that instant, with a
    key that counted then. Raises `NotSigned`."""
    problem = "Privileged access is approved with a passkey, and this was not."
    for approval in approvals:
        signed = approval.get("signed")
        if not signed:
            continue
        said = _challenge_of(spec, approval)
        expires = datetime.fromisoformat(signed["expires"])
        if said.hex() != warrant.signed_digest:
            problem = "The approval was signed for something else."
        elif not at <= expires <= at + LONGEST:
            problem = "The approval was signed for another time. Ask again."
        else:
            try:
                assertions.verify(signed["assertion"], challenge=said, user_id=approval["user"], at=at)
            except assertions.Invalid as error:
                problem = f"The approval does not hold. {error}"
            else:
                return str(approval["user"])
    raise NotSigned(problem)


def _challenge_of(spec: Mapping[str, Any], approval: Mapping[str, Any]) -> bytes:
    signed = approval["signed"]
    return challenge(spec, request=signed["request"], approver=approval["user"], expires=signed["expires"])

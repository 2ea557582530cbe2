"""What two administrators sign with their passkeys when a stop may go. A worker lifts it on these signatures alone: what
the web process says about who agreed is not proof.

The passkey's challenge is the digest of exactly one stop: its number, its scope, when and by whom it was ordered, and what
it ended; who signs, and until when that may be used. A stop is lifted once and never comes into force again, so no
signature serves twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from apps.grants import permissions, signatures
from apps.grants.models import Stop
from apps.grants.signatures import LONGEST, NotSigned
from apps.inventory.models import Responsibility
from apps.users import assertions
from apps.users.models import User

PURPOSE = "gatehouse.lift_stop"
SKEW = timedelta(minutes=1)  # the page's clock may be ahead of the worker's


@dataclass(frozen=True)
class Asked:
    """What a page needs to have it signed. `passkey` is empty when none of the person's counts."""

    passkey: Mapping[str, Any]
    expires: str  # ISO 8601


def challenge(stop: Stop, signer: User, *, expires: str) -> bytes:
    """The 32 bytes that the passkey of `signer` signs for this stop. `expires` is ISO 8601."""
    said = {
        "purpose": PURPOSE,
        "stop": stop.pk,
        "scope": stop.scope,
        "subject": stop.subject.pk if stop.subject else None,
        "ordered_at": stop.ordered_at.isoformat(),
        "ordered_by": str(stop.ordered_by_id),
        "ended": stop.digest,
        "signer": str(signer.pk),
        "expires": expires,
    }
    return hashlib.sha256(signatures.canonical(said)).digest()


def ask(stop: Stop, signer: User) -> Asked:
    """Have the person's passkey asked for it; usable for as long as a signature may be."""
    expires = (timezone.now() + LONGEST - SKEW).isoformat()
    return Asked(assertions.options(signer, challenge(stop, signer, expires=expires)), expires)


def said_in(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a form brought back, as it is kept; empty when nothing was signed."""
    try:
        assertion = assertions.kept(json.loads(answer.get("credential") or "null"))
    except (assertions.Invalid, ValueError):
        return {}
    return {"assertion": assertion, "expires": str(answer.get("expires", ""))[:64]}


def require(stop: Stop, signer: User | None, signed: Mapping[str, Any], *, at: datetime) -> int:
    """The authenticator that signed. Raises `NotSigned` unless it is a passkey of this person that counted `at` that
    instant, over exactly this stop, and they had administered the portal for the waiting time, as workers saw it."""
    if signer is None or not signed:
        raise NotSigned("Lifting a stop is signed with a passkey, and this was not.")
    try:
        expires = str(signed["expires"])
        if not at <= datetime.fromisoformat(expires) <= at + LONGEST:
            raise NotSigned("It was signed for another time. Sign again.")
        said = challenge(stop, signer, expires=expires)
        key = assertions.verify(signed["assertion"], challenge=said, user_id=str(signer.pk), at=at)
    except assertions.Invalid as error:
        raise NotSigned(f"The passkey was not accepted. {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotSigned("What was signed cannot be read.") from error
    kind = Responsibility.Kind.ADMINISTRATOR
    if not Responsibility.objects.counting(at).filter(user=signer, kind=kind).exists():
        raise NotSigned(f"{signer} has not administered the portal for long enough.")
    return key.authenticator


def require_both(stop: Stop, *, at: datetime) -> None:
    """Raise `NotSigned` unless two administrators who are known to be different people, and whom the stop is not about,
    signed that it may go."""
    first, second = stop.lift_proposed_by, stop.lift_asked_by
    require(stop, first, stop.lift_proposal, at=at)
    require(stop, second, stop.lift_consent, at=at)
    if first == second:
        raise NotSigned("One administrator alone signed.")
    if first is None or second is None or not permissions.are_two_people(first, second):
        raise NotSigned("Those who signed are not known to be two people: each login has to be linked to a person.")
    if any(permissions.is_about(one, stop) for one in (first, second)):
        raise NotSigned("One of those who signed is whom it is about.")

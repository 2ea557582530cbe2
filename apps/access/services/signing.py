"""An approver's passkey over exactly one request: what it is asked to sign, and what of its answer the warrant keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from apps.access.models import AccessRequest
from apps.access.services.offers import NotAllowed
from apps.grants import signatures, warrants
from apps.grants.models import Grant
from apps.users import assertions
from apps.users.models import User


def challenge(request: AccessRequest, by: User) -> bytes:
    """The digest of exactly this request, approved by `by`, usable until it lapses."""
    return signatures.challenge(
        _spec(request), request=request.number, approver=str(by.pk), expires=request.lapses_at.isoformat()
    )


def options(request: AccessRequest, by: User) -> dict[str, Any]:
    """What the approver's browser asks their passkey for; empty when none of theirs counts."""
    return assertions.options(by, challenge(request, by))


def sign(
    request: AccessRequest, by: User, credential: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the warrant keeps of the browser's answer, and the step-up that it proves. Raises `NotAllowed`."""
    if not credential:
        raise NotAllowed(
            "Privileged access is approved with a passkey, in a browser with JavaScript. Add one in your settings, or "
            "ask another approver."
        )
    now = timezone.now()
    try:
        assertion = assertions.kept(credential)
        key = assertions.verify(assertion, challenge=challenge(request, by), user_id=str(by.pk), at=now)
    except assertions.Invalid as error:
        raise NotAllowed(f"The passkey was not accepted. {error} Try again.") from error
    signed = {"request": request.number, "expires": request.lapses_at.isoformat(), "assertion": assertion}
    return signed, {"method": "passkey", "authenticator": key.authenticator, "at": now.isoformat()}


def _spec(request: AccessRequest) -> dict[str, Any]:
    if request.extends:
        return warrants.spec_of_extension(request.extends, request.duration)
    return warrants.spec_of(
        Grant(
            connection=request.entitlement.connection,
            identity=request.identity,
            principal=request.principal,
            entitlement=request.entitlement,
            provisioner=request.offer.provisioner,
            duration=request.duration,
            reason=request.reason,
            ticket_ref=request.ticket_ref,
            requested_by=request.requester,
        )
    )

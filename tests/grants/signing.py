"""Approvals that a passkey signed, for tests below the pages that collect them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from fido2.utils import websafe_encode

from apps.grants import services, signatures, warrants
from apps.grants.models import Grant
from apps.inventory import responsibilities
from apps.inventory.models import Entitlement, Principal, Responsibility
from apps.users import assertions, passkeys
from apps.users.models import Passkey, User
from tests.users.soft_key import SoftKey


def give_key(user: User, key: SoftKey | None = None, *, waited: bool = True) -> SoftKey:
    """A passkey that a worker saw; it counts, unless it has not `waited`."""
    key = key or SoftKey(origin=settings.BASE_URL, host="localhost")
    authenticator = key.enrol(user)
    if not waited:
        passkeys.follow()
        return key
    public = authenticator.wrap().authenticator_data.credential_data.public_key
    long_ago = timezone.now() - timedelta(days=30)
    let_stand()
    Passkey.objects.create(
        user=user,
        authenticator=authenticator.pk,
        credential_id=websafe_encode(key.id),
        public_key=websafe_encode(passkeys.cbor.encode(public)),
        first_seen_at=long_ago,
        counts_from=long_ago + timedelta(days=1),
    )
    return key


def let_stand() -> None:
    """Whoever answers for something now has for a month, and workers saw it."""
    responsibilities.follow()
    Responsibility.objects.update(counts_from=timezone.now() - timedelta(days=29))


def draft(who: Principal, what: Entitlement, **fields: Any) -> Grant:
    """The grant that `System.issue` would make, unsaved."""
    values: dict[str, Any] = {
        "provisioner": "idc_assignment",
        "duration": timedelta(hours=1),
        "reason": "Looking into INC-1.",
        "requested_by": who.identity.user if who.identity else None,
    }
    return Grant(
        connection=what.connection, identity=who.identity, principal=who, entitlement=what, **{**values, **fields}
    )


def sign(
    spec: Mapping[str, Any], key: SoftKey, by: User, *, request: str = "R-1", expires: datetime | None = None
) -> dict[str, Any]:
    """`by` approves exactly `spec` with `key`."""
    until = (expires or timezone.now() + timedelta(hours=23)).isoformat()
    challenge = signatures.challenge(spec, request=request, approver=str(by.pk), expires=until)
    assertion = assertions.kept(key.sign(websafe_encode(challenge)))
    return {
        "user": str(by.pk),
        "name": str(by),
        "step_up": {"method": "passkey"},
        "signed": {"request": request, "expires": until, "assertion": assertion},
    }


def approved(*approvals: dict[str, Any]) -> services.Authority:
    return services.Authority({"tier": "approval", "cap_seconds": 3600}, approvals)


def signed_by(user: User, key: SoftKey, grant: Grant, **fields: Any) -> services.Authority:
    """The authority that `user` gives `grant` with `key`."""
    return approved(sign(warrants.spec_of(grant), key, user, **fields))

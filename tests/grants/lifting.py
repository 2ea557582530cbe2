"""Two administrators who lift a stop with their passkeys, for tests below its page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from fido2.utils import websafe_encode

from apps.grants import lifting, provisioning
from apps.grants.models import Stop
from apps.grants.services import stops
from apps.inventory.models import Connection, Identity
from apps.users import assertions
from apps.users.models import User
from tests.factories.inventory import IdentityFactory
from tests.grants.signing import give_key
from tests.users.soft_key import SoftKey

FOUND = "The laptop was found."


def known(user: User) -> User:
    """Linked to a person, as everybody who lifts a stop has to be."""
    if not Identity.objects.filter(user=user).exists():
        IdentityFactory(connection=Connection.objects.earliest("pk"), user=user, name=user.name)
    user.__dict__.pop("_identity", None)
    return user


def signed(stop: Stop, by: User, key: SoftKey, *, expires: datetime | None = None) -> dict[str, Any]:
    """What a form keeps once `by` signed with `key` that this stop may go."""
    until = (expires or timezone.now() + timedelta(hours=23)).isoformat()
    challenge = lifting.challenge(Stop.objects.get(pk=stop.pk), by, expires=until)
    return {"expires": until, "assertion": assertions.kept(key.sign(websafe_encode(challenge)))}


def propose(stop: Stop, by: User, *, reason: str = FOUND) -> Stop:
    known(by)
    return stops.propose_lift(stop, by=by, reason=reason, signed=signed(stop, by, give_key(by)))


def second(stop: Stop, by: User) -> Stop:
    known(by)
    return stops.lift(stop, by=by, signed=signed(stop, by, give_key(by)))


def lift(stop: Stop, first: User, other: User) -> Stop:
    """Both sign, and a worker lifts it."""
    propose(stop, first)
    second(stop, other)
    provisioning.lift_stop(stop.pk)
    stop.refresh_from_db()
    return stop

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from fido2.utils import websafe_encode

from apps.access.models import AccessRequest, Offer
from apps.access.services import offers, signing
from apps.access.services.requests import Place
from apps.inventory.models import Entitlement
from apps.users.models import User
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.signing import give_key
from tests.grants.system import START, System
from tests.users.soft_key import SoftKey

LAPTOP = Place(device="laptop", session="s1")
PHONE = Place(
    device="phone",
    session="s2",
    known_since=START - timedelta(days=30),
    step_up={"method": "totp", "authenticator": 1, "at": START.isoformat()},
)
PASSKEY = Place(
    device="laptop", session="s1", step_up={"method": "passkey", "authenticator": 2, "at": START.isoformat()}
)
TOTP = Place(device="desk", session="s9", step_up={"method": "totp", "authenticator": 3, "at": START.isoformat()})


class Company(System):
    """Alice asks; Bob owns the production account; Carol manages Alice; Erin administers; Mallory may see nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.erin = UserFactory(name="Erin", administrator=True)
        PrincipalFactory(connection=self.connection, external_id="erin", name="erin", identity__user=self.erin)
        self.mallory = UserFactory(name="Mallory")
        self.carol = self.person("carol")
        self.alice_user = self.alice.identity.user
        self.bob_user = self.bob.identity.user
        self.carol_user = self.carol.identity.user
        self.alice.identity.manager = self.carol.identity
        self.alice.identity.save()
        self.account.owner = self.bob.identity
        self.account.environment = "production"
        self.account.save()

    def offer(self, what: Entitlement, provisioner: str = "idc_assignment", hours: int = 8) -> Offer:
        return offers.offer(what, provisioner=provisioner, max_for=timedelta(hours=hours), by=self.erin)

    def sign(self, request: AccessRequest, by: User, key: SoftKey | None = None) -> dict[str, Any]:
        """What `by`'s browser answers when it is asked to approve `request`."""
        key = key or give_key(by)
        return key.sign(websafe_encode(signing.challenge(request, by)))

    def machine(self, owner=None):
        """An IAM user in the account, with somebody who owns it."""
        self.world.add_principal("iam_user", "robot", account_id=self.account.external_id)
        return PrincipalFactory(
            connection=self.connection, iam_user=True, external_id="robot", resource=self.account, identity__owner=owner
        )


@pytest.fixture
def company(db: None):
    with time_machine.travel(START, tick=False):
        yield Company()


@pytest.fixture
def clock_stands_still():
    with time_machine.travel(START, tick=False):
        yield

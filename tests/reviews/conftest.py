"""Carol manages Alice and Bob; Frank is the fallback; Erin administers; Dan audits; Mallory may see nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from apps.inventory.models import Assignment, Entitlement, Identity, Principal
from apps.reviews.models import Campaign, ReviewItem
from apps.reviews.services import campaigns, items
from apps.users.models import User
from tests.factories.inventory import (
    AssignmentFactory,
    EntitlementFactory,
    PrincipalFactory,
    SyncRunFactory,
)
from tests.factories.users import UserFactory
from tests.grants.system import START, System

REASON = "Not needed any more."


class Company(System):
    """A system that was read completely a moment ago, in which people hold things that stand."""

    def __init__(self) -> None:
        super().__init__()
        self.carol, self.frank, self.erin = self.person("carol"), self.person("frank"), self.person("erin")
        for member in (self.alice, self.bob):
            self.managed_by(member, self.carol)
        self.erin_user.portal_roles.create(role="administrator", source="a test")
        self.dan = UserFactory(name="Dan", auditor=True)
        self.mallory = UserFactory(name="Mallory")
        self.run = SyncRunFactory(connection=self.connection, started_at=timezone.now())

    def __getattr__(self, name: str) -> User:
        """`carol_user` is the user of the principal `carol`."""
        if not name.endswith("_user"):
            raise AttributeError(name)
        identity = Identity.objects.select_related("user").get(pk=getattr(self, name.removesuffix("_user")).identity_id)
        assert identity.user
        return identity.user

    def managed_by(self, who: Principal, manager: Principal | None) -> None:
        Identity.objects.filter(pk=who.identity_id).update(manager=manager.identity if manager else None)

    def group(self, name: str, *holds: Entitlement, **fields: Any) -> Entitlement:
        """A group that holds these, standing. Returns its membership."""
        record = self.world.add_group(name)
        membership = EntitlementFactory(
            connection=self.connection,
            membership=True,
            external_id=record.external_id,
            group__external_id=name,
            group__name=name,
        )
        for what in holds:
            self.stands(membership.group, what, **fields)
        return membership

    def stands(self, who: Principal, what: Entitlement, **fields: Any) -> Assignment:
        """Standing in the inventory alone."""
        values = {"connection": self.connection, "is_standing": True, **fields}
        return AssignmentFactory(principal=who, entitlement=what, **values)

    def machine(self, name: str, owner: Principal | None = None) -> Principal:
        return PrincipalFactory(
            connection=self.connection,
            iam_user=True,
            external_id=name,
            name=name,
            resource=self.account,
            identity__name=name,
            identity__owner=owner.identity if owner else None,
        )

    def draft(self, **fields: Any) -> Campaign:
        values = {
            "name": "Q4 2026",
            "connection": self.connection,
            "holders": ["human", "machine", "group"],
            "privileged_only": False,
            "due_at": timezone.now() + timedelta(days=10),
            "fallback": self.frank_user,
            "by": self.erin_user,
            **fields,
        }
        return campaigns.draft(**values)

    def launch(self, **fields: Any) -> Campaign:
        return campaigns.launch(self.draft(**fields), by=self.erin_user)

    def work(self, rounds: int = 2) -> None:
        """Workers take every grant's next step."""
        for _ in range(rounds):
            self.run_clock(1)


def item_of(campaign: Campaign, who: Principal, what: Entitlement) -> ReviewItem:
    return ReviewItem.objects.get(campaign=campaign, principal=who, entitlement=what)


def decide_all(campaign: Campaign, choice: str, *, reviewer: User) -> None:
    rows = ReviewItem.objects.filter(campaign=campaign, reviewer=reviewer)
    items.decide_many(rows, campaign=campaign, choice=choice, reason=REASON, by=reviewer)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def company(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with time_machine.travel(START, tick=False):
        yield Company()


@pytest.fixture
def office(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Company:
    """The same with transactions that really commit, and a clock that runs."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return Company()

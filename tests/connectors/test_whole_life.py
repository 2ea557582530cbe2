"""Grants from the decision to the cleared object, over a real AWS API: the role of one grant, and a network opening that
two people share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from apps.connectors.aws import jit_documents as jit
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.inventory import services as inventory
from apps.inventory.models import Entitlement, Principal, Resource
from tests.connectors.conftest import Org
from tests.connectors.test_iam_jit_role import BOUNDARY, can_use, stored
from tests.connectors.test_iam_jit_role import target as role_target
from tests.connectors.test_security_group_rule import Network
from tests.factories.inventory import ConnectionFactory, PrincipalFactory, ResourceFactory
from tests.factories.users import UserFactory
from tests.grants.system import START

pytestmark = pytest.mark.django_db

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@dataclass
class House:
    """Alice and Bob in the portal, and their account in AWS, which Bob owns."""

    account: Resource
    alice: Principal
    bob: Principal
    clock: Any

    def issue(self, who: Principal, what: Entitlement, provisioner: str, hours: int = 1) -> Grant:
        approver = self.bob if who == self.alice else self.alice
        assert who.identity and approver.identity
        yes = {"user": str(approver.identity.user_id), "name": approver.name}
        grant = services.issue(
            identity=who.identity,
            principal=who,
            entitlement=what,
            provisioner=provisioner,
            duration=hours * HOUR,
            reason="A booking is wrong.",
            by=who.identity.user,
            authority=services.Authority({"tier": "approval", "cap_seconds": 8 * 3600}, (yes,)),
        )
        provisioning.provision(grant.pk)
        grant.refresh_from_db()
        return grant

    def end(self, grant: Grant) -> None:
        services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
        provisioning.deprovision(grant.pk)
        grant.refresh_from_db()


@pytest.fixture
def house(org: Org) -> Iterator[House]:
    org.iam().create_policy(PolicyName="JitBoundary", Path="/jit/", PolicyDocument=json.dumps(BOUNDARY))
    with time_machine.travel(START, tick=False) as clock:
        connection = ConnectionFactory(kind="aws", options={}, region="us-east-1", writable=True)
        account = ResourceFactory(connection=connection, external_id=org.account_id, name="production")
        people = [
            PrincipalFactory(
                connection=connection, external_id=org.people[name], name=name, identity__user=UserFactory(name=name)
            )
            for name in ("alice", "bob")
        ]
        for person, other in (people, people[::-1]):
            person.identity.manager = other.identity
            person.identity.department = "Engineering"
            person.identity.save()
        yield House(account, *people, clock)


def handle_orders(house: House) -> Entitlement:
    return inventory.define_policy(
        house.account,
        slug="orders",
        name="Handle orders",
        actions=["s3:GetObject"],
        resources=["arn:aws:s3:::orders/*"],
        by=UserFactory(administrator=True),
    )


def reach_database(house: House, network: Network) -> Entitlement:
    return inventory.define_opening(
        house.account,
        slug="db",
        name="Reach the database",
        region="us-east-1",
        group_id=network.group_id,
        protocol="tcp",
        from_port=5432,
        to_port=5432,
        source="10.1.0.0/24",
        by=UserFactory(administrator=True),
    )


def test_a_role_lives_as_long_as_its_grant_and_nothing_of_it_longer(org: Org, house: House) -> None:
    what = handle_orders(house)
    grant = house.issue(house.alice, what, "iam_jit_role")
    assert grant.state == State.ACTIVE, grant.problem
    role = stored(org, grant.reference)
    assert role
    assert grant.made_as == role["RoleId"]
    assert grant.not_after == grant.ends_at == START + HOUR, "narrowed to what was asked"
    mine = role_target(org.account_id, grant.reference, org.people["alice"])
    assert can_use(org, mine, START + HOUR - SECOND)
    assert not can_use(org, mine, START + HOUR)
    assert [way.kind for way in services.ways_in(grant)] == ["console", "cli"]

    house.end(grant)
    assert grant.state == State.REVOKED
    assert grant.denied_at
    assert stored(org, grant.reference) is None
    house.clock.shift(2 * HOUR)
    provisioning.clear(grant.pk)
    grant.refresh_from_db()
    assert grant.cleared_at
    assert org.iam().list_roles(PathPrefix=jit.PATH)["Roles"] == []


def test_two_grants_of_one_person_have_a_role_each_and_end_apart(org: Org, house: House) -> None:
    what = handle_orders(house)
    first, second = (house.issue(house.alice, what, "iam_jit_role", hours) for hours in (1, 2))
    assert (first.state, second.state) == (State.ACTIVE, State.ACTIVE)
    house.end(first)
    assert stored(org, first.reference) is None
    mine = role_target(org.account_id, second.reference, org.people["alice"])
    assert can_use(org, mine, START + 2 * HOUR - SECOND)
    assert not can_use(org, mine, START + 2 * HOUR)


def test_a_role_that_somebody_made_anew_ends_with_the_grant_and_is_never_extended(org: Org, house: House) -> None:
    what = handle_orders(house)
    grant = house.issue(house.alice, what, "iam_jit_role")
    iam, role = org.iam(), stored(org, grant.reference)
    assert role
    name = {"RoleName": role["RoleName"]}
    for policy in role["inline"]:
        iam.delete_role_policy(**name, PolicyName=policy)
    iam.delete_role(**name)
    made = iam.create_role(
        **name,
        Path=jit.PATH,
        AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]),
        PermissionsBoundary=role["PermissionsBoundary"]["PermissionsBoundaryArn"],
        Tags=role["Tags"],
    )["Role"]["RoleId"]
    Grant.objects.filter(pk=grant.pk).update(narrowed_at=None)
    provisioning.narrow(grant.pk)
    grant.refresh_from_db()
    assert grant.narrowed_at is None, "it was not adopted"
    assert grant.made_as != made
    house.end(grant)
    assert grant.state == State.REVOKED
    assert stored(org, grant.reference) is None


def test_a_network_opening_stays_until_the_last_of_two_people_ends(org: Org, house: House) -> None:
    network = Network(org)
    what = reach_database(house, network)
    first = house.issue(house.alice, what, "security_group_rule", 1)
    second = house.issue(house.bob, what, "security_group_rule", 2)
    assert (first.state, second.state) == (State.ACTIVE, State.ACTIVE), (first.problem, second.problem)
    assert first.shared_key == second.shared_key
    assert len(network.rules()) == 1
    ((_, schedule),) = network.scheduler.stored()
    assert schedule["StartDate"] == START + 2 * HOUR

    house.end(second)
    assert second.state == State.REVOKED
    assert second.denied_at is None, "a rule denies nothing, and no page says so"
    assert len(network.rules()) == 1, "Alice still needs it"
    ((_, schedule),) = network.scheduler.stored()
    assert schedule["StartDate"] == START + HOUR, "and nobody longer than she does"

    house.end(first)
    assert first.state == State.REVOKED
    assert network.rules() == []
    house.clock.shift(timedelta(minutes=2))
    for grant in (first, second):
        provisioning.clear(grant.pk)
        grant.refresh_from_db()
        assert grant.cleared_at
    assert network.scheduler.stored() == []


def test_with_the_portal_dead_aws_closes_the_opening(org: Org, house: House) -> None:
    network = Network(org)
    what = reach_database(house, network)
    grant = house.issue(house.alice, what, "security_group_rule")
    assert grant.state == State.ACTIVE, grant.problem
    house.clock.shift(HOUR)
    assert network.scheduler.run(START + HOUR) == 1
    assert network.rules() == []
    services.end(grant, by=grant.requested_by, reason=EndReason.EXPIRED)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED

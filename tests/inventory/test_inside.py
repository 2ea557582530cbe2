"""The machines inside an account: how many, whose, and the heaviest first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from apps.inventory import inside
from apps.inventory.models import Assignment, Principal
from tests.factories import inventory as make


@pytest.fixture
def account(db: None):
    return make.ResourceFactory()


def machine(account, name: str, **fields: object) -> Principal:
    return make.PrincipalFactory(
        connection=account.connection, resource=account, iam_role=True, external_id=name, identity__name=name, **fields
    )


def holds(principal: Principal, privilege: str, *, ours: bool = False, **fields: object) -> Assignment:
    entitlement = make.EntitlementFactory(
        connection=principal.connection, resource=principal.resource, privilege=privilege, is_ours=ours
    )
    return make.AssignmentFactory(
        connection=principal.connection, principal=principal, entitlement=entitlement, **fields
    )


def shown(account, limit: int = 10) -> list[tuple[str, str]]:
    return [(one.identity.name, one.worst) for one in inside.machines_in(account, limit=limit).heaviest]


def test_the_heaviest_come_first_and_those_that_hold_nothing_last(account):
    for name, privilege in (("b", "read"), ("c", "admin"), ("d", "unknown"), ("a", "read")):
        holds(machine(account, name), privilege)
    holds(Principal.objects.get(name="a"), "none")
    machine(account, "e")
    assert shown(account) == [("c", "admin"), ("d", "unknown"), ("a", "read"), ("b", "read"), ("e", "")]
    assert shown(account, limit=2) == [("c", "admin"), ("d", "unknown")]
    assert inside.machines_in(account, limit=2).count == 5


def test_what_ended_and_what_gatehouse_made_does_not_weigh(account):
    role = machine(account, "role")
    past = DateTimeTZRange(timezone.now() - timedelta(days=9), timezone.now())
    holds(role, "admin", period=past)
    holds(role, "admin", ours=True)
    holds(role, "privileged", attributes={"is_ours": True})
    holds(role, "write")
    assert shown(account) == [("role", "write")]


def test_only_machines_that_are_still_there_count(account):
    machine(account, "gone", identity__ended_at=timezone.now())
    machine(account, "person", identity__kind="human")
    machine(make.ResourceFactory(connection=account.connection), "elsewhere")
    found = inside.machines_in(account, limit=10)
    assert (found.heaviest, found.count, found.unowned) == ([], 0, 0)


def test_nobody_answers_once_owner_and_successor_left(account):
    here, left = (make.IdentityFactory(connection=account.connection, ended_at=at) for at in (None, timezone.now()))
    owners = {"a": (None, None), "b": (here, None), "c": (left, None), "d": (left, here), "e": (left, left)}
    for name, (owner, successor) in owners.items():
        machine(account, name, identity__owner=owner, identity__successor=successor)
    found = inside.machines_in(account, limit=10)
    assert (found.count, found.unowned) == (5, 3)
    assert [one.identity.name for one in found.heaviest if not one.identity.answerer] == ["a", "c", "e"]

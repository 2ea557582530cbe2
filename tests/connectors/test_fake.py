"""The fake keeps the contract, and every fault it can be told to have is the fault it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

import pytest

from apps.connectors import fake_world
from apps.connectors.base import Look, Target, Window
from apps.connectors.errors import Busy, ConnectorError, Denied, Gone, Refused, Throttled, Unproven, Unreachable
from apps.connectors.fake import FakeConnector, FakeRemover
from apps.connectors.fake_provisioners import FakeMembershipProvisioner, FakePolicyProvisioner, FakeProvisioner
from apps.connectors.fake_world import World
from tests.connectors.conftest import whole
from tests.connectors.contract import (
    END,
    SECOND,
    START,
    Bench,
    EndsTwiceContract,
    ProvisionerContract,
    RemoverBench,
    RemoverContract,
    opened,
)

_names = count()


@pytest.fixture
def world() -> Iterator[World]:
    name = f"contract-{next(_names)}"
    world = fake_world.world(name)
    world.add_account("111111111111", "production")
    for person in ("alice", "bob"):
        world.add_user(person, person.title())
    world.add_permission_set("Admin", "111111111111")
    world.add_principal("iam_role", "role/batch", "batch", account_id="111111111111")
    for policy in ("read-orders", "write-orders"):
        world.add_entitlement("iam_policy", policy, account_id="111111111111")
    yield world
    fake_world.forget(name)


def oracle(world: World) -> Callable[[Target, datetime], bool]:
    return lambda target, at: world.can_use(target.principal_external_id, target.entitlement_external_id, at)


def copies_in(world: World) -> Callable[[Target], int]:
    return lambda target: int((target.principal_external_id, target.entitlement_external_id) in world.assignments)


class TestFakeProvisioner(ProvisionerContract, EndsTwiceContract):
    @pytest.fixture
    def bench(self, world: World) -> Bench:
        config = {"world": world.name}
        alice, bob = (world.target(person, "Admin@111111111111") for person in ("alice", "bob"))
        return Bench(
            config, FakeProvisioner(config), alice, bob, [Window(bob, END)] * 40, oracle(world), copies_in(world)
        )


class TestFakePolicyProvisioner(ProvisionerContract):
    @pytest.fixture
    def bench(self, world: World) -> Bench:
        config = {"world": world.name}
        read, write = (world.target("role/batch", policy) for policy in ("read-orders", "write-orders"))
        return Bench(
            config,
            FakePolicyProvisioner(config),
            read,
            write,
            [Window(write, END)] * 40,
            oracle(world),
            lambda target: int(("role/batch", target.entitlement_external_id) in world.policies["role/batch"]),
        )


class TestFakeMembershipProvisioner(ProvisionerContract):
    @pytest.fixture
    def bench(self, world: World) -> Bench:
        config = {"world": world.name}
        world.add_group("operators")
        world.add_group("owned", is_externally_owned=True)
        alice, bob = (world.target(person, "membership:operators") for person in ("alice", "bob"))
        owned = [Window(world.target("alice", "membership:owned"), END)]
        provisioner = FakeMembershipProvisioner(config)
        return Bench(config, provisioner, alice, bob, owned, oracle(world), copies_in(world), is_shared=False)


class TestFakeRemover(RemoverContract):
    @pytest.fixture
    def bench(self, world: World) -> RemoverBench:
        for person in ("alice", "bob"):
            world.assign(person, "Admin@111111111111")
        alice, bob = (world.target(person, "Admin@111111111111") for person in ("alice", "bob"))
        return RemoverBench(FakeRemover({"world": world.name}), alice, bob, copies_in(world))


@pytest.fixture
def alice(world: World) -> Target:
    return world.target("alice", "Admin@111111111111")


@pytest.fixture
def provisioner(world: World) -> FakeProvisioner:
    return FakeProvisioner({"world": world.name})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (fake_world.throttled(), Throttled),
        (fake_world.busy(), Busy),
        (fake_world.lost_request(), Unreachable),
        (fake_world.raises(Denied("No.")), Denied),
        (fake_world.raises(Gone("Gone.")), Gone),
    ],
)
def test_a_refused_call_changes_nothing_and_the_next_one_works(
    world: World, provisioner: FakeProvisioner, alice: Target, fault: fake_world.Fault, error: type[ConnectorError]
) -> None:
    world.script("open", fault)
    with pytest.raises(error):
        provisioner.open(alice)
    assert not provisioner.look(alice).is_present
    assert provisioner.open(alice).state == "done"


def test_a_lost_response_was_done_all_the_same(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    world.script("open", fake_world.lost_response())
    world.script("enforce", fake_world.lost_response())
    with pytest.raises(Unreachable):
        provisioner.enforce(alice, [Window(alice, END)])
    with pytest.raises(Unreachable):
        provisioner.open(alice)
    assert provisioner.look(alice).is_present
    assert world.can_use("alice", "Admin@111111111111", END - SECOND)
    assert not world.can_use("alice", "Admin@111111111111", END)


def test_a_pending_change_happens_after_its_polls(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    world.script("open", fake_world.pending(2))
    ticket = provisioner.open(alice)
    assert ticket.state == "pending"
    assert [provisioner.status(alice, ticket).state for _ in range(3)] == ["pending", "pending", "done"]
    assert provisioner.look(alice).is_present


def test_another_change_of_the_same_pair_meanwhile_is_busy(
    world: World, provisioner: FakeProvisioner, alice: Target
) -> None:
    world.script("open", fake_world.pending(5))
    provisioner.open(alice)
    with pytest.raises(Busy):
        provisioner.close(alice)


def test_a_change_can_fail_after_it_was_accepted(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    world.script("open", fake_world.fails_late("the permission set is broken"))
    ticket = provisioner.open(alice)
    assert provisioner.status(alice, ticket).state == "pending"
    failed = provisioner.status(alice, ticket)
    assert (failed.state, failed.reason) == ("failed", "the permission set is broken")
    assert not provisioner.look(alice).is_present


def test_a_lie_is_found_by_looking(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    world.script("open", fake_world.lies())
    assert provisioner.open(alice).state == "done"
    assert not provisioner.look(alice).is_present
    provisioner.open(alice)
    world.script("close", fake_world.lies(polls=1))
    ticket = provisioner.close(alice)
    assert [provisioner.status(alice, ticket).state for _ in range(2)] == ["pending", "done"]
    assert provisioner.look(alice).is_present


def test_a_guard_that_was_not_written_is_unproven(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    world.script("enforce", fake_world.lies(), fake_world.stale())
    for _ in range(2):
        with pytest.raises(Unproven):
            provisioner.enforce(alice, [Window(alice, END)])


def test_a_stale_look_shows_what_was_before(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    provisioner.open(alice)
    provisioner.close(alice)
    world.script("look", fake_world.stale())
    looks: list[Look] = [provisioner.look(alice) for _ in range(2)]
    assert [look.is_present for look in looks] == [True, False]


def test_every_call_is_recorded_in_order(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    provisioner.check(alice, [])
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    assert [call.operation for call in world.calls_of()] == ["check", "enforce", "open"]
    assert world.calls_of("enforce")[0].detail["windows"] == (Window(alice, END),)


@pytest.mark.parametrize(("wanted", "is_assigned"), [("before", False), ("after", True)])
def test_a_hook_can_kill_before_and_after_the_change(
    world: World, provisioner: FakeProvisioner, alice: Target, wanted: str, is_assigned: bool
) -> None:
    class Killed(BaseException):
        pass

    def kill(phase: str, call: fake_world.Call) -> None:
        if phase == wanted:
            raise Killed

    world.hook = kill
    with pytest.raises(Killed):
        provisioner.open(alice)
    assert (("alice", "Admin@111111111111") in world.assignments) is is_assigned


def test_standing_access_and_missing_guards_are_refused(
    world: World, provisioner: FakeProvisioner, alice: Target
) -> None:
    with pytest.raises(Refused, match="already holds"):
        provisioner.check(alice, [Window(alice, END, holds_standing=True)])
    world.unguarded_accounts.add("111111111111")
    with pytest.raises(Refused, match="guard"):
        provisioner.check(alice, [Window(alice, END)])
    with pytest.raises(Refused, match="directory"):
        provisioner.check(replace(alice, principal_kind="iam_role"), [])


def test_the_guard_denies_also_what_is_held_through_a_group(
    world: World, provisioner: FakeProvisioner, alice: Target
) -> None:
    world.add_group("admins", ["alice"])
    world.assign("admins", "Admin@111111111111")
    assert world.can_use("alice", "Admin@111111111111", START)
    assert not world.can_use("bob", "Admin@111111111111", START)
    opened(Bench({}, provisioner, alice, alice, [], oracle(world), copies_in(world)), Window(alice, END))
    assert not world.can_use("alice", "Admin@111111111111", END)


def test_a_policy_never_cuts_standing_rights(world: World) -> None:
    policies = FakePolicyProvisioner({"world": world.name})
    world.assign("role/batch", "read-orders")
    target = world.target("role/batch", "read-orders")
    policies.enforce(target, [Window(target, END, holds_standing=True)])
    assert world.can_use("role/batch", "read-orders", END + timedelta(days=1))


def test_a_deleted_principal_is_gone(world: World, provisioner: FakeProvisioner, alice: Target) -> None:
    provisioner.open(alice)
    world.delete_principal("alice")
    with pytest.raises(Gone):
        provisioner.open(alice)
    assert not provisioner.look(alice).is_present
    assert provisioner.close(alice).state == "done"


def test_a_group_that_another_system_owns_is_refused(world: World) -> None:
    world.add_group("from-okta", ["alice"], is_externally_owned=True)
    with pytest.raises(Refused, match="identity provider"):
        FakeRemover({"world": world.name}).close(world.target("alice", "membership:from-okta"))


def test_a_scan_shows_what_is_held_in_the_same_order_every_time(world: World) -> None:
    connector = FakeConnector({"world": world.name})
    world.add_group("admins", ["bob", "alice"])
    world.assign("admins", "Admin@111111111111")
    first, second = (whole(connector.scan_directory(connector.accounts(), lambda *_: None)) for _ in range(2))
    assert first == second
    assert first.is_complete
    assert [(a.principal_external_id, a.entitlement_external_id) for a in first.assignments] == [
        ("alice", "membership:admins"),
        ("bob", "membership:admins"),
        ("admins", "Admin@111111111111"),
    ]
    assert "Admin@111111111111" in {entitlement.external_id for entitlement in first.entitlements}


def test_a_scan_with_a_problem_is_incomplete(world: World) -> None:
    connector = FakeConnector({"world": world.name})
    world.scan_problems["directory"].append("A page could not be read.")
    assert not whole(connector.scan_directory(connector.accounts(), lambda *_: None)).is_complete


def test_a_scan_knows_the_documents_of_grants_as_ours(world: World) -> None:
    target = world.target("role/batch", "read-orders")
    FakePolicyProvisioner({"world": world.name}).enforce(target, [Window(target, END)])
    scan = FakeConnector({"world": world.name}).scan_account(world.accounts["111111111111"], lambda *_: None)
    assert [a.attributes for a in scan.assignments] == [{"is_ours": True}]

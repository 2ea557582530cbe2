"""What the separate ender does in AWS: takes away, or denies everything to a role, with rights of its own, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from apps.connectors import registry
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.aws.session import Api
from apps.connectors.base import Remover, Target, Window
from apps.connectors.errors import Refused
from tests.connectors import test_group_membership as groups
from tests.connectors import test_iam_jit_role as jit_role
from tests.connectors import test_security_group_rule as ingress
from tests.connectors import test_sts_broker as tier
from tests.connectors.conftest import CONFIG, Org
from tests.connectors.contract import END, settle
from tests.connectors.test_without_database import someone_assigned

NARROWING = {
    "delete_account_assignment",
    "delete_group_membership",
    "remove_user_from_group",
    "attach_role_policy",
    "revoke_security_group_ingress",
}
DENY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class Case:
    """Something that a provisioner opened, and two words of an independent observer about it."""

    provisioner: str
    target: Target
    is_usable: Callable[[], bool]
    guards: Callable[[], Any]  # everything that denies: must be the same afterwards, or more


def deny_all(org: Org) -> None:
    org.iam().create_policy(PolicyName="JitDenyAll", Path="/jit/", PolicyDocument=json.dumps(DENY_ALL))


def attached_denies(org: Org, role: str) -> bool:
    iam = org.iam()
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        now = datetime.now(UTC)
        if (
            evaluate([ALLOW_ALL, document], action="s3:GetObject", resource="*", context={}, now=now).outcome
            is Outcome.DENY
        ):
            return True
    return False


def assignment(org: Org) -> Case:
    alice = someone_assigned(org)
    return Case("idc_assignment", alice, lambda: alice.principal_external_id in org.assignments("Admin"), org.guard)


def membership(org: Org) -> Case:
    world = groups.in_directory(org)
    alice = world.alice
    return Case("group_membership", alice, lambda: alice.principal_external_id in world.members(), lambda: None)


def iam_membership(org: Org) -> Case:
    world = groups.in_account(org)
    alice = world.alice
    return Case("group_membership", alice, lambda: alice.principal_external_id in world.members(), lambda: None)


def role_of_a_grant(org: Org) -> Case:
    deny_all(org)
    org.iam().create_policy(PolicyName="JitBoundary", Path="/jit/", PolicyDocument=json.dumps(jit_role.BOUNDARY))
    alice = jit_role.target(org.account_id, user_id=org.people["alice"])
    name = f"jit-{alice.reference}"
    return Case(
        "iam_jit_role",
        alice,
        lambda: not attached_denies(org, name),
        lambda: org.iam().get_role_policy(RoleName=name, PolicyName="jit-guard")["PolicyDocument"],
    )


def tier_role(org: Org) -> Case:
    deny_all(org)
    tier.make_role(org)
    alice = tier.target(tier.ALICE, account_id=org.account_id)
    return Case("sts_broker", alice, lambda: not attached_denies(org, "JitReadOnly"), lambda: tier.guard_of(org))


def opening(org: Org) -> Case:
    network = ingress.Network(org)
    alice = ingress.target(org.account_id, network.group_id, org.people["alice"])
    return Case("security_group_rule", alice, lambda: bool(network.rules()), lambda: None)


CASES = [assignment, membership, iam_membership, role_of_a_grant, tier_role, opening]


@pytest.fixture(params=CASES, ids=[case.__name__ for case in CASES])
def case(org: Org, request: pytest.FixtureRequest) -> Case:
    return opened(request.param(org))


def opened(case: Case) -> Case:
    """The provisioner opens it, as for a grant."""
    provisioner = registry.provisioner("aws", case.provisioner, CONFIG)
    provisioner.enforce(case.target, [Window(case.target, END)])
    assert settle(provisioner, case.target, provisioner.open(case.target)).state == "done"
    assert case.is_usable()
    return case


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every call as (role, operation) that was made as another role than the reader's."""
    made: list[tuple[str, str]] = []
    call = Api.call

    def noted(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        if self.role != "reader_role":
            made.append((self.role, operation))
        return call(self, account_id, service, operation, **params)

    monkeypatch.setattr(Api, "call", noted)
    return made


def ender_of(case: Case) -> Remover:
    ender = registry.ender("aws", case.provisioner, CONFIG)
    assert ender is not None
    return ender


def test_it_ends_it_and_reads_back(case: Case) -> None:
    ender = ender_of(case)
    assert ender.look(case.target).is_present
    assert settle(ender, case.target, ender.close(case.target)).state == "done"
    assert not case.is_usable()
    assert not ender.look(case.target).is_present


def test_ending_twice_is_ending_once(case: Case, changes: list[tuple[str, str]]) -> None:
    ender = ender_of(case)
    ender.close(case.target)
    done = len(changes)
    assert ender.close(case.target).state == "done"
    assert len(changes) == done


def test_it_only_ever_narrows_as_its_own_role(case: Case, changes: list[tuple[str, str]]) -> None:
    ender = ender_of(case)
    before = case.guards()
    ender.close(case.target)
    ender.look(case.target)
    assert changes
    assert {role for role, _ in changes} == {"ender_role"}
    assert {operation for _, operation in changes} <= NARROWING
    assert case.guards() == before  # no Deny was rewritten or deleted


def test_it_can_open_nothing(case: Case) -> None:
    public = {name for name in dir(ender_of(case)) if not name.startswith("_")} - {"role"}
    assert public == {"close", "status", "look", "lock_key"}


def test_it_locks_the_same_object_as_the_provisioner(case: Case) -> None:
    provisioner = registry.provisioner("aws", case.provisioner, CONFIG)
    assert ender_of(case).lock_key(case.target) == provisioner.lock_key(case.target)


def test_the_provisioner_cleans_up_after_it(case: Case) -> None:
    ender_of(case).close(case.target)
    provisioner = registry.provisioner("aws", case.provisioner, CONFIG)
    provisioner.enforce(case.target, [Window(case.target, datetime.now(UTC), is_open=False)])
    assert settle(provisioner, case.target, provisioner.close(case.target)).state == "done"
    assert not provisioner.look(case.target).is_present


@pytest.mark.parametrize("make", [role_of_a_grant, tier_role])
def test_where_the_deny_was_never_deployed_it_is_not_called_ended(org: Org, make: Callable[[Org], Case]) -> None:
    case = opened(make(org))
    org.iam().delete_policy(PolicyArn=f"arn:aws:iam::{org.account_id}:policy/jit/JitDenyAll")
    ender = ender_of(case)
    ender.close(case.target)
    assert ender.look(case.target).is_present


def test_an_opening_that_others_need_is_left_to_its_schedule(org: Org) -> None:
    network = ingress.Network(org)
    alice, bob = (ingress.target(org.account_id, network.group_id, org.people[name]) for name in ("alice", "bob"))
    provisioner = registry.provisioner("aws", "security_group_rule", CONFIG)
    provisioner.enforce(alice, [Window(alice, END), Window(bob, END)])
    for one in (alice, bob):
        provisioner.open(one)
    ender = registry.ender("aws", "security_group_rule", CONFIG)
    assert ender is not None
    with pytest.raises(Refused, match="others"):
        ender.close(alice)
    assert network.rules()


def test_a_rule_that_was_there_before_us_is_never_touched(org: Org) -> None:
    network = ingress.Network(org)
    network.let_in()
    alice = ingress.target(org.account_id, network.group_id, org.people["alice"])
    ender = registry.ender("aws", "security_group_rule", CONFIG)
    assert ender is not None
    assert ender.close(alice).state == "done"
    assert network.rules()

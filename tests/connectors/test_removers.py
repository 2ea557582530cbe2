"""Standing access goes away for one holder, is read back, and no Deny goes with it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from apps.connectors import registry
from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.removers import AttachedPolicy, GroupMembership, IamGroupMembership, InlinePolicy
from apps.connectors.base import Remover, Scan, Target
from apps.connectors.errors import Denied, Refused
from tests.connectors.conftest import CONFIG, HUB, QUIET, READ, Org, Stubs, trust, whole
from tests.connectors.contract import RemoverBench, RemoverContract

DENY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}


def target(scan: Scan, principal: str, entitlement_kind: str, entitlement: str, account_id: str = "") -> Target:
    """As the inventory makes it, from what a scan found."""
    who = next(record for record in scan.principals if record.name == principal)
    held = {a.entitlement_external_id for a in scan.assignments if a.principal_external_id == who.external_id}
    what = next(
        record
        for record in scan.entitlements
        if (record.kind, record.name) == (entitlement_kind, entitlement) and record.external_id in held
    )
    return Target(
        account_id=what.account_id or account_id,
        principal_kind=who.kind,
        principal_external_id=who.external_id,
        principal_name=who.name,
        entitlement_kind=what.kind,
        entitlement_external_id=what.external_id,
        entitlement_name=what.name,
        entitlement_attributes=what.attributes,
        principal_attributes=who.attributes,
    )


def directory(org: Org) -> Scan:
    return whole(AwsConnector(CONFIG).scan_directory([org.account()], QUIET))


def account(org: Org) -> Scan:
    return AwsConnector(CONFIG).scan_account(org.account(), QUIET)


def remover(kind: str) -> Remover:
    return registry.remover("aws", kind, CONFIG)


class TestAccountAssignment(RemoverContract):
    @pytest.fixture
    def bench(self, org: Org) -> RemoverBench:
        for person in ("alice", "bob"):
            org.assign("Admin", org.people[person])
        alice, bob = (target(directory(org), person, "permission_set", "Admin") for person in ("alice", "bob"))
        return RemoverBench(
            remover("permission_set"),
            alice,
            bob,
            lambda who: org.assignments("Admin").count(who.principal_external_id),
        )


class TestAccountAssignmentOfGroups(RemoverContract):
    @pytest.fixture
    def bench(self, org: Org) -> RemoverBench:
        for group in ("admins", "operators"):
            org.assign("Admin", org.add_group(group), "GROUP")
        scan = directory(org)
        return RemoverBench(
            remover("permission_set"),
            target(scan, "admins", "permission_set", "Admin"),
            target(scan, "operators", "permission_set", "Admin"),
            lambda who: org.assignments("Admin").count(who.principal_external_id),
        )


class TestGroupMembership(RemoverContract):
    @pytest.fixture
    def bench(self, org: Org) -> RemoverBench:
        group_id = org.add_group("admins", "alice", "bob")

        def copies(who: Target) -> int:
            found = org.client("identitystore").list_group_memberships(IdentityStoreId=org.store_id, GroupId=group_id)
            members = [membership["MemberId"]["UserId"] for membership in found["GroupMemberships"]]
            return members.count(who.principal_external_id)

        scan = directory(org)
        alice, bob = (target(scan, person, "idc_group", "admins") for person in ("alice", "bob"))
        return RemoverBench(remover("idc_group"), alice, bob, copies)


class TestIamGroupMembership(RemoverContract):
    @pytest.fixture
    def bench(self, org: Org) -> RemoverBench:
        client = org.iam()
        client.create_group(GroupName="operators")
        client.put_group_policy(GroupName="operators", PolicyName="p", PolicyDocument=json.dumps(READ))
        for user in ("alice", "bob"):
            client.create_user(UserName=user, Path="/team/")
            client.add_user_to_group(GroupName="operators", UserName=user)
        scan = account(org)
        alice, bob = (target(scan, user, "iam_group", "operators") for user in ("alice", "bob"))

        def copies(who: Target) -> int:
            return [u["Arn"] for u in client.get_group(GroupName="operators")["Users"]].count(who.principal_external_id)

        return RemoverBench(remover("iam_group"), alice, bob, copies)


@pytest.fixture(params=["user", "role", "group"])
def holders(request: pytest.FixtureRequest, org: Org) -> str:
    """Two holders of one kind in production, called alice and bob; which kind."""
    word: str = request.param
    more = {"AssumeRolePolicyDocument": trust(HUB)} if word == "role" else {}
    for name in ("alice", "bob"):
        getattr(org.iam(), f"create_{word}")(**{f"{word.title()}Name": name}, **more)
    return word


class TestAttachedPolicy(RemoverContract):
    @pytest.fixture
    def bench(self, org: Org, holders: str) -> RemoverBench:
        client = org.iam()
        arn = client.create_policy(PolicyName="orders", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
        for name in ("alice", "bob"):
            getattr(client, f"attach_{holders}_policy")(**{f"{holders.title()}Name": name}, PolicyArn=arn)
        scan = account(org)
        alice, bob = (target(scan, name, "iam_policy", "orders") for name in ("alice", "bob"))

        def copies(who: Target) -> int:
            names = {f"{holders.title()}Name": who.principal_name}
            return len(getattr(client, f"list_attached_{holders}_policies")(**names)["AttachedPolicies"])

        return RemoverBench(remover("iam_policy"), alice, bob, copies)


class TestInlinePolicy(RemoverContract):
    @pytest.fixture
    def bench(self, org: Org, holders: str) -> RemoverBench:
        client = org.iam()
        for name in ("alice", "bob"):
            names = {f"{holders.title()}Name": name}
            getattr(client, f"put_{holders}_policy")(**names, PolicyName="extra", PolicyDocument=json.dumps(READ))
        scan = account(org)
        alice, bob = (target(scan, name, "iam_inline_policy", "extra") for name in ("alice", "bob"))

        def copies(who: Target) -> int:
            names = {f"{holders.title()}Name": who.principal_name}
            return len(getattr(client, f"list_{holders}_policies")(**names)["PolicyNames"])

        return RemoverBench(remover("iam_inline_policy"), alice, bob, copies)


# ---- what is refused


def test_a_policy_that_denies_is_not_taken_away(org: Org) -> None:
    client = org.iam()
    client.create_user(UserName="alice")
    arn = client.create_policy(PolicyName="limits", PolicyDocument=json.dumps(DENY))["Policy"]["Arn"]
    client.attach_user_policy(UserName="alice", PolicyArn=arn)
    client.put_user_policy(UserName="alice", PolicyName="limits-too", PolicyDocument=json.dumps(DENY))
    scan = account(org)
    for kind, name in (("iam_policy", "limits"), ("iam_inline_policy", "limits-too")):
        with pytest.raises(Refused, match="denies"):
            remover(kind).close(target(scan, "alice", kind, name))
    assert len(account(org).assignments) == 2


@pytest.mark.parametrize("is_inline", [True, False])
def test_a_group_that_denies_is_not_left(org: Org, is_inline: bool) -> None:
    client = org.iam()
    client.create_user(UserName="alice")
    client.create_group(GroupName="limited")
    client.add_user_to_group(GroupName="limited", UserName="alice")
    if is_inline:
        client.put_group_policy(GroupName="limited", PolicyName="p", PolicyDocument=json.dumps(DENY))
    else:
        arn = client.create_policy(PolicyName="limits", PolicyDocument=json.dumps(DENY))["Policy"]["Arn"]
        client.attach_group_policy(GroupName="limited", PolicyArn=arn)
    with pytest.raises(Refused, match="denies"):
        remover("iam_group").close(target(account(org), "alice", "iam_group", "limited"))


def test_a_policy_that_cannot_be_read_might_deny(stubs: Stubs) -> None:
    policies = stubbed(InlinePolicy(CONFIG), stubs)
    answer = {"UserName": "alice", "PolicyName": "extra", "PolicyDocument": "not json"}
    for _ in range(2):
        stubs.answer("iam", "get_user_policy", answer)
    with pytest.raises(Refused, match="denies"):
        policies.close(held("iam_inline_policy", policy_name="extra"))


def test_the_policy_of_grants_is_not_removed_as_standing(stubs: Stubs) -> None:
    with pytest.raises(Refused, match="End the grant"):
        stubbed(InlinePolicy(CONFIG), stubs).close(held("iam_inline_policy", policy_name="gatehouse-jit"))


@pytest.mark.parametrize("path", ["portal/PortalReader", "aws-service-role/x.amazonaws.com/AWSServiceRoleForX"])
def test_roles_that_are_not_ours_to_change_are_refused(stubs: Stubs, path: str) -> None:
    arn = f"arn:aws:iam::111122223333:role/{path}"
    role = replace(held("iam_policy", policy_arn="arn:aws:iam::aws:policy/X"), principal_kind="iam_role")
    with pytest.raises(Refused):
        stubbed(AttachedPolicy(CONFIG), stubs).close(replace(role, principal_external_id=arn))


def test_a_group_that_the_identity_provider_owns_is_refused(stubs: Stubs) -> None:
    stubs.answer(
        "identitystore",
        "get_group_membership_id",
        {
            "IdentityStoreId": "d-1234567890",
            "MembershipId": "94482488-3041-7074-8c5b-1f2e3d4c5b6a",
            "MembershipArn": "arn:aws:identitystore:::membership/94482488-3041-7074-8c5b-1f2e3d4c5b6a",
        },
    )
    stubs.answer(
        "identitystore",
        "describe_group",
        {
            "IdentityStoreId": "d-1234567890",
            "GroupId": "94482488-3041-7074-8c5b-1f2e3d4c5b6b",
            "GroupArn": "arn:aws:identitystore:::group/94482488-3041-7074-8c5b-1f2e3d4c5b6b",
            "Revision": "1",
            "ExternalIds": [{"Issuer": "https://idp.example.com", "Id": "42"}],
        },
    )
    with pytest.raises(Refused, match="identity provider"):
        stubbed(GroupMembership(CONFIG), stubs).close(member())


def test_a_membership_that_went_meanwhile_is_done(stubs: Stubs) -> None:
    stubs.refuse("identitystore", "get_group_membership_id", "ResourceNotFoundException")
    assert stubbed(GroupMembership(CONFIG), stubs).close(member()).state == "done"


def test_no_right_to_look_is_not_gone(stubs: Stubs) -> None:
    stubs.refuse("identitystore", "get_group_membership_id", "AccessDeniedException")
    with pytest.raises(Denied):
        stubbed(GroupMembership(CONFIG), stubs).look(member())
    stubs.refuse("iam", "list_groups_for_user", "AccessDenied", 403)
    with pytest.raises(Denied):
        stubbed(IamGroupMembership(CONFIG), stubs).look(held("iam_group", group_name="g", group_arn="arn"))


def test_a_holder_that_is_gone_holds_nothing(org: Org) -> None:
    for kind, facts in (
        ("iam_policy", {"policy_arn": "arn:aws:iam::aws:policy/X"}),
        ("iam_inline_policy", {"policy_name": "extra"}),
        ("iam_group", {"group_name": "g", "group_arn": "arn"}),
    ):
        gone = held(kind, account_id=org.account_id, **facts)
        assert not remover(kind).look(gone).is_present
        assert remover(kind).close(gone).state == "done"


def test_every_kind_that_says_it_can_be_removed_has_a_remover() -> None:
    for connection_kind, entitlement_kind in registry.REMOVERS:
        config: dict[str, Any] = {**CONFIG, "world": "any"}
        assert registry.remover(connection_kind, entitlement_kind, config)


def stubbed(made: Any, stubs: Stubs) -> Any:
    made._reader = made._writer = stubs.api
    return made


def held(kind: str, account_id: str = "111122223333", **facts: str) -> Target:
    arn = f"arn:aws:iam::{account_id}:user/alice"
    return Target(account_id, "iam_user", arn, "alice", kind, "x", "x", entitlement_attributes=facts)


def member() -> Target:
    facts = {"identity_store_id": "d-1234567890", "group_id": "94482488-3041-7074-8c5b-1f2e3d4c5b6b"}
    user_id = "94482488-3041-7074-8c5b-1f2e3d4c5b6a"
    return Target("", "idc_user", user_id, "alice", "idc_group", "x", "admins", entitlement_attributes=facts)

"""One role for one grant: closed or bounded after every call, and nothing of it left after the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws import jit_documents as jit
from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.iam_jit_role import IamJitRole
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.aws.session import Api
from apps.connectors.base import Target, Window
from apps.connectors.errors import Gone, Refused, Unproven
from apps.inventory.sync import rows
from tests.connectors.conftest import CONFIG, HUB, QUIET, READ, Org, trust
from tests.connectors.contract import END, SECOND, START, Bench, ProvisionerContract
from tests.connectors.killing import KilledContract, deaths_of, dying

ALICES, BOBS = "alicegrantabc234", "bobsgrantabc2345"
ORDER = "arn:aws:s3:::orders/1"
ORDERS = {"actions": ["s3:GetObject", "s3:PutObject"], "resources": ["arn:aws:s3:::orders/*"]}
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
BOUNDARY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": ["iam:Create*", "organizations:*"], "Resource": "*"},
    ],
}
YEAR = timedelta(days=365)
ANYBODY = Window(Target("", "", "", "", "", "", ""), END).target


def target(account_id: str = "111122223333", reference: str = ALICES, user_id: str = "alice-id", **more: Any) -> Target:
    return Target(
        account_id=account_id,
        principal_kind="idc_user",
        principal_external_id=user_id,
        principal_name="alice",
        entitlement_kind="dated_policy",
        entitlement_external_id=f"gatehouse:policy:{account_id}:orders",
        entitlement_name="Handle orders",
        entitlement_attributes={"statements": [ORDERS]},
        reference=reference,
        **more,
    )


# ---- an observer of its own, who reads AWS and evaluates what is really there


def stored(org: Org, reference: str = ALICES) -> dict[str, Any] | None:
    """The role with its inline policies as an independent observer reads it."""
    iam = org.iam()
    try:
        role = iam.get_role(RoleName=f"jit-{reference}")["Role"]
    except iam.exceptions.NoSuchEntityException:
        return None
    names = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    inline = {name: iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"] for name in names}
    return {**role, "inline": inline}


def session_of(user_id: str, account_id: str, region: str = "", entry: str = "JitBase") -> dict[str, str]:
    """What AWS puts into the context of a call from an Identity Center session."""
    where = f"{region}/" if region else ""
    role = f"role/aws-reserved/sso.amazonaws.com/{where}AWSReservedSSO_{entry}_0123456789abcdef"
    return {"aws:PrincipalArn": f"arn:aws:iam::{account_id}:{role}", "identitystore:UserId": user_id}


def may_assume(document: Any, at: datetime, context: Mapping[str, str]) -> bool:
    """A trust, judged as an identity policy would be: its principal is the account, which leaves it to the conditions."""
    statements = [
        {key: value for key, value in one.items() if key != "Principal"} | {"Resource": "*"}
        for one in document["Statement"]
    ]
    read = {**document, "Statement": statements}
    return evaluate([read], action="sts:AssumeRole", resource="*", context=context, now=at).outcome is Outcome.ALLOW


def outcome(role: Mapping[str, Any], at: datetime, others: Sequence[Any] = (), context: Any = None) -> Outcome:
    """What a session of the role may do to an order."""
    documents = [*role["inline"].values(), *others]
    return evaluate(documents, action="s3:GetObject", resource=ORDER, context=context or {}, now=at).outcome


def can_use(org: Org, what: Target, at: datetime) -> bool:
    role = stored(org, what.reference)
    if role is None:
        return False
    person = session_of(what.principal_external_id, org.account_id)
    return may_assume(role["AssumeRolePolicyDocument"], at, person) and outcome(role, at) is Outcome.ALLOW


@pytest.fixture(autouse=True)
def boundary(org: Org) -> Iterator[str]:
    made = org.iam().create_policy(PolicyName="JitBoundary", Path="/jit/", PolicyDocument=json.dumps(BOUNDARY))
    return made["Policy"]["Arn"]


@pytest.fixture
def alice(org: Org) -> Target:
    return target(org.account_id, user_id=org.people["alice"])


@pytest.fixture
def provisioner() -> IamJitRole:
    return IamJitRole(CONFIG)


class TestIamJitRole(ProvisionerContract, KilledContract):
    @pytest.fixture
    def bench(self, org: Org, alice: Target) -> Bench:
        bob = target(org.account_id, BOBS, org.people["bob"])
        large = {"actions": [f"s3:Get{number:04d}" for number in range(900)], "resources": ["*"]}
        too_large = replace(alice, entitlement_attributes={"statements": [large]})

        def copies(what: Target) -> int:
            return int(stored(org, what.reference) is not None)

        return Bench(
            CONFIG, IamJitRole(CONFIG), alice, bob, [Window(too_large, END)], lambda t, at: can_use(org, t, at), copies
        )


# ---- the documents


@pytest.mark.parametrize("at", [END, END + SECOND, END + YEAR])
@pytest.mark.parametrize("added", [[], [ALLOW_ALL]])
def test_from_the_end_on_everything_is_denied_whatever_else_the_role_holds(
    org: Org, alice: Target, provisioner: IamJitRole, at: datetime, added: list[Any]
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    role = stored(org)
    assert role
    keys = {
        **session_of("alice-id", org.account_id),
        "aws:PrincipalTag/jit:grant": ALICES,
        "aws:MultiFactorAuthPresent": "true",
    }
    for context in [keys, {}, *({k: v for k, v in keys.items() if k != left_out} for left_out in keys)]:
        assert outcome(role, at, added, context) is Outcome.DENY
        assert outcome(role, END - SECOND, added, context) is Outcome.ALLOW


def test_only_that_person_gets_in_only_from_the_entry_set_and_only_in_time(
    org: Org, alice: Target, provisioner: IamJitRole
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    role = stored(org)
    assert role
    document = role["AssumeRolePolicyDocument"]
    me, here = alice.principal_external_id, org.account_id
    for region in ("", "eu-central-1"):
        assert may_assume(document, START, session_of(me, here, region))
        assert may_assume(document, END - SECOND, session_of(me, here, region))
        assert not may_assume(document, END, session_of(me, here, region))
        assert not may_assume(document, END + YEAR, session_of(me, here, region))
    assert not may_assume(document, START, session_of(org.people["bob"], here))
    assert not may_assume(document, START, session_of(me, HUB))
    assert not may_assume(document, START, session_of(me, here, entry="Deployer"))
    full = session_of(me, here)
    for left_out in full:
        assert not may_assume(document, START, {key: value for key, value in full.items() if key != left_out})
    forged = {**full, "aws:PrincipalArn": f"arn:aws:iam::{here}:role/AWSReservedSSO_JitBase_0123456789abcdef"}
    assert not may_assume(document, START, forged), "anybody could make a role of that name"
    (statement,) = document["Statement"]
    assert statement["Principal"] == {"AWS": f"arn:aws:iam::{here}:root"}


@settings(max_examples=80, deadline=None)
@given(
    ends=st.lists(st.integers(-3600, 3600), min_size=1, max_size=4),
    offset=st.integers(0, 10 * 365 * 86400),
    closed_for=st.booleans(),
)
def test_a_guard_says_one_end_and_is_known_again(ends: list[int], offset: int, closed_for: bool) -> None:
    end = END + timedelta(seconds=ends[-1])
    document = jit.guard(end)
    assert jit.end_of(document) == end
    assert jit.end_of(json.dumps(document)) == end
    at = end + timedelta(seconds=offset) if closed_for else end - SECOND
    found = evaluate([document, ALLOW_ALL], action="iam:GetUser", resource="*", context={}, now=at).outcome
    assert found is (Outcome.DENY if closed_for else Outcome.ALLOW)


@pytest.mark.parametrize(
    "document",
    [
        None,
        "",
        "{}",
        READ,
        jit.revoked(),
        jit.access([(["s3:*"], ["*"])], END),
        {"Version": "2012-10-17", "Statement": [{**jit.guard(END)["Statement"][0], "Resource": "arn:aws:s3:::x"}]},
        {"Version": "2012-10-17", "Statement": [{**jit.guard(END)["Statement"][0], "Effect": "Allow"}]},
        {"Version": "2012-10-17", "Statement": [*jit.guard(END)["Statement"], *jit.revoked()["Statement"]]},
        json.loads(json.dumps(jit.guard(END)).replace("2031-03-05T11:00:00Z", "2031-13-05T11:00:00Z")),
        json.loads(json.dumps(jit.guard(END)).replace("GreaterThanEquals", "LessThan")),
    ],
)
def test_what_is_no_guard_to_the_letter_says_no_end(document: Any) -> None:
    assert jit.end_of(document) is None


# ---- closed or bounded after every call


def test_after_every_single_call_it_is_closed_or_denied_in_time(
    org: Org, alice: Target, provisioner: IamJitRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at AWS after each write of the whole life of a role."""
    seen, real = [], Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        answer = real(self, account_id, service, operation, **params)
        if self.role == "provisioner_role":
            role = stored(org)
            seen.append((operation, role))
        return answer

    monkeypatch.setattr(Api, "call", call)
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    for end in (END - timedelta(hours=1), END):
        provisioner.enforce(alice, [Window(alice, end)])
    provisioner.enforce(alice, [Window(alice, START, is_open=False)])
    provisioner.close(alice)
    assert len(seen) >= 12
    for operation, role in seen:
        if role is None:
            continue
        person = session_of(alice.principal_external_id, org.account_id)
        gets_in = may_assume(role["AssumeRolePolicyDocument"], START, person)
        is_bounded = outcome(role, END, [ALLOW_ALL]) is Outcome.DENY
        assert is_bounded or not gets_in, operation
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"].endswith(":policy/jit/JitBoundary"), operation
        allowed_now = outcome(role, START) is Outcome.ALLOW
        assert not allowed_now or is_bounded, f"sessions that live are unbounded after {operation}"


def test_it_is_made_closed_bounded_and_tagged_in_one_call(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    def make() -> None:
        provisioner.enforce(alice, [Window(alice, END)])

    death = next(one for one in deaths_of(make) if one.call == "iam:create_role" and one.mode == "after")
    provisioner.enforce(alice, [])
    with dying(death):
        make()
    role = stored(org)
    assert role
    assert (role["Path"], role["MaxSessionDuration"], role["inline"]) == ("/jit/", 3600, {})
    assert jit.is_closed(role["AssumeRolePolicyDocument"])
    tags = {tag["Key"]: tag["Value"] for tag in role["Tags"]}
    assert tags.pop("jit:spec")
    assert tags == {
        "jit:grant": ALICES,
        "jit:principal": alice.principal_external_id,
        "jit:not-after": "2031-03-05T11:00:00Z",
        "jit:managed-by": "gatehouse",
    }


def test_enforcing_alone_lets_nobody_in(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    assert not provisioner.look(alice).is_present
    role = stored(org)
    assert role
    assert set(role["inline"]) == {jit.GUARD}


def test_nothing_opens_without_a_guard_that_says_when_it_ends(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    with pytest.raises(Unproven, match="does not show role"):
        provisioner.open(alice)
    provisioner.enforce(alice, [Window(alice, END)])
    weak = {**jit.guard(END)["Statement"][0], "Action": "s3:*"}
    for damage in (None, {"Version": "2012-10-17", "Statement": [weak]}):
        if damage:
            org.iam().put_role_policy(RoleName=f"jit-{ALICES}", PolicyName=jit.GUARD, PolicyDocument=json.dumps(damage))
        else:
            org.iam().delete_role_policy(RoleName=f"jit-{ALICES}", PolicyName=jit.GUARD)
        with pytest.raises(Unproven, match="no guard"):
            provisioner.open(alice)
        role = stored(org)
        assert role
        assert jit.is_closed(role["AssumeRolePolicyDocument"])


def test_an_end_that_moves_is_on_the_tags_too(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    opened_until = END
    for end in (END, END - timedelta(minutes=15), END + timedelta(hours=1)):
        provisioner.enforce(alice, [Window(alice, end)])
        opened_until = end
    role = stored(org)
    assert role
    tags = {tag["Key"]: tag["Value"] for tag in role["Tags"]}
    assert tags["jit:not-after"] == opened_until.strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- whose role it is


def collided(org: Org, **changes: Any) -> str:
    """A role of the same name that somebody else made; its id."""
    made = {
        "RoleName": f"jit-{ALICES}",
        "Path": "/jit/",
        "AssumeRolePolicyDocument": trust(HUB),
        "PermissionsBoundary": f"arn:aws:iam::{org.account_id}:policy/jit/JitBoundary",
        **changes,
    }
    role_id: str = org.iam().create_role(**made)["Role"]["RoleId"]
    return role_id


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Path": "/"},
        {"Tags": [{"Key": "jit:grant", "Value": "somebodyelses234"}]},
        {"Tags": [{"Key": "jit:grant", "Value": ALICES}]},
        {"Tags": [{"Key": "jit:grant", "Value": ALICES}, {"Key": "jit:spec", "Value": "0" * 64}]},
    ],
)
def test_a_role_of_that_name_that_the_grant_did_not_make_is_not_adopted(
    org: Org, alice: Target, provisioner: IamJitRole, changes: dict[str, Any]
) -> None:
    collided(org, **changes)
    before = stored(org)
    for attempt in (
        lambda: provisioner.check(alice, [Window(alice, END)]),
        lambda: provisioner.enforce(alice, [Window(alice, END)]),
        lambda: provisioner.open(alice),
    ):
        with pytest.raises(Refused, match="not as this grant made it"):
            attempt()
    assert stored(org) == before


@pytest.mark.parametrize("damage", ["boundary", "session", "attached", "inline", "spec"])
def test_a_role_that_somebody_changed_is_opened_for_nobody(
    org: Org, alice: Target, provisioner: IamJitRole, damage: str
) -> None:
    iam, name = org.iam(), {"RoleName": f"jit-{ALICES}"}
    provisioner.enforce(alice, [Window(alice, END)])
    match damage:
        case "boundary":
            other = iam.create_policy(PolicyName="Wide", PolicyDocument=json.dumps(ALLOW_ALL))["Policy"]["Arn"]
            iam.put_role_permissions_boundary(**name, PermissionsBoundary=other)
        case "session":
            iam.update_role(**name, MaxSessionDuration=43200)
        case "attached":
            arn = iam.create_policy(PolicyName="More", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
            iam.attach_role_policy(**name, PolicyArn=arn)
        case "inline":
            iam.put_role_policy(**name, PolicyName="more", PolicyDocument=json.dumps(ALLOW_ALL))
        case "spec":
            iam.tag_role(**name, Tags=[{"Key": "jit:spec", "Value": "f" * 64}])
    with pytest.raises(Refused):
        provisioner.open(alice)
    assert not can_use(org, alice, START)
    provisioner.enforce(alice, [Window(alice, START, is_open=False)])
    assert provisioner.close(alice).state == "done", "whatever was put on it, it ends"
    assert stored(org) is None


def test_a_role_elsewhere_with_our_name_is_never_touched_when_the_grant_ends(
    org: Org, alice: Target, provisioner: IamJitRole
) -> None:
    collided(org, Path="/theirs/")
    before = stored(org)
    provisioner.enforce(alice, [Window(alice, START, is_open=False)])
    provisioner.close(alice)
    provisioner.enforce(alice, [])
    assert stored(org) == before
    assert not provisioner.look(alice).is_present


def test_a_role_that_was_made_anew_is_hostile(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    first = provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    known = replace(alice, made_as=first.made_as)
    provisioner.enforce(known, [Window(known, END + SECOND)])
    copy = stored(org)
    assert copy
    provisioner.enforce(alice, [])
    collided(
        org, AssumeRolePolicyDocument=json.dumps(copy["AssumeRolePolicyDocument"]), Tags=copy["Tags"]
    )  # to the letter, but made by somebody else
    for attempt in (
        lambda: provisioner.enforce(known, [Window(known, END + timedelta(hours=1))]),
        lambda: provisioner.open(known),
    ):
        with pytest.raises(Refused, match="made again"):
            attempt()
    look = provisioner.look(known)
    assert look.is_present, "what somebody can get into is there, whoever made it"
    assert look.proof.facts["role_id"] != first.made_as == first.facts["role_id"]
    assert look.proof.facts["is_ours"] is False
    provisioner.enforce(known, [Window(known, START, is_open=False)])
    provisioner.close(known)
    assert stored(org) is None


def test_a_role_that_was_deleted_outside_is_gone_and_not_made_again(
    org: Org, alice: Target, provisioner: IamJitRole
) -> None:
    proof = provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    provisioner.close(alice)  # as anybody could have
    known = replace(alice, made_as=proof.made_as)
    assert not provisioner.look(known).is_present
    with pytest.raises(Gone):
        provisioner.enforce(known, [Window(known, END)])
    assert stored(org) is None


def test_what_was_ended_never_opens_again(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    provisioner.enforce(alice, [Window(alice, START, is_open=False)])
    for attempt in (
        lambda: provisioner.enforce(alice, [Window(alice, END + timedelta(hours=1))]),
        lambda: provisioner.open(alice),
    ):
        with pytest.raises(Refused, match="ended already"):
            attempt()
    assert not can_use(org, alice, START)


def test_ending_cuts_sessions_that_live_before_the_role_goes(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    proof = provisioner.enforce(alice, [Window(alice, START, is_open=False)])
    role = stored(org)
    assert role
    assert outcome(role, START, [ALLOW_ALL]) is Outcome.DENY
    assert jit.is_closed(role["AssumeRolePolicyDocument"])
    assert proof.facts["role_id"] == role["RoleId"]


def test_a_trust_that_somebody_widened_is_put_right_with_the_next_end(
    org: Org, alice: Target, provisioner: IamJitRole
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    org.iam().update_assume_role_policy(RoleName=f"jit-{ALICES}", PolicyDocument=trust("999999999999"))
    assert provisioner.look(alice).is_present
    provisioner.enforce(alice, [Window(alice, END)])
    role = stored(org)
    assert role
    assert "999999999999" not in json.dumps(role["AssumeRolePolicyDocument"])
    assert can_use(org, alice, START)


# ---- limits, checked before anything is written


def test_an_account_that_is_full_of_roles_is_refused(
    org: Org, alice: Target, provisioner: IamJitRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Api.call
    for counts in ({"Roles": 991, "RolesQuota": 1000}, {"Roles": 5}, {}):

        def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
            if operation == "get_account_summary":
                return {"SummaryMap": counts}  # noqa: B023  used before the next turn
            return real(self, account_id, service, operation, **params)

        monkeypatch.setattr(Api, "call", call)
        with pytest.raises(Refused, match="roles"):
            provisioner.check(alice, [Window(alice, END)])


def test_without_a_boundary_policy_nothing_is_made(org: Org, alice: Target, boundary: str) -> None:
    other = IamJitRole({**CONFIG, "boundary_policy": "/jit/Another"})
    with pytest.raises(Refused, match="no boundary policy"):
        other.check(alice, [Window(alice, END)])


@pytest.mark.parametrize("action", ["iam:CreateUser", "organizations:*", "iam:Create*"])
def test_what_the_boundary_forbids_is_said_before_anything_is_written(
    org: Org, alice: Target, provisioner: IamJitRole, action: str
) -> None:
    statements = [ORDERS, {"actions": [action], "resources": ["*"]}]
    forbidden = replace(alice, entitlement_attributes={"statements": statements})
    with pytest.raises(Refused, match="forbids"):
        provisioner.check(forbidden, [Window(forbidden, END)])


def test_a_person_who_is_gone_is_said_to_be_gone(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    nobody = replace(alice, principal_external_id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(Gone):
        provisioner.check(nobody, [Window(nobody, END)])


@pytest.mark.parametrize(
    "change",
    [
        {"principal_kind": "iam_user"},
        {"principal_kind": "idc_group"},
        {"reference": ""},
        {"reference": "../portal/x"},
        {"reference": "UPPER23456789012"},
        {"reference": "a" * 41},
        {"principal_external_id": '*"}'},
        {"principal_external_id": ""},
        {"principal_external_id": "x" * 48},
        {"account_id": "1234"},
        {"account_id": "１２３４５６７８９０１２"},
        {"entitlement_attributes": {}},
        {"entitlement_attributes": {"statements": [{"actions": "s3:*", "resources": ["*"]}]}},
        {"entitlement_attributes": {"statements": "s3:*"}},
    ],
)
def test_hostile_and_malformed_words_are_refused_before_aws_hears_them(
    org: Org, alice: Target, provisioner: IamJitRole, change: dict[str, Any]
) -> None:
    bad = replace(alice, **change)
    with pytest.raises(Refused):
        provisioner.check(bad, [Window(bad, END)])
    if "principal_kind" not in change:
        for attempt in (lambda: provisioner.enforce(bad, [Window(bad, END)]), lambda: provisioner.open(bad)):
            with pytest.raises(Refused):
                attempt()
    assert org.iam().list_roles(PathPrefix="/jit/")["Roles"] == []


@pytest.mark.parametrize("entry", ["", "Jit*", "A" * 33, 'x"', "Jit Base"])
def test_an_entry_set_that_would_let_others_in_is_refused(alice: Target, entry: str) -> None:
    with pytest.raises(Refused, match="permission set"):
        IamJitRole({**CONFIG, "entry_permission_set": entry}).check(alice, [Window(alice, END)])


def test_windows_of_other_grants_are_a_programming_error(alice: Target, provisioner: IamJitRole) -> None:
    bob = replace(alice, reference=BOBS)
    for windows in ([Window(bob, END)], [Window(alice, END), Window(bob, END)], [Window(alice, END)] * 2):
        with pytest.raises(ValueError, match="other windows"):
            provisioner.enforce(alice, windows)


@pytest.mark.parametrize("lie", ["get_role_policy", "get_role"])
def test_what_reads_back_differently_is_unproven_and_opens_nothing(
    org: Org, alice: Target, provisioner: IamJitRole, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    real = Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        answer = real(self, account_id, service, operation, **params)
        if operation == lie == "get_role_policy":
            return {**answer, "PolicyDocument": jit.guard(END + SECOND)}
        if operation == lie == "get_role":
            return {"Role": {**answer["Role"], "AssumeRolePolicyDocument": jit.closed_trust()}}
        return answer

    monkeypatch.setattr(Api, "call", call)
    step = (
        partial(provisioner.enforce, alice, [Window(alice, END)])
        if lie != "get_role"
        else partial(provisioner.open, alice)
    )
    with pytest.raises(Unproven):
        step()


def test_a_role_that_aws_does_not_show_yet_is_tried_again_not_given_up(
    org: Org, alice: Target, provisioner: IamJitRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after making it, IAM may say that it does not exist."""
    real = Api.call
    for late in ("put_role_policy", "tag_role"):

        def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
            if operation == late:  # noqa: B023  used before the next turn
                raise Gone("iam:PutRolePolicy found nothing of that name.")
            return real(self, account_id, service, operation, **params)

        monkeypatch.setattr(Api, "call", call)
        with pytest.raises(Unproven):
            provisioner.enforce(alice, [Window(alice, END if late == "put_role_policy" else END + SECOND)])
        monkeypatch.setattr(Api, "call", real)
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    assert can_use(org, alice, START)


# ---- what a scan makes of it


def scanned(org: Org, reference: str = ALICES) -> tuple[Any, list[Any], list[str]]:
    scan = AwsConnector(CONFIG).scan_account(org.account(), QUIET)
    (role,) = [one for one in scan.principals if one.name == f"jit-{reference}"]
    inline = [one for one in scan.assignments if one.principal_external_id == role.external_id]
    return role, inline, scan.notes


def test_a_scan_knows_it_as_ours_at_every_stage(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    def steps() -> Iterator[None]:
        yield provisioner.enforce(alice, [Window(alice, END)]) and None
        yield provisioner.open(alice) and None
        yield provisioner.enforce(alice, [Window(alice, START, is_open=False)]) and None

    for _ in steps():
        role, inline, notes = scanned(org)
        assert role.attributes["is_ours"] is True
        assert rows.principal(role, None)["is_reserved"], "it is no machine identity"
        assert inline
        assert all(one.attributes["is_ours"] for one in inline)
        assert not notes


@pytest.mark.parametrize(
    "damage", ["undated", "no guard", "attached", "stranger", "other name", "no boundary", "extra"]
)
def test_what_only_looks_like_ours_is_a_stranger(org: Org, alice: Target, provisioner: IamJitRole, damage: str) -> None:
    iam, name = org.iam(), {"RoleName": f"jit-{ALICES}"}
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    match damage:
        case "undated":
            iam.put_role_policy(**name, PolicyName=jit.ACCESS, PolicyDocument=json.dumps(READ))
        case "no guard":
            iam.delete_role_policy(**name, PolicyName=jit.GUARD)
        case "attached":
            arn = iam.create_policy(PolicyName="More", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
            iam.attach_role_policy(**name, PolicyArn=arn)
        case "stranger":
            iam.update_assume_role_policy(**name, PolicyDocument=trust("999999999999"))
        case "other name":
            iam.tag_role(**name, Tags=[{"Key": "jit:grant", "Value": "another"}])
        case "no boundary":
            iam.delete_role_permissions_boundary(**name)
        case "extra":
            iam.put_role_policy(**name, PolicyName="more", PolicyDocument=json.dumps(READ))
    role, inline, notes = scanned(org)
    assert "is_ours" not in role.attributes
    assert not rows.principal(role, None)["is_reserved"]
    assert inline
    assert not any(one.attributes.get("is_ours") for one in inline)
    assert notes


# ---- how it is used, and what is said about it


def test_the_holder_is_told_how_to_get_in_without_any_call(
    alice: Target, provisioner: IamJitRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Api, "call", None)
    console, cli = provisioner.ways_in(alice)
    assert console.url_or_text.endswith(f"roleName=jit/jit-{ALICES}&displayName=jit-{ALICES}")
    assert f":role/jit/jit-{ALICES}" in cli.url_or_text


def test_no_proof_holds_more_than_names_dates_and_digests(org: Org, alice: Target, provisioner: IamJitRole) -> None:
    proofs = [provisioner.enforce(alice, [Window(alice, END)])]
    provisioner.open(alice)
    proofs += [provisioner.look(alice).proof, provisioner.enforce(alice, [Window(alice, START, is_open=False)])]
    role = stored(org)
    assert role
    for proof in proofs:
        assert proof.facts["role_arn"] == role["Arn"]
        assert proof.facts["role_id"] == role["RoleId"]
        assert "Statement" not in json.dumps(dict(proof.facts))


def test_it_says_what_outlives_it() -> None:
    promise = IamJitRole.promise
    assert promise.may_be_privileged and promise.is_per_grant
    assert "other roles" in promise.survives
    assert "unverified live" in promise.ends_by

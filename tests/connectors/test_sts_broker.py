"""Sessions in a tier role: only for open grants, only until their ends, whoever makes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.guard import size
from apps.connectors.aws.minting import session_policy
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.aws.sts_broker import LIMIT, StsBroker, lets_through, render, why_not_trusted
from apps.connectors.base import Target, Window
from apps.connectors.errors import Gone, Refused, Unproven
from tests.connectors.conftest import CONFIG, HUB, QUIET, READ, Org, trust
from tests.connectors.contract import END, SECOND, START, Bench, ProvisionerContract
from tests.connectors.killing import KilledContract

ALICE, BOB = "alicealicealicea", "bobbobbobbobbobb"
BROKER = f"arn:aws:iam::{HUB}:role/portal/PortalBroker"
TAG = "aws:PrincipalTag/jit-grant"
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
RESTING = {"Version": "2012-10-17", "Statement": [{"Sid": "NoGrant", "Effect": "Deny", "Action": "*", "Resource": "*"}]}
AN_HOUR = timedelta(hours=1)


def target(reference: str = ALICE, *, account_id: str = "111122223333", role: str = "JitReadOnly") -> Target:
    arn = f"arn:aws:iam::{account_id}:role/jit/tier/{role}"
    return Target(
        account_id=account_id,
        principal_kind="idc_user",
        principal_external_id=f"user-{reference}",
        principal_name=reference[:5],
        entitlement_kind="tier_role",
        entitlement_external_id=f"tier:{arn}",
        entitlement_name=role,
        entitlement_attributes={"role_arn": arn},
        reference=reference,
    )


def broker_trust(principal: Any = BROKER, **more: Any) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        **more,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def outcome(documents: Iterable[Any], at: datetime, reference: str | None) -> Outcome:
    context = {} if reference is None else {TAG: reference}
    return evaluate([*documents], action="s3:GetObject", resource="arn:aws:s3:::a/b", context=context, now=at).outcome


def guard_of(org: Org, role: str = "JitReadOnly") -> Any:
    return org.iam().get_role_policy(RoleName=role, PolicyName="jit-guard")["PolicyDocument"]


def make_role(org: Org, name: str = "JitReadOnly", **fields: Any) -> dict[str, Any]:
    """A tier role as the deployment makes it: bounded, resting, trusted by the broker alone."""
    iam = org.iam()
    if not iam.list_policies(Scope="Local", PathPrefix="/jit/JitBoundary")["Policies"]:
        iam.create_policy(PolicyName="JitBoundary", Path="/jit/", PolicyDocument=json.dumps(ALLOW_ALL))
    values = {
        "RoleName": name,
        "Path": "/jit/tier/",
        "AssumeRolePolicyDocument": json.dumps(broker_trust()),
        "PermissionsBoundary": f"arn:aws:iam::{org.account_id}:policy/jit/JitBoundary",
        "MaxSessionDuration": 3600,
        **fields,
    }
    made: dict[str, Any] = iam.create_role(**{key: value for key, value in values.items() if value})["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=json.dumps(READ))
    iam.put_role_policy(RoleName=name, PolicyName="jit-guard", PolicyDocument=json.dumps(RESTING))
    return made


@pytest.fixture
def role(org: Org) -> dict[str, Any]:
    return make_role(org)


class TestStsBroker(ProvisionerContract, KilledContract):
    @pytest.fixture
    def bench(self, org: Org, role: dict[str, Any]) -> Bench:
        alice, bob = target(ALICE, account_id=org.account_id), target(BOB, account_id=org.account_id)

        def can_use(what: Target, at: datetime) -> bool:
            """With the most that a broker could mint: a session that is not dated at all."""
            return outcome([READ, guard_of(org)], at, what.reference) is Outcome.ALLOW

        def copies(what: Target) -> int:
            [first, *_] = guard_of(org)["Statement"]
            names = first.get("Condition", {}).get("StringNotEquals", {}).get(TAG, [])
            return [names].count(what.reference) if isinstance(names, str) else names.count(what.reference)

        many = [
            Window(
                target(f"many{number:04d}".translate(DIGITS) + "aaaaaaaa", account_id=org.account_id),
                END + number * SECOND,
            )
            for number in range(80)
        ]
        return Bench(CONFIG, StsBroker(CONFIG), alice, bob, many, can_use, copies)


DIGITS = str.maketrans("0189", "efgh")  # a grant's name has no 0, 1, 8 and 9


# ---- what AWS will do, by its own documents


BOUNDS = [
    (END - timedelta(days=365), True),
    (END - SECOND, True),
    (END, False),
    (END + SECOND, False),
    (END + timedelta(days=365), False),
]


@pytest.mark.parametrize(("at", "is_allowed"), BOUNDS)
def test_the_guard_ends_a_session_to_the_second_whatever_else_allows(at: datetime, is_allowed: bool) -> None:
    document = render([Window(target(), END), Window(target(BOB), END + AN_HOUR)])
    assert (outcome([READ, document], at, ALICE) is Outcome.ALLOW) is is_allowed
    assert (outcome([ALLOW_ALL, document], at, ALICE) is Outcome.ALLOW) is is_allowed


@pytest.mark.parametrize(("at", "is_allowed"), BOUNDS)
def test_the_session_ends_to_the_second_also_without_the_guard(at: datetime, is_allowed: bool) -> None:
    for reference in (ALICE, BOB, None):
        assert (outcome([ALLOW_ALL, session_policy(END)], at, reference) is Outcome.ALLOW) is is_allowed


def test_the_session_policy_alone_gives_nothing_that_the_role_does_not() -> None:
    """A session is the intersection of both, so what it allows by itself is bounded by the role."""
    assert outcome([session_policy(END)], START, ALICE) is Outcome.ALLOW
    assert outcome([render([Window(target(), END)])], START, ALICE) is Outcome.IMPLICIT_DENY


@pytest.mark.parametrize("reference", [None, "", "somebodyelsesaaa", ALICE.upper(), f"{ALICE}*"])
def test_a_session_without_the_name_of_an_open_grant_may_do_nothing(reference: str | None) -> None:
    document = render([Window(target(), END)])
    assert outcome([ALLOW_ALL, document], START, reference) is Outcome.DENY


def test_a_role_without_grants_denies_everybody() -> None:
    for document in (render([]), render([Window(target(), END, is_open=False)])):
        for reference in (None, ALICE):
            assert outcome([ALLOW_ALL, document], START, reference) is Outcome.DENY


references = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=16, max_size=16)
ends = st.integers(0, 4).map(lambda hours: END + hours * AN_HOUR)


@given(st.dictionaries(references, st.tuples(ends, st.booleans()), max_size=12), st.integers(-1, 5))
def test_whoever_is_open_and_not_over_is_let_through_and_nobody_else(
    grants: dict[str, tuple[datetime, bool]], hours: int
) -> None:
    document = render([Window(target(name), end, is_open=is_open) for name, (end, is_open) in grants.items()])
    at = END + hours * AN_HOUR
    for name, (end, is_open) in grants.items():
        assert lets_through(document, name, at) is (is_open and at < end)
        assert (outcome([ALLOW_ALL, document], at, name) is Outcome.ALLOW) is (is_open and at < end)


def test_the_same_grants_in_another_order_are_the_same_document() -> None:
    windows = [Window(target(name), END) for name in (ALICE, BOB)]
    assert render(windows) == render(windows[::-1])


def test_forty_grants_with_different_ends_fit() -> None:
    windows = [
        Window(target(f"many{number:04d}".translate(DIGITS) + "aaaaaaaa"), END + number * SECOND)
        for number in range(40)
    ]
    assert size(render(windows)) < LIMIT - 1000


@pytest.mark.parametrize("reference", ["", "*", "short", "a" * 15 + '"', "a" * 17, "a" * 15 + "$"])
def test_a_name_that_is_no_grants_is_refused(reference: str) -> None:
    with pytest.raises(Refused):
        render([Window(target(reference), END)])


# ---- what a look proves


@pytest.mark.parametrize(
    "document",
    [
        None,
        "not json",
        ALLOW_ALL,
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]},
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}]},
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "x"}}}
            ],
        },
    ],
)
def test_a_guard_that_denies_less_than_everything_proves_no_end(document: Any) -> None:
    assert lets_through(document, ALICE, START)


def test_an_ended_grant_shows_as_there_again_when_somebody_takes_the_guard_away(org: Org, role: dict[str, Any]) -> None:
    broker, alice = StsBroker(CONFIG), target(account_id=org.account_id)
    broker.enforce(alice, [Window(alice, END, is_open=False)])
    assert not broker.look(alice).is_present
    org.iam().delete_role_policy(RoleName="JitReadOnly", PolicyName="jit-guard")
    assert broker.look(alice).is_present
    with pytest.raises(Unproven):
        broker.close(alice)
    broker.enforce(alice, [Window(alice, END, is_open=False)])
    assert not broker.look(alice).is_present


def test_a_role_that_is_gone_holds_nothing(org: Org) -> None:
    broker, alice = StsBroker(CONFIG), target(account_id=org.account_id)
    assert not broker.look(alice).is_present
    assert broker.close(alice).state == "done"
    with pytest.raises(Gone):
        broker.enforce(alice, [])


def test_another_roles_grants_never_reach_a_guard(org: Org, role: dict[str, Any]) -> None:
    other = target(BOB, account_id=org.account_id, role="JitOperator")
    with pytest.raises(ValueError, match="other roles"):
        StsBroker(CONFIG).enforce(target(account_id=org.account_id), [Window(other, END)])


# ---- which roles can be used


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (broker_trust(f"arn:aws:iam::{HUB}:root"), "somebody else"),
        (broker_trust(HUB), "somebody else"),
        (broker_trust("*"), "somebody else"),
        (broker_trust([BROKER, f"arn:aws:iam::{HUB}:role/other"]), "somebody else"),
        (broker_trust("AROAEXAMPLE"), "somebody else"),
        (broker_trust(Principal="*"), "somebody else"),
        (broker_trust(Principal={"AWS": BROKER, "Service": "ec2.amazonaws.com"}), "somebody else"),
        (broker_trust(Principal={"Service": "ec2.amazonaws.com"}), "somebody else"),
        (broker_trust(Action="sts:*"), "allows more"),
        (broker_trust(Action="sts:AssumeRole"), "does not allow sts:setsourceidentity, sts:tagsession"),
        ({"Version": "2012-10-17", "Statement": []}, "does not allow"),
        ("{", "cannot be read"),
    ],
)
def test_a_role_that_somebody_else_could_assume_is_not_used(document: Any, words: str) -> None:
    assert words in why_not_trusted(document, BROKER)


def test_a_second_statement_is_looked_at_too() -> None:
    both = broker_trust()["Statement"] + json.loads(trust(HUB))["Statement"]
    assert why_not_trusted({"Version": "2012-10-17", "Statement": both}, BROKER)


def test_a_narrower_trust_is_fine() -> None:
    document = broker_trust(Condition={"StringLike": {"aws:RequestTag/jit-grant": "*"}})
    assert why_not_trusted(document, BROKER) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"AssumeRolePolicyDocument": trust(HUB)},
        {"PermissionsBoundary": ""},
        {"PermissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        {"MaxSessionDuration": 7200},
        {"Path": "/jit/"},
    ],
)
@pytest.mark.usefixtures("_managed_policies")
def test_a_role_that_is_not_as_it_must_be_is_refused(org: Org, fields: dict[str, Any]) -> None:
    make_role(org, **fields)
    alice = target(account_id=org.account_id)
    with pytest.raises(Refused):
        StsBroker(CONFIG).check(alice, [Window(alice, END)])
    with pytest.raises(Refused):
        StsBroker(CONFIG).open(alice)


def test_a_role_that_was_made_again_is_refused(org: Org, role: dict[str, Any]) -> None:
    alice = target(account_id=org.account_id)
    known = replace(alice, entitlement_attributes={"unique_id": role["RoleId"]})
    StsBroker(CONFIG).check(known, [Window(known, END)])
    other = replace(alice, entitlement_attributes={"unique_id": "AROAANOTHER"})
    with pytest.raises(Refused, match="made again"):
        StsBroker(CONFIG).check(other, [Window(other, END)])


@pytest.mark.parametrize("policy", ["iam:*", "iam:PutRolePolicy", "*"])
def test_an_admin_role_is_refused_also_when_it_became_one_after_the_scan(
    org: Org, role: dict[str, Any], policy: str
) -> None:
    alice = target(account_id=org.account_id)
    StsBroker(CONFIG).check(alice, [Window(alice, END)])
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": policy, "Resource": "*"}]}
    org.iam().put_role_policy(RoleName="JitReadOnly", PolicyName="more", PolicyDocument=json.dumps(document))
    with pytest.raises(Refused, match="too powerful"):
        StsBroker(CONFIG).check(alice, [Window(alice, END)])


@pytest.mark.usefixtures("_managed_policies")
def test_an_attached_admin_policy_is_refused_too(org: Org) -> None:
    make_role(org)
    alice = target(account_id=org.account_id)
    org.iam().attach_role_policy(RoleName="JitReadOnly", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    with pytest.raises(Refused, match="too powerful"):
        StsBroker(CONFIG).check(alice, [Window(alice, END)])


@pytest.mark.parametrize(
    "what",
    [
        replace(target(), principal_kind="iam_user"),
        replace(target(), reference=""),
        replace(target(), account_id="999988887777"),
        replace(target(), entitlement_external_id="tier:arn:aws:iam::111122223333:role/Admin"),
        replace(target(), entitlement_external_id="tier:arn:aws:iam::111122223333:role/jit/tier/a/b"),
    ],
)
def test_what_is_no_person_no_grant_or_no_tier_role_is_refused(org: Org, what: Target) -> None:
    with pytest.raises(Refused):
        StsBroker(CONFIG).check(what, [Window(what, END)])


def test_other_inline_policies_of_the_role_take_room(org: Org, role: dict[str, Any]) -> None:
    alice = target(account_id=org.account_id)
    resources = [f"arn:aws:s3:::{number:04d}" for number in range(500)]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": resources}]}
    org.iam().put_role_policy(RoleName="JitReadOnly", PolicyName="long", PolicyDocument=json.dumps(document))
    with pytest.raises(Refused, match="10,240"):
        StsBroker(CONFIG).check(alice, [Window(alice, END)])
    StsBroker(CONFIG).enforce(alice, [])  # ending is always possible


# ---- what a scan sees


@pytest.mark.usefixtures("_managed_policies")
def test_a_scan_offers_tier_roles_and_knows_their_guard(org: Org, role: dict[str, Any]) -> None:
    org.iam().attach_role_policy(RoleName="JitReadOnly", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    scan = AwsConnector(CONFIG).scan_account(org.account(), QUIET)
    [found] = [record for record in scan.entitlements if record.kind == "tier_role"]
    assert found.external_id == f"tier:{role['Arn']}"
    assert found.attributes["unique_id"] == role["RoleId"]
    assert sorted(document.name for document in found.documents) == ["ReadOnlyAccess", "read"]
    assert found.boundary is not None and found.boundary.name == "JitBoundary"
    ours = {record.name: record.attributes.get("is_ours", False) for record in scan.entitlements}
    assert ours["jit-guard"] and not ours["read"]
    assert scan.is_complete


def test_a_policy_that_allows_is_no_guard_whatever_it_is_called(org: Org, role: dict[str, Any]) -> None:
    org.iam().put_role_policy(RoleName="JitReadOnly", PolicyName="jit-guard", PolicyDocument=json.dumps(ALLOW_ALL))
    scan = AwsConnector(CONFIG).scan_account(org.account(), QUIET)
    [found] = [record for record in scan.entitlements if record.kind == "tier_role"]
    assert "jit-guard" in [document.name for document in found.documents]
    assert not any(record.attributes.get("is_ours") for record in scan.entitlements if record.name == "jit-guard")


def test_now_is_what_counts_when_it_is_looked_at(org: Org, role: dict[str, Any]) -> None:
    broker, alice = StsBroker(CONFIG), target(account_id=org.account_id)
    broker.enforce(alice, [Window(alice, datetime.now(UTC) - SECOND)])
    assert not broker.look(alice).is_present


# ---- comparing the guard with what it should say


def examined(org: Org, *windows: Window) -> Any:
    return StsBroker(CONFIG).examine(target(account_id=org.account_id), windows)


def window_of(org: Org, reference: str, end: datetime = END, *, is_open: bool = True) -> Window:
    return Window(target(reference, account_id=org.account_id), end, is_open=is_open)


def put_guard(org: Org, document: Any) -> None:
    org.iam().put_role_policy(RoleName="JitReadOnly", PolicyName="jit-guard", PolicyDocument=json.dumps(document))


def test_what_was_written_is_no_difference(org: Org, role: dict[str, Any]) -> None:
    windows = [window_of(org, ALICE), window_of(org, BOB, is_open=False)]
    StsBroker(CONFIG).enforce(windows[0].target, windows)
    found = examined(org, *windows)
    assert found.is_enforced and not found.differences and not found.stricter
    assert found.proof.facts["digest"] == found.proof.facts["wanted"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        ALLOW_ALL,
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]},
        render([Window(target(ALICE), END + AN_HOUR)]),
        {"Version": "2012-10-17", "Statement": [render([Window(target(ALICE), END)])["Statement"][0]]},
    ],
)
def test_a_guard_that_ends_it_too_late_or_never_is_weaker(org: Org, role: dict[str, Any], document: Any) -> None:
    if document is None:
        org.iam().delete_role_policy(RoleName="JitReadOnly", PolicyName="jit-guard")
    else:
        put_guard(org, document)
    found = examined(org, window_of(org, ALICE))
    assert [one.target.reference for one in found.weaker] == [ALICE]
    assert not found.is_enforced and found.differences


def test_a_grant_that_ended_and_is_still_let_through_is_weaker(org: Org, role: dict[str, Any]) -> None:
    put_guard(org, render([window_of(org, ALICE)]))
    assert examined(org, window_of(org, ALICE, is_open=False)).weaker
    put_guard(org, render([window_of(org, ALICE, datetime.now(UTC) - SECOND)]))
    assert not examined(org, window_of(org, ALICE, is_open=False)).weaker  # its date has passed


def test_whom_nobody_granted_anything_makes_it_wider(org: Org, role: dict[str, Any]) -> None:
    put_guard(org, render([window_of(org, ALICE), window_of(org, BOB)]))
    found = examined(org, window_of(org, ALICE))
    assert found.is_wider and not found.weaker
    put_guard(org, {**ALLOW_ALL, "Statement": ALLOW_ALL["Statement"] + RESTING["Statement"]})
    assert examined(org).is_wider


def test_what_it_denies_beyond_is_stricter_and_can_be_kept(org: Org, role: dict[str, Any]) -> None:
    put_guard(org, render([window_of(org, ALICE, END - AN_HOUR)]))
    wanted = [window_of(org, ALICE), window_of(org, BOB)]
    found = examined(org, *wanted)
    assert found.is_enforced
    assert {(one.target.reference, one.is_open) for one in found.stricter} == {(ALICE, True), (BOB, False)}
    kept = render(found.stricter)
    assert kept == guard_of(org)  # written with these, it takes no Deny back

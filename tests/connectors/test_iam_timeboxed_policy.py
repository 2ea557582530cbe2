"""Some actions for a time, for an IAM user or role that exists: one policy that ends itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.iam import is_dated
from apps.connectors.aws.iam_timeboxed_policy import IamTimeboxedPolicy, render
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.base import Target, Window
from apps.connectors.errors import Gone, Refused, Unproven
from apps.grants.models import Grant
from apps.rules.annotations import LONGEST
from tests.connectors.conftest import CONFIG, HUB, QUIET, READ, Org, Stubs, trust
from tests.connectors.contract import END, SECOND, START, Bench, ProvisionerContract
from tests.connectors.killing import KilledContract

ORDERS, INVOICES = "arn:aws:s3:::orders/*", "arn:aws:s3:::invoices/*"
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def target(
    entitlement: str = "orders",
    *,
    account_id: str = "111122223333",
    holder: str = "role/batch",
    statements: Any = None,
    **principal: Any,
) -> Target:
    return Target(
        account_id=account_id,
        principal_kind=f"iam_{holder.partition('/')[0]}",
        principal_external_id=f"arn:aws:iam::{account_id}:{holder}",
        principal_name=holder.rpartition("/")[2],
        entitlement_kind="iam_access",
        entitlement_external_id=f"access:{entitlement}",
        entitlement_name=entitlement,
        entitlement_attributes={"statements": [gives(ORDERS)] if statements is None else statements},
        principal_attributes=principal,
    )


def gives(resource: str = ORDERS, *actions: str) -> dict[str, list[str]]:
    return {"actions": list(actions) or ["s3:GetObject"], "resources": [resource]}


def outcome(document: Any, at: datetime, *, resource: str = "arn:aws:s3:::orders/1", others: Any = ()) -> Outcome:
    documents = [*others, *([document] if document else [])]
    return evaluate(documents, action="s3:GetObject", resource=resource, context={}, now=at).outcome


def stored(org: Org, holder: str = "role/batch") -> Any:
    """The policy as an independent observer reads it; None when there is none."""
    word, name = holder.split("/")
    client = org.iam()
    names = {f"{word.title()}Name": name}
    if "gatehouse-jit" not in getattr(client, f"list_{word}_policies")(**names)["PolicyNames"]:
        return None
    return getattr(client, f"get_{word}_policy")(**names, PolicyName="gatehouse-jit")["PolicyDocument"]


@pytest.fixture
def role(org: Org) -> dict[str, Any]:
    made: dict[str, Any] = org.iam().create_role(RoleName="batch", AssumeRolePolicyDocument=trust(HUB))["Role"]
    return made


class TestIamTimeboxedPolicy(ProvisionerContract, KilledContract):
    @pytest.fixture
    def bench(self, org: Org, role: dict[str, Any]) -> Bench:
        orders = target("orders", account_id=org.account_id)
        invoices = target("invoices", account_id=org.account_id, statements=[gives(INVOICES)])
        resources = {"orders": "arn:aws:s3:::orders/1", "invoices": "arn:aws:s3:::invoices/1"}

        def can_use(what: Target, at: datetime) -> bool:
            return outcome(stored(org), at, resource=resources[what.entitlement_name]) is Outcome.ALLOW

        def copies(what: Target) -> int:
            actions = [s for s in (stored(org) or {"Statement": []})["Statement"] if s["Effect"] == "Allow"]
            return sum(what.entitlement_name in json.dumps(statement["Resource"]) for statement in actions)

        many = [
            Window(
                target(f"more-{number}", account_id=org.account_id, statements=[gives(f"arn:aws:s3:::x/{number}")]), END
            )
            for number in range(40)
        ]
        return Bench(CONFIG, IamTimeboxedPolicy(CONFIG), orders, invoices, many, can_use, copies)


# ---- the document


def test_after_its_end_it_denies_even_what_something_else_allows() -> None:
    document = render([Window(target(), END)])
    assert outcome(document, END - SECOND) is Outcome.ALLOW
    assert outcome(document, END, others=[ALLOW_ALL]) is Outcome.DENY
    assert outcome(document, END + timedelta(days=3650), others=[ALLOW_ALL]) is Outcome.DENY


def test_it_denies_nothing_that_it_did_not_give() -> None:
    document = render([Window(target(), END)])
    assert outcome(document, END, resource="arn:aws:s3:::invoices/1", others=[ALLOW_ALL]) is Outcome.ALLOW


def test_standing_rights_are_never_cut() -> None:
    document = render([Window(target(), END, holds_standing=True)])
    assert outcome(document, END) is Outcome.IMPLICIT_DENY
    assert outcome(document, END, others=[ALLOW_ALL]) is Outcome.ALLOW


def test_a_longer_grant_of_the_same_thing_is_not_cut_by_the_shorter_one() -> None:
    wider = target("all-orders", statements=[gives("arn:aws:s3:::*", "s3:*")])
    document = render([Window(target(), END), Window(wider, END + timedelta(hours=1))])
    assert outcome(document, END) is Outcome.ALLOW
    assert outcome(document, END + timedelta(hours=1)) is Outcome.DENY


def test_a_window_that_is_ended_is_no_longer_there() -> None:
    assert render([Window(target(), END, is_open=False)])["Statement"] == []


def test_several_statements_of_one_entitlement_end_together() -> None:
    document = render([Window(target(statements=[gives(ORDERS), gives(INVOICES)]), END)])
    for resource in ("arn:aws:s3:::orders/1", "arn:aws:s3:::invoices/1"):
        assert outcome(document, END - SECOND, resource=resource) is Outcome.ALLOW
        assert outcome(document, END, resource=resource) is Outcome.DENY
    assert len({statement["Sid"] for statement in document["Statement"]}) == 4


def test_the_same_windows_in_another_order_are_the_same_document() -> None:
    windows = [Window(target(name), END) for name in ("a", "b", "c")]
    assert render(windows) == render(windows[::-1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda name, resource, minutes, standing: Window(
                target(name, statements=[gives(resource)]), START + timedelta(minutes=minutes), holds_standing=standing
            ),
            st.sampled_from("abcdef"),
            st.sampled_from([ORDERS, INVOICES, "*", "arn:aws:s3:::ord*"]),
            st.integers(0, 200),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda window: window.target.entitlement_external_id,
    ),
    st.timedeltas(timedelta(0), timedelta(days=3650)),
)
def test_after_the_last_end_nothing_is_allowed_for_ever(windows: list[Window], later: timedelta) -> None:
    at = max(window.not_after for window in windows) + later
    for resource in ("arn:aws:s3:::orders/1", "arn:aws:s3:::invoices/1"):
        assert outcome(render(windows), at, resource=resource) is not Outcome.ALLOW


@pytest.mark.parametrize(
    "statements",
    [
        [],
        "s3:*",
        [{}],
        [{"actions": [], "resources": ["*"]}],
        [{"actions": ["s3:*"], "resources": []}],
        [{"actions": "s3:*", "resources": ["*"]}],
        [{"actions": [1], "resources": ["*"]}],
        [gives(), "more"],
    ],
)
def test_an_entitlement_that_does_not_say_what_it_gives_is_refused(statements: Any) -> None:
    with pytest.raises(Refused, match="which actions"):
        render([Window(target(statements=statements), END)])


# ---- in AWS


def test_the_proof_says_when_only_the_lapse_ends_it(org: Org, role: dict[str, Any]) -> None:
    one = target(account_id=org.account_id)
    provisioner = IamTimeboxedPolicy(CONFIG)
    assert provisioner.enforce(one, [Window(one, END)]).facts["ends_by_lapse_only"] == []
    proof = provisioner.enforce(one, [Window(one, END, holds_standing=True)])
    assert proof.facts["ends_by_lapse_only"] == ["orders"]
    assert "Sessions" in proof.facts["note"]


def test_a_user_keeps_the_keys_and_is_told_so(org: Org) -> None:
    org.iam().create_user(UserName="deploy")
    deploy = target(account_id=org.account_id, holder="user/deploy")
    proof = IamTimeboxedPolicy(CONFIG).enforce(deploy, [Window(deploy, END)])
    assert "keys stay" in proof.facts["note"]
    assert outcome(stored(org, "user/deploy"), START) is Outcome.ALLOW


def test_the_last_end_leaves_no_policy_behind(org: Org, role: dict[str, Any]) -> None:
    one = target(account_id=org.account_id)
    provisioner = IamTimeboxedPolicy(CONFIG)
    provisioner.enforce(one, [Window(one, END)])
    provisioner.enforce(one, [Window(one, END, is_open=False)])
    assert stored(org) is None
    assert provisioner.enforce(one, []).facts["digest"] == ""


def test_other_policies_of_the_principal_count_and_stay(org: Org) -> None:
    client = org.iam()
    client.create_user(UserName="deploy")
    large = {**READ, "Statement": [{**READ["Statement"][0], "Action": [f"s3:Get{n:040d}" for n in range(38)]}]}
    client.put_user_policy(UserName="deploy", PolicyName="large", PolicyDocument=json.dumps(large))
    deploy = target(account_id=org.account_id, holder="user/deploy")
    provisioner = IamTimeboxedPolicy(CONFIG)
    for attempt in (provisioner.check, provisioner.enforce):
        with pytest.raises(Refused, match="2048"):
            attempt(deploy, [Window(deploy, END)])
    assert client.list_user_policies(UserName="deploy")["PolicyNames"] == ["large"]


def test_ending_is_possible_also_where_the_policies_are_too_large_by_now(org: Org) -> None:
    client = org.iam()
    client.create_user(UserName="deploy")
    first = target("first", account_id=org.account_id, holder="user/deploy")
    second = target("second", account_id=org.account_id, holder="user/deploy", statements=[gives(INVOICES)])
    provisioner = IamTimeboxedPolicy(CONFIG)
    provisioner.enforce(first, [Window(first, END), Window(second, END)])
    large = {**READ, "Statement": [{**READ["Statement"][0], "Action": [f"s3:Get{n:040d}" for n in range(60)]}]}
    client.put_user_policy(UserName="deploy", PolicyName="large", PolicyDocument=json.dumps(large))
    provisioner.enforce(first, [Window(first, END, is_open=False), Window(second, END)])
    assert not provisioner.look(first).is_present
    assert provisioner.look(second).is_present


def test_a_principal_that_is_gone_is_said_to_be_gone(org: Org) -> None:
    nobody = target(account_id=org.account_id, holder="user/nobody")
    provisioner = IamTimeboxedPolicy(CONFIG)
    for attempt in (provisioner.check, provisioner.enforce):
        with pytest.raises(Gone):
            attempt(nobody, [Window(nobody, END)])
    assert not provisioner.look(nobody).is_present
    assert provisioner.close(nobody).state == "done"


def test_a_principal_that_was_made_anew_is_somebody_else(org: Org, role: dict[str, Any]) -> None:
    known = target(account_id=org.account_id, unique_id=role["RoleId"])
    IamTimeboxedPolicy(CONFIG).check(known, [Window(known, END)])
    other = target(account_id=org.account_id, unique_id="AROAANOTHERONE")
    with pytest.raises(Gone, match="made again"):
        IamTimeboxedPolicy(CONFIG).enforce(other, [Window(other, END)])
    assert stored(org) is None


def test_open_and_close_say_what_is_really_there(org: Org, role: dict[str, Any]) -> None:
    one = target(account_id=org.account_id)
    provisioner = IamTimeboxedPolicy(CONFIG)
    with pytest.raises(Unproven):
        provisioner.open(one)
    provisioner.enforce(one, [Window(one, END)])
    with pytest.raises(Unproven):
        provisioner.close(one)


def test_a_policy_that_reads_back_differently_is_unproven(stubs: Stubs) -> None:
    provisioner = IamTimeboxedPolicy(CONFIG)
    provisioner._reader = provisioner._writer = stubs.api
    role = {
        "RoleName": "batch",
        "RoleId": "AROAEXAMPLEEXAMPLE",
        "Path": "/",
        "Arn": "arn:aws:iam::111122223333:role/batch",
    }
    stubs.answer("iam", "get_role", {"Role": {**role, "CreateDate": START}})
    stubs.answer("iam", "list_role_policies", {"PolicyNames": []})
    stubs.answer("iam", "put_role_policy", {})
    read = {"RoleName": "batch", "PolicyName": "gatehouse-jit", "PolicyDocument": json.dumps(READ)}
    stubs.answer("iam", "get_role_policy", read)
    with pytest.raises(Unproven):
        provisioner.enforce(target(), [Window(target(), END)])


@pytest.mark.parametrize(
    "holder", ["role/portal/PortalProvisioner", "role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_A_0123456789abcdef"]
)
def test_roles_that_are_not_ours_to_change_are_refused(holder: str) -> None:
    one = target(holder=holder)
    provisioner = IamTimeboxedPolicy(CONFIG)
    for attempt in (provisioner.check, provisioner.enforce):
        with pytest.raises(Refused):
            attempt(one, [Window(one, END)])


@pytest.mark.parametrize(
    "change",
    [
        {"principal_kind": "iam_group", "principal_external_id": "arn:aws:iam::111122223333:group/all"},
        {"principal_kind": "idc_user", "principal_external_id": "94482488"},
        {"principal_kind": "iam_user"},
        {"account_id": "999999999999"},
        {"principal_external_id": "arn:aws:iam::111122223333:role/batch\nx"},
    ],
)
def test_anything_but_a_user_or_role_of_that_account_is_refused(change: dict[str, str]) -> None:
    other = replace(target(), **change)  # type: ignore[arg-type]
    with pytest.raises(Refused):
        IamTimeboxedPolicy(CONFIG).check(other, [Window(other, END)])


def test_windows_of_another_principal_are_never_mixed_in(org: Org) -> None:
    with pytest.raises(ValueError, match="other principals"):
        IamTimeboxedPolicy(CONFIG).enforce(target(), [Window(target(holder="role/other"), END)])


def test_a_sync_knows_it_as_ours(org: Org, role: dict[str, Any]) -> None:
    one = target(account_id=org.account_id)
    window = Window(one, datetime.now(UTC) + timedelta(hours=24))
    IamTimeboxedPolicy(CONFIG).enforce(one, [window])
    scan = AwsConnector(CONFIG).scan_account(org.account(), QUIET)
    (found,) = [record for record in scan.assignments if record.entitlement_external_id.endswith("gatehouse-jit")]
    assert found.attributes == {"is_ours": True}


def test_the_longest_grant_is_known_as_ours_as_long_as_it_lasts() -> None:
    one, now = target(), datetime.now(UTC)
    longest = render([Window(one, now + LONGEST + Grant.ALLOWANCE)])
    assert is_dated(longest, now)
    assert is_dated(longest, now + timedelta(days=2))  # it gives nothing any more


@pytest.mark.parametrize(
    ("standing", "cuts"),
    [
        ({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}, True),
        ({"Effect": "Allow", "Action": "S3:Get*", "Resource": "arn:aws:s3:::logs/*"}, True),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, True),
        ({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}, False),
        ({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::elsewhere/*"}, False),
        ({"Effect": "Deny", "Action": "s3:*", "Resource": "*"}, False),
        ("not a statement", True),
    ],
)
def test_a_deny_would_cut_exactly_what_is_held_all_the_time(standing: object, cuts: bool) -> None:
    target = Target(
        account_id="111122223333",
        principal_kind="iam_user",
        principal_external_id="arn:aws:iam::111122223333:user/robot",
        principal_name="robot",
        entitlement_kind="dated_policy",
        entitlement_external_id="gatehouse:logs",
        entitlement_name="Logs",
        entitlement_attributes={"statements": [{"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::logs/*"]}]},
    )
    document = {"Version": "2012-10-17", "Statement": [standing]}
    assert IamTimeboxedPolicy({"region": "us-east-1"}).would_cut(target, [document]) is cuts

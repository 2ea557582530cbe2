"""The guard to the letter: what is written into AWS, what is read back, and how much room is kept."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from apps.connectors.aws import guard
from apps.connectors.aws.policy.documents import digest
from apps.connectors.base import Target, Window
from apps.connectors.errors import Refused, Unproven
from tests.connectors.conftest import RESTING, Stubs

ACCOUNT = "111122223333"
ARN = f"arn:aws:iam::{ACCOUNT}:policy/jit/jit-guard"
ROLES = "arn:aws:iam::*:role/aws-reserved/sso.amazonaws.com*/AWSReservedSSO_"
END = datetime(2026, 11, 22, 10, 30, 59, 999_999, tzinfo=UTC)
AT = "2026-11-22T10:30:59Z"
AT_ONCE = "2000-01-01T00:00:00Z"


def about(person: str, permission_set: str = "Admin") -> Target:
    return Target(
        account_id=ACCOUNT,
        principal_kind="idc_user",
        principal_external_id=person,
        principal_name=person,
        entitlement_kind="permission_set",
        entitlement_external_id=f"{permission_set}@{ACCOUNT}",
        entitlement_name=permission_set,
        entitlement_attributes={"permission_set_name": permission_set},
    )


def window(person: str, permission_set: str = "Admin", *, end: datetime = END, is_open: bool = True) -> Window:
    return Window(about(person, permission_set), end, is_open=is_open)


def denial(roles: Any, people: list[str] | None, end: str) -> dict[str, Any]:
    whom = {} if people is None else {"StringEquals": {"identitystore:UserId": people}}
    condition = {
        **whom,
        "ArnLike": {"aws:PrincipalArn": roles},
        "DateGreaterThanEquals": {"aws:CurrentTime": end},
    }
    return {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}


def document(*denials: dict[str, Any]) -> dict[str, Any]:
    return {**RESTING, "Statement": [*RESTING["Statement"], *denials]}  # type: ignore[misc]


# ---- the document


def test_an_instant_is_spelt_in_utc_and_rounded_down() -> None:
    assert guard.stamp(END) == AT
    assert guard.stamp(END.astimezone(timezone(timedelta(hours=2)))) == AT


@pytest.mark.parametrize(
    ("windows", "denials"),
    [
        ([], []),
        ([window("alice")], [denial(ROLES + "Admin_*", ["alice"], AT)]),
        ([window("bob"), window("alice")], [denial(ROLES + "Admin_*", ["alice", "bob"], AT)]),
        (
            [window("alice", "Reader"), window("alice"), window("bob", end=END + timedelta(seconds=1))],
            [
                denial(ROLES + "Admin_*", ["alice"], AT),
                denial(ROLES + "Admin_*", ["bob"], "2026-11-22T10:31:00Z"),
                denial(ROLES + "Reader_*", ["alice"], AT),
            ],
        ),
        ([window("alice", is_open=False)], [denial(ROLES + "Admin_*", ["alice"], AT_ONCE)]),
        (  # both ways of saying it are possible: the shorter one is taken
            [window(person, name, is_open=False) for name in ("Reader", "Admin") for person in ("bob", "alice")],
            [denial([ROLES + "Admin_*", ROLES + "Reader_*"], ["alice", "bob"], AT_ONCE)],
        ),
        (
            [window("alice", is_open=False), window("bob")],
            [denial(ROLES + "Admin_*", ["alice"], AT_ONCE), denial(ROLES + "Admin_*", ["bob"], AT)],
        ),
        ([window("*", "*", is_open=False), window("alice")], [denial(ROLES + "*", None, AT_ONCE)]),
        (
            [window("*", "*"), window("*", "Admin"), window("alice"), window("bob", is_open=False)],
            [denial(ROLES + "*", None, AT), denial(ROLES + "Admin_*", ["bob"], AT_ONCE)],
        ),
        (
            [window("alice", "*", is_open=False), window("alice"), window("bob")],
            [denial(ROLES + "*", ["alice"], AT_ONCE), denial(ROLES + "Admin_*", ["bob"], AT)],
        ),
        (
            [window("*", "Admin", is_open=False), window("alice"), window("alice", "Reader")],
            [denial(ROLES + "Admin_*", None, AT_ONCE), denial(ROLES + "Reader_*", ["alice"], AT)],
        ),
        (
            [window("alice"), window("alice", end=END - timedelta(hours=1))],
            [denial(ROLES + "Admin_*", ["alice"], "2026-11-22T09:30:59Z")],
        ),
        (
            [window("alice", end=END - timedelta(hours=1)), window("alice")],
            [denial(ROLES + "Admin_*", ["alice"], "2026-11-22T09:30:59Z")],
        ),
    ],
    ids=[
        "nobody", "one", "sorted", "apart", "at once", "crossed", "some ended", "everybody and everything",
        "as late as a stop", "one person everywhere", "one set for everybody", "the earlier of two", "in any order",
    ],
)  # fmt: skip
def test_the_document_says_exactly_this(windows: list[Window], denials: list[dict[str, Any]]) -> None:
    assert guard.render(windows) == document(*denials)


def test_it_speaks_of_roles_in_its_own_partition() -> None:
    [_, statement] = guard.render([window("alice")], "aws-us-gov")["Statement"]
    there = "arn:aws-us-gov:iam::*:role/aws-reserved/sso.amazonaws.com*/AWSReservedSSO_Admin_*"
    assert statement["Condition"]["ArnLike"]["aws:PrincipalArn"] == there


@pytest.mark.parametrize("stop", [about("*"), about("alice", "*"), about("*", "*")])
def test_everybody_or_everything_is_a_stop(stop: Target) -> None:
    assert guard.is_stop(stop)
    assert not guard.is_stop(about("alice"))


# ---- room


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
def test_room_is_kept_to_the_letter_for_every_early_end_and_every_stop(
    partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = [
        window("alice"), window("bob", end=END + timedelta(hours=1)), window("alice", "Reader"), window("carol", "Reader")
    ]  # fmt: skip
    full = document(
        denial(ROLES + "Admin_*", ["alice"], AT),
        denial(ROLES + "Admin_*", ["bob"], AT),
        denial(ROLES + "Reader_*", ["alice", "carol"], AT),
        denial(ROLES + "Admin_*", [], AT_ONCE),
        denial(ROLES + "Reader_*", [], AT_ONCE),
        denial(ROLES + "*", None, AT_ONCE),
        denial(ROLES + "*", ["x" * 47], AT_ONCE),
        denial(ROLES + "x" * 32 + "_*", None, AT_ONCE),
    )
    needed = len(re.sub(r"\s", "", json.dumps(full).replace("arn:aws:", f"arn:{partition}:")))
    monkeypatch.setattr(guard, "LIMIT", needed)
    guard.require_room(windows, partition)
    monkeypatch.setattr(guard, "LIMIT", needed - 1)
    with pytest.raises(Refused, match=rf"full \({needed} of {needed - 1} characters\)"):
        guard.require_room(windows, partition)


def test_room_is_counted_for_aws_itself_where_no_partition_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LIMIT", 1)
    refusals = set()
    for partition in ([], ["aws"]):
        with pytest.raises(Refused) as refused:
            guard.require_room([window("alice")], *partition)
        refusals.add(str(refused.value))
    assert len(refusals) == 1


# ---- writing and reading back


def versions(*numbers: int, default: int) -> dict[str, Any]:
    return {"Versions": [{"VersionId": f"v{number}", "IsDefaultVersion": number == default} for number in numbers]}


def written(stubs: Stubs, document: dict[str, Any], *, version: int = 2, read_back: Any = None) -> None:
    """What IAM is asked, and answers."""
    text = json.dumps(document, separators=(",", ":"))
    asked = {"PolicyArn": ARN, "PolicyDocument": text, "SetAsDefault": True}
    stubs.answer("iam", "create_policy_version", {"PolicyVersion": {"VersionId": f"v{version}"}}, asked)
    stubs.answer("iam", "list_policy_versions", versions(1, version, default=version), {"PolicyArn": ARN})
    found = {"PolicyVersion": {"Document": json.dumps(read_back or document)}}
    stubs.answer("iam", "get_policy_version", found, {"PolicyArn": ARN, "VersionId": f"v{version}"})


@pytest.mark.parametrize(
    ("windows", "whom"),
    [
        ([], "0 people"),
        ([window("alice"), window("alice", "Reader")], "1 person"),
        ([window("bob"), window("alice", is_open=False)], "2 people"),
        ([window("alice"), window("*", "*", is_open=False)], "everybody"),
    ],
)
def test_the_proof_says_what_is_in_force_and_since_when(stubs: Stubs, windows: list[Window], whom: str) -> None:
    expected = guard.render(windows)
    stubs.answer("iam", "list_policy_versions", versions(1, default=1), {"PolicyArn": ARN})
    written(stubs, expected)
    before = datetime.now(UTC)
    proof = guard.write(stubs.api, stubs.api, ACCOUNT, windows)
    assert proof.what == f"Guard policy {ARN} (v2) is in force with ends for {whom}."
    assert before <= proof.read_at <= datetime.now(UTC)
    ends = sorted([one.target.principal_external_id, one.target.entitlement_name, AT, one.is_open] for one in windows)
    assert proof.facts == {
        "policy_arn": ARN,
        "version_id": "v2",
        "digest": digest(expected),
        "size": guard.size(expected),
        "ends": ends,
    }


def test_a_document_that_does_not_fit_is_refused_before_anything_is_written(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LIMIT", guard.size(RESTING) - 1)
    with pytest.raises(Refused, match="full"):
        guard.write(stubs.api, stubs.api, ACCOUNT, [])


def test_a_version_that_somebody_else_deleted_does_not_stop_the_others_from_making_room(stubs: Stubs) -> None:
    stubs.answer("iam", "list_policy_versions", versions(1, 2, 3, 4, 5, default=5), {"PolicyArn": ARN})
    stubs.refuse("iam", "delete_policy_version", "NoSuchEntity", 404)
    stubs.answer("iam", "delete_policy_version", {}, {"PolicyArn": ARN, "VersionId": "v2"})
    written(stubs, RESTING, version=6)
    assert guard.write(stubs.api, stubs.api, ACCOUNT, []).facts["version_id"] == "v6"


@pytest.mark.parametrize("count", [1, 3])
def test_where_there_is_room_no_version_is_deleted(stubs: Stubs, count: int) -> None:
    stubs.answer("iam", "list_policy_versions", versions(*range(1, count + 1), default=count), {"PolicyArn": ARN})
    written(stubs, RESTING, version=9)
    guard.write(stubs.api, stubs.api, ACCOUNT, [])


def test_a_missing_guard_is_named(stubs: Stubs) -> None:
    stubs.refuse("iam", "list_policy_versions", "NoSuchEntity", 404)
    with pytest.raises(Refused, match=rf"Account {ACCOUNT} has no guard policy {ARN}\."):
        guard.versions(stubs.api, ACCOUNT)


def test_versions_are_told_apart_by_number(stubs: Stubs) -> None:
    stubs.answer("iam", "list_policy_versions", versions(10, 9, 11, default=9), {"PolicyArn": ARN})
    assert [found["VersionId"] for found in guard.versions(stubs.api, ACCOUNT)] == ["v9", "v10", "v11"]


def unproven(stubs: Stubs) -> str:
    with pytest.raises(Unproven) as error:
        guard.write(stubs.api, stubs.api, ACCOUNT, [])
    return str(error.value)


@pytest.mark.parametrize(("default", "shown"), [(1, "v1"), (0, "none")])
def test_an_older_version_in_force_is_no_proof(stubs: Stubs, default: int, shown: str) -> None:
    stubs.answer("iam", "list_policy_versions", versions(1, default=1), {"PolicyArn": ARN})
    stubs.answer("iam", "create_policy_version", {"PolicyVersion": {"VersionId": "v2"}})
    stubs.answer("iam", "list_policy_versions", versions(1, 2, default=default), {"PolicyArn": ARN})
    assert unproven(stubs) == f"Guard policy {ARN} shows version {shown} in force, not v2."


def test_another_document_in_force_is_no_proof(stubs: Stubs) -> None:
    stubs.answer("iam", "list_policy_versions", versions(1, default=1), {"PolicyArn": ARN})
    written(stubs, RESTING, read_back=document(denial(ROLES + "*", None, AT)))
    assert unproven(stubs) == f"Guard policy {ARN} (v2) reads back differently from what was written."


@pytest.mark.parametrize("gone", [True, False])
def test_a_document_that_cannot_be_read_back_is_no_proof(stubs: Stubs, gone: bool) -> None:
    stubs.answer("iam", "list_policy_versions", versions(1, default=1), {"PolicyArn": ARN})
    stubs.answer("iam", "create_policy_version", {"PolicyVersion": {"VersionId": "v2"}})
    stubs.answer("iam", "list_policy_versions", versions(1, 2, default=2), {"PolicyArn": ARN})
    if gone:
        stubs.refuse("iam", "get_policy_version", "NoSuchEntity", 404)
    else:
        stubs.answer("iam", "get_policy_version", {"PolicyVersion": {"Document": "no policy"}})
    assert unproven(stubs).startswith(f"Guard policy {ARN} (v2) cannot be read back: ")


# ---- names


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (about("x" * 99 + "!"), f"'{'x' * 60}' is not the id of a person"),
        (about("alice", "x" * 99), f"'{'x' * 60}' is not the name of a permission set"),
    ],
)
def test_a_name_that_is_refused_is_told_in_short(target: Target, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        guard.render([Window(target, END)])


def test_a_permission_set_without_a_name_is_refused() -> None:
    nameless = Target(ACCOUNT, "idc_user", "alice", "alice", "permission_set", "x", "Admin", {})
    with pytest.raises(Refused, match="'' is not the name"):
        guard.render([Window(nameless, END)])


class Iam:
    """One account's guard, in a partition; tells who asked it what, about which account."""

    def __init__(self, partition: str) -> None:
        self.session = SimpleNamespace(
            hub=lambda: SimpleNamespace(partition=partition), config={"guard_policy": "/jit/jit-guard"}
        )
        self.asked: list[tuple[str, str, str]] = []
        self.documents = {f"v{number}": json.dumps(RESTING) for number in range(1, 6)}

    def called(self, role: str) -> Any:
        return SimpleNamespace(session=self.session, call=partial(self.call, role), items=partial(self.items, role))

    def items(self, role: str, account_id: str, service: str, operation: str, key: str, **_: Any) -> Any:
        self.asked.append((role, account_id, f"{service}:{operation}:{key}"))
        newest = max(self.documents)
        return [{"VersionId": name, "IsDefaultVersion": name == newest} for name in self.documents]

    def call(self, role: str, account_id: str, service: str, operation: str, **fields: Any) -> Any:
        self.asked.append((role, account_id, f"{service}:{operation}"))
        if operation == "delete_policy_version":
            del self.documents[fields["VersionId"]]
        elif operation == "create_policy_version":
            self.documents["v6"] = fields["PolicyDocument"]
            return {"PolicyVersion": {"VersionId": "v6"}}
        return {"PolicyVersion": {"Document": self.documents.get(fields["VersionId"])}}


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_each_role_does_its_own_part_in_that_account_and_partition(partition: str) -> None:
    iam = Iam(partition)
    proof = guard.write(iam.called("reader"), iam.called("writer"), ACCOUNT, [window("alice")])
    assert iam.asked == [
        ("reader", ACCOUNT, "iam:list_policy_versions:Versions"),
        ("writer", ACCOUNT, "iam:delete_policy_version"),
        ("writer", ACCOUNT, "iam:delete_policy_version"),
        ("writer", ACCOUNT, "iam:create_policy_version"),
        ("reader", ACCOUNT, "iam:list_policy_versions:Versions"),
        ("reader", ACCOUNT, "iam:get_policy_version"),
    ]
    assert json.loads(iam.documents["v6"]) == guard.render([window("alice")], partition)
    assert proof.facts["policy_arn"] == f"arn:{partition}:iam::{ACCOUNT}:policy/jit/jit-guard"

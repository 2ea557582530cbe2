"""What may be taken out of a policy, and what must stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.policy.documents import parse
from apps.connectors.aws.policy.reach import effective
from apps.connectors.aws.rightsizing import Evidence, size, smaller
from apps.connectors.aws.unlogged import DATA, FOLDERS, unlogged

SINCE = datetime(2031, 1, 1, tzinfo=UTC)


def policy(*actions: str, **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*", **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def evidence(*used: str, **more: Any) -> Evidence:
    return Evidence(since=SINCE, used=frozenset(used), **more)


def actions_of(document: Any) -> list[str]:
    return [action for one in document["Statement"] for action in one["Action"]]


def test_what_was_not_used_goes() -> None:
    found = smaller(policy("ec2:DescribeInstances", "ec2:RunInstances"), evidence("ec2:DescribeInstances"))
    assert found.after
    assert actions_of(found.after) == ["ec2:DescribeInstances"]
    assert found.removed == ("ec2:RunInstances",)


def test_what_the_trail_may_not_show_stays() -> None:
    found = smaller(policy("s3:GetObject", "s3:PutBucketPolicy", "iam:PassRole"), evidence("s3:ListAllMyBuckets"))
    assert found.removed == ("s3:PutBucketPolicy",)
    assert set(found.unseen) == {"s3:GetObject", "iam:PassRole"}


def test_what_aws_services_did_on_behalf_stays_though_it_is_no_need_of_its_own() -> None:
    found = smaller(policy("kms:DescribeKey", "kms:CreateGrant"), evidence(for_services=frozenset({"kms:CreateGrant"})))
    assert found.removed == ("kms:DescribeKey",)


def test_a_service_that_aws_says_was_never_accessed_goes_whole_but_for_passing_roles() -> None:
    found = smaller(policy("s3:*", "iam:*"), evidence("ec2:RunInstances", accessed={"s3": None, "iam": None}))
    assert found.after
    assert actions_of(found.after) == ["iam:PassRole"]
    assert "s3:GetObject" in found.removed


def test_a_service_that_was_accessed_since_is_judged_action_by_action() -> None:
    found = smaller(policy("s3:GetObject"), evidence(accessed={"s3": SINCE + timedelta(days=1)}))
    assert not found.is_smaller
    assert smaller(policy("s3:GetObject"), evidence(accessed={"s3": SINCE - timedelta(days=1)})).is_smaller


def test_a_service_with_calls_that_fit_no_permission_stays_whole() -> None:
    assert not smaller(policy("ec2:*"), evidence(unmapped=frozenset({"ec2"}))).is_smaller


def test_denials_conditions_and_what_is_unknown_are_not_touched() -> None:
    deny = {"Effect": "Deny", "Action": "ec2:*", "Resource": "*"}
    allow = {
        "Effect": "Allow",
        "Action": ["ec2:RunInstances", "nosuch:Thing"],
        "Resource": "arn:aws:ec2:*:*:instance/*",
        "Condition": {"Bool": {"aws:SecureTransport": "true"}},
    }
    found = smaller({"Version": "2012-10-17", "Statement": [deny, allow]}, evidence())
    assert found.after
    assert found.after["Statement"] == [deny, {**allow, "Action": ["nosuch:Thing"]}]


def test_not_action_is_left_to_people() -> None:
    statement = {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}
    found = smaller({"Version": "2012-10-17", "Statement": statement}, evidence())
    assert not found.is_smaller
    assert "NotAction" in found.notes[0]


def test_what_a_not_action_statement_still_allows_is_not_removed() -> None:
    wide = {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}
    named = {"Effect": "Allow", "Action": ["ec2:RunInstances", "iam:CreateUser"], "Resource": "*"}
    found = smaller({"Version": "2012-10-17", "Statement": [wide, named]}, evidence())
    assert found.removed == ("iam:CreateUser",)
    named["Action"] = "ec2:RunInstances"
    found = smaller({"Version": "2012-10-17", "Statement": [wide, named]}, evidence())
    assert not found.is_smaller
    assert found.after == found.before


def test_nothing_used_leaves_no_policy() -> None:
    assert smaller(policy("ec2:RunInstances"), evidence()).after is None


def test_a_wildcard_becomes_the_names_that_were_used() -> None:
    found = smaller(policy("iam:Get*", "iam:List*"), evidence("iam:GetRole", "iam:ListRoles"))
    assert found.after
    assert {"iam:GetRole", "iam:ListRoles"} <= set(actions_of(found.after))
    assert "iam:Get*" not in actions_of(found.after)


def said_of_length(*patterns: str, **place: Any) -> str:
    return " ".join(smaller(policy(*patterns), evidence("s3:CreateBucket"), **place).notes)


def test_a_proposal_that_does_not_fit_where_it_stands_says_so() -> None:
    found = smaller(policy("s3:*", "sts:*"), evidence("s3:CreateBucket"))
    assert 2_048 < size(found.after) < 6_144
    assert "2,048 are the most" in said_of_length("s3:*", "sts:*", inline_of="user")
    assert "2,048 are the most" in said_of_length("s3:*", "sts:*")
    assert said_of_length("s3:*", "sts:*", inline_of="role") == said_of_length("s3:*", "sts:*", inline_of="") == ""


def test_a_managed_policy_that_is_too_long_is_to_be_split() -> None:
    assert "Split it by service" in said_of_length(*(f"{service}:*" for service in DATA), inline_of="")


def test_a_holders_inline_policies_share_their_room() -> None:
    own = size(smaller(policy("s3:*", "sts:*"), evidence("s3:CreateBucket")).after)
    assert said_of_length("s3:*", "sts:*", inline_of="role", beside=10_240 - own) == ""
    assert "have 10,241 characters" in said_of_length("s3:*", "sts:*", inline_of="role", beside=10_241 - own)
    assert said_of_length("s3:*", "sts:*", inline_of="", beside=10_241) == ""


def test_the_tables_name_services_and_actions_that_exist() -> None:
    services = {name.partition(":")[0] for name in catalogue().names}
    assert set(DATA) <= services
    assert set(FOLDERS.values()) <= services
    assert [f"{s}:{p}" for s, patterns in DATA.items() for p in patterns if not catalogue().expand(f"{s}:{p}")] == []


@pytest.mark.parametrize(
    "action",
    [
        *("iam:PassRole", "s3:GetObject", "s3:GetObjectVersion", "dynamodb:PutItem", "kms:Decrypt"),
        *("ec2:CreateTags", "iam:TagRole", "lambda:TagResource", "rds:AddTagsToResource"),  # checked when creating
    ],
)
def test_these_are_never_taken_for_unused_by_a_trail(action: str) -> None:
    assert unlogged(action.partition(":")[0]) & catalogue().expand(action)


@pytest.mark.parametrize("action", ["iam:CreateUser", "ec2:RunInstances", "s3:PutBucketPolicy", "sts:AssumeRole"])
def test_these_show_in_every_trail(action: str) -> None:
    assert not unlogged(action.partition(":")[0]) & catalogue().expand(action)


some = st.sampled_from(["ec2:RunInstances", "ec2:Describe*", "s3:*", "iam:Get*", "kms:Decrypt", "sqs:*", "nosuch:X"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(some, min_size=1, max_size=4),
    st.sets(st.sampled_from(["ec2:RunInstances", "iam:GetRole", "s3:GetObject"])),
)
def test_a_proposal_never_allows_more_and_keeps_all_that_was_used(patterns: list[str], used: set[str]) -> None:
    found = smaller(policy(*patterns), evidence(*used))
    before = effective([parse(policy(*patterns))]).any
    after = effective([parse(found.after)]).any if found.after else 0
    assert after & ~before == 0
    assert before & catalogue().select(used) & ~after == 0
    assert set(catalogue().actions(before & ~after)) == set(found.removed)

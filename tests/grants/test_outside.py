"""Who gave access past the portal: the call of the trail that named exactly the holder and what they hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors.aws import trails
from apps.connectors.trail import Outcome, TrailEvent
from apps.grants import outside, periodic
from apps.grants.models import OutsideChange
from apps.inventory.models import Assignment
from tests.factories.inventory import EntitlementFactory, PrincipalFactory
from tests.grants.system import ACCOUNT, System
from tests.grants.test_attribution import event
from tests.trail import record

NAMES = {"permissionSetArn": "arn:aws:sso:::permissionSet/1", "targetId": ACCOUNT, "principalId": "alice"}


def given(**fields: Any) -> TrailEvent:
    """Mallory gave Alice a permission set an hour ago."""
    values: dict[str, Any] = {
        "service": "sso",
        "name": "CreateAccountAssignment",
        "session_name": "mallory",
        "issuer_arn": f"arn:aws:iam::{ACCOUNT}:role/admin",
        "named": NAMES,
    }
    return event(fields.pop("at", timezone.now() - timedelta(hours=1)), **{**values, **fields})


@pytest.fixture
def held(system: System) -> Assignment:
    """What Alice holds and nobody decided."""
    system.read.external_id = f"{NAMES['permissionSetArn']}@{ACCOUNT}"
    system.read.save()
    row = system.holds(system.alice, system.read)
    Assignment.objects.filter(pk=row.pk).update(period=(timezone.now() - timedelta(minutes=50), None))
    row.refresh_from_db()
    return row


def read(system: System, *events: TrailEvent) -> None:
    outside.read(system.connection, events)


def test_the_call_that_named_them_both_is_the_author(system: System, held: Assignment) -> None:
    read(system, given())
    author = outside.author_of(held)
    assert author is not None
    assert (author.who, author.call) == ("mallory", "sso:CreateAccountAssignment")


@pytest.mark.parametrize(
    "other",
    [
        {"named": {**NAMES, "principalId": "bob"}},
        {"named": {**NAMES, "targetId": "999999999999"}},
        {"outcome": Outcome.DENIED},
        {"name": "DeleteAccountAssignment"},
        {"issuer_arn": f"arn:aws:iam::{ACCOUNT}:role/portal/PortalProvisioner"},
    ],
)
def test_nobody_else_is_blamed(system: System, held: Assignment, other: dict[str, Any]) -> None:
    read(system, given(**other))
    assert outside.author_of(held) is None


def test_a_role_that_is_only_called_like_ours_is_blamed(system: System, held: Assignment) -> None:
    read(system, given(issuer_arn=f"arn:aws:iam::{ACCOUNT}:role/mine/PortalProvisioner"))
    assert outside.author_of(held) is not None


def test_changes_are_forgotten_with_usage(system: System, settings: Any) -> None:
    days = timedelta(days=settings.USAGE_KEPT_DAYS)
    read(system, given(event_id="old", at=timezone.now() - days - timedelta(days=1)), given(event_id="new"))
    periodic.forget_changes()
    assert [row.event_id for row in OutsideChange.objects.all()] == ["new"]


def test_what_came_after_it_was_seen_did_not_make_it(system: System, held: Assignment) -> None:
    read(system, given(at=timezone.now()))
    assert outside.author_of(held) is None


def test_of_two_calls_the_last_before_it_was_seen_made_it(system: System, held: Assignment) -> None:
    first = given(at=timezone.now() - timedelta(hours=3), event_id="e1", session_name="bob")
    read(system, first, given(event_id="e2"), given(event_id="e2"))
    assert OutsideChange.objects.count() == 2
    author = outside.author_of(held)
    assert author is not None
    assert author.who == "mallory"


@pytest.mark.parametrize(
    ("kind", "facts", "named"),
    [
        ("iam_policy", {"policy_arn": "arn:aws:iam::aws:policy/X"}, {"policyArn": "arn:aws:iam::aws:policy/X"}),
        ("iam_inline_policy", {"policy_name": "X"}, {"policyName": "X"}),
        ("iam_group", {"group_name": "admins"}, {"groupName": "admins"}),
    ],
)
def test_iam_names_count_in_their_own_account_alone(
    system: System, kind: str, facts: dict[str, str], named: dict[str, str]
) -> None:
    user = PrincipalFactory(connection=system.connection, resource=system.account, kind="iam_user", name="deploy")
    policy = EntitlementFactory(connection=system.connection, resource=system.account, kind=kind, attributes=facts)
    row = Assignment.objects.create(
        connection=system.connection, principal=user, entitlement=policy, period=(timezone.now(), None)
    )
    row.refresh_from_db()
    call = {"service": "iam", "name": "AttachUserPolicy", "named": {"userName": "deploy", **named}}
    read(system, given(event_id="elsewhere", account_id="999999999999", **call))
    assert outside.author_of(row) is None
    read(system, given(event_id="here", **call))
    assert outside.author_of(row) is not None


def test_a_trail_gives_away_names_and_nothing_else() -> None:
    asked = {"userName": "ci", "password": "hunter2", "policyDocument": "{}", "policyArn": "arn:aws:iam::aws:policy/X"}
    parsed = trails.parse(
        record(eventSource="iam.amazonaws.com", eventName="AttachUserPolicy", readOnly=False, requestParameters=asked)
    )
    assert parsed is not None
    assert parsed.named == {"userName": "ci", "policyArn": "arn:aws:iam::aws:policy/X"}
    assert "hunter2" not in repr(parsed)


@pytest.mark.parametrize("member", ["u-1", {"userId": "u-1"}, {"userId": {"deep": 1}}, 7, None])
def test_members_are_named_however_the_store_wraps_them(member: Any) -> None:
    asked = {"groupId": "g-1", "memberId": member}
    parsed = trails.parse(
        record(
            eventSource="identitystore.amazonaws.com",
            eventName="CreateGroupMembership",
            readOnly=False,
            requestParameters=asked,
        )
    )
    assert parsed is not None
    assert parsed.named.get("memberId", "u-1") == "u-1"

"""AWS's scheduler ends what we cannot: what is written is read back, moved by its object, and taken away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors.aws import schedules
from apps.connectors.aws.schedules import Ending
from apps.connectors.aws.session import Api, session
from apps.connectors.errors import Refused, Unproven
from tests.connectors.conftest import CONFIG, HUB, Org, Stubs
from tests.connectors.scheduler import Scheduler
from tests.plugins.aws import Aws

AT = datetime(2031, 3, 5, 11, 0, tzinfo=UTC)
ENDING = Ending(HUB, "jit-x-1", "ssoadmin:deleteAccountAssignment", {"TargetId": "111122223333"})


@pytest.fixture
def api(org: Org) -> Api:
    org.add_scheduling(HUB)
    return Api(session(CONFIG), "provisioner_role")


def test_the_whole_schedule_is_what_aws_needs_to_end_it_alone(api: Api) -> None:
    proof = schedules.write(api, api, ENDING, AT + timedelta(microseconds=999_999))
    found = schedules.read(api, ENDING)
    assert found is not None
    assert found["ScheduleExpression"] == "rate(15 minutes)"
    assert found["ScheduleExpressionTimezone"] == "UTC"
    assert found["StartDate"] == AT
    assert found["EndDate"] == AT + timedelta(hours=24)
    assert found["ActionAfterCompletion"] == "DELETE"
    assert found["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert found["State"] == "ENABLED"
    assert found["GroupName"] == "jit"
    assert found["Target"] == {
        "Arn": "arn:aws:scheduler:::aws-sdk:ssoadmin:deleteAccountAssignment",
        "RoleArn": f"arn:aws:iam::{HUB}:role/portal/PortalScheduler",
        "Input": '{"TargetId": "111122223333"}',
        "RetryPolicy": {"MaximumEventAgeInSeconds": 600, "MaximumRetryAttempts": 10},
    }
    assert proof.facts["starts_at"] == "2031-03-05T11:00:00Z"


def test_retries_of_one_call_are_over_before_the_next(api: Api) -> None:
    assert schedules.RETRIES["MaximumEventAgeInSeconds"] < 15 * 60


def test_a_function_is_called_by_its_own_name(api: Api) -> None:
    function = f"arn:aws:lambda:us-east-1:{HUB}:function:portal-ender"
    schedules.write(api, api, replace(ENDING, call=function), AT)
    assert (schedules.read(api, ENDING) or {})["Target"]["Arn"] == function


def test_a_dead_letter_queue_is_named_where_there_is_one(org: Org) -> None:
    org.add_scheduling(HUB)
    api = Api(session({**CONFIG, "schedule_dlq": "jit-dead"}), "provisioner_role")
    schedules.write(api, api, ENDING, AT)
    found = schedules.read(api, ENDING) or {}
    assert found["Target"]["DeadLetterConfig"] == {"Arn": f"arn:aws:sqs:us-east-1:{HUB}:jit-dead"}


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1)])
def test_writing_again_moves_it(api: Api, by: timedelta) -> None:
    schedules.write(api, api, ENDING, AT)
    schedules.write(api, api, ENDING, AT + by)
    found = schedules.read(api, ENDING) or {}
    assert (found["StartDate"], found["EndDate"]) == (AT + by, AT + by + timedelta(hours=24))


def test_an_end_that_has_passed_begins_at_once(api: Api) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    proof = schedules.write(api, api, ENDING, datetime(2020, 1, 1, tzinfo=UTC))
    found = schedules.read(api, ENDING) or {}
    assert "StartDate" not in found  # AWS refuses one in the past; without one a rate begins at once
    assert before + timedelta(hours=24) <= found["EndDate"] <= datetime.now(UTC) + timedelta(hours=24)
    assert proof.facts["starts_at"] == "at once"


def test_removing_is_read_back_and_gone_already_is_fine(api: Api) -> None:
    schedules.remove(api, api, ENDING)
    schedules.write(api, api, ENDING, AT)
    for _ in range(2):
        schedules.remove(api, api, ENDING)
        assert schedules.read(api, ENDING) is None


def test_without_a_group_it_says_what_to_deploy(org: Org) -> None:
    api = Api(session(CONFIG), "provisioner_role")
    for attempt in (
        lambda: schedules.write(api, api, ENDING, AT),
        lambda: schedules.require_deployed(api, HUB),
    ):
        with pytest.raises(Refused, match=r"schedule group jit\. Deploy"):
            attempt()
    schedules.remove(api, api, ENDING)


def test_without_a_role_it_says_what_to_deploy(org: Org) -> None:
    org.add_scheduling(HUB)
    org.iam(HUB).delete_role(RoleName="PortalScheduler")
    api = Api(session(CONFIG), "provisioner_role")
    with pytest.raises(Refused, match="no role portal/PortalScheduler"):
        schedules.require_deployed(api, HUB)


def test_a_role_of_the_same_name_on_another_path_is_not_it(org: Org) -> None:
    org.add_scheduling(HUB)
    org.iam(HUB).delete_role(RoleName="PortalScheduler")
    org.iam(HUB).create_role(RoleName="PortalScheduler", Path="/else/", AssumeRolePolicyDocument="{}")
    with pytest.raises(Refused, match="no role"):
        schedules.require_deployed(Api(session(CONFIG), "provisioner_role"), HUB)


def shown(stubs: Stubs, **different: Any) -> dict[str, Any]:
    """The schedule as AWS would show it, apart from what differs."""
    wanted = schedules._wanted(stubs.api, ENDING, AT)
    changed = {**wanted, "GroupName": "jit", "Name": ENDING.name, **different}
    return {name: value for name, value in changed.items() if value is not None}


OTHER = datetime(2031, 3, 5, 12, 0, tzinfo=UTC)
TARGET = {"Arn": "arn:aws:scheduler:::aws-sdk:ssoadmin:deleteAccountAssignment", "RoleArn": "arn:aws:iam::1:role/x"}


@pytest.mark.parametrize(
    "different",
    [
        {"StartDate": OTHER},
        {"StartDate": None},
        {"EndDate": OTHER},
        {"EndDate": None},
        {"State": "DISABLED"},
        {"ScheduleExpression": "rate(1 days)"},
        {"ScheduleExpressionTimezone": "Asia/Tokyo"},
        {"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 60}},
        {"ActionAfterCompletion": "NONE"},
        {"Target": {**TARGET, "Input": "{}"}},
        {"Target": {**TARGET, "Input": "no json"}},
        {"Target": {**TARGET, "Arn": "arn:aws:scheduler:::aws-sdk:ssoadmin:createAccountAssignment"}},
    ],
    ids=lambda different: "-".join(f"{name}" for name in different),
)
def test_a_schedule_that_reads_back_differently_is_unproven(stubs: Stubs, different: dict[str, Any]) -> None:
    stubs.answer("scheduler", "update_schedule", {"ScheduleArn": "arn:aws:scheduler:us-east-1:1:schedule/jit/x"})
    stubs.answer("scheduler", "get_schedule", shown(stubs, **different))
    with pytest.raises(Unproven):
        schedules.write(stubs.api, stubs.api, ENDING, AT)


WEAK = {
    "gone": None,
    "disabled": {"State": "DISABLED"},
    "later": {"StartDate": OTHER},
    "over too soon": {"EndDate": AT},
    "rarer": {"ScheduleExpression": "rate(1 days)"},
    "another call": {"Target": {**TARGET, "Input": "{}"}},
}
AS_GOOD = {
    "as it was written": {},
    "earlier": {"StartDate": AT - timedelta(hours=1)},
    "at once": {"StartDate": None},
    "tried for longer": {"EndDate": None},
    "described otherwise": {"Description": "Written by an older Gatehouse."},
}


@pytest.mark.parametrize(("changed", "is_weak"), [*((one, True) for one in WEAK), *((one, False) for one in AS_GOOD)])
def test_only_what_would_not_end_it_in_time_is_a_weakness(stubs: Stubs, changed: str, is_weak: bool) -> None:
    different = {**WEAK, **AS_GOOD}[changed]
    found = None if different is None else shown(stubs, **different)
    assert bool(schedules.weaknesses(stubs.api, ENDING, AT, found)) == is_weak


def test_a_queue_that_was_set_up_since_is_no_weakness(stubs: Stubs) -> None:
    found = shown(stubs)
    queue = {"DeadLetterConfig": {"Arn": f"arn:aws:sqs:us-east-1:{HUB}:jit-dead"}}
    assert not schedules.weaknesses(stubs.api, ENDING, AT, {**found, "Target": {**found["Target"], **queue}})
    other = {**found["Target"], **queue, "RoleArn": TARGET["RoleArn"]}
    assert schedules.weaknesses(stubs.api, ENDING, AT, {**found, "Target": other})


def test_a_schedule_that_vanished_is_unproven(stubs: Stubs) -> None:
    stubs.answer("scheduler", "update_schedule", {"ScheduleArn": "arn:aws:scheduler:us-east-1:1:schedule/jit/x"})
    stubs.refuse("scheduler", "get_schedule", "ResourceNotFoundException", 404)
    with pytest.raises(Unproven, match="not there"):
        schedules.write(stubs.api, stubs.api, ENDING, AT)


def test_a_schedule_that_stays_after_its_removal_is_unproven(stubs: Stubs) -> None:
    stubs.answer("scheduler", "delete_schedule", {})
    stubs.answer("scheduler", "get_schedule", shown(stubs))
    with pytest.raises(Unproven, match="still there"):
        schedules.remove(stubs.api, stubs.api, ENDING)


def test_names_are_stable_short_and_differ_by_object() -> None:
    names = {schedules.name_of("assignment", *words) for words in (("a", "b"), ("a", "c"), ("ab", ""), ("x" * 500,))}
    assert len(names) == 4
    assert all(len(name) <= 64 for name in names)
    assert schedules.name_of("assignment", "a", "b") == schedules.name_of("assignment", "a", "b")


# ---- the double


def test_the_double_fires_from_the_start_on_and_tidies_up(api: Api, aws: Aws, org: Org) -> None:
    org.assign("Admin", org.people["alice"])
    names = {
        "InstanceArn": org.instance_arn,
        "TargetId": org.account_id,
        "TargetType": "AWS_ACCOUNT",
        "PermissionSetArn": org.permission_sets["Admin"],
        "PrincipalType": "USER",
        "PrincipalId": org.people["alice"],
    }
    schedules.write(api, api, replace(ENDING, input=names), AT)
    scheduler = Scheduler(aws, [HUB])
    assert scheduler.run(AT - timedelta(seconds=1)) == 0
    assert org.assignments("Admin") == [org.people["alice"]]
    assert scheduler.run(AT) == 1
    assert org.assignments("Admin") == []
    scheduler.run(AT + timedelta(hours=24))
    assert scheduler.stored() == []

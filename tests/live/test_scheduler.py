"""AWS's scheduler: that it takes each call that we have it make, and makes it. Needs the sandbox account, and for
assignments the test person."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from apps.connectors.aws import schedules
from apps.connectors.base import whole_second
from tests.deploy.templates import read
from tests.live.sandbox import PATH, Sandbox, allow, code, document, measure, now, until

pytestmark = pytest.mark.live

SOON = timedelta(seconds=60)
PUNCTUAL = 180.0  # seconds after its start in which a schedule must have run


def schedule(
    sandbox: Sandbox, arn: str, words: dict[str, Any], *actions: str, in_hub: bool = False, at_once: bool = False
) -> None:
    """A schedule like the ones that `schedules.py` writes, with a group and a role of its own."""
    scheduler = sandbox.hub("scheduler") if in_hub else sandbox.there("scheduler")
    account_id = sandbox.hub_id if in_hub else sandbox.account_id
    scheduler.create_schedule_group(Name=sandbox.name)
    sandbox.later(scheduler.delete_schedule_group, Name=sandbox.name)
    group = f"arn:aws:scheduler:{sandbox.region}:{account_id}:schedule-group/{sandbox.name}"
    trust = document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "scheduler.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account_id}, "ArnLike": {"aws:SourceArn": group}},
        }
    )
    role = sandbox.role(trust, {"end": document(allow(*actions))}, suffix="s", in_hub=in_hub)
    starts_at = whole_second(now() + SOON)
    start = {} if at_once else {"StartDate": starts_at}

    def create() -> bool:
        try:
            scheduler.create_schedule(
                Name=sandbox.name,
                GroupName=sandbox.name,
                ScheduleExpression=schedules.EVERY,
                ScheduleExpressionTimezone="UTC",
                State="ENABLED",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                **start,
                EndDate=starts_at + schedules.TRIES_FOR,
                Target={"Arn": arn, "RoleArn": role, "Input": json.dumps(words), "RetryPolicy": schedules.RETRIES},
            )
        except ClientError as error:  # a role that was just made is not known everywhere
            if code(error) == "ValidationException" and "role" in str(error).lower():
                return False
            raise
        return True

    until(create, within=60, what="AWS's scheduler takes the schedule", every=3)
    sandbox.later(scheduler.delete_schedule, Name=sandbox.name, GroupName=sandbox.name)
    written = scheduler.get_schedule(Name=sandbox.name, GroupName=sandbox.name)
    assert json.loads(written["Target"]["Input"]) == words


def ends(sandbox: Sandbox, name: str, is_over: Callable[[], bool]) -> None:
    assert not is_over(), "it ended before its time"
    sandbox.require_enforcement()
    measure(f"{name}: from one minute before its time until it ended", is_over, within=SOON.total_seconds() + PUNCTUAL)


def universal(call: str) -> str:
    return f"arn:aws:scheduler:::aws-sdk:{call}"


def test_the_scheduler_deletes_an_assignment(sandbox: Sandbox) -> None:
    words = sandbox.assignment(sandbox.permission_set(document(allow("iam:GetAccountSummary"))))
    schedule(sandbox, universal("ssoadmin:deleteAccountAssignment"), words, "sso:DeleteAccountAssignment", in_hub=True)
    ends(sandbox, "schedule ssoadmin:deleteAccountAssignment", lambda: not sandbox.is_assigned(words))


def member(sandbox: Sandbox) -> dict[str, str]:
    """An IAM user of the sandbox in a group, as the call that ends it names them."""
    iam, words = sandbox.there("iam"), {"UserName": sandbox.name, "GroupName": sandbox.name}
    iam.create_user(UserName=sandbox.name, Path=PATH)
    sandbox.later(iam.delete_user, UserName=sandbox.name)
    iam.create_group(GroupName=sandbox.name, Path=PATH)
    sandbox.later(iam.delete_group, GroupName=sandbox.name)
    iam.add_user_to_group(**words)
    sandbox.later(iam.remove_user_from_group, **words)
    return words


def groups(sandbox: Sandbox) -> list[Any]:
    found: list[Any] = sandbox.there("iam").list_groups_for_user(UserName=sandbox.name)["Groups"]
    return found


def test_the_scheduler_takes_an_iam_user_out_of_a_group(sandbox: Sandbox) -> None:
    schedule(sandbox, universal("iam:removeUserFromGroup"), member(sandbox), "iam:RemoveUserFromGroup")
    ends(sandbox, "schedule iam:removeUserFromGroup", lambda: not groups(sandbox))


def test_a_schedule_without_a_start_calls_at_once(sandbox: Sandbox) -> None:
    """How `schedules.py` brings an end forward: a rate whose first call does not wait for its first quarter of an hour."""
    words = member(sandbox)
    schedule(sandbox, universal("iam:removeUserFromGroup"), words, "iam:RemoveUserFromGroup", at_once=True)
    sandbox.require_enforcement()
    measure("schedule without a start until it ended", lambda: not groups(sandbox), within=PUNCTUAL)


def test_the_scheduler_closes_a_port(sandbox: Sandbox) -> None:
    ec2 = sandbox.there("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.255.255.0/28")["Vpc"]["VpcId"]
    sandbox.later(ec2.delete_vpc, VpcId=vpc)
    group = ec2.create_security_group(GroupName=sandbox.name, Description="Gatehouse live", VpcId=vpc)["GroupId"]
    sandbox.later(ec2.delete_security_group, GroupId=group)
    rule = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.1.0.0/24"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    words: dict[str, Any] = {"GroupId": group, "IpPermissions": [rule]}
    schedule(sandbox, universal("ec2:revokeSecurityGroupIngress"), words, "ec2:RevokeSecurityGroupIngress")
    filters = [{"Name": "group-id", "Values": [group]}]

    def is_closed() -> bool:
        rules = ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        return all(one["IsEgress"] for one in rules)

    ends(sandbox, "schedule ec2:revokeSecurityGroupIngress", is_closed)


def test_the_scheduler_ends_a_membership_through_our_function(sandbox: Sandbox) -> None:
    """The function as `hub.yaml` deploys it; needs a hub where it is deployed."""
    user_id = sandbox.require_person()
    _, store_id = sandbox.instance()
    store, names = sandbox.hub("identitystore"), {"IdentityStoreId": store_id}
    group = store.create_group(**names, DisplayName=sandbox.name)["GroupId"]
    sandbox.later(store.delete_group, **names, GroupId=group)
    store.create_group_membership(**names, GroupId=group, MemberId={"UserId": user_id})
    name = read("hub.yaml")["Resources"]["PortalEnderFunction"]["Properties"]["FunctionName"]
    sandbox.require_enforcement()
    functions = sandbox.hub("lambda")
    try:
        arn = functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    except ClientError as error:
        pytest.skip(f"{name} is not deployed in the hub, or its role may not touch this group: {code(error)}")
    words = {"end": "idc_membership", **names, "GroupId": group, "UserId": user_id}
    schedule(sandbox, arn, words, "lambda:InvokeFunction", in_hub=True)
    ends(
        sandbox,
        "schedule of portal-ender (its role must list this group)",
        lambda: not store.list_group_memberships(**names, GroupId=group)["GroupMemberships"],
    )

"""Runs AWS's scheduler: the test's AWS stores schedules and never fires them.

`Scheduler.run(until)` carries out what every schedule that is stored there would have done by that instant, as AWS would,
through an independent client: nothing of Gatehouse takes part, which is what a test of a dead portal needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from tests.plugins.aws import Aws

SDK_NAMES = {"ssoadmin": "sso-admin"}  # where the SDK for Java and botocore spell a service differently
QUARTER = timedelta(minutes=15)

Function = Callable[[Mapping[str, Any]], None]


@dataclass
class Scheduler:
    """AWS's scheduler for the accounts of one test. `functions` stand in for Lambda functions, by name."""

    aws: Aws
    account_ids: Iterable[str]
    functions: dict[str, Function] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # what AWS would have put into the dead-letter queue
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, account_id: str, service: str) -> Any:
        if (account_id, service) not in self._clients:
            self._clients[account_id, service] = self._made(account_id, service)
        return self._clients[account_id, service]

    def _made(self, account_id: str, service: str) -> Any:
        keys = self.aws.client("sts").assume_role(  # type: ignore[attr-defined]
            RoleArn=f"arn:aws:iam::{account_id}:role/AwsScheduler", RoleSessionName="scheduler"
        )["Credentials"]
        return self.aws.client(
            service,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    def stored(self) -> list[tuple[str, dict[str, Any]]]:
        """Every schedule there is, with the account it is in."""
        found = []
        for account_id in self.account_ids:
            scheduler = self.client(account_id, "scheduler")
            for short in scheduler.list_schedules()["Schedules"]:
                words = {"GroupName": short["GroupName"], "Name": short["Name"]}
                found.append((account_id, scheduler.get_schedule(**words)))
        return found

    def run(self, until: datetime) -> int:
        """Carry out what fires by `until`, that instant included; delete what has completed. How many calls it made."""
        calls = 0
        for account_id, schedule in self.stored():
            end = schedule["EndDate"]
            for at in moments(schedule, until):
                self._call(account_id, schedule["Target"], at)
                calls += 1
            if end <= until and schedule["ActionAfterCompletion"] == "DELETE":
                words = {"GroupName": schedule["GroupName"], "Name": schedule["Name"]}
                self.client(account_id, "scheduler").delete_schedule(**words)
        return calls

    def _call(self, account_id: str, target: Mapping[str, Any], at: datetime) -> None:
        given = json.loads(target["Input"])
        try:
            if ":lambda:" in target["Arn"]:
                self.functions[target["Arn"].rpartition(":")[2]](given)
                return
            service, action = target["Arn"].partition(":aws-sdk:")[2].split(":")
            getattr(self.client(account_id, SDK_NAMES.get(service, service)), xform_name(action))(**given)
        except ClientError as error:
            self.failures.append(f"{at.astimezone(UTC):%H:%M} {target['Arn']}: {error}")


def moments(schedule: Mapping[str, Any], until: datetime) -> list[datetime]:
    """When a schedule of ours fires, up to `until`. Knows `rate(15 minutes)` only, and says so about anything else."""
    assert schedule["ScheduleExpression"] == "rate(15 minutes)", "the double knows no other rate"
    if schedule["State"] != "ENABLED":
        return []
    at: datetime = schedule.get("StartDate") or schedule["LastModificationDate"]
    found = []
    while at <= min(until, schedule["EndDate"]):
        found.append(at)
        at += QUARTER
    return found


def membership_ender(org_client: Callable[[str], Any]) -> Function:
    """What the hub's function does: looks a membership up by its group and person, and deletes it."""

    def end(event: Mapping[str, Any]) -> None:
        assert event["end"] == "idc_membership"
        store = org_client("identitystore")
        names = {"IdentityStoreId": event["IdentityStoreId"]}
        found = store.list_group_memberships(**names, GroupId=event["GroupId"])["GroupMemberships"]
        for membership in found:
            if membership["MemberId"]["UserId"] == event["UserId"]:
                store.delete_group_membership(**names, MembershipId=membership["MembershipId"])

    return end

"""Lets AWS itself end something: schedules of EventBridge Scheduler that call what takes access away (aws.md §1.2).

A schedule stands for one object in AWS (an assignment, a membership, a rule of a security group) and is named by it, never
by a grant: opening the same thing again *moves* its schedule, so that an older one cannot end it. From its start on it
calls every quarter of an hour for a day, which survives conflicts and throttling, and then deletes itself. Scheduler
promises the minute, not the second. It calls as a role that can only take away (`schedule_role`).

Facts about the service: its API reference (a StartDate more than five minutes ago is refused; without one a rate begins at
once; an update replaces every field) and its user guide ("universal targets", whose service names are those of the SDK for
Java). That it takes each of our calls was not yet tried in a live account.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from apps.connectors.aws.guard import stamp
from apps.connectors.aws.session import Api
from apps.connectors.base import Examination, Proof, Window, whole_second
from apps.connectors.errors import Gone, Refused, Unproven

EVERY = "rate(15 minutes)"
TRIES_FOR = timedelta(hours=24)

# A call that failed is asked again by the next quarter of an hour. Its own retries must be over by then: AWS would
# otherwise repeat a call from before the schedule was moved, up to a day later.
RETRIES = {"MaximumEventAgeInSeconds": 600, "MaximumRetryAttempts": 10}

_TIMES = ("StartDate", "EndDate")


@dataclass(frozen=True, slots=True)
class Ending:
    """What AWS shall call to end one thing. `call` is an operation in the words of the SDK for Java
    ("ssoadmin:deleteAccountAssignment"), or a Lambda function's ARN; `input` is what it is called with.
    """

    account_id: str
    name: str
    call: str
    input: Mapping[str, Any] = field(default_factory=dict)


def name_of(kind: str, *words: str) -> str:
    """The schedule's name for one object in AWS, the same every time. `kind` is for people who look at the list."""
    return f"jit-{kind}-{sha256('|'.join(words).encode()).hexdigest()[:32]}"


def require_deployed(reader: Api, account_id: str) -> None:
    """Raise `Refused`, with what to deploy, where an account has no group for our schedules or no role for them."""
    group, role = reader.session.config["schedule_group"], reader.session.config["schedule_role"]
    try:
        reader.call(account_id, "scheduler", "get_schedule_group", Name=group)
    except Gone as error:
        raise Refused(
            f"Account {account_id} has no schedule group {group}. Deploy deploy/aws there first: without it AWS would "
            "not end this by itself."
        ) from error
    try:
        found = reader.call(account_id, "iam", "get_role", RoleName=role.rpartition("/")[2])["Role"]["Arn"]
    except Gone:
        found = ""
    if found != _role_arn(reader, account_id):
        raise Refused(f"Account {account_id} has no role {role} for AWS's scheduler. Deploy deploy/aws there first.")


def write(reader: Api, writer: Api, ending: Ending, at: datetime) -> Proof:
    """Have AWS end it from `at` on, instead of whatever was scheduled for it before; and read that back.

    An end that has passed begins at once. Always writes, as the guard does: what a stale read shows proves nothing.
    Raises `Refused` where the group is missing, and `Unproven` when AWS shows something else than was written.
    """
    wanted = _wanted(reader, ending, at)
    words = _words(reader, ending)
    try:
        writer.call(ending.account_id, "scheduler", "update_schedule", **words, **wanted)
    except Gone:
        require_deployed(reader, ending.account_id)
        writer.call(ending.account_id, "scheduler", "create_schedule", **words, **wanted)
    found = read(reader, ending)
    if found is None:
        raise Unproven(f"Schedule {ending.name} in account {ending.account_id} is not there after it was written.")
    different = sorted(name for name in {*wanted, *_TIMES} if _comparable(found, name) != _comparable(wanted, name))
    if different:
        raise Unproven(
            f"Schedule {ending.name} in account {ending.account_id} reads back differently from what was written "
            f"({', '.join(different)})."
        )
    begins = wanted.get("StartDate")
    return Proof(
        f"AWS's scheduler calls {ending.call} from {f'{begins:%H:%M:%S} UTC' if begins else 'now'} on.",
        datetime.now(UTC),
        {
            "schedule": f"{words['GroupName']}/{ending.name}",
            "account": ending.account_id,
            "calls": wanted["Target"]["Arn"],
            "with": dict(ending.input),
            "starts_at": stamp(begins) if begins else "at once",
            "tries_until": stamp(wanted["EndDate"]),
        },
    )


def read(reader: Api, ending: Ending) -> dict[str, Any] | None:
    """The schedule as AWS shows it now; None when there is none."""
    try:
        return reader.call(ending.account_id, "scheduler", "get_schedule", **_words(reader, ending))
    except Gone:
        return None


def examine(reader: Api, ending: Ending, window: Window | None) -> Examination:
    """The schedule of one window, as AWS shows it now. What is not open needs none."""
    found = read(reader, ending)
    start = (found or {}).get("StartDate")
    facts = {
        "account": ending.account_id,
        "is_there": found is not None,
        "state": (found or {}).get("State", ""),
        "starts_at": stamp(start) if start else "",
    }
    proof = Proof(f"Schedule {ending.name} was read.", datetime.now(UTC), facts)
    if window is None or not window.is_open:
        return Examination(proof)
    wrong = weaknesses(reader, ending, window.not_after, found)
    return Examination(proof, weaker=(window,) if wrong else (), differences=wrong)


def weaknesses(reader: Api, ending: Ending, at: datetime, found: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Why a schedule, as AWS shows it, would not end it from `at` on, in sentences; none when it would."""
    name = f"Schedule {ending.name} in account {ending.account_id}"
    if found is None:
        return (f"{name} is not there.",)
    wanted, latest = _wanted(reader, ending, at), max(whole_second(at), whole_second(datetime.now(UTC)))
    different = sorted(
        one for one in wanted if one not in _TIMES and _about_the_end(found, one) != _about_the_end(wanted, one)
    )
    begins, stops = (_comparable(found, one) for one in _TIMES)
    said = {
        f"{name} differs from what was written ({', '.join(different)}).": bool(different),
        f"{name} begins too late.": begins is not None and begins > latest,
        f"{name} stops before it could have ended anything.": stops is not None and stops <= latest,
    }
    return tuple(sentence for sentence, is_so in said.items() if is_so)


def remove(reader: Api, writer: Api, ending: Ending) -> Proof:
    """Take the schedule away, and read back that it is gone: nothing it would end is there any more. Gone already is
    fine: a schedule deletes itself after its last call."""
    try:
        writer.call(ending.account_id, "scheduler", "delete_schedule", **_words(reader, ending))
    except Gone:
        pass
    else:
        if read(reader, ending) is not None:
            raise Unproven(f"Schedule {ending.name} in account {ending.account_id} is still there after its removal.")
    what = f"AWS's scheduler has nothing left to end under the name {ending.name}."
    return Proof(what, datetime.now(UTC), {"schedule": f"{_words(reader, ending)['GroupName']}/{ending.name}"})


def _words(api: Api, ending: Ending) -> dict[str, str]:
    return {"GroupName": api.session.config["schedule_group"], "Name": ending.name}


def _wanted(api: Api, ending: Ending, at: datetime) -> dict[str, Any]:
    now, starts_at = whole_second(datetime.now(UTC)), whole_second(at)
    wanted: dict[str, Any] = {
        "Description": "Ends access that Gatehouse opened. Written by Gatehouse; it deletes itself.",
        "ScheduleExpression": EVERY,
        "ScheduleExpressionTimezone": "UTC",
        "State": "ENABLED",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "EndDate": max(starts_at, now) + TRIES_FOR,
        "Target": _target(api, ending),
    }
    return {**wanted, "StartDate": starts_at} if starts_at > now else wanted


def _target(api: Api, ending: Ending) -> dict[str, Any]:
    partition, account_id = api.session.hub().partition, ending.account_id
    is_function = ending.call.startswith("arn:")
    target: dict[str, Any] = {
        "Arn": ending.call if is_function else f"arn:{partition}:scheduler:::aws-sdk:{ending.call}",
        "RoleArn": _role_arn(api, account_id),
        "Input": json.dumps(dict(ending.input), sort_keys=True),
        "RetryPolicy": dict(RETRIES),
    }
    queue = api.session.config.get("schedule_dlq")
    if queue:
        region = api.session.config["region"]
        target["DeadLetterConfig"] = {"Arn": f"arn:{partition}:sqs:{region}:{account_id}:{queue}"}
    return target


def _role_arn(api: Api, account_id: str) -> str:
    return f"arn:{api.session.hub().partition}:iam::{account_id}:role/{api.session.config['schedule_role']}"


def _comparable(shown: Mapping[str, Any], name: str) -> Any:
    """One field in a shape that two spellings of the same schedule share."""
    value = shown.get(name)
    if name in _TIMES:
        return whole_second(value) if value else None
    if name == "Target" and isinstance(value, Mapping):
        return {**value, "Input": _parsed(value.get("Input"))}
    return value


def _about_the_end(shown: Mapping[str, Any], name: str) -> Any:
    """The same without what ends nothing: how it is described, and where calls that failed for good are kept. Whoever sets
    up such a queue weakened no end; it is named from the next write on."""
    value = None if name == "Description" else _comparable(shown, name)
    return {**value, "DeadLetterConfig": None} if name == "Target" and isinstance(value, Mapping) else value


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text

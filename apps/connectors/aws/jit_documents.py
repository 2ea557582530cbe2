"""What stands on the role of one grant: its trusts and its inline policies, and how a scan knows them again (aws.md §1.3).

Every way to use the role is dated twice: the trust and the permissions lapse, and `jit-guard` denies everything from the
same second on. Recognising goes by content, never by name: anybody could call an administrator `jit-guard`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.connectors.aws.guard import stamp
from apps.connectors.aws.policy.documents import MalformedPolicy, Statement, canonical, parse

PATH = "/jit/"
GUARD, ACCESS, REVOKED = "jit-guard", "jit-access", "jit-revoked"
MANAGED_BY = "jit:managed-by"

_OUR_ROLE = re.compile(r"jit-[a-z0-9]{1,40}")
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


def role_name(reference: str) -> str:
    """What the role of the grant with this reference is called."""
    return f"jit-{reference}"


def closed_trust() -> dict[str, Any]:
    """Nobody may assume the role."""
    return _document(
        {"Sid": "Closed", "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"},
    )


def open_trust(partition: str, account_id: str, user_id: str, entry: str, not_after: datetime) -> dict[str, Any]:
    """One person may assume it until then, from a session of the permission set `entry` in the same account.

    The role behind a permission set has a suffix that changes, and no Region in its path where Identity Center lives in
    us-east-1, so it is matched by pattern; who the person is says `identitystore:UserId`. A request without that key
    matches nothing, so what is wrong here keeps people out.
    """
    reserved = f"arn:{partition}:iam::{account_id}:role/aws-reserved/sso.amazonaws.com"
    return _document(
        {
            "Sid": "OnePerson",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition}:iam::{account_id}:root"},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
            "Condition": {
                "ArnLike": {
                    "aws:PrincipalArn": [
                        f"{reserved}/AWSReservedSSO_{entry}_*",
                        f"{reserved}/*/AWSReservedSSO_{entry}_*",
                    ]
                },
                "StringEquals": {"identitystore:UserId": user_id},
                "DateLessThan": {"aws:CurrentTime": stamp(not_after)},
            },
        },
    )


def guard(not_after: datetime) -> dict[str, Any]:
    """Denies everything from `not_after` on."""
    return _document(_deny("JitNotAfter", {"DateGreaterThanEquals": {"aws:CurrentTime": stamp(not_after)}}))


def revoked() -> dict[str, Any]:
    """Denies everything."""
    return _document(_deny("JitRevoked", None))


def access(gives: Sequence[tuple[Sequence[str], Sequence[str]]], not_after: datetime) -> dict[str, Any]:
    """What the role may do until then: pairs of actions and resources."""
    return _document(
        *(
            {
                "Sid": f"Access{index}",
                "Effect": "Allow",
                "Action": list(actions),
                "Resource": list(resources),
                "Condition": {"DateLessThan": {"aws:CurrentTime": stamp(not_after)}},
            }
            for index, (actions, resources) in enumerate(gives)
        )
    )


def end_of(document: Any) -> datetime | None:
    """From when on `document` denies everything, if it is a guard of ours to the letter; None for anything else."""
    try:
        (statement,) = parse(document).statements
        (condition,) = statement.conditions
        (value,) = condition.values
        end = datetime.fromisoformat(value) if _STAMP.fullmatch(value) else None
        return end if end and canonical(document) == canonical(guard(end)) else None
    except (MalformedPolicy, ValueError):
        return None


def same(document: Any, wanted: Any) -> bool:
    """Whether AWS would treat both documents alike. What is missing or cannot be read is like nothing."""
    try:
        return document is not None and canonical(document) == canonical(wanted)
    except MalformedPolicy:
        return False


def is_closed(trust: Any) -> bool:
    """Whether a trust lets nobody in at all. One that cannot be read may let somebody in."""
    try:
        return all(statement.effect == "Deny" for statement in parse(trust).statements)
    except MalformedPolicy:
        return False


def is_role_of_ours(role: Mapping[str, Any]) -> bool:
    """Whether a role, as GetAccountAuthorizationDetails words it, has the shape of one that a grant made: under our path,
    bounded, tagged, nothing attached, what it may do dated, and closed or denied from a date on."""
    inline = {policy["PolicyName"]: policy["PolicyDocument"] for policy in role.get("RolePolicyList") or ()}
    tags = {tag["Key"]: tag.get("Value") for tag in role.get("Tags") or ()}
    ends = end_of(inline.get(GUARD)) is not None or same(inline.get(REVOKED), revoked())
    return (
        role.get("Path") == PATH
        and bool(_OUR_ROLE.fullmatch(role["RoleName"]))
        and role["RoleName"] == role_name(str(tags.get("jit:grant")))
        and bool(role.get("PermissionsBoundary"))
        and not role.get("AttachedManagedPolicies")
        and not role.get("InstanceProfileList")
        and inline.keys() <= {GUARD, ACCESS, REVOKED}
        and all(is_inline_of_ours(name, document) for name, document in inline.items())
        and (ends or (is_closed(role.get("AssumeRolePolicyDocument")) and ACCESS not in inline))
        and (is_closed(role.get("AssumeRolePolicyDocument")) or _is_open_for_one(role.get("AssumeRolePolicyDocument")))
    )


def is_inline_of_ours(name: str, document: Any) -> bool:
    """Whether an inline policy of such a role is what Gatehouse writes under that name."""
    if name == GUARD:
        return end_of(document) is not None
    if name == REVOKED:
        return same(document, revoked())
    return name == ACCESS and bool(statements := _statements(document)) and all(map(_lapses, statements))


def _is_open_for_one(trust: Any) -> bool:
    """Whether everything that a trust allows lapses and is for one person of Identity Center."""
    allowed = [one for one in _statements(trust) if one.effect == "Allow"]
    return bool(allowed) and all(
        _lapses(one)
        and any(
            (condition.operator, condition.key) == ("StringEquals", "identitystore:userid")
            and len(condition.values) == 1
            for condition in one.conditions
        )
        for one in allowed
    )


def _lapses(statement: Statement) -> bool:
    return any(
        (condition.operator, condition.key) == ("DateLessThan", "aws:currenttime") for condition in statement.conditions
    )


def _statements(document: Any) -> tuple[Statement, ...]:
    try:
        return parse(document).statements
    except MalformedPolicy:
        return ()


def _deny(sid: str, condition: Mapping[str, Any] | None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*"}
    return {**statement, "Condition": condition} if condition else statement


def _document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}

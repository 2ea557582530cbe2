"""Dates, denials and deleted roles: when they bite, in sessions that are open. Needs the sandbox account alone."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from apps.connectors.aws import jit_documents, minting, sts_broker
from apps.connectors.aws.guard import size, stamp
from apps.connectors.base import whole_second
from tests.live.sandbox import (
    DEAD,
    DENIED,
    PATH,
    Sandbox,
    allow,
    code,
    deny,
    document,
    is_allowed,
    measure,
    now,
    trust_of,
    until,
)

pytestmark = pytest.mark.live

READ = document(allow("iam:GetAccountSummary"))
SETTLED = 60.0  # seconds in which a new role and its policies are known everywhere
EARLY = timedelta(seconds=75)  # how far ahead a date is set, so that a session can be seen working before it
LATE = 5.0  # seconds after a date in which AWS must have noticed


def opened(sandbox: Sandbox, role: str, **more: Any) -> Any:
    """A session of the role that is allowed something. A role that was just made takes a while to be known."""

    def ask() -> Any:
        try:
            client = sandbox.as_keys("iam", sandbox.assume(role, sandbox.assume(sandbox.admin_role), **more))
            return client if is_allowed(client) else None
        except ClientError as error:
            if code(error) in DENIED:
                return None
            raise

    return until(ask, within=SETTLED, what=f"{role} can be used")


def lateness(client: Any, end: Any, name: str) -> None:
    """Allowed until `end`, denied right after it."""
    while now() < end - timedelta(seconds=2):
        assert is_allowed(client), f"denied before its end: {name}"
        pause(2)
    until(lambda: now() >= end, within=10, what="the end comes", every=0.05)
    assert measure(f"{name}: from its end to the first refusal", lambda: not is_allowed(client), within=LATE) <= LATE


def pause(seconds: float) -> None:
    end = now() + timedelta(seconds=seconds)
    until(lambda: now() >= end, within=seconds + 5, what="a pause", every=0.2)


def test_a_date_in_an_inline_deny_ends_a_session(sandbox: Sandbox) -> None:
    """`iam_jit_role`: its guard, to the second, in a session that is open."""
    end = whole_second(now() + EARLY)
    role = sandbox.own_role({jit_documents.GUARD: jit_documents.guard(end), "read": READ})
    sandbox.require_enforcement()
    lateness(opened(sandbox, role), end, "dated Deny inline")


def test_a_date_in_an_inline_allow_ends_a_session(sandbox: Sandbox) -> None:
    """`iam_timeboxed_policy`, where its Deny is left out."""
    end = whole_second(now() + EARLY)
    dated = {**allow("iam:GetAccountSummary"), "Condition": {"DateLessThan": {"aws:CurrentTime": stamp(end)}}}
    role = sandbox.own_role({"read": document(dated)})
    sandbox.require_enforcement()
    lateness(opened(sandbox, role), end, "dated Allow inline")


def test_a_date_in_a_session_policy_ends_a_session(sandbox: Sandbox) -> None:
    """`sts_broker`: to the second, although no session is shorter than 900."""
    end = whole_second(now() + EARLY)
    role = sandbox.own_role({"read": READ})
    sandbox.require_enforcement()
    policy = json.dumps(minting.session_policy(end))
    lateness(opened(sandbox, role, Policy=policy, DurationSeconds=900), end, "dated session policy")


def test_a_tier_roles_guard_denies_the_sessions_of_a_grant_that_ended(sandbox: Sandbox) -> None:
    """`sts_broker`: the session tag is seen by the guard, and a change of the guard reaches open sessions."""
    iam, tag = sandbox.there("iam"), {"Key": sts_broker.TAG, "Value": "abcdefghijklmnop"}
    let_in = deny(StringNotEquals={sts_broker.TAG_KEY: [tag["Value"]]})
    trust = trust_of(sandbox.admin_role, actions=("sts:AssumeRole", "sts:TagSession"))
    role = sandbox.role(trust, {sts_broker.GUARD: document(let_in), "read": READ})
    sandbox.require_enforcement()
    client = opened(sandbox, role, Tags=[tag], TransitiveTagKeys=[tag["Key"]])
    iam.put_role_policy(
        RoleName=sandbox.name, PolicyName=sts_broker.GUARD, PolicyDocument=json.dumps(sts_broker.render([]))
    )
    measure("tier guard rewritten until the session is refused", lambda: not is_allowed(client), within=300)


def test_a_deny_reaches_open_sessions(sandbox: Sandbox) -> None:
    """How long an early end takes: `jit-revoked` put on a role until its session is refused."""
    role, iam = sandbox.own_role({"read": READ}), sandbox.there("iam")
    sandbox.later(iam.delete_role_policy, RoleName=sandbox.name, PolicyName=jit_documents.REVOKED)
    client = opened(sandbox, role) if sandbox.enforces else None
    iam.put_role_policy(
        RoleName=sandbox.name, PolicyName=jit_documents.REVOKED, PolicyDocument=json.dumps(jit_documents.revoked())
    )
    sandbox.require_enforcement()
    measure("Deny put on a role until its session is refused", lambda: not is_allowed(client), within=300)


def test_the_deny_all_reaches_open_sessions_when_it_is_attached(sandbox: Sandbox) -> None:
    """The separate ender's way: a pre-deployed policy, attached."""
    role, iam = sandbox.own_role({"read": READ}), sandbox.there("iam")
    arn = sandbox.policy(document(deny()))
    sandbox.later(iam.detach_role_policy, RoleName=sandbox.name, PolicyArn=arn)
    client = opened(sandbox, role) if sandbox.enforces else None
    iam.attach_role_policy(RoleName=sandbox.name, PolicyArn=arn)
    sandbox.require_enforcement()
    measure("deny-all attached until the session is refused", lambda: not is_allowed(client), within=300)


def test_sessions_of_a_deleted_role_stop_working(sandbox: Sandbox) -> None:
    """What ends when a role of a grant, or the role of a permission set, goes."""
    role, iam = sandbox.own_role({"read": READ}), sandbox.there("iam")
    client = opened(sandbox, role) if sandbox.enforces else None
    iam.delete_role_policy(RoleName=sandbox.name, PolicyName="read")
    iam.delete_role(RoleName=sandbox.name)
    sandbox.require_enforcement()
    measure("role deleted until its session is refused", lambda: not is_allowed(client, DEAD), within=600)


def test_a_closed_trust_lets_nobody_in(sandbox: Sandbox) -> None:
    """AWS takes the trust that a role of a grant begins with, and it keeps even an administrator out."""
    role = sandbox.role(jit_documents.closed_trust(), {"read": READ})
    sandbox.require_enforcement()
    pause(15)
    with pytest.raises(ClientError, match="AccessDenied"):
        sandbox.assume(role, sandbox.assume(sandbox.admin_role))


def test_white_space_does_not_count_towards_the_size_of_a_policy(sandbox: Sandbox) -> None:
    """How `size` counts: 2,048 characters for all inline policies of a user."""
    iam = sandbox.there("iam")
    iam.create_user(UserName=sandbox.name, Path=PATH)
    sandbox.later(iam.delete_user, UserName=sandbox.name)
    text = json.dumps(READ, indent=200)
    assert len(text) > 2048 > size(READ)
    sandbox.later(iam.delete_user_policy, UserName=sandbox.name, PolicyName="wide")
    iam.put_user_policy(UserName=sandbox.name, PolicyName="wide", PolicyDocument=text)
    sandbox.require_enforcement()  # moto knows no limit


def test_the_account_counts_what_it_lists(sandbox: Sandbox) -> None:
    """The control total of a scan. Reads only; somebody who changes IAM meanwhile makes it differ."""
    iam = sandbox.there("iam")
    listed = {"Users": 0, "Roles": 0, "Groups": 0, "Policies": 0}
    words = {"Users": "UserDetailList", "Roles": "RoleDetailList", "Groups": "GroupDetailList", "Policies": "Policies"}
    pages = iam.get_paginator("get_account_authorization_details").paginate(
        Filter=["User", "Role", "Group", "LocalManagedPolicy"]
    )
    for page in pages:
        for name, word in words.items():
            listed[name] += len(page[word])
    counted = iam.get_account_summary()["SummaryMap"]
    sandbox.require_enforcement()
    assert listed == {name: counted[name] for name in listed}


def test_a_source_identity_stays_along_a_chain(sandbox: Sandbox) -> None:
    """Why the broker's role is assumed without one: it can be kept, and not be changed."""
    both = ("sts:AssumeRole", "sts:SetSourceIdentity")
    may_go_on = document(allow(*both))
    first = sandbox.role(trust_of(sandbox.admin_role, actions=both), {"on": may_go_on}, suffix="a")
    second = sandbox.role(trust_of(f"arn:aws:iam::{sandbox.account_id}:root", actions=both), {"read": READ}, suffix="b")
    sandbox.require_enforcement()

    def begun() -> Any:
        try:
            return sandbox.assume(first, sandbox.assume(sandbox.admin_role), SourceIdentity="portal-live")
        except ClientError:
            return None

    keys = until(begun, within=SETTLED, what="the first role can be used")
    until(lambda: _assumes(sandbox, second, keys, "portal-live"), within=SETTLED, what="it can be kept")
    assert not _assumes(sandbox, second, keys, "somebody-else")


def _assumes(sandbox: Sandbox, role: str, keys: dict[str, str], identity: str) -> bool:
    try:
        sandbox.assume(role, keys, SourceIdentity=identity)
    except ClientError:
        return False
    return True

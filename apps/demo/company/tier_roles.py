"""Roles of the production account that the broker lets people into, and the boundary that they stand in.

Each rests: its guard lets nobody through until Gatehouse lists a grant.
"""

from apps.demo.company.model import Document, Policy, Role
from apps.demo.company.people import CAST
from apps.demo.company.policies import allow, deny, document

PATH, BOUNDARY = "/jit/tier/", "JitBoundary"
ACCOUNT = "production"
HOURS = {"JitIncidentReader": 4, "JitServiceOperator": 2}  # tier role → for how long it is on offer at most

_BROKER_ONLY = document(
    {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::<management>:role/portal/PortalBroker"},
        "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
    }
)
_RESTING = document(deny("*", Sid="NoGrant"))
_READ = allow(
    ["logs:FilterLogEvents", "logs:GetLogEvents", "logs:Describe*", "cloudwatch:GetMetricData", "ecs:Describe*"],
    Sid="LookAtAnIncident",
)
_OPERATE = allow(
    ["ecs:UpdateService", "ecs:StopTask"],
    ["arn:aws:ecs:<region>:<self>:service/harbourline/*", "arn:aws:ecs:<region>:<self>:task/harbourline/*"],
    Sid="RollOver",
)
_WITHIN = document(
    allow("*", Sid="WhatTheRoleSays"),
    deny(["iam:*", "sts:AssumeRole", "organizations:*", "sso:*", "identitystore:*"], Sid="NeverIdentities"),
)


def boundary(account: str) -> Policy:
    """What just-in-time roles can do at the most."""
    return Policy(account, BOUNDARY, (_WITHIN,), "/jit/", "The most that just-in-time roles can do")


def roles() -> tuple[Role, ...]:
    """The tier roles."""
    return (
        _role("JitIncidentReader", document(_READ), "Looks at logs and metrics while an incident lasts"),
        _role("JitServiceOperator", document(_READ, _OPERATE), "Rolls services over while an incident lasts"),
    )


def _role(name: str, permissions: Document, description: str) -> Role:
    return Role(
        ACCOUNT,
        name,
        _BROKER_ONLY,
        PATH,
        description,
        {"permissions": permissions, "jit-guard": _RESTING},
        tags={"owner": CAST["erin"], "application": "gatehouse"},
        boundary=f"arn:aws:iam::<self>:policy/jit/{BOUNDARY}",
    )

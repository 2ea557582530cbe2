"""Which connectors, provisioners and removers exist. One table each; a name is stored in rows, so it never changes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from apps.connectors.base import Connector, Promise, Provisioner, Remover, StopPolicy
from apps.connectors.changes import ChangeFeed
from apps.connectors.minting import Minter
from apps.connectors.trail import AccessReports, Trail

CONNECTORS = {
    "aws": "apps.connectors.aws.connector:AwsConnector",
    "fake": "apps.connectors.fake:FakeConnector",
}

# What tells a system's changes, where a connection names it.
CHANGE_FEEDS = {
    "aws": "apps.connectors.aws.changes:QueueOfChanges",
    "fake": "apps.connectors.fake:FakeChangeFeed",
}

PROVISIONERS = {
    ("aws", "idc_assignment"): "apps.connectors.aws.idc_assignment:IdcAssignment",
    ("aws", "iam_timeboxed_policy"): "apps.connectors.aws.iam_timeboxed_policy:IamTimeboxedPolicy",
    ("aws", "group_membership"): "apps.connectors.aws.group_membership:GroupMembership",
    ("aws", "iam_jit_role"): "apps.connectors.aws.iam_jit_role:IamJitRole",
    ("aws", "security_group_rule"): "apps.connectors.aws.security_group_rule:SecurityGroupRule",
    ("aws", "sts_broker"): "apps.connectors.aws.sts_broker:StsBroker",
    ("fake", "idc_assignment"): "apps.connectors.fake_provisioners:FakeProvisioner",
    ("fake", "group_membership"): "apps.connectors.fake_provisioners:FakeMembershipProvisioner",
    ("fake", "iam_timeboxed_policy"): "apps.connectors.fake_provisioners:FakePolicyProvisioner",
}

# Whose shared object is the guard of an account: it can deny more than grants name (`*` is anybody, or anything).
GUARDED = {("aws", "idc_assignment"), ("fake", "idc_assignment")}

# Whose access is a session that the broker makes when its holder asks.
MINTERS = {
    ("aws", "sts_broker"): "apps.connectors.aws.minting:TierSessions",
}

# How people know a provisioner.
TITLES = {
    "idc_assignment": "Identity Center assignment",
    "iam_timeboxed_policy": "Dated inline policy",
    "group_membership": "Group membership",
    "iam_jit_role": "Role for one grant",
    "security_group_rule": "Security group rule",
    "sts_broker": "Sessions on demand",
}

# Entitlement kind → what can take a standing assignment of that kind away. A kind that is not here becomes an owner's
# task: its trust, its SCIM directory or its infrastructure code must change, which is not ours to do.
REMOVERS = {
    ("aws", "permission_set"): "apps.connectors.aws.removers:AccountAssignment",
    ("aws", "idc_group"): "apps.connectors.aws.removers:GroupMembership",
    ("aws", "iam_group"): "apps.connectors.aws.removers:IamGroupMembership",
    ("aws", "iam_policy"): "apps.connectors.aws.removers:AttachedPolicy",
    ("aws", "iam_inline_policy"): "apps.connectors.aws.removers:InlinePolicy",
    ("fake", "permission_set"): "apps.connectors.fake:FakeRemover",
    ("fake", "idc_group"): "apps.connectors.fake:FakeRemover",
    ("fake", "iam_group"): "apps.connectors.fake:FakeRemover",
    ("fake", "iam_policy"): "apps.connectors.fake:FakeRemover",
    ("fake", "iam_inline_policy"): "apps.connectors.fake:FakeRemover",
}


# What the separate ender has to end what a provisioner opened. Dated policies are not here: their own dates end them.
ENDERS = {
    ("aws", "idc_assignment"): "apps.connectors.aws.enders:AssignmentEnder",
    ("aws", "group_membership"): "apps.connectors.aws.enders:MembershipEnder",
    ("aws", "iam_jit_role"): "apps.connectors.aws.enders:JitRoleEnder",
    ("aws", "security_group_rule"): "apps.connectors.aws.enders:IngressEnder",
    ("aws", "sts_broker"): "apps.connectors.aws.enders:TierRoleEnder",
    ("fake", "idc_assignment"): "apps.connectors.fake:FakeRemover",
    ("fake", "group_membership"): "apps.connectors.fake:FakeRemover",
}

# The one switch that stops everybody in a system of this kind.
STOP_POLICIES = {
    "aws": "apps.connectors.aws.stops:ServiceControlPolicy",
    "fake": "apps.connectors.fake:FakeStopPolicy",
}


# Whose audit trail can be read from files.
TRAILS = {
    "aws": "apps.connectors.aws.trail_files:TrailFiles",
}

# What a system itself says about when its principals last did what.
ACCESS_REPORTS = {
    "aws": "apps.connectors.aws.last_accessed:LastAccessed",
}


def connector(kind: str, config: Mapping[str, Any]) -> Connector:
    """The reader of one configured system. Unknown kinds raise KeyError: the row is corrupt."""
    return cast("Connector", _load(CONNECTORS[kind])(config))


def change_feed(kind: str, config: Mapping[str, Any]) -> ChangeFeed:
    """The configured system's feed of changes. Ask whether the connection has one first."""
    return cast("ChangeFeed", _load(CHANGE_FEEDS[kind])(config))


def provisioner(kind: str, name: str, config: Mapping[str, Any]) -> Provisioner:
    """What opens and ends access called `name` in a system of this kind."""
    return cast("Provisioner", _load(PROVISIONERS[kind, name])(config))


def promise(kind: str, name: str) -> Promise:
    """What the provisioner called `name` promises, without reaching the system."""
    return cast("Promise", _load(PROVISIONERS[kind, name]).promise)


def stop_policy(kind: str, config: Mapping[str, Any]) -> StopPolicy:
    """What stops everybody in the configured system at once."""
    return cast("StopPolicy", _load(STOP_POLICIES[kind])(config))


def ender(kind: str, name: str, config: Mapping[str, Any]) -> Remover | None:
    """What narrows what the provisioner called `name` opened, as the ender's role; None where only dates end it."""
    dotted = ENDERS.get((kind, name))
    return cast("Remover", _load(dotted)(config)) if dotted else None


def has_trail(kind: str, config: Mapping[str, Any]) -> bool:
    """Whether the configured system has an audit trail that we are told to read."""
    return kind in TRAILS and bool(config.get("trail_bucket"))


def trail(kind: str, config: Mapping[str, Any]) -> Trail:
    """The files of the configured system's audit trail. Ask `has_trail` first."""
    return cast("Trail", _load(TRAILS[kind])(config))


def has_access_reports(kind: str) -> bool:
    """Whether a system of this kind says when its principals last did what."""
    return kind in ACCESS_REPORTS


def access_reports(kind: str, config: Mapping[str, Any]) -> AccessReports:
    """What the configured system says about last accesses. Ask `has_access_reports` first."""
    return cast("AccessReports", _load(ACCESS_REPORTS[kind])(config))


def has_guard(kind: str, name: str) -> bool:
    """Whether the provisioner's shared object can deny everybody at once."""
    return (kind, name) in GUARDED


def has_minter(kind: str, name: str) -> bool:
    """Whether what the provisioner opens is used by sessions that the broker makes."""
    return (kind, name) in MINTERS


def minter(kind: str, name: str, config: Mapping[str, Any]) -> Minter:
    """What makes sessions for grants of this provisioner. For the broker process alone; ask `has_minter` first."""
    return cast("Minter", _load(MINTERS[kind, name])(config))


def provisioners_for(kind: str, entitlement_kind: str) -> list[str]:
    """The names of what can open this kind of entitlement in a system of this kind."""
    return [name for of, name in PROVISIONERS if of == kind and entitlement_kind in promise(kind, name).opens]


def remover(kind: str, entitlement_kind: str, config: Mapping[str, Any]) -> Remover:
    """What takes standing access of this kind away. Ask `has_remover` first."""
    return cast("Remover", _load(REMOVERS[kind, entitlement_kind])(config))


def has_remover(kind: str, entitlement_kind: str) -> bool:
    """Whether we can remove standing access of this kind ourselves."""
    return (kind, entitlement_kind) in REMOVERS


def _load(dotted: str) -> Any:
    module, name = dotted.split(":")
    return getattr(import_module(module), name)

"""What the separate ender may do: take away what was opened for a time, or deny everything to a role; nothing else.

Each class is a remover that reads as the reader and writes as the ender's own role. None of them writes a guard or any
policy document, deletes a Deny, or adds anything but one policy that denies everything and was deployed beforehand
(`/jit/JitDenyAll`). So a stolen ender can end access, and cannot open any.

Dated inline policies have no ender: their own dates end them, and what would end them earlier is a document that also
denies.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from apps.connectors.aws import removers
from apps.connectors.aws.iam_jit_role import IamJitRole
from apps.connectors.aws.ingress import rule_of
from apps.connectors.aws.jit_documents import role_name
from apps.connectors.aws.security_group_rule import Found, SecurityGroupRule, holder
from apps.connectors.aws.session import Api, session
from apps.connectors.aws.sts_broker import StsBroker
from apps.connectors.base import Look, Proof, Remover, Target, Ticket
from apps.connectors.errors import Gone, Refused

DENY_ALL = "/jit/JitDenyAll"


class AssignmentEnder(removers.AccountAssignment):
    """Deletes an account assignment. Live sessions are the guard's to end, which this never writes."""

    role = "ender_role"


class MembershipEnder:
    """Takes a person out of a group, of Identity Center or of an account's IAM."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._kinds: dict[str, Remover] = {"idc_group": _OfDirectory(config), "iam_group": _OfAccount(config)}

    def close(self, target: Target) -> Ticket:
        return self._kind(target).close(target)

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        return self._kind(target).status(target, ticket)

    def look(self, target: Target) -> Look:
        return self._kind(target).look(target)

    def lock_key(self, target: Target) -> str:
        return self._kind(target).lock_key(target)

    def _kind(self, target: Target) -> Remover:
        if target.entitlement_kind not in self._kinds:
            raise Refused(f"{target.entitlement_name} is no group.")
        return self._kinds[target.entitlement_kind]


class _OfDirectory(removers.GroupMembership):
    role = "ender_role"

    def _require_removable(self, target: Target) -> None:
        """What Gatehouse opened is taken away, whoever owns the group since."""


class _OfAccount(removers.IamGroupMembership):
    role = "ender_role"

    def _documents(self, holder: Any, target: Target) -> Any:
        """None that would keep the member in: a Deny of the group came with the membership, and goes with it."""
        del holder, target
        return ()


class _RoleEnder:
    """Denies everything to a role by attaching `DENY_ALL`. What else was asked of the role is its provisioner's to read."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), "ender_role")

    def close(self, target: Target) -> Ticket:
        name = self._role_name(target)
        try:
            if not self._is_denied(target):
                self._writer.call(
                    target.account_id,
                    "iam",
                    "attach_role_policy",
                    RoleName=name,
                    PolicyArn=self._deny_all(target),
                )
        except Gone:
            return Ticket("done")  # the role is gone, or what shall be attached to it; what AWS shows now decides
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """IAM answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        shown = self._shown(target)
        if not shown.is_present or not self._is_denied(target):
            return shown
        what = f"AWS shows that role {self._role_name(target)} is denied everything by {DENY_ALL}."
        return Look(False, Proof(what, datetime.now(UTC), dict(shown.proof.facts)))

    def _is_denied(self, target: Target) -> bool:
        found = self._reader.items(
            target.account_id,
            "iam",
            "list_attached_role_policies",
            "AttachedPolicies",
            RoleName=self._role_name(target),
        )
        return self._deny_all(target) in {policy["PolicyArn"] for policy in found}

    def _deny_all(self, target: Target) -> str:
        return f"arn:{self._reader.session.hub().partition}:iam::{target.account_id}:policy{DENY_ALL}"

    def _role_name(self, target: Target) -> str:
        raise NotImplementedError

    def _shown(self, target: Target) -> Look:
        raise NotImplementedError


class JitRoleEnder(_RoleEnder):
    """The role of one grant: nobody else is in it."""

    def lock_key(self, target: Target) -> str:
        return IamJitRole(self._config).lock_key(target)

    def _role_name(self, target: Target) -> str:
        return role_name(target.reference)

    def _shown(self, target: Target) -> Look:
        return IamJitRole(self._config).look(target)


class TierRoleEnder(_RoleEnder):
    """A tier role, which other grants' sessions share: all of them are denied until a person detaches the policy. It only
    comes to this when the role's guard still lets a grant through long after it should have ended."""

    def lock_key(self, target: Target) -> str:
        return StsBroker(self._config).lock_key(target)

    def _role_name(self, target: Target) -> str:
        return target.entitlement_external_id.rpartition("/")[2]

    def _shown(self, target: Target) -> Look:
        return StsBroker(self._config).look(target)


class _Openings(SecurityGroupRule):
    """Read only."""

    def found(self, target: Target) -> Found | None:
        return self._found(self._rule(target))


class IngressEnder:
    """Takes a rule out of a security group when it is open for this grant's holder alone. A rule that is open for others
    too is left to AWS's own schedule: it cannot be closed for one of them without changing what says who they are."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._opened = _Openings(config)

    def close(self, target: Target) -> Ticket:
        rule = rule_of(target.account_id, target.entitlement_attributes, self._config)
        found = self._opened.found(target)
        if found is None or not found.is_ours or holder(target) not in found.holders:
            return Ticket("done")
        if found.holders != {holder(target)}:
            raise Refused(f"{rule} is open for others too. AWS's own schedule closes it when the last of them ends.")
        writer = Api(session({**self._config, "region": rule.region}), "ender_role")
        try:
            writer.call(
                rule.account_id,
                "ec2",
                "revoke_security_group_ingress",
                GroupId=rule.group_id,
                IpPermissions=[rule.permission()],
            )
        except Gone:
            return Ticket("done")
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """EC2 answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        return self._opened.look(target)

    def lock_key(self, target: Target) -> str:
        return self._opened.lock_key(target)

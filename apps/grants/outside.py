"""Who gave access in AWS past the portal. Reads the events of audit trails, and finds the one behind an assignment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from apps.connectors.trail import Outcome, TrailEvent
from apps.grants.models import OutsideChange
from apps.inventory.models import Assignment, Connection, Entitlement, Principal

# Calls that give access. What takes it away is nobody's finding.
GIVING = {
    "iam": frozenset(
        (
            *("AddUserToGroup", "AttachGroupPolicy", "AttachRolePolicy", "AttachUserPolicy", "CreateAccessKey"),
            *("CreateLoginProfile", "CreatePolicyVersion", "PutGroupPolicy", "PutRolePolicy", "PutUserPolicy"),
            *("SetDefaultPolicyVersion", "UpdateAssumeRolePolicy", "UpdateLoginProfile"),
        )
    ),
    "sso": frozenset({"CreateAccountAssignment"}),
    "identitystore": frozenset({"CreateGroupMembership"}),
    "sso-directory": frozenset({"AddMemberToGroup"}),
}
OUR_ROLES = ("reader_role", "provisioner_role", "remover_role", "ender_role", "broker_role")
SEEN_WITHIN = timedelta(minutes=5)  # an event can carry a later second than the read that showed its effect

_HOLDER = {
    Principal.Kind.IAM_USER: "userName",
    Principal.Kind.IAM_ROLE: "roleName",
    Principal.Kind.IAM_GROUP: "groupName",
}


def read(connection: Connection, events: Sequence[TrailEvent]) -> None:
    """Keep the calls of a batch that gave access and were not ours. One statement."""
    ours = {str(connection.config[role]) for role in OUR_ROLES}
    OutsideChange.objects.bulk_create(
        (
            OutsideChange(
                connection=connection,
                event_id=event.event_id,
                at=event.at,
                account_id=event.account_id,
                call=f"{event.service}:{event.name}"[:130],
                named=dict(event.named),
                actor_arn=event.actor_arn,
                session_name=event.session_name,
                source_identity=event.source_identity,
                source_address=event.source_address,
            )
            for event in events
            if event.named
            and event.outcome == Outcome.DONE
            and event.name in GIVING.get(event.service, ())
            and event.issuer_arn.partition(":role/")[2] not in ours  # with its path, which the SCP protects
        ),
        ignore_conflicts=True,
    )


def author_of(assignment: Assignment) -> OutsideChange | None:
    """The last call before `assignment` was first seen that named exactly its holder and what it gives, if the trail
    shows one."""
    wanted = _names(assignment)
    if not wanted or assignment.period.lower is None:
        return None
    found = OutsideChange.objects.filter(
        connection=assignment.connection_id,
        named__contains=wanted,
        at__lte=assignment.period.lower + SEEN_WITHIN,
    )
    account = assignment.principal.resource
    if account is not None:  # IAM's names are unique in their account alone
        found = found.filter(account_id=account.external_id)
    return found.first()


def _names(assignment: Assignment) -> dict[str, str]:
    """What a call that gave this must have named."""
    principal, entitlement = assignment.principal, assignment.entitlement
    facts, holder = entitlement.attributes, _HOLDER.get(Principal.Kind(principal.kind), "")
    by_kind = {
        Entitlement.Kind.PERMISSION_SET: {
            "permissionSetArn": entitlement.external_id.rpartition("@")[0],
            "targetId": entitlement.resource.external_id if entitlement.resource else "",
            "principalId": principal.external_id,
        },
        Entitlement.Kind.IDC_GROUP: {
            "groupId": entitlement.group.external_id if entitlement.group else "",
            "memberId": principal.external_id,
        },
        Entitlement.Kind.IAM_GROUP: {"userName": principal.name, "groupName": facts.get("group_name", "")},
        Entitlement.Kind.IAM_POLICY: {holder: principal.name, "policyArn": facts.get("policy_arn", "")},
        Entitlement.Kind.IAM_INLINE_POLICY: {holder: principal.name, "policyName": facts.get("policy_name", "")},
    }
    names: dict[str, str] = by_kind.get(Entitlement.Kind(entitlement.kind), {})
    return names if all(names) and all(names.values()) else {}

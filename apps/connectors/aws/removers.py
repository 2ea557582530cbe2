"""What takes standing access away in AWS, one class for each kind of entitlement.

Every one reads first, so that what is gone already is done, and `look` reads again afterwards. None of them removes a
Deny: taking away a policy (or a group) that denies would widen what its holder can do, so a person must decide that in
the policy itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from apps.connectors.aws import identity_center
from apps.connectors.aws.holders import Holder, attribute, holder_of, inline_document
from apps.connectors.aws.iam import OUR_POLICY
from apps.connectors.aws.managed_policies import default_document
from apps.connectors.aws.policy.documents import MalformedPolicy, parse
from apps.connectors.aws.session import Api, Role, session
from apps.connectors.base import Look, Proof, Target, Ticket
from apps.connectors.errors import Gone, Refused

PRINCIPAL_TYPES = {"idc_user": "USER", "idc_group": "GROUP"}
STATES = {"IN_PROGRESS": "pending", "SUCCEEDED": "done", "FAILED": "failed"}


class _Remover:
    """Reads as the reader, removes as `role`."""

    role: ClassVar[Role] = "remover_role"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), self.role)

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """IAM and the identity store answer when they have done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        is_present = self._is_present(target)
        words = "has" if is_present else "does not have"
        where = f" in account {target.account_id}" if target.account_id else ""
        what = f"AWS shows that {target.principal_name} {words} {target.entitlement_name}{where}."
        return Look(is_present, Proof(what, datetime.now(UTC), {"is_present": is_present, **self._facts(target)}))

    def lock_key(self, target: Target) -> str:
        words = (f"{name}={value}" for name, value in sorted(self._facts(target).items()))
        return f"aws:{'|'.join(words)}"

    def _is_present(self, target: Target) -> bool:
        raise NotImplementedError

    def _facts(self, target: Target) -> dict[str, str]:
        """What names the one object in AWS."""
        raise NotImplementedError


class AccountAssignment(_Remover):
    """A permission set of a person or group in an account. Deleting it is asynchronous, and ends no live session."""

    def close(self, target: Target) -> Ticket:
        if not self._is_present(target):
            return Ticket("done")
        try:
            answer = self._writer.call(
                self._writer.hub_id, "sso-admin", "delete_account_assignment", **self._facts(target)
            )
        except Gone:
            return Ticket("done")
        return ticket_of("delete", answer["AccountAssignmentDeletionStatus"])

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        verb, _, request_id = ticket.reference.partition(":")
        if not request_id:
            return ticket
        noun = {"create": "Creation", "delete": "Deletion"}[verb]
        try:
            answer = self._reader.call(
                self._reader.hub_id,
                "sso-admin",
                f"describe_account_assignment_{noun.lower()}_status",
                InstanceArn=self._facts(target)["InstanceArn"],
                **{f"AccountAssignment{noun}RequestId": request_id},
            )
        except Gone:  # AWS forgets old requests; what is there now decides
            is_done = self._is_present(target) == (verb == "create")
            return Ticket("done" if is_done else "failed", ticket.reference, "AWS no longer knows this request.")
        return ticket_of(verb, answer[f"AccountAssignment{noun}Status"])

    def _is_present(self, target: Target) -> bool:
        names = self._facts(target)
        try:
            found = identity_center.assignments_of(
                self._reader, names["InstanceArn"], names["PermissionSetArn"], names["TargetId"]
            )
        except Gone:
            return False
        wanted = (names["PrincipalType"], names["PrincipalId"])
        return any((one["PrincipalType"], one["PrincipalId"]) == wanted for one in found)

    def _facts(self, target: Target) -> dict[str, str]:
        """The six words that name an assignment to Identity Center."""
        if target.principal_kind not in PRINCIPAL_TYPES:
            raise Refused(f"{target.principal_name} is not a person or group of Identity Center.")
        return {
            "InstanceArn": attribute(target, "instance_arn"),
            "TargetId": target.account_id,
            "TargetType": "AWS_ACCOUNT",
            "PermissionSetArn": attribute(target, "permission_set_arn"),
            "PrincipalType": PRINCIPAL_TYPES[target.principal_kind],
            "PrincipalId": target.principal_external_id,
        }


def ticket_of(verb: str, status: Mapping[str, Any]) -> Ticket:
    """Identity Center's word for how a change stands."""
    return Ticket(
        STATES[status["Status"]], f"{verb}:{status['RequestId']}", str(status.get("FailureReason") or "")[:300]
    )


class GroupMembership(_Remover):
    """A person's membership in a group of Identity Center, with everything the group brings."""

    def close(self, target: Target) -> Ticket:
        names = self._facts(target)
        store = {"IdentityStoreId": names["IdentityStoreId"]}
        hub = self._reader.hub_id
        membership_id = self._membership_id(target)
        if membership_id is None:
            return Ticket("done")
        self._require_removable(target)
        try:
            self._writer.call(hub, "identitystore", "delete_group_membership", **store, MembershipId=membership_id)
        except Gone:
            return Ticket("done")
        return Ticket("done")

    def _require_removable(self, target: Target) -> None:
        if self._is_externally_owned(target):
            raise Refused(
                f"Group {target.entitlement_name} is managed by the identity provider, which would put the member back. "
                "Remove the member there."
            )

    def _is_externally_owned(self, target: Target) -> bool:
        names = self._facts(target)
        words = {"IdentityStoreId": names["IdentityStoreId"], "GroupId": names["GroupId"]}
        group = self._reader.call(self._reader.hub_id, "identitystore", "describe_group", **words)
        return bool([entry for entry in group.get("ExternalIds") or () if entry])

    def _is_present(self, target: Target) -> bool:
        return self._membership_id(target) is not None

    def _membership_id(self, target: Target) -> str | None:
        names = self._facts(target)
        try:
            answer = self._reader.call(
                self._reader.hub_id,
                "identitystore",
                "get_group_membership_id",
                IdentityStoreId=names["IdentityStoreId"],
                GroupId=names["GroupId"],
                MemberId={"UserId": names["UserId"]},
            )
        except Gone:
            return None
        return str(answer["MembershipId"])

    def _facts(self, target: Target) -> dict[str, str]:
        if target.principal_kind != "idc_user":
            raise Refused(f"{target.principal_name} is not a person of Identity Center.")
        return {
            "IdentityStoreId": attribute(target, "identity_store_id"),
            "GroupId": attribute(target, "group_id"),
            "UserId": target.principal_external_id,
        }


class _IamRemover(_Remover):
    """Something that an IAM user, role or group of one account has."""

    def close(self, target: Target) -> Ticket:
        holder = holder_of(target)
        holder.require_ours_to_change(self._config)
        if not self._is_present(target):
            return Ticket("done")
        if any(denies(document) for document in self._documents(holder, target)):
            raise Refused(
                f"{target.entitlement_name} also denies things, so taking it away from {target.principal_name} could "
                "give more than it takes. Change the policy itself."
            )
        try:
            self._remove(holder, target)
        except Gone:
            return Ticket("done")
        return Ticket("done")

    def _is_present(self, target: Target) -> bool:
        try:
            return self._has(holder_of(target), target)
        except Gone:
            return False

    def _read(self, holder: Holder, operation: str, **params: Any) -> dict[str, Any]:
        return self._reader.call(holder.account_id, "iam", operation, **params)

    def _write(self, holder: Holder, operation: str, **params: Any) -> None:
        self._writer.call(holder.account_id, "iam", operation, **params)

    def _items(self, holder: Holder, operation: str, key: str, **params: Any) -> Iterable[Any]:
        return self._reader.items(holder.account_id, "iam", operation, key, **params)

    def _has(self, holder: Holder, target: Target) -> bool:
        raise NotImplementedError

    def _documents(self, holder: Holder, target: Target) -> Iterable[Any]:
        raise NotImplementedError

    def _remove(self, holder: Holder, target: Target) -> None:
        raise NotImplementedError


class IamGroupMembership(_IamRemover):
    """An IAM user's membership in an IAM group of its account."""

    def _has(self, holder: Holder, target: Target) -> bool:
        groups = self._items(holder, "list_groups_for_user", "Groups", **holder.named)
        return attribute(target, "group_name") in {group["GroupName"] for group in groups}

    def _documents(self, holder: Holder, target: Target) -> Iterable[Any]:
        group = {"GroupName": attribute(target, "group_name")}
        for name in self._items(holder, "list_group_policies", "PolicyNames", **group):
            yield self._read(holder, "get_group_policy", **group, PolicyName=name)["PolicyDocument"]
        for policy in self._items(holder, "list_attached_group_policies", "AttachedPolicies", **group):
            yield default_document(self._reader, holder.account_id, policy["PolicyArn"])[1]

    def _remove(self, holder: Holder, target: Target) -> None:
        self._write(holder, "remove_user_from_group", **holder.named, GroupName=attribute(target, "group_name"))

    def _facts(self, target: Target) -> dict[str, str]:
        if target.principal_kind != "iam_user":
            raise Refused("Only IAM users are members of IAM groups.")
        return {"Group": attribute(target, "group_arn"), "User": target.principal_external_id}


class AttachedPolicy(_IamRemover):
    """A managed policy attached to a user, role or group."""

    def _has(self, holder: Holder, target: Target) -> bool:
        attached = self._items(holder, f"list_attached_{holder.word}_policies", "AttachedPolicies", **holder.named)
        return attribute(target, "policy_arn") in {policy["PolicyArn"] for policy in attached}

    def _documents(self, holder: Holder, target: Target) -> Iterable[Any]:
        yield default_document(self._reader, holder.account_id, attribute(target, "policy_arn"))[1]

    def _remove(self, holder: Holder, target: Target) -> None:
        self._write(holder, f"detach_{holder.word}_policy", **holder.named, PolicyArn=attribute(target, "policy_arn"))

    def _facts(self, target: Target) -> dict[str, str]:
        return {"Policy": attribute(target, "policy_arn"), "Holder": target.principal_external_id}


class InlinePolicy(_IamRemover):
    """A policy written into a user, role or group."""

    def close(self, target: Target) -> Ticket:
        if attribute(target, "policy_name") == OUR_POLICY:
            raise Refused(f"{target.entitlement_name} belongs to grants. End the grant.")
        return super().close(target)

    def _has(self, holder: Holder, target: Target) -> bool:
        return inline_document(self._reader, holder, attribute(target, "policy_name")) is not None

    def _documents(self, holder: Holder, target: Target) -> Iterable[Any]:
        yield inline_document(self._reader, holder, attribute(target, "policy_name"))

    def _remove(self, holder: Holder, target: Target) -> None:
        self._write(holder, f"delete_{holder.word}_policy", **holder.named, PolicyName=attribute(target, "policy_name"))

    def _facts(self, target: Target) -> dict[str, str]:
        return {"InlinePolicy": attribute(target, "policy_name"), "Holder": target.principal_external_id}


def denies(document: Any) -> bool:
    """Whether a policy takes anything away. One that cannot be read might."""
    try:
        return any(statement.effect == "Deny" for statement in parse(document).statements)
    except MalformedPolicy:
        return True

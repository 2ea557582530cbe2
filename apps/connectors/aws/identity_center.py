"""The directory: people, groups, permission sets and who holds them in which account (AWS IAM Identity Center).

External ids: a person and a group are their ids in the identity store; the membership that can be held is
`membership:<group id>`; a permission set in an account is `<permission set arn>@<account id>`.

Assignments can only be read for one (permission set, account) pair at a time. Up to `SMALL` pairs we ask for all of
them, which trusts nothing; beyond that only for the pairs that Identity Center lists as provisioned, because an
assignment cannot exist without (aws.md §3.1: 35 minutes in place of 14 hours for 1,000 accounts and 500 sets).
Identity Center gives no independent counts, so completeness rests on following every page, and the totals say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from apps.connectors.aws import reading
from apps.connectors.aws.errors import code_of
from apps.connectors.aws.managed_policies import UNREADABLE, ManagedPolicies
from apps.connectors.aws.reading import Reading
from apps.connectors.aws.session import Api
from apps.connectors.base import (
    AccountRecord,
    AssignmentRecord,
    ControlTotal,
    DocumentRecord,
    EntitlementRecord,
    PrincipalRecord,
    Progress,
    Scan,
)
from apps.connectors.errors import ConnectorError, Denied, Gone, Refused, Unproven

SMALL = 500
ENTERPRISE = "aws:identitystore:enterprise"
NOT_OFFERED = "500"  # a bare 500 without an AWS error code: an endpoint (a local one) that lacks the call

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


@dataclass(frozen=True, slots=True)
class Instance:
    """The organization's Identity Center and its identity store."""

    arn: str
    store_id: str


@dataclass(frozen=True, slots=True)
class PermissionSet:
    """What Identity Center stores about one permission set, before it is looked at in an account."""

    arn: str
    name: str
    description: str
    session_for: timedelta
    documents: tuple[DocumentRecord, ...]
    boundary: DocumentRecord | None
    customer_policies: tuple[str, ...]  # paths and names, "/jit/jit-guard"; their documents live in each account


def find_instance(api: Api) -> Instance:
    """The Identity Center instance of the organization. Raises `Gone` where there is none in this region."""
    found = list(api.items(api.hub_id, "sso-admin", "list_instances", "Instances"))
    if not found:
        region = api.session.config["region"]
        raise Gone(f"No Identity Center answers in {region} for account {api.hub_id}. Check the connection's region.")
    return Instance(found[0]["InstanceArn"], found[0]["IdentityStoreId"])


def scan_directory(api: Api, guard: str, accounts: Sequence[AccountRecord], progress: Progress) -> Iterator[Scan]:
    """Read it all, in parts that are handed over as they fill. `guard` is the path and name of our guard policy, whose
    document is left to the accounts' scans."""
    instance = find_instance(api)
    read = Reading(api, progress, parts=3 + len(accounts))
    policies = ManagedPolicies(api)
    permission_sets: list[PermissionSet] = []
    with read.part("people"):
        for _ in _read_people(api, instance, read):
            yield from read.handed_over()
    with read.part("groups and their members"):
        for _ in _read_groups(api, instance, read):
            yield from read.handed_over()
    with read.part("permission sets"):
        _read_permission_sets(api, instance, policies, permission_sets, read.scan)
    is_small = len(accounts) * len(permission_sets) <= SMALL
    for account in accounts:
        if read.is_cut_off:
            read.scan.problems.append(f"Assignments were not read from {account.name} on.")
            break
        with read.part(f"assignments in {account.name}"):
            for _ in _read_account(api, instance, guard, account, permission_sets, policies, is_small, read):
                yield from read.handed_over()
    read.scan.notes.extend(sorted(set(policies.unreadable)))
    read.scan.notes.append(
        "Identity Center gives no counts of its own; completeness rests on every page having been read."
    )
    rest = read.finish()
    rest.totals.append(ControlTotal("Assignments", read.assignments))
    yield rest


# ---- people and groups


def _read_people(api: Api, instance: Instance, read: Reading) -> Iterator[None]:
    """Yields after each page."""
    asked = {"IdentityStoreId": instance.store_id, "Extensions": [ENTERPRISE]}
    count = 0
    for page in api.pages(api.hub_id, "identitystore", "list_users", **asked):
        people = [_person(instance, user) for user in page.get("Users", ())]
        read.scan.principals.extend(people)
        count += len(people)
        yield
    read.scan.totals.append(ControlTotal("People", count))


def _person(instance: Instance, user: Mapping[str, Any]) -> PrincipalRecord:
    enterprise = (user.get("Extensions") or {}).get(ENTERPRISE) or {}
    manager = enterprise.get("manager")
    emails = user.get("Emails") or []
    primary = next((email for email in emails if email.get("Primary")), emails[0] if emails else {})
    return PrincipalRecord(
        kind="idc_user",
        external_id=user["UserId"],
        name=reading.written(user.get("UserName") or user["UserId"]),
        display_name=reading.written(user.get("DisplayName")),
        email=reading.name(primary.get("Value")),
        title=reading.name(user.get("Title")),
        department=reading.name(enterprise.get("department")),
        manager_external_id=reading.name(manager.get("value") if isinstance(manager, Mapping) else manager),
        is_externally_owned=bool(user.get("ExternalIds")),
        created_at=user.get("CreatedAt"),
        attributes={
            "identity_store_id": instance.store_id,
            "status": reading.name(user.get("UserStatus") or "unknown").lower(),
            "user_type": reading.name(user.get("UserType")),  # "Contractor"; rules ask for it
            "external_ids": sorted(reading.name(entry.get("Id")) for entry in user.get("ExternalIds") or () if entry),
        },
    )


def _read_groups(api: Api, instance: Instance, read: Reading) -> Iterator[None]:
    """Yields after each group: itself, the membership, and each page of who holds it."""
    groups = list(api.items(api.hub_id, "identitystore", "list_groups", "Groups", IdentityStoreId=instance.store_id))
    for group in groups:
        is_external = bool([entry for entry in group.get("ExternalIds") or () if entry])
        group_name = reading.written(group.get("DisplayName") or group["GroupId"])
        facts = {"identity_store_id": instance.store_id, "group_id": group["GroupId"]}
        read.scan.principals.append(
            PrincipalRecord(
                kind="idc_group",
                external_id=group["GroupId"],
                name=group_name,
                is_externally_owned=is_external,
                created_at=group.get("CreatedAt"),
                attributes=facts,
            )
        )
        read.scan.entitlements.append(
            EntitlementRecord(
                kind="idc_group",
                external_id=membership_id(group["GroupId"]),
                name=group_name,
                description=reading.description(group.get("Description")),
                makes_external_id=group["GroupId"],
                attributes={**facts, "is_externally_owned": is_external},
            )
        )
        members = []
        for found in _membership_pages(api, instance.store_id, group["GroupId"]):
            read.scan.assignments.extend(found)
            members.append([one.principal_external_id for one in found])
            yield
        if reading.have_shifted(members):
            read.scan.problems.append(reading.shifted(f"The members of {group_name}"))
    read.scan.totals.append(ControlTotal("Groups", len(groups)))


def membership_id(group_id: str) -> str:
    """The external id of being a member of a group."""
    return f"membership:{group_id}"


def _membership(membership: Mapping[str, Any]) -> AssignmentRecord:
    return AssignmentRecord(
        membership["MemberId"]["UserId"],
        membership_id(membership["GroupId"]),
        {"membership_id": membership["MembershipId"], "created_by": reading.name(membership.get("CreatedBy"))},
    )


# ---- permission sets


def _read_permission_sets(
    api: Api, instance: Instance, policies: ManagedPolicies, into: list[PermissionSet], scan: Scan
) -> None:
    arns = sorted(
        api.items(api.hub_id, "sso-admin", "list_permission_sets", "PermissionSets", InstanceArn=instance.arn)
    )
    reads_boundaries = True
    for arn in arns:
        asked = {"InstanceArn": instance.arn, "PermissionSetArn": arn}
        boundary = None
        if reads_boundaries:
            try:
                boundary = _boundary(api, asked, policies)
            except ConnectorError as error:
                if not isinstance(error, Denied) and code_of(error) != NOT_OFFERED:
                    raise
                reads_boundaries = False
                scan.notes.append(f"Permissions boundaries are not known, so access is shown as if unbounded: {error}")
        into.append(_permission_set(api, asked, policies, boundary))
    scan.totals.append(ControlTotal("Permission sets", len(into), len(arns)))


def _permission_set(
    api: Api, asked: Mapping[str, str], policies: ManagedPolicies, boundary: DocumentRecord | None
) -> PermissionSet:
    hub = api.hub_id
    described = api.call(hub, "sso-admin", "describe_permission_set", **asked)["PermissionSet"]
    inline = api.call(hub, "sso-admin", "get_inline_policy_for_permission_set", **asked).get("InlinePolicy")
    managed = api.items(hub, "sso-admin", "list_managed_policies_in_permission_set", "AttachedManagedPolicies", **asked)
    documents = [DocumentRecord("inline policy", inline)] if inline else []
    documents.extend(policies.document(hub, arn) for arn in sorted(policy["Arn"] for policy in managed))
    references = api.items(
        hub,
        "sso-admin",
        "list_customer_managed_policy_references_in_permission_set",
        "CustomerManagedPolicyReferences",
        **asked,
    )
    return PermissionSet(
        arn=asked["PermissionSetArn"],
        name=reading.name(described["Name"]),
        description=reading.description(described.get("Description")),
        session_for=parse_duration(described.get("SessionDuration")),
        documents=tuple(documents),
        boundary=boundary,
        customer_policies=tuple(sorted(policy_path(reference) for reference in references)),
    )


def _boundary(api: Api, asked: Mapping[str, str], policies: ManagedPolicies) -> DocumentRecord | None:
    try:
        answer = api.call(api.hub_id, "sso-admin", "get_permissions_boundary_for_permission_set", **asked)
    except Gone:
        return None
    found = answer.get("PermissionsBoundary") or {}
    if found.get("ManagedPolicyArn"):
        return policies.document(api.hub_id, found["ManagedPolicyArn"])
    if found.get("CustomerManagedPolicyReference"):
        return DocumentRecord(policy_path(found["CustomerManagedPolicyReference"]), UNREADABLE)  # lives in each account
    return None


def policy_path(reference: Mapping[str, str]) -> str:
    """A customer-managed policy reference as one text, "/jit/jit-guard"."""
    return f"{reference.get('Path') or '/'}{reference['Name']}"


def parse_duration(text: str | None) -> timedelta:
    """A session duration like PT1H or PT90M (ISO 8601); AWS's default of one hour when there is none."""
    found = _DURATION.fullmatch(text or "PT1H")
    if not found:
        raise Refused(f"Identity Center gave a session duration that is none: {reading.name(text)!r}.")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


# ---- one account's permission sets and assignments


def _read_account(
    api: Api,
    instance: Instance,
    guard: str,
    account: AccountRecord,
    permission_sets: Iterable[PermissionSet],
    policies: ManagedPolicies,
    is_small: bool,
    read: Reading,
) -> Iterator[None]:
    """Yields after each permission set."""
    provisioned = None if is_small else _provisioned(api, instance, account)
    for permission_set in permission_sets:
        entitlement = _entitlement(api, instance, guard, account, permission_set, policies)
        read.scan.entitlements.append(entitlement)
        if provisioned is None or permission_set.arn in provisioned:
            try:
                holders = read_holders(api, "permission_set", entitlement.external_id, entitlement.attributes)
            except Unproven as error:  # what is in the others is known nevertheless
                read.scan.problems.append(str(error))
            else:
                read.scan.assignments.extend(holders)
        yield


def _provisioned(api: Api, instance: Instance, account: AccountRecord) -> set[str]:
    asked = {"InstanceArn": instance.arn, "AccountId": account.external_id}
    listed = api.pages(api.hub_id, "sso-admin", "list_permission_sets_provisioned_to_account", **asked)
    pages = [page.get("PermissionSets", ()) for page in listed]
    if reading.have_shifted(pages):
        raise Unproven(reading.shifted(f"The permission sets in {account.name}"))
    return {arn for page in pages for arn in page}


def assignments_of(api: Api, instance_arn: str, permission_set_arn: str, account_id: str) -> list[dict[str, str]]:
    """Who holds one permission set in one account, every page, read now."""
    return [one for page in _assignment_pages(api, instance_arn, permission_set_arn, account_id) for one in page]


def _assignment_pages(
    api: Api, instance_arn: str, permission_set_arn: str, account_id: str
) -> Iterator[list[dict[str, str]]]:
    asked = {"InstanceArn": instance_arn, "AccountId": account_id, "PermissionSetArn": permission_set_arn}
    for page in api.pages(api.hub_id, "sso-admin", "list_account_assignments", **asked):
        yield page.get("AccountAssignments", [])


def _membership_pages(api: Api, store_id: str, group_id: str) -> Iterator[list[AssignmentRecord]]:
    asked = {"IdentityStoreId": store_id, "GroupId": group_id}
    for page in api.pages(api.hub_id, "identitystore", "list_group_memberships", **asked):
        yield [_membership(one) for one in page.get("GroupMemberships", ())]


def read_holders(api: Api, kind: str, external_id: str, attributes: Mapping[str, Any]) -> list[AssignmentRecord]:
    """Who holds one permission set in one account, or is in one group, read now. Raises `Unproven` when its pages shifted
    meanwhile: then somebody may not have been listed."""
    if kind == "permission_set":
        account_id = external_id.rpartition("@")[2]
        pages = [
            [
                AssignmentRecord(one["PrincipalId"], external_id, {"principal_type": one["PrincipalType"]})
                for one in page
            ]
            for page in _assignment_pages(api, attributes["instance_arn"], attributes["permission_set_arn"], account_id)
        ]
    else:
        pages = list(_membership_pages(api, attributes["identity_store_id"], attributes["group_id"]))
    if reading.have_shifted([one.principal_external_id for one in page] for page in pages):
        raise Unproven(reading.shifted(f"The holders of {external_id}"))
    return [one for page in pages for one in page]


def _entitlement(
    api: Api,
    instance: Instance,
    guard: str,
    account: AccountRecord,
    permission_set: PermissionSet,
    policies: ManagedPolicies,
) -> EntitlementRecord:
    documents, missing = list(permission_set.documents), []
    for path in permission_set.customer_policies:
        if path == guard:
            continue
        arn = f"arn:{api.session.hub().partition}:iam::{account.external_id}:policy{path}"
        try:
            documents.append(policies.document(account.external_id, arn))
        except Gone:
            missing.append(path)
    return EntitlementRecord(
        kind="permission_set",
        external_id=f"{permission_set.arn}@{account.external_id}",
        name=permission_set.name,
        account_id=account.external_id,
        description=permission_set.description,
        documents=tuple(documents),
        boundary=permission_set.boundary,
        session_for=permission_set.session_for,
        attributes={
            "instance_arn": instance.arn,
            "identity_store_id": instance.store_id,
            "permission_set_arn": permission_set.arn,
            "permission_set_name": permission_set.name,
            "has_guard": guard in permission_set.customer_policies,
            "missing_policies": missing,
        },
    )

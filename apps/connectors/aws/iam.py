"""What one account holds: users, groups, roles, their policies and long-lived secrets (AWS IAM).

External ids: users, groups and roles are their ARNs (their unique id is in `attributes`: a principal that was deleted
and made again has another); the membership that can be held is `membership:<group arn>`; a managed policy in an account
is `<policy arn>@<account id>`; an inline policy is `<holder's arn>#inline/<name>`.

What grants wrote is marked `is_ours`, but only when its content is of the shape that Gatehouse writes: a name alone
proves nothing, anybody could call an administrator policy `gatehouse-jit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.aws import jit_documents as jit
from apps.connectors.aws import reading
from apps.connectors.aws.credentials import Report, read_keys, read_report, records_of, start_report
from apps.connectors.aws.managed_policies import ManagedPolicies
from apps.connectors.aws.policy.documents import MalformedPolicy, Statement, parse
from apps.connectors.aws.policy.windows import instant
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
from apps.connectors.errors import Gone

KINDS = ["User", "Role", "Group", "LocalManagedPolicy"]
OUR_PATH = jit.PATH
OUR_POLICY = "gatehouse-jit"  # the inline policy of `iam_timeboxed_policy`
TIER_PATH = "/jit/tier/"  # roles that a broker lets people into
RESERVED_PATH = "/aws-reserved/"
SERVICE_PATH = "/aws-service-role/"

# Of a grant, from now: the longest that a rule can give, what opening it takes, clocks that differ.
FURTHEST_END = timedelta(hours=26)

_OUR_SID = re.compile(r"(Allow|Deny)[0-9a-f]{12}")


@dataclass(slots=True)
class Details:
    """GetAccountAuthorizationDetails over all its pages, as AWS words it."""

    users: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    roles: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, int] = field(default_factory=dict)  # role ARN → MaxSessionDuration in seconds

    def holders(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Everybody who can have policies, with the word AWS uses for their kind."""
        yield from (("User", user) for user in self.users)
        yield from (("Group", group) for group in self.groups)
        yield from (("Role", role) for role in self.roles)


def scan_account(api: Api, our_roles: Iterable[str], account: AccountRecord, progress: Progress) -> Scan:
    """Read it all. `our_roles` are the paths and names of Gatehouse's own roles, "portal/PortalReader"."""
    read = Reading(api, progress, parts=5)
    details, report = Details(), Report()
    account_id = account.external_id
    with read.part("users, groups, roles and policies"):
        _read_details(api, account_id, details)
    if not read.is_cut_off:
        with read.part("the credential report"):
            start_report(api, account_id)
        with read.part("session lengths of roles"):
            for role in api.items(account_id, "iam", "list_roles", "Roles", MaxItems=1000):
                details.sessions[role["Arn"]] = role.get("MaxSessionDuration", 3600)
        with read.part("the credential report"):
            report = read_report(api, account_id)
            read.scan.problems.extend(report.leaves_out(details.users))
        with read.part("access keys"):
            report.keys.update(read_keys(api, account_id, [user["Arn"] for user in details.users], report))
    with read.part("policies and control totals"):
        _add_principals(account, details, report, set(our_roles), read.scan)
        _add_policies(api, account, details, read.scan)
        read.scan.credentials.extend(records_of(report, [user["Arn"] for user in details.users]))
        if not read.is_cut_off:
            _add_totals(api, account_id, details, read.scan)
    return read.finish()


def _read_details(api: Api, account_id: str, details: Details) -> None:
    for page in api.pages(account_id, "iam", "get_account_authorization_details", Filter=KINDS, MaxItems=1000):
        details.users.extend(page.get("UserDetailList", ()))
        details.groups.extend(page.get("GroupDetailList", ()))
        details.roles.extend(page.get("RoleDetailList", ()))
        details.policies.extend(page.get("Policies", ()))


def _add_totals(api: Api, account_id: str, details: Details, scan: Scan) -> None:
    says = api.call(account_id, "iam", "get_account_summary")["SummaryMap"]
    local = [policy for policy in details.policies if not _is_aws_owned(policy["Arn"])]
    for name, read in (
        ("Users", details.users),
        ("Groups", details.groups),
        ("Roles", details.roles),
        ("Policies", local),
    ):
        # A row that a shifted page shows again must not stand for one that it hides.
        scan.totals.append(ControlTotal(name, len({one["Arn"] for one in read}), says.get(name)))


# ---- principals and groups


def _add_principals(account: AccountRecord, details: Details, report: Report, our_roles: set[str], scan: Scan) -> None:
    for user in details.users:
        scan.principals.append(
            PrincipalRecord(
                kind="iam_user",
                name=reading.name(user["UserName"]),
                last_used_at=report.last_used_at(user["Arn"]),
                **_common(account, user, user["UserId"]),
            )
        )
    for group in details.groups:
        _add_group(account, group, scan)
    for role in details.roles:
        scan.principals.append(_role(account, role, details.sessions.get(role["Arn"]), our_roles))
    group_arns = {group["GroupName"]: group["Arn"] for group in details.groups}
    for user in details.users:
        for group_name in user.get("GroupList") or ():
            if group_name in group_arns:
                scan.assignments.append(AssignmentRecord(user["Arn"], f"membership:{group_arns[group_name]}"))
            else:
                scan.problems.append(f"User {user['UserName']} is in group {group_name}, which was not listed.")
    if report.root:
        scan.principals.append(
            PrincipalRecord(
                kind="iam_root",
                external_id=report.root.arn,
                name="root",
                account_id=account.external_id,
                last_used_at=report.last_used_at(report.root.arn),
                attributes={"arn": report.root.arn},
            )
        )


def _add_group(account: AccountRecord, group: Mapping[str, Any], scan: Scan) -> None:
    common = _common(account, group, group["GroupId"])
    scan.principals.append(PrincipalRecord(kind="iam_group", name=reading.name(group["GroupName"]), **common))
    scan.entitlements.append(
        EntitlementRecord(
            kind="iam_group",
            external_id=f"membership:{group['Arn']}",
            name=reading.name(group["GroupName"]),
            account_id=account.external_id,
            makes_external_id=group["Arn"],
            attributes={"group_name": group["GroupName"], "group_arn": group["Arn"]},
        )
    )


def _role(
    account: AccountRecord, role: Mapping[str, Any], max_session: int | None, our_roles: set[str]
) -> PrincipalRecord:
    common = _common(account, role, role["RoleId"])
    common["attributes"] |= {
        "trust": role.get("AssumeRolePolicyDocument"),
        "max_session": max_session,
        "is_reserved": role["Path"].startswith(RESERVED_PATH),
        "is_service_linked": role["Path"].startswith(SERVICE_PATH),
        "is_portal": f"{role['Path']}{role['RoleName']}".lstrip("/") in our_roles,
        **_ours(jit.is_role_of_ours(role)),
    }
    return PrincipalRecord(
        kind="iam_role",
        name=reading.name(role["RoleName"]),
        last_used_at=(role.get("RoleLastUsed") or {}).get("LastUsedDate"),
        **common,
    )


def _common(account: AccountRecord, holder: Mapping[str, Any], unique_id: str) -> dict[str, Any]:
    return {
        "external_id": holder["Arn"],
        "account_id": account.external_id,
        "created_at": holder.get("CreateDate"),
        "attributes": {
            "arn": holder["Arn"],
            "unique_id": unique_id,
            "path": reading.name(holder.get("Path")),
            "tags": reading.tags(holder.get("Tags")),
            "boundary": reading.name((holder.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")),
        },
    }


# ---- policies


def _add_policies(api: Api, account: AccountRecord, details: Details, scan: Scan) -> None:
    documents = {policy["Arn"]: _default_version(policy) for policy in details.policies}
    paths = {policy["Arn"]: policy.get("Path", "/") for policy in details.policies}
    attached = {
        policy["PolicyArn"] for _, holder in details.holders() for policy in holder.get("AttachedManagedPolicies") or ()
    }
    local = {policy["Arn"] for policy in details.policies if not _is_aws_owned(policy["Arn"])}
    ours = set()
    known: dict[str, DocumentRecord] = {}
    shared = ManagedPolicies(api)
    for arn in sorted(local | attached):
        policy_name = reading.name(arn.rpartition("/")[2])
        document = documents.get(arn)
        if document is None:
            document = _shared_document(shared, account, arn, scan)
        known[arn] = DocumentRecord(policy_name, document)
        is_ours = paths.get(arn, "").startswith(OUR_PATH) and only_denies(document)
        ours |= {arn} if is_ours else set()
        scan.entitlements.append(
            EntitlementRecord(
                kind="iam_policy",
                external_id=f"{arn}@{account.external_id}",
                name=policy_name,
                account_id=account.external_id,
                documents=(known[arn],),
                attributes={"policy_arn": arn, "is_aws_owned": _is_aws_owned(arn)} | _ours(is_ours),
            )
        )
    scan.notes.extend(sorted(set(shared.unreadable)))
    for kind, holder in details.holders():
        for policy in holder.get("AttachedManagedPolicies") or ():
            facts = _ours(policy["PolicyArn"] in ours) | _reserved(holder)
            external_id = f"{policy['PolicyArn']}@{account.external_id}"
            scan.assignments.append(AssignmentRecord(holder["Arn"], external_id, facts))
        for policy in holder.get(f"{kind}PolicyList") or ():
            _add_inline(account, holder, policy, scan)
    scan.entitlements.extend(_tier_role(account, role, known) for role in details.roles if role["Path"] == TIER_PATH)


def _tier_role(
    account: AccountRecord, role: Mapping[str, Any], known: Mapping[str, DocumentRecord]
) -> EntitlementRecord:
    """A role that a broker lets people into. Nobody holds it in AWS's eyes, so no assignment is read."""
    boundary = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
    inline = [
        DocumentRecord(reading.name(policy["PolicyName"]), policy["PolicyDocument"])
        for policy in role.get("RolePolicyList") or ()
        if not _is_tier_guard(role, policy)
    ]
    attached = [known[policy["PolicyArn"]] for policy in role.get("AttachedManagedPolicies") or ()]
    return EntitlementRecord(
        kind="tier_role",
        external_id=f"tier:{role['Arn']}",
        name=reading.name(role["RoleName"]),
        account_id=account.external_id,
        documents=(*inline, *attached),
        boundary=known.get(boundary),
        attributes={"role_arn": role["Arn"], "unique_id": role["RoleId"]},
    )


def _is_tier_guard(holder: Mapping[str, Any], policy: Mapping[str, Any]) -> bool:
    """Whether an inline policy is the guard of a tier role, by its place and by what it says."""
    is_named_so = holder.get("Path") == TIER_PATH and policy["PolicyName"] == jit.GUARD
    return is_named_so and only_denies(policy["PolicyDocument"])


def _shared_document(shared: ManagedPolicies, account: AccountRecord, arn: str, scan: Scan) -> Any:
    try:
        return shared.document(account.external_id, arn).document
    except Gone:
        scan.problems.append(f"Policy {arn} is attached but does not exist any more. It changed while it was read.")
        return ""


def _add_inline(account: AccountRecord, holder: Mapping[str, Any], policy: Mapping[str, Any], scan: Scan) -> None:
    external_id = inline_id(holder["Arn"], policy["PolicyName"])
    is_of_grant = holder.get("Path") == OUR_PATH and "RoleName" in holder
    claims_ours = policy["PolicyName"].lower().startswith(OUR_POLICY) or is_of_grant
    is_written_so = policy["PolicyName"] == OUR_POLICY and is_dated(policy["PolicyDocument"], datetime.now(UTC))
    is_ours = jit.is_role_of_ours(holder) if is_of_grant else is_written_so
    is_ours = is_ours or _is_tier_guard(holder, policy)
    if claims_ours and not is_ours:
        scan.notes.append(
            f"Inline policy {policy['PolicyName']} of {holder['Arn']} is not what Gatehouse writes. Look at it."
        )
    facts = _ours(is_ours) | _reserved(holder)
    policy_name = reading.name(policy["PolicyName"])
    scan.entitlements.append(
        EntitlementRecord(
            kind="iam_inline_policy",
            external_id=external_id,
            name=policy_name,
            account_id=account.external_id,
            documents=(DocumentRecord(policy_name, policy["PolicyDocument"]),),
            attributes={"policy_name": policy["PolicyName"], "holder_arn": holder["Arn"]} | facts,
        )
    )
    scan.assignments.append(AssignmentRecord(holder["Arn"], external_id, facts))


def inline_id(holder_arn: str, policy_name: str) -> str:
    """The external id of an inline policy."""
    return f"{holder_arn}#inline/{policy_name}"


def _default_version(policy: Mapping[str, Any]) -> Any:
    versions = policy.get("PolicyVersionList") or ()
    return next((version["Document"] for version in versions if version.get("IsDefaultVersion")), "")


def _is_aws_owned(arn: str) -> bool:
    return ":iam::aws:policy/" in arn


def _ours(is_ours: bool) -> dict[str, bool]:
    return {"is_ours": True} if is_ours else {}


def _reserved(holder: Mapping[str, Any]) -> dict[str, bool]:
    """Identity Center writes the policies of its roles; they follow the permission set and cannot be removed here."""
    return {"is_reserved": True} if holder.get("Path", "").startswith(RESERVED_PATH) else {}


def only_denies(document: Any) -> bool:
    """Whether a policy can take access away and never give any: what a guard of ours looks like."""
    try:
        statements = parse(document).statements
    except MalformedPolicy:
        return False
    return bool(statements) and all(statement.effect == "Deny" for statement in statements)


def is_dated(document: Any, now: datetime) -> bool:
    """Whether an inline policy has the shape of `iam_timeboxed_policy`: our Sids, and every Allow ends by itself, no later
    than any grant can."""
    try:
        statements = parse(document).statements
    except MalformedPolicy:
        return False
    return bool(statements) and all(_is_dated(statement, now + FURTHEST_END) for statement in statements)


def _is_dated(statement: Statement, latest: datetime) -> bool:
    if not _OUR_SID.fullmatch(statement.sid) or not statement.sid.startswith(statement.effect):
        return False
    if statement.effect == "Deny":
        return True
    if statement.is_not_action or statement.is_not_resource or len(statement.conditions) != 1:
        return False
    [condition] = statement.conditions
    ends = [instant(value) for value in condition.values]
    is_an_end = condition.key == "aws:currenttime" and condition.operator in ("DateLessThan", "DateLessThanEquals")
    return is_an_end and bool(ends) and all(end is not None and end <= latest for end in ends)

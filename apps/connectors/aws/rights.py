"""What reading needs of AWS, one line for each right, and how each is tried without changing anything.

Every call is made for something that does not exist, or for one row: AWS decides about rights first, so "no such thing"
says that the right is there. Not so S3, which denies what does not exist to whoever may not list the whole bucket (S3 API,
GetObject, "Permissions"), and our role lists one prefix: there a file is tried that a listing shows.
`tests/deploy` compares this table with what the code calls and with the templates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from botocore import xform_name

from apps.connectors.aws import identity_center, organizations, trail_files
from apps.connectors.aws.errors import CREDENTIAL_CODES, code_of, denied_action, who_denies
from apps.connectors.aws.session import Api, Session
from apps.connectors.base import AccountRecord, Checkup, Finding, Progress
from apps.connectors.errors import ConnectorError, Denied, Gone, Throttled

MOST_ACCOUNTS = 25  # tested one by one; of more, a sample that is the same every time
NOBODY = "gatehouse-connection-test"
ARCHIVED = "InvalidObjectState"  # a file that S3 would hand out, if it were not in an archive
NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Place:
    """What the calls in one account name."""

    account_id: str
    partition: str
    config: Mapping[str, Any]
    instance_arn: str = ""
    store_id: str = ""
    trail_file: str = ""

    @property
    def policy_arn(self) -> str:
        return f"arn:{self.partition}:iam::{self.account_id}:policy/{NOBODY}"

    @property
    def permission_set_arn(self) -> str:
        return f"arn:{self.partition}:sso:::permissionSet/{self.instance_arn.rpartition('/')[2]}/ps-0000000000000000"


@dataclass(frozen=True, slots=True)
class Right:
    """One action, and the call that needs no more than it."""

    action: str  # "iam:GetRole"
    params: Callable[[Place], Mapping[str, Any]]
    service: str = ""  # where boto3 calls it otherwise than IAM

    @property
    def call(self) -> tuple[str, str]:
        prefix, _, name = self.action.partition(":")
        return self.service or prefix, CALLS.get(self.action) or xform_name(name)


def _with(**params: Any) -> Callable[[Place], Mapping[str, Any]]:
    return lambda _place: params


def _set(place: Place) -> Mapping[str, Any]:
    return {"InstanceArn": place.instance_arn, "PermissionSetArn": place.permission_set_arn}


def _policy(place: Place) -> Mapping[str, Any]:
    return {"PolicyArn": place.policy_arn}


_USER, _ROLE, _GROUP = _with(UserName=NOBODY), _with(RoleName=NOBODY), _with(GroupName=NOBODY)

IN_ACCOUNTS = (
    Right("iam:GetAccountAuthorizationDetails", _with(MaxItems=1)),
    Right("iam:GetAccountSummary", _with()),
    Right("iam:GenerateCredentialReport", _with()),
    Right("iam:GetCredentialReport", _with()),
    Right("iam:ListRoles", _with(MaxItems=1)),
    Right("iam:ListAccessKeys", _USER),
    Right("iam:GetUser", _USER),
    Right("iam:GetUserPolicy", _with(UserName=NOBODY, PolicyName=NOBODY)),
    Right("iam:ListUserPolicies", _USER),
    Right("iam:ListAttachedUserPolicies", _USER),
    Right("iam:ListGroupsForUser", _USER),
    Right("iam:GetRole", _ROLE),
    Right("iam:GetRolePolicy", _with(RoleName=NOBODY, PolicyName=NOBODY)),
    Right("iam:ListRolePolicies", _ROLE),
    Right("iam:ListAttachedRolePolicies", _ROLE),
    Right("iam:GetGroup", _GROUP),
    Right("iam:GetGroupPolicy", _with(GroupName=NOBODY, PolicyName=NOBODY)),
    Right("iam:ListGroupPolicies", _GROUP),
    Right("iam:ListAttachedGroupPolicies", _GROUP),
    Right("iam:GetPolicy", _policy),
    Right("iam:GetPolicyVersion", lambda place: {**_policy(place), "VersionId": "v1"}),
    Right("iam:ListPolicyVersions", _policy),
    Right(
        "iam:GenerateServiceLastAccessedDetails",
        lambda place: {"Arn": f"arn:{place.partition}:iam::{place.account_id}:role/{NOBODY}"},
    ),
    Right("iam:GetServiceLastAccessedDetails", _with(JobId=NO_ID)),
    Right("ec2:DescribeSecurityGroups", _with(MaxResults=5)),
    Right("ec2:DescribeSecurityGroupRules", _with(MaxResults=5)),
    Right("scheduler:GetScheduleGroup", lambda place: {"Name": place.config["schedule_group"]}),
    Right("scheduler:GetSchedule", lambda place: {"GroupName": place.config["schedule_group"], "Name": NOBODY}),
)


def _store(**params: Any) -> Callable[[Place], Mapping[str, Any]]:
    return lambda place: {"IdentityStoreId": place.store_id, **params}


def _sso(action: str, params: Callable[[Place], Mapping[str, Any]] = _set) -> Right:
    return Right(f"sso:{action}", params, "sso-admin")


def _request(name: str) -> Callable[[Place], Mapping[str, Any]]:
    return lambda place: {"InstanceArn": place.instance_arn, name: NO_ID}


ORGANIZATION = (
    Right("organizations:DescribeOrganization", _with()),
    Right("organizations:ListAccounts", _with(MaxResults=1)),
    Right("organizations:ListRoots", _with(MaxResults=1)),
    Right("organizations:ListAccountsForParent", _with(ParentId="r-0000", MaxResults=1)),
    Right("organizations:ListOrganizationalUnitsForParent", _with(ParentId="r-0000", MaxResults=1)),
    Right("organizations:ListPolicies", _with(Filter="SERVICE_CONTROL_POLICY", MaxResults=1)),
    Right("organizations:ListTargetsForPolicy", _with(PolicyId="p-00000000", MaxResults=1)),
    Right("organizations:ListTagsForResource", lambda place: {"ResourceId": place.account_id}),
    Right("lambda:GetFunction", lambda place: {"FunctionName": place.config["ender_function"]}),
)
LIST_INSTANCES = _sso("ListInstances", _with(MaxResults=1))
DIRECTORY = (
    _sso("ListPermissionSets", lambda place: {"InstanceArn": place.instance_arn, "MaxResults": 1}),
    _sso("DescribePermissionSet"),
    _sso("GetInlinePolicyForPermissionSet"),
    _sso("GetPermissionsBoundaryForPermissionSet"),
    _sso("ListManagedPoliciesInPermissionSet"),
    _sso("ListCustomerManagedPolicyReferencesInPermissionSet"),
    _sso("ListAccountAssignments", lambda place: {**_set(place), "AccountId": place.account_id}),
    _sso(
        "ListPermissionSetsProvisionedToAccount",
        lambda place: {"InstanceArn": place.instance_arn, "AccountId": place.account_id},
    ),
    _sso("DescribeAccountAssignmentCreationStatus", _request("AccountAssignmentCreationRequestId")),
    _sso("DescribeAccountAssignmentDeletionStatus", _request("AccountAssignmentDeletionRequestId")),
    Right("identitystore:ListUsers", _store(MaxResults=1)),
    Right("identitystore:ListGroups", _store(MaxResults=1)),
    Right("identitystore:DescribeUser", _store(UserId=NO_ID)),
    Right("identitystore:DescribeGroup", _store(GroupId=NO_ID)),
    Right("identitystore:ListGroupMemberships", _store(GroupId=NO_ID, MaxResults=1)),
    Right("identitystore:GetGroupMembershipId", _store(GroupId=NO_ID, MemberId={"UserId": NO_ID})),
)
# In the account that holds the bucket of the audit trail, where the connection names one.
LIST_TRAIL = Right(
    "s3:ListBucket",
    lambda place: {"Bucket": place.config["trail_bucket"], "Prefix": trail_files.root(place.config), "MaxKeys": 1},
)
READ_TRAIL = Right(
    "s3:GetObject",
    lambda place: {"Bucket": place.config["trail_bucket"], "Key": place.trail_file, "Range": "bytes=0-0"},
)
TRAIL = (LIST_TRAIL, READ_TRAIL)
CALLS = {"s3:ListBucket": "list_objects_v2"}  # what boto3 calls an action otherwise than IAM

IN_HUB = (*ORGANIZATION, LIST_INSTANCES, *DIRECTORY)
FEED = Right("sqs:GetQueueAttributes", _with(AttributeNames=["QueueArn"]))

_BY = {
    "identity": ("{role} lacks the right", "Update the stack of {template}, or add the statement to {role}."),
    "scp": (
        "A service control policy denies it",
        "Ask who manages the organization's policies to leave {action} to {role}; no policy of the role helps.",
    ),
    "rcp": (
        "A resource control policy denies it",
        "Ask who manages the organization's policies to leave {action} to {role}; no policy of the role helps.",
    ),
    "boundary": (
        "The permissions boundary of {role} denies it",
        "Take the boundary off the role; {template} sets none.",
    ),
    "explicit": ("A policy of {role} denies it", "Take the Deny out; {template} has none for reading."),
    "": ("AWS denies it and does not say which policy does", "Update the stack of {template}; then look for a Deny."),
}


def checkup(session: Session, progress: Progress) -> Checkup:
    """Try every right in the hub and in the accounts that Organizations lists now, or in a sample of many. Raises when
    there is nothing to start from: the worker's own credentials."""
    return _Trying(session, progress).go()


class _Trying:
    def __init__(self, session: Session, progress: Progress) -> None:
        self.session, self.progress = session, progress
        self.api = Api(session, "reader_role")
        self.hub = self.api.hub_id
        self.findings: list[Finding] = []
        # Action → what was said: an endpoint that lacks a call lacks it everywhere.
        self.unanswered: dict[str, str] = {}

    def go(self) -> Checkup:
        self.progress(0, 1, "the hub")
        refused = self.entered(self.hub)
        if refused:
            if isinstance(refused, Throttled):
                raise refused
            return Checkup([self.not_entered(self.hub, "Hub", refused, anywhere=False)], 0, 0)
        self.found(self.hub, "Hub", "sts:AssumeRole")
        self.try_hub()
        readable = [account for account in self.listed() if account.state == "active"]
        chosen = sample(readable, self.hub)
        self.try_accounts(chosen)
        return Checkup(self.findings, len(chosen), len(readable))

    def listed(self) -> list[AccountRecord]:
        try:
            return organizations.list_accounts(self.api)
        except ConnectorError:  # the hub's lines say what is missing for it
            return [AccountRecord(self.hub, "Hub")]

    # ---- the hub

    def try_hub(self) -> None:
        place = Place(self.hub, self.session.hub().partition, self.session.config)
        for right in ORGANIZATION:
            self.attempt(right, place, "Hub", "hub.yaml")
        if self.attempt(LIST_INSTANCES, place, "Hub", "hub.yaml"):
            try:
                instance = identity_center.find_instance(self.api)
            except Gone as nothing:
                self.found(
                    self.hub,
                    "Hub",
                    "sso:ListInstances",
                    "missing",
                    str(nothing),
                    "Set the home Region of the connection, and make the hub the delegated administrator of "
                    "Identity Center.",
                )
            else:
                place = replace(place, instance_arn=instance.arn, store_id=instance.store_id)
                for right in DIRECTORY:
                    self.attempt(right, place, "Hub", "hub.yaml")
        if self.session.config.get("change_queue"):
            self.try_feed(place)
        if self.session.config.get("trail_bucket"):
            self.try_trail()

    def try_trail(self) -> None:
        account_id = str(self.session.config.get("trail_account") or self.hub)
        refused = self.entered(account_id)
        if refused:
            self.findings.append(self.not_entered(account_id, "Audit trail", refused, anywhere=False))
            return
        place = Place(account_id, self.session.hub().partition, self.session.config)
        why = "Which files there are could not be listed"
        if self.attempt(LIST_TRAIL, place, "Audit trail", "member.yaml"):
            try:
                listed = self.api.call(account_id, "s3", "list_objects_v2", **LIST_TRAIL.params(place))
            except ConnectorError as error:  # no such bucket, or a passing fault
                why = str(error).rstrip(".")
            else:
                files = [one["Key"] for one in listed.get("Contents", ())]
                if files:
                    place = replace(place, trail_file=files[0])
                    self.attempt(READ_TRAIL, place, "Audit trail", "member.yaml")
                    return
                why = f"There is no file under {LIST_TRAIL.params(place)['Prefix']} yet"
        self.found(
            account_id,
            "Audit trail",
            READ_TRAIL.action,
            "unknown",
            f"{why}, and only a file that is there tells whether files may be read.",
            "Compare the bucket, its account and its prefix with the trail's, and test again once it has a file.",
        )

    def try_feed(self, place: Place) -> None:
        feed = Api(self.session, "feed_role")
        name = str(self.session.config["change_queue"])
        try:
            refused = feed.attempt(self.hub, *FEED.call, {"QueueUrl": feed.queue_url(name), **FEED.params(place)})
        except ConnectorError as error:
            refused = error
        if isinstance(refused, Gone) or code_of(refused).endswith("NonExistentQueue"):
            why, advice = f"There is no queue {name} in the hub", "Deploy feed.yaml there, or correct the name."
        elif isinstance(refused, Denied):
            role = self.session.config["feed_role"]
            why, advice = f"{role} may not be assumed, or may not look at {name}", "Deploy feed.yaml in the hub."
        elif refused:
            self.found(self.hub, "Hub", FEED.action, "unknown", str(refused), "Test again in a while.")
            return
        else:
            why = advice = ""
        self.found(self.hub, "Hub", FEED.action, "missing" if why else "ok", why, advice)

    # ---- accounts

    def try_accounts(self, accounts: Sequence[AccountRecord]) -> None:
        refused = {account.external_id: self.entered(account.external_id) for account in accounts}
        others = [account_id for account_id in refused if account_id != self.hub]
        anywhere = any(refused[account_id] is None for account_id in others)
        for done, account in enumerate(accounts):
            self.progress(done, len(accounts), account.name)
            why = refused[account.external_id]
            if why is not None:
                self.findings.append(self.not_entered(account.external_id, account.name, why, anywhere=anywhere))
                continue
            if account.external_id != self.hub:
                self.found(account.external_id, account.name, "sts:AssumeRole")
            place = Place(account.external_id, self.session.hub().partition, self.session.config)
            for right in IN_ACCOUNTS:
                self.attempt(right, place, account.name, "member.yaml")

    def entered(self, account_id: str) -> ConnectorError | None:
        """Whether the reader's role lets us in. What is wrong with the worker's own credentials is raised."""
        try:
            self.api.enter(account_id)
        except Denied as error:
            if code_of(error) in CREDENTIAL_CODES or not code_of(error):
                raise
            return error
        except ConnectorError as error:
            return error
        return None

    def not_entered(self, account_id: str, name: str, refused: ConnectorError, *, anywhere: bool) -> Finding:
        """AWS answers the same for a role that is not there and for one that asks for another external id, so what other
        accounts say decides what is told."""
        role, arn = self.session.config["reader_role"], self.session.role_arn(account_id, "reader_role")
        if not isinstance(refused, Denied):
            return Finding(account_id, name, "sts:AssumeRole", "unknown", str(refused), "Test again in a while.")
        by = who_denies(refused)
        if by == "identity":
            why = f"What the worker runs as may not assume {role}."
            advice = "Update the stack of hub.yaml, and run the worker as PortalHub."
            return Finding(
                account_id, name, "sts:AssumeRole", "missing", why, advice, _statement("sts:AssumeRole", arn)
            )
        if by in ("scp", "rcp"):
            why, advice = (text.format(role=role, action="sts:AssumeRole", template="") for text in _BY[by])
            return Finding(account_id, name, "sts:AssumeRole", "missing", f"{why}.", advice)
        why = f"AWS does not let the worker become {role}: the role is not there, or does not trust this connection."
        if anywhere:
            advice = (
                "Other accounts let it in, so this one most likely lacks member.yaml: add it to the StackSet. "
                "If the stack is there, compare its parameters HubAccountId and ExternalId with theirs."
            )
        else:
            advice = (
                "No account lets it in. Deploy hub.yaml and member.yaml, with this connection's external id as "
                f"ExternalId and {self.hub} as HubAccountId; the worker runs as {self.session.hub().arn}."
            )
        return Finding(account_id, name, "sts:AssumeRole", "missing", why, advice)

    # ---- one right

    def attempt(self, right: Right, place: Place, name: str, template: str) -> bool:
        """Whether the right is there, for all we know."""
        if right.action in self.unanswered:
            said = self.unanswered[right.action]
            self.found(place.account_id, name, right.action, "unknown", said, "Test again in a while.")
            return True
        refused = self.api.attempt(place.account_id, *right.call, right.params(place))
        if isinstance(refused, Denied) and code_of(refused) != ARCHIVED:
            by, action = who_denies(refused), denied_action(refused) or right.action
            words = {"role": self.session.config["reader_role"], "template": template, "action": action}
            why, advice = (text.format(**words) for text in _BY[by])
            statement = _statement(action) if by in ("identity", "") else None
            self.found(place.account_id, name, action, "missing", f"{why}.", advice, statement)
            return False
        if isinstance(refused, Throttled):
            self.found(place.account_id, name, right.action, "unknown", str(refused), "Test again in a while.")
            if code_of(refused) in ("", identity_center.NOT_OFFERED):
                self.unanswered[right.action] = str(refused)
            return True
        self.found(place.account_id, name, right.action)
        return True

    def found(self, *words: Any) -> None:
        self.findings.append(Finding(*words))


def sample(accounts: Sequence[AccountRecord], hub: str) -> list[AccountRecord]:
    """All, or the hub and accounts spread evenly over the organization's tree, the same at every test."""
    ordered = sorted(accounts, key=lambda account: (account.external_id != hub, account.path, account.external_id))
    if len(ordered) <= MOST_ACCOUNTS:
        return ordered
    step = len(ordered) / MOST_ACCOUNTS
    return [ordered[int(place * step)] for place in range(MOST_ACCOUNTS)]


def _statement(action: str, resource: str = "*") -> Mapping[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}

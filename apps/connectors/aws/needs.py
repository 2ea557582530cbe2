"""What reading needs of AWS, one line for each right, and the call that tries it without changing anything (`rights`).

Every call is made for something that does not exist, or for one row: AWS decides about rights first, so "no such thing"
says that the right is there. Not so S3, which denies what does not exist to whoever may not list the whole bucket (S3 API,
GetObject, "Permissions"), and our role lists one prefix: there a file is tried that a listing shows.
`tests/deploy` compares this table with what the code calls and with the templates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore import xform_name

from apps.connectors.aws import trail_files

NOBODY = "gatehouse-connection-test"
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
    queue_url: str = ""
    resource: str = "*"  # in a statement that gives what is missing

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


def _queue(**params: Any) -> Callable[[Place], Mapping[str, Any]]:
    return lambda place: {"QueueUrl": place.queue_url, **params}


# As the role that empties the queue of changes. SQS refuses a receipt that it never gave. What is received is there for the
# worker at once, but counts against the times that a message may be taken before it is put aside (feed.yaml: five): that is
# tried only where SQS counts none.
LOOK_AT_QUEUE = Right("sqs:GetQueueAttributes", _queue(AttributeNames=["ApproximateNumberOfMessages"]))
DELETE_MESSAGE = Right("sqs:DeleteMessage", _queue(ReceiptHandle=NOBODY))
RECEIVE_MESSAGE = Right("sqs:ReceiveMessage", _queue(MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=0))
FEED = (LOOK_AT_QUEUE, DELETE_MESSAGE, RECEIVE_MESSAGE)

"""Gatehouse's own roles at Harbourline: what a customer would roll out with a StackSet before connecting the portal.

Reader, provisioner and remover stand in every account and trust the hub role alone, and so does the role that AWS's
scheduler ends things as; hub and ender stand in the management account. The provisioner may add and end just-in-time
access, the others may only take away.
"""

from apps.demo.company import policies
from apps.demo.company.model import Document, Policy, Role
from apps.demo.company.people import CAST
from apps.demo.company.policies import allow, deny, document

PATH = "/portal/"
ENDER_FUNCTION = "portal-ender"  # of the management account: ends memberships of the directory by name
TRAIL_BUCKET = "harbourline-audit-trail"  # of the security account
SCHEDULE_GROUP = "jit"  # of AWS's scheduler, in every account: what the portal has it end
_OWN = ["arn:aws:iam::*:role/portal/*", "arn:aws:iam::*:role/jit/*"]
_GUARDS = "arn:aws:iam::*:policy/jit/jit-guard*"
_TIME_BOXED = {"StringEquals": {"iam:ResourceTag/gatehouse:time-boxed": "allowed"}}

_HUB_ONLY = document(
    {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::<management>:role/portal/PortalHub"},
        "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
        "Condition": {
            "StringEquals": {"aws:PrincipalOrgID": "<org>"},
            "StringLike": {"sts:SourceIdentity": "portal-*"},
        },
    }
)
_HUB_TRUST = document(
    {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
)
_BROKER_TRUST = document(
    {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::<management>:role/portal/PortalHub"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "<org>"}},
    }
)
_SCHEDULER_TRUST = document(
    {
        "Effect": "Allow",
        "Principal": {"Service": "scheduler.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {"aws:SourceAccount": "<self>"},
            "ArnLike": {"aws:SourceArn": "arn:aws:scheduler:<region>:<self>:schedule-group/jit"},
        },
    }
)

_READ_ASSIGNMENTS = allow(
    ["sso:List*", "sso:Describe*", "sso:Get*", "identitystore:List*", "identitystore:Describe*", "identitystore:Is*"],
    Sid="ReadAssignments",
)
_READER = [
    allow(
        [
            "iam:GetAccountAuthorizationDetails",
            "iam:GetAccountSummary",
            "iam:GenerateCredentialReport",
            "iam:GetCredentialReport",
            "iam:GenerateServiceLastAccessedDetails",
            "iam:GetServiceLastAccessedDetails",
            "iam:Get*",
            "iam:List*",
            "iam:SimulatePrincipalPolicy",
        ],
        Sid="ReadIam",
    ),
    allow(["ec2:DescribeSecurityGroups", "ec2:DescribeSecurityGroupRules"], Sid="ReadOpenings"),
]
_READER_MANAGEMENT = [
    _READ_ASSIGNMENTS,
    allow(["organizations:Describe*", "organizations:List*"], Sid="ReadOrganization"),
]
_READER_TRAIL = [
    allow(
        ["s3:ListBucket", "s3:GetObject"],
        [f"arn:aws:s3:::{TRAIL_BUCKET}", f"arn:aws:s3:::{TRAIL_BUCKET}/*"],
        Sid="ReadTrail",
    )
]
_GUARD_AND_TIME_BOXED = [
    allow(
        ["iam:CreatePolicyVersion", "iam:DeletePolicyVersion", "iam:GetPolicyVersion", "iam:ListPolicyVersions"],
        _GUARDS,
        Sid="Guard",
    ),
    allow(
        ["iam:PutUserPolicy", "iam:DeleteUserPolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"],
        ["arn:aws:iam::*:user/*", "arn:aws:iam::*:role/*"],
        Sid="TimeBoxed",
        Condition=_TIME_BOXED,
    ),
    allow("iam:PutRolePolicy", "arn:aws:iam::*:role/jit/tier/*", Sid="GuardsOfTierRoles"),
    allow(
        [
            "iam:CreateRole",
            "iam:PutRolePolicy",
            "iam:UpdateAssumeRolePolicy",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:DeleteRole",
        ],
        "arn:aws:iam::*:role/jit/jit-*",
        Sid="RolesOfGrants",
        Condition={"StringEquals": {"iam:PermissionsBoundary": "arn:aws:iam::<self>:policy/jit/JitBoundary"}},
    ),
    allow("iam:TagRole", "arn:aws:iam::*:role/jit/jit-*", Sid="TagsOfRoles"),
    allow(
        ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", "ec2:CreateTags", "ec2:DeleteTags"],
        ["arn:aws:ec2:*:<self>:security-group/*", "arn:aws:ec2:*:<self>:security-group-rule/*"],
        Sid="Openings",
    ),
    allow(["iam:Get*", "iam:List*"], Sid="ReadBack"),
    deny(["iam:CreateUser", "iam:CreateAccessKey", "iam:CreateLoginProfile", "sts:AssumeRole"], Sid="Never"),
]
_NOT_MYSELF = deny(["iam:Put*", "iam:Attach*", "iam:Update*", "iam:Delete*", "iam:Detach*"], _OWN[0], Sid="NotMyself")
_SCHEDULES = [
    allow(
        ["scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:GetSchedule", "scheduler:DeleteSchedule"],
        "arn:aws:scheduler:<region>:<self>:schedule/jit/*",
        Sid="Ends",
    ),
    allow(
        "iam:PassRole",
        "arn:aws:iam::<self>:role/portal/PortalScheduler",
        Sid="RoleToScheduler",
        Condition={"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
    ),
]
_MEMBERSHIPS = allow(["iam:AddUserToGroup", "iam:RemoveUserFromGroup"], "arn:aws:iam::*:group/*", Sid="Memberships")
_PROVISIONER = [*_GUARD_AND_TIME_BOXED, _NOT_MYSELF, *_SCHEDULES, _MEMBERSHIPS]
_PROVISIONER_MANAGEMENT = [
    *_GUARD_AND_TIME_BOXED,
    _NOT_MYSELF,
    allow(
        ["sso:CreateAccountAssignment", "sso:DeleteAccountAssignment"],
        ["arn:aws:sso:::instance/*", "arn:aws:sso:::permissionSet/*", "arn:aws:sso:::account/*"],
        Sid="Assign",
    ),
    allow(
        ["identitystore:CreateGroupMembership", "identitystore:DeleteGroupMembership"], Sid="MembershipsOfTheDirectory"
    ),
    _READ_ASSIGNMENTS,
    *_SCHEDULES,
    _MEMBERSHIPS,
]
_REMOVER = [
    allow(
        [
            "iam:RemoveUserFromGroup",
            "iam:DetachUserPolicy",
            "iam:DetachRolePolicy",
            "iam:DetachGroupPolicy",
            "iam:DeleteUserPolicy",
            "iam:DeleteRolePolicy",
            "iam:DeleteGroupPolicy",
        ],
        Sid="TakeAway",
    ),
    allow(["iam:Get*", "iam:List*"], Sid="ReadBack"),
    deny(
        ["iam:DetachUserPolicy", "iam:DetachRolePolicy", "iam:DetachGroupPolicy"],
        Sid="NeverADeny",
        Condition={"ArnLike": {"iam:PolicyARN": "arn:aws:iam::*:policy/jit/*"}},
    ),
    deny(["iam:Detach*", "iam:Delete*"], _OWN, Sid="NeverAPortalRole"),
]
_REMOVER_MANAGEMENT = [
    allow(["sso:DeleteAccountAssignment", "identitystore:DeleteGroupMembership"], Sid="TakeAwayAssignments"),
    _READ_ASSIGNMENTS,
]
_HUB = document(
    allow(
        "sts:AssumeRole",
        [f"arn:aws:iam::*:role/portal/Portal{name}" for name in ("Reader", "Provisioner", "Remover", "Broker")],
    )
)
_BROKER = document(
    allow(
        ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"], "arn:aws:iam::*:role/jit/tier/*", Sid="TierRoles"
    )
)
_ENDER = document(allow(["sso:DeleteAccountAssignment", "identitystore:DeleteGroupMembership"], Sid="DeleteOnly"))
_SCHEDULER = allow(
    ["iam:RemoveUserFromGroup", "ec2:RevokeSecurityGroupIngress"],
    ["arn:aws:iam::*:group/*", "arn:aws:ec2:*:<self>:security-group/*"],
    Sid="TakeAway",
)
_SCHEDULER_MANAGEMENT = document(
    _SCHEDULER,
    allow("sso:DeleteAccountAssignment", Sid="TakeAwayAssignments"),
    allow("lambda:InvokeFunction", f"arn:aws:lambda:<region>:<self>:function:{ENDER_FUNCTION}", Sid="TakeAwayByName"),
)
_ENDS = "What AWS's scheduler ends access as, when the portal cannot"


def _role(account: str, name: str, trust: Document, permissions: Document, description: str) -> Role:
    tags = {"owner": CAST["erin"], "application": "gatehouse"}
    return Role(account, name, trust, PATH, description, {"permissions": permissions}, tags=tags)


def roles(account: str) -> tuple[Role, ...]:
    """The roles that Gatehouse works through in this account."""
    if account == "management":
        return (
            _role(account, "PortalReader", _HUB_ONLY, document(*_READER, *_READER_MANAGEMENT), "Reads the inventory"),
            _role(
                account, "PortalProvisioner", _HUB_ONLY, document(*_PROVISIONER_MANAGEMENT), "Adds and ends assignments"
            ),
            _role(account, "PortalRemover", _HUB_ONLY, document(*_REMOVER, *_REMOVER_MANAGEMENT), "Takes access away"),
            _role(account, "PortalHub", _HUB_TRUST, _HUB, "What the portal runs as"),
            _role(account, "PortalEnder", _HUB_ONLY, _ENDER, "Ends assignments when the portal's worker cannot"),
            _role(account, "PortalScheduler", _SCHEDULER_TRUST, _SCHEDULER_MANAGEMENT, _ENDS),
            _role(account, "PortalBroker", _BROKER_TRUST, _BROKER, "Makes sessions in tier roles, and nothing else"),
        )
    reader = [*_READER, *(_READER_TRAIL if account == "security" else ())]
    return (
        _role(account, "PortalReader", _HUB_ONLY, document(*reader), "Reads the inventory"),
        _role(account, "PortalProvisioner", _HUB_ONLY, document(*_PROVISIONER), "Adds and ends just-in-time access"),
        _role(account, "PortalRemover", _HUB_ONLY, document(*_REMOVER), "Takes access away"),
        _role(account, "PortalScheduler", _SCHEDULER_TRUST, document(_SCHEDULER), _ENDS),
    )


def guard(account: str) -> Policy:
    """The guard policy that just-in-time permission sets refer to by name."""
    return Policy(
        account,
        policies.GUARD_NAME,
        (policies.GUARD,),
        policies.GUARD_PATH,
        "Ends just-in-time access. Gatehouse writes it",
    )

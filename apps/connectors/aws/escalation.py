"""What makes a set of allowed actions more than "may write": the rules that decide admin and privileged, most serious
first.

Known ways to become somebody more powerful come from `escalation_paths.json` (its first line names the source); the
others are ours and their ids begin with `gh-`. A rule is about what is allowed taken together: its actions may come
from different policies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Literal

RuleLevel = Literal["admin", "privileged"]


class On(StrEnum):
    """Which resources count for a rule.

    ANY: some resource at all, since the one allowed may be the one that matters. OTHERS: some resource that is not
    only the caller itself (`user/${aws:username}`) and no role of one grant. BROAD: every resource of a kind.
    """

    ANY = "any"
    OTHERS = "others"
    BROAD = "broad"


@dataclass(frozen=True, slots=True)
class Rule:
    """Met when of each of `needs` some action is allowed on the resources that count. A need is one action or
    several, "a|b".

    `says` is a sentence; `{any}` becomes "any" or "a listed" and `{makes}` "makes" or "can make", by how broad the
    resources are, and `{action}` the action that was found. `is_escalation`: it can make its holder more powerful
    than its policies say.
    """

    id: str
    level: RuleLevel
    needs: tuple[str, ...]
    says: str
    on: On = On.ANY
    is_escalation: bool = True


# What a person may do to their own user changes nothing about who they are; done to another user it is a way in.
HARMLESS_ON_SELF = (
    "iam:CreateAccessKey",
    "iam:CreateLoginProfile",
    "iam:UpdateLoginProfile",
    "iam:CreateServiceSpecificCredential",
    "iam:ResetServiceSpecificCredential",
    "iam:DeactivateMFADevice",
)

# The role of one grant lets nobody in but that grant's person, and only while it lasts: its trust decides, and the right
# to knock, which everybody who may ask for one needs, makes nobody more powerful.
HARMLESS_ON_ROLES_OF_GRANTS = ("sts:AssumeRole",)

SENSITIVE_READS = (
    "kms:Decrypt",
    "s3:GetObject",
    "secretsmanager:BatchGetSecretValue",
    "secretsmanager:GetSecretValue",
    "ssm:GetParameter*",
)

_ON = dict.fromkeys(HARMLESS_ON_SELF, On.OTHERS) | {"sts:AssumeRole": On.BROAD}

_OUR_ADMIN = (
    Rule(
        "gh-iam-001",
        "admin",
        ("iam:SetDefaultPolicyVersion",),
        "Can bring back an old version of {any} policy, which {makes} it an administrator.",
    ),
    Rule(
        "gh-iam-002",
        "admin",
        (
            "iam:DeleteRolePermissionsBoundary|iam:PutRolePermissionsBoundary"
            "|iam:DeleteUserPermissionsBoundary|iam:PutUserPermissionsBoundary",
        ),
        "Can lift the permission boundary of {any} role or user ({action}), which {makes} it an administrator.",
    ),
    Rule(
        "gh-sts-001",
        "admin",
        ("sts:AssumeRoot",),
        "Can act as the root user of member accounts, which makes it an administrator.",
    ),
    Rule(
        "gh-sso-001",
        "admin",
        ("sso:CreateAccountAssignment|sso:AssociateProfile|account-access:CreateEntitlement",),
        "Can give itself access to accounts through Identity Center ({action}), which makes it an administrator.",
    ),
    Rule(
        "gh-sso-002",
        "admin",
        (
            "sso:AttachCustomerManagedPolicyReferenceToPermissionSet|sso:AttachManagedPolicyToPermissionSet"
            "|sso:PutInlinePolicyToPermissionSet|sso:PutPermissionsPolicy|sso:PutPermissionsBoundaryToPermissionSet"
            "|sso:DeletePermissionsBoundaryFromPermissionSet|sso:DeleteInlinePolicyFromPermissionSet"
            "|sso:DetachCustomerManagedPolicyReferenceFromPermissionSet|sso:DetachManagedPolicyFromPermissionSet",
        ),
        "Can change what permission sets allow ({action}), which makes it an administrator.",
    ),
    Rule(
        "gh-sso-003",
        "admin",
        (
            "identitystore:CreateGroupMembership|identitystore:CreateUser|identitystore:UpdateUser|identitystore:UpdateGroup"
            "|sso-directory:AddMemberToGroup|sso-directory:CreateUser|sso-directory:UpdatePassword|sso-directory:UpdateUser"
            "|sso-directory:UpdateUserName|sso-directory:CreateBearerToken|sso-directory:ImportExternalIdPCertificate"
            "|sso-directory:CreateExternalIdPConfigurationForDirectory|sso-directory:EnableExternalIdPConfigurationForDirectory"
            "|sso-directory:UpdateExternalIdPConfigurationForDirectory|sso:AssociateDirectory|sso:UpdateTrust|sso:CreateTrust",
        ),
        "Can change who is who in Identity Center ({action}), which makes it an administrator.",
    ),
    Rule(
        "gh-organizations-001",
        "admin",
        (
            "organizations:AttachPolicy|organizations:CreatePolicy|organizations:DeletePolicy|organizations:DetachPolicy"
            "|organizations:DisablePolicyType|organizations:EnablePolicyType|organizations:UpdatePolicy"
            "|organizations:DeleteResourcePolicy|organizations:PutResourcePolicy|organizations:RegisterDelegatedAdministrator"
            "|organizations:MoveAccount|organizations:CreateAccount|organizations:CreateGovCloudAccount|organizations:CloseAccount"
            "|organizations:LeaveOrganization|organizations:RemoveAccountFromOrganization|organizations:DeleteOrganization"
            "|organizations:InviteAccountToOrganization|organizations:AcceptHandshake|organizations:EnableAllFeatures",
        ),
        "Can change the organization and its policies ({action}), which makes it an administrator.",
    ),
)

_OUR_TAKEOVERS = (
    Rule(
        "gh-passrole-001",
        "privileged",
        (
            "iam:PassRole",
            "batch:RegisterJobDefinition|ec2:AssociateIamInstanceProfile|ec2:ReplaceIamInstanceProfileAssociation"
            "|elasticmapreduce:RunJobFlow|lambda:UpdateFunctionConfiguration|scheduler:CreateSchedule|scheduler:UpdateSchedule"
            "|ssm:StartAutomationExecution|states:CreateStateMachine|states:UpdateStateMachine"
            "|codepipeline:CreatePipeline|codepipeline:UpdatePipeline|cognito-identity:SetIdentityPoolRoles"
            "|eks:CreatePodIdentityAssociation|eks:UpdatePodIdentityAssociation|emr-serverless:StartJobRun|events:PutTargets",
        ),
        "Can pass a role to a service that acts as that role ({action}).",
    ),
    Rule(
        "gh-passrole-002",
        "privileged",
        ("iam:PassRole", "ecs:RegisterTaskDefinition", "ecs:UpdateService"),
        "Can pass a role to ECS and then act as that role.",
    ),
    Rule(
        "gh-passrole-003",
        "privileged",
        ("iam:PassRole", "glue:CreateSession", "glue:RunStatement"),
        "Can pass a role to Glue and then act as that role.",
    ),
    Rule(
        "gh-passrole-004",
        "privileged",
        (
            "iam:PassRole",
            "imagebuilder:CreateInfrastructureConfiguration|imagebuilder:UpdateInfrastructureConfiguration",
            "imagebuilder:CreateImage|imagebuilder:CreateImagePipeline|imagebuilder:StartImagePipelineExecution",
        ),
        "Can pass a role to the instances of Image Builder and then act as that role.",
    ),
    Rule(
        "gh-takeover-001",
        "privileged",
        (
            "ec2:ModifyInstanceAttribute|ecs:ExecuteCommand|lambda:UpdateFunctionConfiguration|ssm:CreateAssociation|ssm:UpdateAssociation|states:UpdateStateMachine",
        ),
        "Can change what runs under another role ({action}).",
    ),
    Rule(
        "gh-takeover-002",
        "privileged",
        ("ssm:ResumeSession",),
        "Can take over the shells that others have open on managed instances.",
        on=On.BROAD,
    ),
    Rule(
        "gh-iam-003",
        "privileged",
        ("iam:CreateServiceSpecificCredential|iam:ResetServiceSpecificCredential",),
        "Can make credentials of {any} user for CodeCommit, Keyspaces or Bedrock ({action}).",
        on=On.OTHERS,
    ),
    Rule(
        "gh-sts-002",
        "privileged",
        ("sts:AssumeRole",),
        "Can become other roles, with everything that those may do.",
        on=On.OTHERS,
    ),
)

_OUR_PRIVILEGED = (
    Rule(
        "gh-idp-001",
        "privileged",
        (
            "iam:CreateSAMLProvider|iam:UpdateSAMLProvider|iam:CreateOpenIDConnectProvider"
            "|iam:UpdateOpenIDConnectProviderThumbprint|iam:AddClientIDToOpenIDConnectProvider|rolesanywhere:CreateTrustAnchor"
            "|rolesanywhere:UpdateTrustAnchor|rolesanywhere:CreateProfile|rolesanywhere:UpdateProfile",
        ),
        "Can change which outside sign-ins the account trusts ({action}).",
    ),
    Rule(
        "gh-undo-001",
        "privileged",
        (
            "iam:DeleteGroupPolicy|iam:DeleteRolePolicy|iam:DeleteUserPolicy|iam:DetachGroupPolicy|iam:DetachRolePolicy"
            "|iam:DetachUserPolicy|iam:RemoveUserFromGroup",
        ),
        "Can take policies away from users and roles ({action}), also those that forbid something.",
        is_escalation=False,
    ),
    Rule(
        "gh-undo-002",
        "privileged",
        ("iam:DeactivateMFADevice",),
        "Can take the second factor away from {any} user.",
        on=On.OTHERS,
        is_escalation=False,
    ),
    Rule(
        "gh-sso-004",
        "privileged",
        (
            "sso:DeleteAccountAssignment|sso:DisassociateProfile|sso:DeletePermissionSet|sso:DeleteInstance"
            "|identitystore:DeleteGroupMembership|identitystore:DeleteUser|identitystore:DeleteGroup"
            "|sso-directory:RemoveMemberFromGroup|sso-directory:DeleteUser|sso-directory:DeleteGroup|account-access:DeleteEntitlement",
        ),
        "Can take away the access of others in Identity Center ({action}).",
        is_escalation=False,
    ),
    Rule(
        "gh-organizations-002",
        "privileged",
        (
            "organizations:EnableAWSServiceAccess|organizations:DisableAWSServiceAccess"
            "|organizations:DeregisterDelegatedAdministrator",
        ),
        "Can decide which services work across the organization ({action}).",
        is_escalation=False,
    ),
    Rule(
        "gh-share-001",
        "privileged",
        (
            "s3:PutBucketPolicy|kms:PutKeyPolicy|kms:CreateGrant|lambda:AddPermission|secretsmanager:PutResourcePolicy"
            "|*:PutResourcePolicy|backup:PutBackupVaultAccessPolicy|ec2:ModifyImageAttribute|ec2:ModifySnapshotAttribute"
            "|ecr:SetRepositoryPolicy|ecr:PutRegistryPolicy|eks:AssociateAccessPolicy|eks:CreateAccessEntry"
            "|elasticfilesystem:PutFileSystemPolicy|es:UpdateDomainConfig|events:PutPermission"
            "|lakeformation:GrantPermissions|lakeformation:PutDataLakeSettings|ram:CreateResourceShare"
            "|rds:ModifyDBClusterSnapshotAttribute|rds:ModifyDBSnapshotAttribute|s3:PutAccessPointPolicy"
            "|s3:PutAccountPublicAccessBlock|s3:PutBucketAcl|s3:PutBucketPublicAccessBlock|sns:AddPermission"
            "|sqs:AddPermission|ssm:ModifyDocumentPermission",
        ),
        "Can open resources to others ({action}).",
        is_escalation=False,
    ),
    Rule(
        "gh-logs-001",
        "privileged",
        (
            "cloudtrail:StopLogging|cloudtrail:DeleteTrail|cloudtrail:UpdateTrail|cloudtrail:DeleteEventDataStore|cloudtrail:PutEventSelectors"
            "|cloudtrail:StopEventDataStoreIngestion|config:DeleteConfigurationRecorder"
            "|config:DeleteDeliveryChannel|config:StopConfigurationRecorder|ec2:DeleteFlowLogs|guardduty:DeleteDetector"
            "|guardduty:DisassociateFromAdministratorAccount|guardduty:DisassociateFromMasterAccount|guardduty:UpdateDetector"
            "|access-analyzer:DeleteAnalyzer|securityhub:DisableSecurityHub",
        ),
        "Can switch off or blind the security log ({action}).",
        is_escalation=False,
    ),
    Rule(
        "gh-secrets-001",
        "privileged",
        ("secretsmanager:GetSecretValue|secretsmanager:BatchGetSecretValue",),
        "Can read every secret in Secrets Manager.",
        on=On.BROAD,
        is_escalation=False,
    ),
)


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """Every rule, the ones that decide first in front: admin before privileged, a known path before our own."""
    stored = json.loads((files(__package__) / "escalation_paths.json").read_bytes())["paths"]
    known = tuple(
        Rule(one["id"], one["level"], tuple(one["needs"]), one["says"], on=_ON.get(one["needs"][0], On.ANY))
        for one in stored
    )
    admin = tuple(rule for rule in known if rule.level == "admin")
    takeovers = tuple(rule for rule in known if rule.level == "privileged")
    return admin + _OUR_ADMIN + takeovers + _OUR_TAKEOVERS + _OUR_PRIVILEGED

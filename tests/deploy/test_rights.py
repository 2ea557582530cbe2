"""What the roles can and cannot do, decided by our own evaluator over the documents that the templates deploy.

Every action that AWS has is tried, on what the role would most like to reach and with whatever context helps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from apps.connectors.aws import enders
from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from tests.deploy.templates import (
    GIVEN,
    GROUP,
    HUB,
    MANAGEMENT,
    MEMBER,
    PERMISSION_SET,
    Stack,
    documents,
    length,
    policies,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
BOUNDARY = f"arn:aws:iam::{MEMBER}:policy/jit/JitBoundary"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
CREATE = "identitystore:CreateGroupMembership"

GRANTS_ROLE = f"arn:aws:iam::{MEMBER}:role/jit/jit-abcdefgh"
TIER_ROLE = f"arn:aws:iam::{MEMBER}:role/jit/tier/JitReadOnly"
GUARD = f"arn:aws:iam::{MEMBER}:policy/jit/jit-guard"
APP_ROLE = f"arn:aws:iam::{MEMBER}:role/app"
SCHEDULER = f"arn:aws:iam::{MEMBER}:role/portal/PortalScheduler"
PORTAL = [
    *(f"arn:aws:iam::{MEMBER}:role/portal/Portal{name}" for name in ("Reader", "Provisioner", "Remover", "Ender")),
    f"arn:aws:iam::{MEMBER}:policy/portal/HubProvisioner",
    BOUNDARY,
    f"arn:aws:iam::{MEMBER}:policy/jit/JitDenyAll",
]
ANYTHING = [
    "*",
    GRANTS_ROLE,
    TIER_ROLE,
    APP_ROLE,
    SCHEDULER,
    GUARD,
    *PORTAL,
    f"arn:aws:iam::{MEMBER}:user/alice",
    f"arn:aws:iam::{MEMBER}:group/admins",
    f"arn:aws:iam::{MEMBER}:group/jit/operators",
    f"arn:aws:iam::{MEMBER}:policy/Own",
    PERMISSION_SET,
    GROUP,
    "arn:aws:sso:::permissionSet/ssoins-1111111111111111/ps-9999999999999999",
    "arn:aws:identitystore:::group/99999999-2222-3333-4444-555555555555",
    f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule/jit/jit-assignment-1",
    f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule/default/payroll",
    f"arn:aws:ec2:eu-west-1:{MEMBER}:security-group/sg-1",
    f"arn:aws:lambda:eu-west-1:{HUB}:function:portal-ender",
    GIVEN["StopPolicyArn"],
    GIVEN["RootArn"],
]
# Whatever a condition could ask for, in the requester's favour.
HELPFUL = [
    {"iam:PermissionsBoundary": BOUNDARY, "aws:ResourceTag/gatehouse": "jit", "aws:TagKeys": ["jit:grant"]},
    {"iam:PermissionsBoundary": BOUNDARY, "iam:PolicyARN": ADMINISTRATOR, "aws:TagKeys": ["jit:grant"]},
    {"iam:PermissionsBoundary": BOUNDARY, "iam:PolicyARN": f"arn:aws:iam::{MEMBER}:policy/jit/JitDenyAll"},
    {"iam:PassedToService": "scheduler.amazonaws.com"},
    {"iam:PassedToService": "ec2.amazonaws.com"},
]


def decide(role: str, action: str, resource: str, *, account_id: str = MEMBER, **context: Any) -> Outcome:
    found = documents(f"portal/{role}", account_id)
    given = {key.replace("__", ":"): value for key, value in context.items()}
    return evaluate(found, action=action, resource=resource, context=given, now=NOW).outcome


def reach(role: str, account_id: str = MEMBER) -> set[tuple[str, str]]:
    """Every action that changes something and that the role may do to one of these, with some help."""
    found = documents(f"portal/{role}", account_id)
    patterns = {
        action
        for document in found
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in _listed(statement["Action"])
    }
    known = catalogue()
    return {
        (action, resource)
        for action in known.actions(known.select(one.lower() for one in patterns) & known.writes)
        for resource in (one.replace(MEMBER, account_id) for one in ANYTHING)
        if any(_allows(found, action, resource, _at(context, account_id)) for context in HELPFUL)
    }


def _allows(found: list[Any], action: str, resource: str, context: Mapping[str, Any]) -> bool:
    return evaluate(found, action=action, resource=resource, context=context, now=NOW).outcome is Outcome.ALLOW


def _at(context: Mapping[str, Any], account_id: str) -> dict[str, Any]:
    return {
        key: value.replace(MEMBER, account_id) if isinstance(value, str) else value for key, value in context.items()
    }


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def writes(prefixes: Iterable[str]) -> list[str]:
    known = catalogue()
    return list(known.actions(known.select(prefixes) & known.writes))


# ---- reader


@pytest.mark.parametrize("account_id", [HUB, MEMBER])
def test_the_reader_changes_nothing(account_id: str) -> None:
    assert {action for action, _ in reach("PortalReader", account_id)} <= {"iam:GenerateCredentialReport"}


# ---- provisioner


@pytest.mark.parametrize("account_id", [HUB, MEMBER])
def test_the_provisioner_touches_no_portal_role_policy_or_boundary(account_id: str) -> None:
    own = {one.replace(MEMBER, account_id) for one in [*PORTAL, SCHEDULER]}
    touched = {(action, resource) for action, resource in reach("PortalProvisioner", account_id) if resource in own}
    assert touched == {("iam:PassRole", SCHEDULER.replace(MEMBER, account_id))}


@pytest.mark.parametrize("action", ["iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary"])
@pytest.mark.parametrize("resource", [GRANTS_ROLE, TIER_ROLE, APP_ROLE])
def test_the_provisioner_drops_no_boundary(action: str, resource: str) -> None:
    assert decide("PortalProvisioner", action, resource, iam__PermissionsBoundary=BOUNDARY) is Outcome.DENY


@pytest.mark.parametrize("boundary", [None, ADMINISTRATOR, f"arn:aws:iam::{MEMBER}:policy/JitBoundary"])
@pytest.mark.parametrize("action", ["iam:CreateRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy"])
@pytest.mark.parametrize("resource", [GRANTS_ROLE, TIER_ROLE, APP_ROLE])
def test_the_provisioner_writes_nothing_outside_a_boundary(action: str, resource: str, boundary: str | None) -> None:
    context = {"iam__PermissionsBoundary": boundary} if boundary else {}
    assert decide("PortalProvisioner", action, resource, **context) is not Outcome.ALLOW


def test_the_provisioner_makes_the_role_of_a_grant_and_no_other() -> None:
    made = {resource for action, resource in reach("PortalProvisioner") if action == "iam:CreateRole"}
    assert made == {GRANTS_ROLE}


def test_the_provisioner_passes_one_role_to_one_service() -> None:
    passed = {resource for action, resource in reach("PortalProvisioner") if action == "iam:PassRole"}
    assert passed == {SCHEDULER}
    for service in (None, "ec2.amazonaws.com", "lambda.amazonaws.com"):
        context = {"iam__PassedToService": service} if service else {}
        assert decide("PortalProvisioner", "iam:PassRole", SCHEDULER, **context) is not Outcome.ALLOW


def test_the_provisioner_writes_the_guard_and_no_other_policy() -> None:
    written = {resource for action, resource in reach("PortalProvisioner") if action == "iam:CreatePolicyVersion"}
    assert written == {GUARD}


def test_the_provisioner_opens_only_what_was_listed() -> None:
    opened = {
        resource
        for action, resource in reach("PortalProvisioner", HUB)
        if action.startswith(("sso:", "identitystore:"))
    }
    assert opened == {PERMISSION_SET, GROUP}
    account = f"arn:aws:sso:::account/{MEMBER}"
    assert decide("PortalProvisioner", "sso:CreateAccountAssignment", account, account_id=HUB) is Outcome.ALLOW


def test_the_provisioner_adds_members_to_listed_groups_only() -> None:
    added = {resource for action, resource in reach("PortalProvisioner") if action == "iam:AddUserToGroup"}
    assert added == {f"arn:aws:iam::{MEMBER}:group/jit/operators"}


def test_the_provisioner_opens_ports_where_the_owner_allowed_it_and_closes_them_anywhere() -> None:
    group = f"arn:aws:ec2:eu-west-1:{MEMBER}:security-group/sg-1"
    allowed = {"aws__ResourceTag/jit:ports": "allowed"}
    assert decide("PortalProvisioner", "ec2:AuthorizeSecurityGroupIngress", group) is not Outcome.ALLOW
    assert decide("PortalProvisioner", "ec2:AuthorizeSecurityGroupIngress", group, **allowed) is Outcome.ALLOW
    for role in ("PortalProvisioner", "PortalScheduler"):
        assert decide(role, "ec2:RevokeSecurityGroupIngress", group) is Outcome.ALLOW


def test_the_provisioner_tags_only_rules_and_only_with_our_tags() -> None:
    rule = f"arn:aws:ec2:eu-west-1:{MEMBER}:security-group-rule/sgr-1"
    group = f"arn:aws:ec2:eu-west-1:{MEMBER}:security-group/sg-1"
    for action in ("ec2:CreateTags", "ec2:DeleteTags"):
        assert decide("PortalProvisioner", action, rule, aws__TagKeys=["jit:held-by:x"]) is Outcome.ALLOW
        assert decide("PortalProvisioner", action, rule, aws__TagKeys=["jit:held-by:x", "owner"]) is not Outcome.ALLOW
        assert decide("PortalProvisioner", action, group, aws__TagKeys=["jit:ports"]) is not Outcome.ALLOW


def test_the_provisioner_makes_no_secret_and_becomes_nobody() -> None:
    for action in ("iam:CreateUser", "iam:CreateAccessKey", "iam:CreateLoginProfile", "sts:AssumeRole"):
        assert decide("PortalProvisioner", action, "*") is Outcome.DENY


def test_the_provisioner_writes_only_our_schedules() -> None:
    schedules = {resource for action, resource in reach("PortalProvisioner") if action.startswith("scheduler:")}
    assert schedules == {f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule/jit/jit-assignment-1"}


# ---- remover, ender, scheduler

TAKES_AWAY = ("Delete", "Detach", "Remove", "Revoke")


@pytest.mark.parametrize("account_id", [HUB, MEMBER])
def test_the_remover_only_takes_away(account_id: str) -> None:
    done = {action for action, _ in reach("PortalRemover", account_id)}
    assert done
    assert all(action.partition(":")[2].startswith(TAKES_AWAY) for action in done)


def test_the_remover_takes_no_boundary_no_deny_all_and_nothing_of_ours() -> None:
    own = {*PORTAL, SCHEDULER, GRANTS_ROLE, TIER_ROLE, GUARD}
    assert not [one for one in reach("PortalRemover") if one[1] in own]
    assert not [one for one in reach("PortalRemover") if "Boundary" in one[0]]
    for word in ("User", "Role", "Group"):
        for policy in ("jit-guard", "JitDenyAll"):
            arn = f"arn:aws:iam::{MEMBER}:policy/jit/{policy}"
            assert decide("PortalRemover", f"iam:Detach{word}Policy", APP_ROLE, iam__PolicyARN=arn) is Outcome.DENY


@pytest.mark.parametrize("account_id", [HUB, MEMBER])
def test_the_ender_takes_away_or_attaches_a_deny(account_id: str) -> None:
    attaches = {"iam:AttachRolePolicy", "organizations:AttachPolicy"}
    done = {action for action, _ in reach("PortalEnder", account_id)}
    assert all(action in attaches or action.partition(":")[2].startswith(TAKES_AWAY) for action in done)


@pytest.mark.parametrize("action", ["iam:AttachRolePolicy", "iam:AttachUserPolicy", "iam:AttachGroupPolicy"])
@pytest.mark.parametrize("policy", [None, ADMINISTRATOR, GUARD, BOUNDARY, "arn:aws:iam::aws:policy/ReadOnlyAccess"])
@pytest.mark.parametrize("role", [APP_ROLE, GRANTS_ROLE, TIER_ROLE, SCHEDULER])
def test_the_ender_attaches_nothing_that_allows(action: str, policy: str | None, role: str) -> None:
    context = {"iam__PolicyARN": policy} if policy else {}
    assert decide("PortalEnder", action, role, **context) is not Outcome.ALLOW


def test_the_ender_attaches_the_deny_all_to_roles_of_grants_and_tiers_only() -> None:
    deny_all = {"iam__PolicyARN": f"arn:aws:iam::{MEMBER}:policy{enders.DENY_ALL}"}
    for role in (GRANTS_ROLE, TIER_ROLE):
        assert decide("PortalEnder", "iam:AttachRolePolicy", role, **deny_all) is Outcome.ALLOW
    for role in (APP_ROLE, SCHEDULER, PROVISIONER):
        assert decide("PortalEnder", "iam:AttachRolePolicy", role, **deny_all) is not Outcome.ALLOW


def test_the_ender_takes_no_deny_away() -> None:
    assert not [one for one in reach("PortalEnder") if one[0].startswith(("iam:Detach", "iam:Delete", "iam:Put"))]
    assert not [one for one in reach("PortalEnder", HUB) if one[0] == "organizations:DetachPolicy"]


def test_the_ender_attaches_the_stop_and_no_other_policy_of_the_organization() -> None:
    touched = {resource for action, resource in reach("PortalEnder", HUB) if action.startswith("organizations:")}
    assert touched == {GIVEN["StopPolicyArn"], GIVEN["RootArn"]}
    other = GIVEN["StopPolicyArn"].replace("p-11111111", "p-FullAWSAccess")
    assert decide("PortalEnder", "organizations:AttachPolicy", other, account_id=HUB) is not Outcome.ALLOW


def test_the_deny_all_denies_everything() -> None:
    document = policies(MEMBER)[f"arn:aws:iam::{MEMBER}:policy/jit/JitDenyAll"]
    answer = evaluate([ALLOW_ALL, document], action="s3:GetObject", resource="*", context={}, now=NOW)
    assert answer.outcome is Outcome.DENY


@pytest.mark.parametrize("account_id", [HUB, MEMBER])
def test_aws_scheduler_only_takes_away(account_id: str) -> None:
    spared = {"sqs:SendMessage", "lambda:InvokeFunction"}
    done = {action for action, _ in reach("PortalScheduler", account_id)} - spared
    assert all(action.partition(":")[2].startswith(TAKES_AWAY) for action in done)


@pytest.mark.parametrize("role", ["PortalProvisioner", "PortalScheduler", "PortalEnder"])
@pytest.mark.parametrize(
    ("opening", "ending", "account_id"),
    [
        ("sso:CreateAccountAssignment", "sso:DeleteAccountAssignment", HUB),
        ("iam:AddUserToGroup", "iam:RemoveUserFromGroup", MEMBER),
        ("ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", MEMBER),
    ],
)
def test_whatever_can_be_opened_can_be_ended_by_each_of_them(
    role: str, opening: str, ending: str, account_id: str
) -> None:
    marked = {"aws:ResourceTag/jit:ports": "allowed"}
    opener, closer = documents("portal/PortalProvisioner", account_id), documents(f"portal/{role}", account_id)
    places = [one.replace(MEMBER, account_id) for one in ANYTHING]
    opened = {one for one in places if _allows(opener, opening, one, marked)}
    assert opened
    assert opened <= {one for one in places if _allows(closer, ending, one, {})}


def test_whoever_can_be_put_into_a_group_of_the_directory_can_be_taken_out_by_all() -> None:
    opened = {one for one in ANYTHING if _allows(documents("portal/PortalProvisioner", HUB), CREATE, one, {})}
    assert opened == {GROUP}
    for role in ("PortalProvisioner", "PortalEnder", "PortalRemover", "PortalEnderFunction"):
        assert _allows(documents(f"portal/{role}", HUB), "identitystore:DeleteGroupMembership", GROUP, {}), role


@pytest.mark.parametrize("process", ["PortalHub", "PortalEnderHub", "PortalBrokerHub"])
def test_a_process_by_itself_can_change_nothing(process: str) -> None:
    assert {action for action, _ in reach(process, HUB)} <= {"sts:AssumeRole", "sts:SetSourceIdentity"}
    for name in ("OrganizationAccountAccessRole", "portal/PortalScheduler", "app"):
        arn = f"arn:aws:iam::{MEMBER}:role/{name}"
        assert decide(process, "sts:AssumeRole", arn, account_id=HUB) is not Outcome.ALLOW


def test_the_broker_becomes_tier_roles_only() -> None:
    assert decide("PortalBroker", "sts:AssumeRole", TIER_ROLE, account_id=HUB) is Outcome.ALLOW
    for arn in (GRANTS_ROLE, APP_ROLE, *PORTAL):
        assert decide("PortalBroker", "sts:AssumeRole", arn, account_id=HUB) is not Outcome.ALLOW


# ---- the boundary


def bounded(action: str, resource: str = "*") -> Outcome:
    """What an administrator inside the boundary may do."""
    document = policies(MEMBER)[BOUNDARY]
    return evaluate([ALLOW_ALL, document], action=action, resource=resource, context={}, now=NOW).outcome


@pytest.mark.parametrize(
    "action", writes(["iam:*", "organizations:*", "sso:*", "sso-directory:*", "identitystore:*", "account-access:*"])
)
def test_the_boundary_keeps_identities_as_they_are(action: str) -> None:
    """All but what changes nothing: reports, simulations, and telling AWS's support where a request stands."""
    harmless = ("iam:Generate", "iam:Simulate")
    assert bounded(action) is (Outcome.ALLOW if action.startswith(harmless) else Outcome.DENY)


@pytest.mark.parametrize(
    "action",
    [
        "cloudtrail:StopLogging",
        "cloudtrail:DeleteTrail",
        "cloudtrail:UpdateTrail",
        "cloudtrail:PutEventSelectors",
        "guardduty:DeleteDetector",
        "guardduty:UpdateDetector",
        "config:StopConfigurationRecorder",
        "config:DeleteConfigurationRecorder",
    ],
)
def test_the_boundary_keeps_the_logs_running(action: str) -> None:
    assert bounded(action) is Outcome.DENY


def test_the_boundary_lets_nobody_become_somebody_else() -> None:
    for arn in (APP_ROLE, TIER_ROLE, *PORTAL):
        assert bounded("sts:AssumeRole", arn) is Outcome.DENY


@pytest.mark.parametrize("resource", [GUARD, GRANTS_ROLE, TIER_ROLE, *PORTAL])
def test_the_boundary_keeps_what_ends_access_out_of_reach(resource: str) -> None:
    assert bounded("iam:GetRole", resource) is Outcome.DENY


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("scheduler:DeleteSchedule", f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule/jit/jit-x"),
        ("scheduler:DeleteScheduleGroup", f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule-group/jit"),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:eu-west-1:{HUB}:function:portal-ender"),
        ("cloudformation:UpdateStack", f"arn:aws:cloudformation:eu-west-1:{MEMBER}:stack/StackSet-gatehouse-x/y"),
    ],
)
def test_the_boundary_keeps_the_schedules_and_the_ender(action: str, resource: str) -> None:
    assert bounded(action, resource) is Outcome.DENY


@pytest.mark.parametrize(
    "action", ["s3:PutObject", "ec2:RunInstances", "rds:ModifyDBInstance", "iam:GetRole", "iam:ListRoles"]
)
def test_the_boundary_leaves_the_work_itself(action: str) -> None:
    assert bounded(action) is Outcome.ALLOW


# ---- the organization's policies

ORGANIZATION = Stack("organization.yaml", MANAGEMENT)
STACKSETS = f"arn:aws:iam::{MEMBER}:role/stacksets-exec-0123456789"
PROVISIONER = f"arn:aws:iam::{MEMBER}:role/portal/PortalProvisioner"
ENDER = f"arn:aws:iam::{MEMBER}:role/portal/PortalEnder"
ADMIN_THERE = f"arn:aws:iam::{MEMBER}:role/Admin"
BREAK_GLASS = "arn:aws:iam::444444444444:role/BreakGlass"


def controlled(name: str, principal: str, action: str, resource: str = "*", **context: Any) -> bool:
    """Whether the organization lets somebody who may do everything in their account do this."""
    document = ORGANIZATION.of_kind("AWS::Organizations::Policy")[name]["Content"]
    given = {"aws:PrincipalArn": principal, **{key.replace("__", ":"): value for key, value in context.items()}}
    outcome = evaluate([ALLOW_ALL, document], action=action, resource=resource, context=given, now=NOW).outcome
    return outcome is Outcome.ALLOW


def test_the_organizations_policies_fit() -> None:
    for name, about in ORGANIZATION.of_kind("AWS::Organizations::Policy").items():
        assert length(about["Content"]) <= 5120, name


def test_thirty_permission_sets_fit_into_the_stop() -> None:
    many = Stack("organization.yaml", MANAGEMENT, {"JitPermissionSetNames": ",".join(f"{n:032}" for n in range(30))})
    assert length(many.of_kind("AWS::Organizations::Policy")["GatehouseStop"]["Content"]) <= 5120


@pytest.mark.parametrize("action", ["iam:PutRolePolicy", "iam:DeleteRole", "iam:UpdateAssumeRolePolicy", "iam:TagRole"])
@pytest.mark.parametrize("resource", [GRANTS_ROLE, TIER_ROLE, PORTAL[0]])
def test_an_administrator_of_the_account_cannot_change_our_roles(action: str, resource: str) -> None:
    assert not controlled("ProtectJit", ADMIN_THERE, action, resource)
    assert controlled("ProtectJit", BREAK_GLASS, action, resource)


@pytest.mark.parametrize("action", ["iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:DeletePolicy"])
def test_only_the_provisioner_writes_a_guard_not_even_a_stack(action: str) -> None:
    assert not controlled("ProtectJit", ADMIN_THERE, action, GUARD)
    assert not controlled("ProtectJit", STACKSETS, action, GUARD)
    assert not controlled("ProtectJit", ENDER, action, GUARD)
    assert controlled("ProtectJit", PROVISIONER, action, GUARD)


def test_a_stack_can_install_what_is_missing() -> None:
    assert controlled("ProtectJit", STACKSETS, "iam:CreatePolicy", GUARD)
    assert controlled("ProtectJit", STACKSETS, "iam:CreateRole", PROVISIONER)
    assert controlled(
        "ProtectJit",
        STACKSETS,
        "scheduler:CreateScheduleGroup",
        f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule-group/jit",
    )


def test_nobody_in_the_account_poses_as_a_stack() -> None:
    for action in ("iam:CreateRole", "iam:UpdateAssumeRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePolicy"):
        assert not controlled("ProtectJit", ADMIN_THERE, action, STACKSETS)


@pytest.mark.parametrize("action", ["scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:DeleteSchedule"])
def test_only_the_provisioner_writes_our_schedules(action: str) -> None:
    schedule = f"arn:aws:scheduler:eu-west-1:{MEMBER}:schedule/jit/jit-x"
    assert not controlled("ProtectJit", ADMIN_THERE, action, schedule)
    assert controlled("ProtectJit", PROVISIONER, action, schedule)
    assert controlled("ProtectJit", ADMIN_THERE, action, schedule.replace("/jit/", "/default/"))


@pytest.mark.parametrize("principal", [ADMIN_THERE, ENDER, STACKSETS])
def test_a_deny_that_was_attached_stays(principal: str) -> None:
    arn = f"arn:aws:iam::{MEMBER}:policy/jit/JitDenyAll"
    assert not controlled("ProtectJit", principal, "iam:DetachRolePolicy", APP_ROLE, iam__PolicyARN=arn)
    assert controlled("ProtectJit", BREAK_GLASS, "iam:DetachRolePolicy", APP_ROLE, iam__PolicyARN=arn)


def test_the_provisioner_takes_the_deny_all_only_off_roles_of_grants_which_it_deletes() -> None:
    arn = f"arn:aws:iam::{MEMBER}:policy/jit/JitDenyAll"
    words = {"iam__PolicyARN": arn, "iam__PermissionsBoundary": BOUNDARY}
    assert controlled("ProtectJit", PROVISIONER, "iam:DetachRolePolicy", GRANTS_ROLE, **words)
    assert decide("PortalProvisioner", "iam:DetachRolePolicy", GRANTS_ROLE, **words) is Outcome.ALLOW
    for role in (TIER_ROLE, APP_ROLE, SCHEDULER):
        assert decide("PortalProvisioner", "iam:DetachRolePolicy", role, **words) is not Outcome.ALLOW


def test_protection_leaves_everybody_elses_work_alone() -> None:
    for action, resource in (
        ("iam:PutRolePolicy", APP_ROLE),
        ("iam:CreatePolicyVersion", f"arn:aws:iam::{MEMBER}:policy/Own"),
        ("sts:AssumeRole", GRANTS_ROLE),
        ("s3:PutObject", "arn:aws:s3:::a/b"),
    ):
        assert controlled("ProtectJit", ADMIN_THERE, action, resource)


RESERVED = f"arn:aws:iam::{MEMBER}:role/aws-reserved/sso.amazonaws.com"


@pytest.mark.parametrize(
    "principal",
    [
        GRANTS_ROLE,
        TIER_ROLE,
        f"{RESERVED}/AWSReservedSSO_PowerUser_0123456789abcdef",
        f"{RESERVED}/eu-west-1/AWSReservedSSO_DatabaseAdmin_0123456789abcdef",
    ],
)
def test_the_stop_denies_everything_to_what_was_granted(principal: str) -> None:
    for action in ("s3:GetObject", "iam:ListRoles", "sts:GetCallerIdentity"):
        assert not controlled("GatehouseStop", principal, action)


@pytest.mark.parametrize(
    "principal",
    [
        PROVISIONER,
        ENDER,
        STACKSETS,
        ADMIN_THERE,
        BREAK_GLASS,
        f"{RESERVED}/eu-west-1/AWSReservedSSO_Viewer_0123456789abcdef",
    ],
)
def test_the_stop_spares_everybody_else(principal: str) -> None:
    assert controlled("GatehouseStop", principal, "s3:GetObject")


def test_the_stop_is_attached_to_nothing_until_it_is_needed() -> None:
    assert "TargetIds" not in ORGANIZATION.of_kind("AWS::Organizations::Policy")["GatehouseStop"]


def test_the_hub_may_attach_the_stop_and_nothing_else() -> None:
    (one,) = ORGANIZATION.of_kind("AWS::Organizations::ResourcePolicy").values()
    (statement,) = one["Content"]["Statement"]
    assert statement["Action"] == "organizations:AttachPolicy"
    assert statement["Condition"]["ArnEquals"] == {"aws:PrincipalArn": f"arn:aws:iam::{HUB}:role/portal/PortalEnder"}
    assert {arn.split("/")[0].rpartition(":")[2] for arn in statement["Resource"]} == {"policy", "root"}

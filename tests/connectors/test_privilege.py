"""How much a set of policies amounts to: the levels, their reasons, and the ways in which a document hides what it
allows.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws.catalogue import RETIRED, catalogue
from apps.connectors.aws.escalation import SENSITIVE_READS, rules
from apps.connectors.aws.privilege import NamedDocument, Privilege, privilege_of
from tests.connectors.known_escalations import KNOWN

ORDER = ("none", "read", "write", "privileged", "admin")
ME = "arn:aws:iam::111122223333:user/${aws:username}"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return allow(action, resource, **more) | {"Effect": "Deny"}


def privilege(*statements: dict[str, Any], boundary: Any = None) -> Privilege:
    bounded = None if boundary is None else NamedDocument("boundary", boundary)
    return privilege_of([NamedDocument("deploy", policy(*statements))], boundary=bounded)


def allow_but(action: Any, resource: Any = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "NotAction": action, "Resource": resource}


# The levels


@pytest.mark.parametrize(
    ("level", "statement"),
    [
        ("admin", allow("*")),
        ("admin", allow("*:*")),
        ("admin", allow(["s3:*", "*"])),
        ("admin", allow("iam:*")),
        ("admin", allow_but("s3:*")),
        ("admin", allow_but("iam:*")),  # leaves sts and Identity Center
        ("admin", allow_but(["iam:*", "organizations:*", "account:*"])),  # PowerUserAccess, at heart
        ("admin", {"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::secret"}),
        ("admin", allow("organizations:*")),
        ("admin", allow("organizations:AttachPolicy")),
        ("admin", allow("sso:CreateAccountAssignment")),
        ("admin", allow("sso:Put*Policy*")),
        ("admin", allow("identitystore:CreateGroupMembership")),
        ("admin", allow("account-access:CreateEntitlement")),
        ("admin", allow("sts:AssumeRole")),
        ("admin", allow("sts:AssumeRole", "arn:aws:iam::*:role/*")),
        ("admin", allow("sts:AssumeRoot")),
        ("privileged", allow("sts:AssumeRole", "arn:aws:iam::111122223333:role/deploy")),
        ("privileged", allow(["iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"])),
        ("privileged", allow(["iam:PassRole", "ec2:RunInstances"])),
        ("privileged", allow("lambda:UpdateFunctionCode")),
        ("privileged", allow("ssm:SendCommand")),
        ("privileged", allow("ssm:StartSession")),
        ("privileged", allow("ec2:ModifyInstanceAttribute")),
        ("privileged", allow("codebuild:StartBuild")),
        ("privileged", allow("cloudformation:UpdateStack")),
        ("privileged", allow("s3:*")),
        ("privileged", allow("s3:PutBucketPolicy", "arn:aws:s3:::reports")),
        ("privileged", allow("kms:PutKeyPolicy")),
        ("privileged", allow("kms:CreateGrant")),
        ("privileged", allow("lambda:AddPermission")),
        ("privileged", allow("secretsmanager:PutResourcePolicy")),
        ("privileged", allow("cloudtrail:StopLogging")),
        ("privileged", allow("cloudtrail:DeleteTrail")),
        ("privileged", allow("guardduty:DeleteDetector")),
        ("privileged", allow("iam:DetachRolePolicy")),
        ("privileged", allow("secretsmanager:GetSecretValue")),
        ("privileged", allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:1:secret:*")),
        ("privileged", allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:?*")),
        ("privileged", allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:*-??????")),
        ("privileged", allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:s*")),
        ("admin", allow("sts:AssumeRole", "arn:aws:iam::*:role/?*")),
        ("admin", allow("sts:AssumeRole", "arn:aws:iam::*:ro*")),
        ("privileged", allow("sts:AssumeRole", "arn:aws:iam::*:role/a*")),
        ("write", allow("s3:PutObject", "arn:aws:s3:::reports/*")),
        ("write", allow("ec2:CreateTags")),
        ("write", allow("iam:PassRole")),
        ("write", allow("dynamodb:PutItem")),
        ("privileged", allow("dynamodb:*")),  # holds PutResourcePolicy
        ("read", allow(["s3:Get*", "s3:List*"])),
        ("read", allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:1:secret:app-*")),
        ("read", allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:db-??????")),
        ("read", allow("ec2:Describe*")),
        ("none", deny("*")),
        ("none", allow([])),
        ("none", allow("*", [])),
        ("none", {"Effect": "Allow", "Action": "*", "NotResource": "*"}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[20:90],
)
def test_a_statement_has_the_level_of_its_worst_use(level: str, statement: dict[str, Any]) -> None:
    assert privilege(statement).level == level


def test_no_policy_is_none() -> None:
    assert privilege_of([]) == Privilege("none", "No policy allows anything.")
    assert privilege().level == "none"
    assert privilege_of([NamedDocument("a", policy())], boundary=NamedDocument("b", policy())).level == "none"


SELF_MADE_ADMINS = {
    "iam:CreatePolicyVersion": "iam-001",
    "iam:CreateAccessKey": "iam-002",
    "iam:CreateLoginProfile": "iam-004",
    "iam:PutRolePolicy": "iam-005",
    "iam:UpdateLoginProfile": "iam-006",
    "iam:PutUserPolicy": "iam-007",
    "iam:AttachUserPolicy": "iam-008",
    "iam:AttachRolePolicy": "iam-009",
    "iam:AttachGroupPolicy": "iam-010",
    "iam:PutGroupPolicy": "iam-011",
    "iam:UpdateAssumeRolePolicy": "iam-012",
    "iam:AddUserToGroup": "iam-013",
    "iam:SetDefaultPolicyVersion": "gh-iam-001",
    "iam:DeleteRolePermissionsBoundary": "gh-iam-002",
    "iam:PutRolePermissionsBoundary": "gh-iam-002",
}


@pytest.mark.parametrize("action", SELF_MADE_ADMINS)
@pytest.mark.parametrize(
    "spelling", [str, str.upper, str.lower, lambda action: action[:-1] + "?", lambda action: action[:-3] + "*"]
)
def test_one_action_that_makes_its_holder_an_administrator_is_found_in_any_spelling(action: str, spelling: Any) -> None:
    found = privilege(allow(["s3:GetObject", spelling(action)]))
    assert (found.level, found.can_escalate) == ("admin", True)
    assert found.escalation_id == SELF_MADE_ADMINS[action]


def test_the_reason_is_a_plain_sentence_and_the_statement_is_shown() -> None:
    statement = allow("iam:CreatePolicyVersion", Sid="Versions")
    found = privilege(allow("s3:GetObject"), statement)
    assert found.reason == "Can create a new version of any policy, which makes it an administrator."
    assert found.statement is not None
    assert (found.statement.document, found.statement.index, found.statement.sid) == ("deploy", 1, "Versions")
    assert found.statement.statement == statement


def test_the_reason_says_what_bounds_it() -> None:
    narrow = allow("iam:PutRolePolicy", "arn:aws:iam::1:role/app-*", Condition={"Bool": {"aws:x": "true"}})
    assert privilege(narrow).reason == (
        "Can write an inline policy on a listed role, which can make it an administrator, under a condition."
    )
    apart = {"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::secret"}
    assert privilege(apart).reason == "Can do everything in the account, except on listed resources."


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (allow("*"), "Can do everything in the account."),
        (allow("iam:*"), "Can change every user, role and policy in IAM, which makes it an administrator."),
        (allow("s3:*"), "Can open resources to others (s3:PutBucketPolicy)."),
        (allow(["iam:PassRole", "ec2:RunInstances"]), "Can pass a role to EC2 and then act as that role."),
        (allow("s3:PutObject"), "Can change things in s3, for example s3:PutObject."),
        (allow(["sqs:SendMessage", "sns:Publish"]), "Can change things in sns and sqs, for example sns:Publish."),
        (
            allow(["s3:Get*", "ec2:Get*", "sqs:Get*", "sns:Get*", "ecr:Get*"]),
            "Can read in s3, ec2, ecr and 2 more services.",
        ),
        (allow("s3:GetObject"), "Can read in s3."),
        (deny("*"), "No policy allows anything."),
    ],
)
def test_reasons(statement: dict[str, Any], reason: str) -> None:
    assert privilege(statement).reason == reason


def test_only_a_way_up_counts_as_escalation() -> None:
    assert not privilege(allow("*")).can_escalate  # may do everything already
    assert not privilege(allow("s3:PutBucketPolicy")).can_escalate
    passing = privilege(allow(["iam:PassRole", "ec2:RunInstances"]))
    assert (passing.level, passing.can_escalate, passing.escalation_id) == ("privileged", True, "ec2-001")


# Taken together


def test_actions_of_different_policies_add_up() -> None:
    passes, runs = policy(allow("iam:PassRole")), policy(allow(["lambda:CreateFunction", "lambda:InvokeFunction"]))
    assert privilege_of([NamedDocument("passes", passes)]).level == "write"
    assert privilege_of([NamedDocument("runs", runs)]).level == "write"
    both = privilege_of([NamedDocument("runs", runs), NamedDocument("passes", passes)])
    assert (both.level, both.escalation_id) == ("privileged", "lambda-001")
    assert both.statement is not None
    assert both.statement.document == "passes"


def test_the_same_documents_under_other_names_keep_their_names() -> None:
    document = policy(allow("*"))
    causes = [privilege_of([NamedDocument(name, document)]).statement for name in ("one", "two")]
    assert [cause.document for cause in causes if cause] == ["one", "two"]


# Deny


@pytest.mark.parametrize(
    ("level", "denial"),
    [
        ("none", deny("*")),
        ("none", {"Effect": "Deny", "NotAction": "sqs:*", "Resource": "*"}),
        ("read", deny("iam:Create*")),
        ("admin", deny("iam:CreateAccessKey")),
        ("admin", deny("*", "arn:aws:iam::*:user/*")),
        ("admin", deny("*", Condition={"DateGreaterThanEquals": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}})),
        ("admin", {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::x"}),
    ],
)
def test_only_a_plain_deny_on_everything_takes_away(level: str, denial: dict[str, Any]) -> None:
    assert privilege(allow(["iam:CreateAccessKey", "iam:CreatePolicyVersion", "iam:GetUser"]), denial).level == level


def test_what_exceptions_allow_is_less_what_is_denied() -> None:
    rest = ("sts", "sso", "organizations", "identitystore", "account-access", "sso-directory")
    assert privilege(allow_but("iam:*")).level == "admin"
    assert privilege(allow_but("iam:*"), deny([f"{name}:*" for name in rest])).level == "privileged"
    left = privilege(allow_but("iam:*"), {"Effect": "Deny", "NotAction": "ec2:Describe*", "Resource": "*"})
    assert (left.level, left.reason) == ("read", "Can read in ec2.")


def test_a_single_statement_is_read_like_a_list_of_one() -> None:
    single = {"Version": "2012-10-17", "Statement": allow("iam:PutUserPolicy")}
    assert privilege_of([NamedDocument("one", single)]).level == "admin"


def test_a_deny_in_another_policy_counts_too() -> None:
    documents = [NamedDocument("a", policy(allow("iam:*"))), NamedDocument("b", policy(deny("iam:*")))]
    assert privilege_of(documents).level == "none"


def test_everything_but_iam_by_deny_is_still_admin_for_another_reason() -> None:
    found = privilege(allow("*"), deny("iam:*"))
    assert (found.level, found.escalation_id) == ("admin", "sts-001")


# Conditions


@pytest.mark.parametrize(
    "condition", [{"Bool": {"aws:MultiFactorAuthPresent": "true"}}, {"Unheard:Of": {"aws:x": "y"}}]
)
def test_a_condition_counts_as_met(condition: dict[str, Any]) -> None:
    found = privilege(allow("*", Condition=condition))
    assert (found.level, found.reason) == ("admin", "Can do everything in the account, under a condition.")


def test_sessions_that_only_read_are_reading() -> None:
    mode = {"StringEquals": {"s3express:SessionMode": "ReadOnly"}}
    assert privilege(allow("s3express:CreateSession", Condition=mode)).level == "read"
    assert privilege(allow("s3express:CreateSession")).level == "write"


# Resources


@pytest.mark.parametrize(
    ("level", "resource"),
    [
        ("privileged", "arn:aws:s3:::reports/*"),  # of all actions, those about buckets remain
        ("admin", "arn:aws:iam::111122223333:role/app"),
        ("admin", "arn:aws:iam::111122223333:*"),
        ("admin", "arn:aws:iam::111122223333:ro*"),
        ("admin", "arn:*"),
        ("privileged", "arn:aws:sqs:eu-west-1:111122223333:jobs"),
    ],
)
def test_every_action_on_one_resource_is_what_can_be_done_to_that_resource(level: str, resource: str) -> None:
    assert privilege(allow("*", resource)).level == level


def test_an_action_about_roles_is_not_allowed_on_users() -> None:
    assert privilege(allow("iam:PutRolePolicy", "arn:aws:iam::1:user/*")).level == "none"
    assert privilege(allow("iam:PutRolePolicy", "arn:aws:iam::1:role/*")).level == "admin"
    assert privilege(allow("iam:PutRolePolicy", "arn:aws:s3:::bucket")).level == "none"


def test_exceptions_of_resources_take_out_only_what_they_surely_cover() -> None:
    apart = {"Effect": "Allow", "Action": "iam:PutRolePolicy", "NotResource": "arn:aws:iam::*:role/admin"}
    assert privilege(apart).level == "admin"
    assert privilege(apart | {"NotResource": "arn:aws:iam::*:role/*"}).level == "none"
    assert privilege(apart | {"NotResource": ["arn:aws:s3:::x", "arn:aws:iam::*:user/*"]}).level == "admin"


@pytest.mark.parametrize(
    ("level", "action", "resource"),
    [
        ("write", "iam:*AccessKey*", ME),
        ("write", ["iam:CreateLoginProfile", "iam:UpdateLoginProfile"], "arn:aws:iam::*:user/*/${aws:username}"),
        ("write", ["iam:CreateServiceSpecificCredential", "iam:DeactivateMFADevice"], ME),
        ("privileged", "iam:CreateServiceSpecificCredential", "arn:aws:iam::111122223333:user/bob"),
        ("privileged", "iam:DeactivateMFADevice", "arn:aws:iam::111122223333:user/bob"),
        ("write", "ssm:ResumeSession", "arn:aws:ssm:*:*:session/${aws:username}-*"),
        ("admin", "iam:CreateAccessKey", [ME, "arn:aws:iam::111122223333:user/bob"]),
        ("admin", "iam:CreateAccessKey", "arn:aws:iam::111122223333:user/*${aws:username}"),
        ("admin", "iam:CreateAccessKey", "arn:aws:iam::111122223333:user/${aws:PrincipalTag/owner}"),
        ("admin", "iam:PutUserPolicy", ME),
        ("admin", "iam:*", ME),
    ],
)
def test_managing_ones_own_keys_is_no_way_up_but_ones_own_policies_are(level: str, action: Any, resource: Any) -> None:
    assert privilege(allow(action, resource)).level == level


# Boundaries


@pytest.mark.parametrize(
    ("level", "boundary"),
    [
        ("admin", policy(allow("*"))),
        ("read", policy(allow(["s3:Get*", "s3:List*"]))),
        ("read", policy(allow("*"), {"Effect": "Deny", "NotAction": "s3:Get*", "Resource": "*"})),
        ("write", policy(allow("iam:CreateAccessKey", ME))),
        ("privileged", policy(allow("*", "arn:aws:s3:::reports/*"))),
        ("none", policy()),
        ("none", policy(deny("*"))),
        ("none", policy({"Effect": "Allow", "NotAction": "*", "Resource": "*"})),
        ("write", policy(allow("brandnew:DoThing"))),
    ],
)
def test_within_a_boundary_only_what_both_allow_remains(level: str, boundary: dict[str, Any]) -> None:
    found = privilege(allow("*"), boundary=boundary)
    assert found.level == level


def test_a_boundary_allows_nothing_by_itself() -> None:
    assert privilege(allow("s3:GetObject"), boundary=policy(allow("*"))).level == "read"


# What the catalogue does not know


@pytest.mark.parametrize("action", ["brandnew:DoThing", "brandnew:*", "s3:InventTomorrow", "iam:Xyz*", "nonsense"])
def test_an_unknown_action_counts_as_write(action: str) -> None:
    found = privilege(allow([action, "s3:GetObject"], Sid="New"))
    assert found.level == "write"
    assert "does not know" in found.reason
    assert found.statement is not None
    assert found.statement.sid == "New"


@pytest.mark.parametrize(
    ("level", "statement"),
    [
        ("none", deny("brandnew:*")),
        ("none", deny("BrandNew:DoThing")),
        ("none", {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}),
        ("write", deny("brandnew:Other")),
        ("write", {"Effect": "Deny", "NotAction": "brandnew:Do*", "Resource": "*"}),
        ("write", deny("brandnew:*", "arn:aws:brandnew:::x")),
    ],
)
def test_an_unknown_action_can_be_denied(level: str, statement: dict[str, Any]) -> None:
    assert privilege(allow("brandnew:DoThing"), statement).level == level


@pytest.mark.parametrize(
    ("level", "boundary"),
    [
        ("write", policy(allow("brandnew:*"))),
        ("write", policy(allow_but("s3:*"))),
        ("none", policy(allow("s3:*"))),
        ("none", policy(allow_but("brandnew:*"))),
        ("none", policy(allow("*"), deny("brandnew:*"))),
    ],
)
def test_an_unknown_action_can_be_bounded(level: str, boundary: dict[str, Any]) -> None:
    assert privilege(allow("brandnew:DoThing"), boundary=boundary).level == level


def test_looking_at_a_service_that_is_gone_is_reading() -> None:
    assert privilege(allow(["codestar:Get*", "s3:GetObject"])).level == "read"
    assert privilege(allow("codestar:Get*")).reason == "Can read, in services that AWS has shut down."
    assert privilege(allow("codestar:*")).level == "write"


# What cannot be read


def test_a_policy_that_cannot_be_read_is_unknown_and_never_none() -> None:
    found = privilege_of(
        [NamedDocument("broken", '{"Statement": [{}]}'), NamedDocument("fine", policy(allow("s3:GetObject")))]
    )
    assert found.level == "unknown"
    assert found.reason == "The policy broken cannot be read: Statement 1 has no Effect."
    assert found.malformed == (found.reason,)
    assert found.statement is None


def test_what_the_other_policies_show_is_kept() -> None:
    known = policy(allow(["iam:PassRole", "ec2:RunInstances", "s3:GetObject"]))
    found = privilege_of([NamedDocument("fine", known), NamedDocument("broken", "")])
    assert (found.level, found.can_escalate, found.escalation_id, found.sensitive_read) == (
        "unknown",
        True,
        "ec2-001",
        True,
    )


def test_more_than_admin_cannot_be_hidden_in_a_broken_policy() -> None:
    found = privilege_of([NamedDocument("broken", "["), NamedDocument("fine", policy(allow("*")))])
    assert found.level == "admin"
    assert len(found.malformed) == 1
    assert found.statement is not None
    assert found.statement.document == "fine"


def test_a_boundary_that_cannot_be_read_bounds_nothing() -> None:
    found = privilege(allow("s3:PutObject"), boundary="{}")
    assert found.level == "write"
    assert found.malformed == ("The policy boundary cannot be read: The document has no Statement.",)


# Sensitive reads


@pytest.mark.parametrize(
    ("sensitive", "action", "resource"),
    [
        (True, "s3:GetObject", "*"),
        (True, "s3:Get*", "arn:aws:s3:::*"),
        (True, "kms:Decrypt", "arn:aws:kms:*:*:key/*"),
        (True, "ssm:GetParametersByPath", "arn:aws:ssm:*:1:parameter/*"),
        (True, "kms:Decrypt", "arn:aws:kms:*:*:key/?*"),
        (True, "kms:Decrypt", "arn:aws:kms:*:*:ke*"),
        (True, "kms:Decrypt", "arn:aws:k?s:*:*:*key/**"),
        (True, "kms:Decrypt", "arn:aws:kms:*:*:key/????????-????-????-????-????????????"),
        (True, "s3:GetObject", "arn:aws:s3:::?*"),
        (True, "s3:GetObject", "arn:aws:s3:::*/?*"),
        (False, "kms:Decrypt", "arn:aws:kms:*:*:key/12*"),
        (False, "kms:Decrypt", "arn:aws:kms:*:*:key/?"),
        (False, "s3:GetObject", "arn:aws:s3:::job*"),  # buckets, though `job/` is a kind inside an account
        (False, "s3:GetObject", "arn:aws:s3:::reports/*"),
        (False, "ssm:GetParameter", "arn:aws:ssm:*:1:parameter/app/*"),
        (False, "s3:ListBucket", "*"),
    ],
)
def test_reading_data_of_a_whole_kind_is_marked(sensitive: bool, action: str, resource: str) -> None:
    found = privilege(allow(action, resource))
    assert (found.level, found.sensitive_read) == ("read", sensitive)


# AWS's own policies (as moto carries them)


@pytest.fixture(scope="module")
def managed() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    return {name: one["Document"] for name, one in json.loads(aws_managed_policies_data).items()}


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("AdministratorAccess", "admin"),
        ("IAMFullAccess", "admin"),
        ("PowerUserAccess", "admin"),
        ("AWSOrganizationsFullAccess", "admin"),
        ("AmazonEC2FullAccess", "privileged"),
        ("AWSLambda_FullAccess", "privileged"),
        ("AmazonS3FullAccess", "privileged"),
        ("IAMUserChangePassword", "write"),
        ("AWSLambdaBasicExecutionRole", "write"),
        ("ReadOnlyAccess", "read"),
        ("SecurityAudit", "read"),
        ("ViewOnlyAccess", "read"),
        ("IAMReadOnlyAccess", "read"),
        ("AmazonS3ReadOnlyAccess", "read"),
        ("AWSDenyAll", "none"),
    ],
)
def test_policies_that_everybody_knows(managed: dict[str, Any], name: str, level: str) -> None:
    assert privilege_of([NamedDocument(name, managed[name])]).level == level


# The rules themselves


def test_every_action_that_a_rule_names_exists() -> None:
    named = [action for rule in rules() for need in rule.needs for action in need.split("|")] + list(SENSITIVE_READS)
    assert [action for action in named if not catalogue().expand(action)] == []


def test_rules_have_ids_of_their_own_and_sentences() -> None:
    ids = [rule.id for rule in rules()]
    assert len(ids) == len(set(ids))
    for rule in rules():
        says = rule.says.format(any="any", makes="makes", action="x:Y")
        assert says.startswith("Can ")
        assert says.endswith(".")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_every_rule_is_met_by_what_it_names_and_not_by_a_part_of_it(rule: Any) -> None:
    one_of_each = [need.split("|")[0] for need in rule.needs]
    met = privilege(allow(one_of_each))
    assert ORDER.index(met.level) >= ORDER.index(rule.level)
    assert met.can_escalate or not rule.is_escalation
    for left_out in one_of_each if len(one_of_each) > 1 else []:
        part = privilege(allow([action for action in one_of_each if action != left_out]))
        assert part.escalation_id != rule.id


def test_every_known_way_up_is_there() -> None:
    assert len(KNOWN) == 65
    ours = {rule.id for rule in rules() if not rule.id.startswith("gh-")}
    assert len(ours) == 49
    assert ours < {*KNOWN}
    by_shorter_ones = {*KNOWN} - ours
    assert by_shorter_ones == {
        *("bedrock-001", "codebuild-001", "codebuild-004", "ecs-001", "ecs-002", "iam-003", "lambda-004", "lambda-005"),
        *(f"iam-{number:03}" for number in range(14, 22)),
    }


@pytest.mark.parametrize("path", KNOWN)
def test_every_known_way_up_is_found_and_not_by_half_of_it(path: str) -> None:
    found = privilege(*(allow(action) for action in KNOWN[path]))
    assert found.can_escalate
    assert ORDER.index(found.level) >= ORDER.index("privileged")
    assert found.escalation_id in {*KNOWN, "gh-takeover-001"}  # which needs less than ec2-002 does
    if "iam:PassRole" in KNOWN[path]:
        assert privilege(allow("iam:PassRole")).level == "write"


@pytest.mark.parametrize(
    ("actions", "by"),
    [
        (["iam:PassRole", "ecs:RegisterTaskDefinition", "ecs:UpdateService"], "gh-passrole-002"),
        (["iam:PassRole", "glue:CreateSession", "glue:RunStatement"], "gh-passrole-003"),
        (
            ["iam:PassRole", "imagebuilder:UpdateInfrastructureConfiguration", "imagebuilder:CreateImagePipeline"],
            "gh-passrole-004",
        ),
        (["iam:PassRole", "emr-serverless:StartJobRun"], "gh-passrole-001"),
        (["iam:PassRole", "codepipeline:CreatePipeline"], "gh-passrole-001"),
        (["iam:PassRole", "events:PutTargets"], "gh-passrole-001"),
        (["iam:PassRole", "eks:CreatePodIdentityAssociation"], "gh-passrole-001"),
        (["iam:PassRole", "cognito-identity:SetIdentityPoolRoles"], "gh-passrole-001"),
        (["iam:CreateServiceSpecificCredential"], "gh-iam-003"),
        (["ssm:ResumeSession"], "gh-takeover-002"),
    ],
)
def test_newer_ways_up_are_found_too(actions: list[str], by: str) -> None:
    found = privilege(allow(actions))
    assert (found.level, found.can_escalate, found.escalation_id) == ("privileged", True, by)
    assert all(privilege(allow(actions[:n] + actions[n + 1 :])).level in ("write", "none") for n in range(len(actions)))


def test_taking_a_second_factor_away_from_others_is_privileged() -> None:
    found = privilege(allow("iam:DeactivateMFADevice"))
    assert (found.level, found.can_escalate) == ("privileged", False)
    assert found.reason == "Can take the second factor away from any user."


def test_only_writing_is_behind_a_rule_except_where_reading_is_the_point() -> None:
    known = catalogue()
    for rule in rules():
        if rule.id == "gh-secrets-001":
            continue
        first = rule.needs[0]
        assert not known.select(first.split("|")) & ~known.writes, rule.id


def test_services_that_are_gone_are_not_in_the_catalogue() -> None:
    assert [service for service in RETIRED if catalogue().expand(f"{service}:*")] == []


# What holds for every policy

actions = st.lists(
    st.sampled_from(
        [
            "*",
            "iam:*",
            "IAM:Pass*",
            "s3:*",
            "s3:Get*",
            "s3:PutObject",
            "ec2:RunInstances",
            "lambda:*",
            "sts:AssumeRole",
            "kms:Decrypt",
            "brandnew:Do",
            "iam:CreateAccessKey",
            "sso:*",
            "organizations:Describe*",
            "*:Get*",
            "codestar:List*",
        ]
    ),
    min_size=1,
    max_size=3,
)
resources = st.lists(
    st.sampled_from(
        ["*", "arn:aws:s3:::b/*", "arn:aws:iam::1:role/*", ME, "arn:aws:iam::*:user/x", "arn:aws:lambda:*:*:function:f"]
    ),
    min_size=1,
    max_size=2,
)
statements = st.builds(
    lambda effect, action_key, action, resource_key, resource, condition: {
        "Effect": effect,
        action_key: action,
        resource_key: resource,
        **({"Condition": {"Bool": {"aws:x": "true"}}} if condition else {}),
    },
    st.sampled_from(["Allow", "Allow", "Deny"]),
    st.sampled_from(["Action", "Action", "NotAction"]),
    actions,
    st.sampled_from(["Resource", "Resource", "NotResource"]),
    resources,
    st.booleans(),
)
policies = st.lists(statements, max_size=3)


def rank(*lists: list[dict[str, Any]], boundary: list[dict[str, Any]] | None = None) -> int:
    bounded = None if boundary is None else NamedDocument("boundary", policy(*boundary))
    return ORDER.index(privilege_of([NamedDocument("p", policy(*one)) for one in lists], boundary=bounded).level)


@settings(deadline=None)
@given(policies, statements)
def test_one_more_allow_never_lowers_the_level_and_one_more_deny_never_raises_it(
    held: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    before, after = rank(held), rank([*held, more])
    assert after >= before if more["Effect"] == "Allow" else after <= before


def test_a_statement_about_no_resource_gives_nothing_inside_a_boundary_either() -> None:
    nothing = [{"Effect": "Allow", "Action": ["*"], "NotResource": ["*"]}]
    unknown = [{"Effect": "Allow", "Action": ["codestar:List*"], "Resource": ["*"]}]
    assert rank(nothing, boundary=unknown) == rank(nothing) == 0


@settings(deadline=None)
@given(policies, policies)
def test_a_boundary_never_raises_the_level(held: list[dict[str, Any]], boundary: list[dict[str, Any]]) -> None:
    assert rank(held, boundary=boundary) <= min(rank(held), rank(boundary))


@settings(deadline=None)
@given(policies, policies)
def test_it_does_not_matter_how_statements_are_spread_over_policies(
    one: list[dict[str, Any]], two: list[dict[str, Any]]
) -> None:
    assert rank(one, two) == rank([*one, *two]) == rank([*two, *one])


@settings(deadline=None)
@given(policies)
def test_a_condition_on_an_allow_never_changes_the_level(held: list[dict[str, Any]]) -> None:
    condition = {"StringLike": {"aws:PrincipalOrgID": "o-1"}}
    bounded = [one | {"Condition": condition} if one["Effect"] == "Allow" else one for one in held]
    assert rank(held) == rank(bounded)


@settings(deadline=None)
@given(policies)
def test_whoever_is_allowed_something_is_told_by_which_statement(held: list[dict[str, Any]]) -> None:
    found = privilege(*held)
    if found.level == "none":
        assert found.statement is None
    else:
        assert found.statement is not None
        assert found.statement.statement["Effect"] == "Allow"
        assert found.statement.statement == held[found.statement.index]


@pytest.mark.parametrize(
    ("resource", "level"),
    [
        ("arn:aws:iam::*:role/jit/jit-*", "write"),
        ("arn:aws:iam::111122223333:role/jit/jit-*", "write"),
        ("arn:aws:iam::111122223333:role/jit/*", "privileged"),  # tier roles are there too
        ("arn:aws:iam::111122223333:role/jit/jit-*/deploy", "privileged"),
        ("arn:aws:iam::111122223333:role/jit-deploy", "privileged"),
        ("arn:aws:iam::111122223333:role/*jit/jit-*", "privileged"),
    ],
)
def test_the_right_to_knock_at_roles_of_grants_makes_nobody_privileged(resource: str, level: str) -> None:
    """Their own trust lets in one person while one grant lasts; everybody who may ask needs the right to knock."""
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": resource}],
    }
    assert privilege_of([NamedDocument("JitBase", document)]).level == level
    both = [
        NamedDocument("JitBase", document),
        NamedDocument(
            "other",
            {
                **document,
                "Statement": [
                    {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::111122223333:role/deploy"}
                ],
            },
        ),
    ]
    assert privilege_of(both).level == "privileged", "another role beside them counts as ever"

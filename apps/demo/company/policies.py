"""Policy documents, from harmless to ruinous, and the small words they are made of."""

from collections.abc import Mapping
from typing import Any

from apps.demo.company.model import Document


def aws_managed(name: str) -> str:
    """The ARN of a policy that AWS itself maintains."""
    return f"arn:aws:iam::aws:policy/{name}"


def statement(effect: str, actions: str | list[str], resources: str | list[str] = "*", **more: Any) -> Document:
    """One statement over `Action` and `Resource`, with anything further (Sid, Condition) as given."""
    return {"Effect": effect, "Action": actions, "Resource": resources, **more}


def allow(actions: str | list[str], resources: str | list[str] = "*", **more: Any) -> Document:
    return statement("Allow", actions, resources, **more)


def deny(actions: str | list[str], resources: str | list[str] = "*", **more: Any) -> Document:
    return statement("Deny", actions, resources, **more)


def document(*statements: Mapping[str, Any]) -> Document:
    return {"Version": "2012-10-17", "Statement": [dict(one) for one in statements]}


# ---- What services at work need


def logs(service: str) -> Document:
    return allow(
        ["logs:CreateLogStream", "logs:PutLogEvents"],
        f"arn:aws:logs:<region>:<self>:log-group:/harbourline/{service}:*",
        Sid="Logs",
    )


def table(name: str) -> Document:
    return allow(
        ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"],
        [f"arn:aws:dynamodb:<region>:<self>:table/{name}", f"arn:aws:dynamodb:<region>:<self>:table/{name}/index/*"],
        Sid="Table",
    )


def queue(name: str) -> Document:
    return allow(
        ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
        f"arn:aws:sqs:<region>:<self>:{name}",
        Sid="Queue",
    )


def topic(name: str) -> Document:
    return allow("sns:Publish", f"arn:aws:sns:<region>:<self>:{name}", Sid="Topic")


def bucket_reader(name: str) -> Document:
    return allow(
        ["s3:ListBucket", "s3:GetObject"],
        [f"arn:aws:s3:::harbourline-<self>-{name}", f"arn:aws:s3:::harbourline-<self>-{name}/*"],
        Sid="ReadBucket",
    )


def bucket_writer(name: str) -> Document:
    return allow(["s3:PutObject", "s3:GetObject"], f"arn:aws:s3:::harbourline-<self>-{name}/*", Sid="WriteBucket")


def secret(name: str) -> Document:
    return allow(
        "secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:<region>:<self>:secret:{name}/*", Sid="Secret"
    )


def mail() -> Document:
    return allow(
        ["ses:SendEmail", "ses:SendRawEmail"], "arn:aws:ses:<region>:<self>:identity/harbourline.example", Sid="Mail"
    )


def metrics() -> Document:
    return allow(
        "cloudwatch:PutMetricData",
        Condition={"StringEquals": {"cloudwatch:namespace": "Harbourline"}},
        Sid="Metrics",
    )


# ---- What people's permission sets say

SUPPORT_VIEW = document(
    allow(
        ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:DescribeTable"],
        [f"arn:aws:dynamodb:<region>:*:table/{name}*" for name in ("bookings", "payments", "manifests")],
        Sid="OneCustomer",
    ),
    allow(["logs:FilterLogEvents", "logs:GetLogEvents", "logs:DescribeLogGroups"], Sid="TheirLogs"),
)
DEPLOYER = document(
    allow(
        ["ecs:Describe*", "ecs:List*", "lambda:Get*", "lambda:List*", "codedeploy:Get*", "codedeploy:List*"], Sid="Look"
    ),
    allow(
        ["ecs:UpdateService", "codedeploy:CreateDeployment", "codedeploy:StopDeployment", "lambda:UpdateAlias"],
        Sid="RollForwardAndBack",
    ),
)
DATA_ANALYST = document(
    allow(
        ["athena:StartQueryExecution", "athena:StopQueryExecution", "athena:Get*", "athena:List*"],
        "arn:aws:athena:<region>:*:workgroup/analysts",
        Sid="Ask",
    ),
    allow(["glue:GetDatabase*", "glue:GetTable*", "glue:GetPartition*"], Sid="Catalogue"),
    allow(
        ["s3:GetObject", "s3:ListBucket"],
        ["arn:aws:s3:::harbourline-lake-curated", "arn:aws:s3:::harbourline-lake-curated/*"],
        Sid="Lake",
    ),
    allow("s3:PutObject", "arn:aws:s3:::harbourline-athena-results/analysts/*", Sid="Results"),
)
DATABASE_ADMIN = document(
    allow(["dynamodb:*", "elasticache:*", "dms:*"], Sid="Stores"),
    allow("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:<region>:*:secret:rds!*", Sid="MasterPasswords"),
    allow(["ssm:StartSession", "kms:CreateGrant"], Sid="Shell"),
)
NETWORK_OPERATOR = document(
    allow(
        [
            "ec2:Describe*",
            "ec2:AuthorizeSecurityGroup*",
            "ec2:RevokeSecurityGroup*",
            "ec2:CreateRoute",
            "ec2:ReplaceRoute",
            "ec2:DeleteRoute",
            "elasticloadbalancing:*",
            "route53:ChangeResourceRecordSets",
            "route53:Get*",
            "route53:List*",
        ],
        Sid="Network",
    ),
)
FINDINGS_READER = document(
    allow(["securityhub:Get*", "securityhub:List*", "guardduty:Get*", "guardduty:List*", "access-analyzer:List*"])
)
BILLING = document(
    allow(["budgets:*", "ce:*", "cur:*", "invoicing:*", "payments:Get*", "payments:List*", "tax:Get*"], Sid="Money")
)

JIT_BASE = document(  # the right to knock: the role of a grant lets in its own person alone
    allow(["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"], "arn:aws:iam::*:role/jit/jit-*")
)

# The guard: where just-in-time access through Identity Center ends. Statements are written by the portal; the anchor
# keeps the document valid, and denies nothing since its date is long past.
GUARD_PATH, GUARD_NAME = "/jit/", "jit-guard"
GUARD = document(deny("*", Sid="Anchor", Condition={"DateLessThan": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}}))

# The organization's stop: attached to its root, it denies everything that just-in-time access could do.
STOP_NAME = "GatehouseStop"
STOP = document(
    deny(
        "*",
        Sid="Stop",
        Condition={
            "ArnLike": {
                "aws:PrincipalArn": [
                    "arn:aws:iam::*:role/jit/*",
                    "arn:aws:iam::*:role/aws-reserved/sso.amazonaws.com*/AWSReservedSSO_*",
                ]
            }
        },
    )
)

# ---- Known ways to more. Names in brackets are path ids of DataDog's pathfinding.cloud.

ADMIN = document(allow("*"))
PASS_ROLE_LAMBDA = document(  # [lambda-001]
    allow(["lambda:CreateFunction", "lambda:InvokeFunction", "lambda:UpdateFunctionConfiguration"]),
    allow("iam:PassRole"),
)
PASS_ROLE_CLOUDFORMATION = document(  # [cloudformation-001, -002]
    allow(["cloudformation:CreateStack", "cloudformation:UpdateStack", "cloudformation:DescribeStacks", "iam:PassRole"])
)
PASS_ROLE_GLUE = document(  # [glue-003]
    allow(["glue:CreateJob", "glue:StartJobRun", "glue:GetJobRun"]),
    allow("iam:PassRole", "arn:aws:iam::<self>:role/*"),
)
PASS_ROLE_SAGEMAKER = document(  # [sagemaker-001, -004]
    allow(["sagemaker:CreateNotebookInstance", "sagemaker:CreatePresignedNotebookInstanceUrl", "iam:PassRole"])
)
PASS_ROLE_ECS = document(  # [ecs-004], the pass narrowed to one service but not to any role
    allow(["ecs:RegisterTaskDefinition", "ecs:RunTask"]),
    allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}),
)
PASS_ROLE_EC2 = document(allow(["ec2:RunInstances", "iam:Pass*"]))  # [ec2-001]
CREATE_POLICY_VERSION = document(allow(["iam:CreatePolicyVersion", "iam:ListPolicyVersions"]))  # [iam-001]
SET_DEFAULT_VERSION = document(allow(["iam:SetDefaultPolicyVersion", "iam:Get*", "iam:List*"]))
ATTACH_USER_POLICY = document(allow(["iam:CreateUser", "iam:AttachUserPolicy", "iam:TagUser"]))  # [iam-008]
ADD_TO_GROUP = document(allow("iam:AddUserToGroup", "arn:aws:iam::<self>:group/*"))  # [iam-013]
UPDATE_TRUST = document(
    allow(["iam:UpdateAssumeRolePolicy", "sts:AssumeRole"], "arn:aws:iam::<self>:role/*")
)  # [iam-012]
CREATE_ACCESS_KEY = document(  # [iam-003]
    allow(["iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:ListAccessKeys"], "arn:aws:iam::<self>:user/*")
)
LETTER_CASE = document(allow(["IAM:createaccesskey", "Iam:LISTUSERS"]))  # action names do not care about case
QUESTION_MARK = document(allow(["iam:CreateAccessKe?", "iam:PutUserPolic?"]))  # `?` stands for one letter
NOT_ACTION = document({"Effect": "Allow", "NotAction": ["aws-portal:*", "budgets:*"], "Resource": "*"})  # iam:* remains
NOT_RESOURCE = document({"Effect": "Allow", "Action": "iam:*", "NotResource": "arn:aws:iam::<self>:role/portal/*"})
LAMBDA_TAKEOVER = document(allow(["lambda:UpdateFunctionCode", "lambda:InvokeFunction"]))  # [lambda-004]
RUN_ON_INSTANCES = document(allow(["ssm:SendCommand", "ssm:StartSession", "ec2:DescribeInstances"]))  # [ssm-001, -002]
START_BUILDS = document(allow(["codebuild:StartBuild", "codebuild:BatchGetBuilds"]))  # [codebuild-002]
ALL_SECRETS = document(allow(["secretsmanager:GetSecretValue", "ssm:GetParameter*", "kms:Decrypt"]))
STOP_LOGGING = document(allow(["cloudtrail:StopLogging", "cloudtrail:UpdateTrail", "guardduty:DeleteDetector"]))
SHARE_BUCKETS = document(allow(["s3:PutBucketPolicy", "s3:GetBucketPolicy", "kms:PutKeyPolicy"]))
ASSUME_ANYTHING = document(allow("sts:AssumeRole"))  # [sts-001]

# ---- Things that look worse than they are

_WAYS_OUT = [
    "iam:*",
    "organizations:*",
    "sso:*",
    "sso-directory:*",
    "identitystore:*",
    "account:*",
    "account-access:*",
    "sts:*",
]
ADMIN_BUT_IAM = document(allow("*"), deny(_WAYS_OUT))
LAPSED = document(allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "2024-03-31T22:00:00Z"}}, Sid="Migration"))
BOUNDARY = document(allow("*"), deny(_WAYS_OUT, Sid="NoWayOut"))

"""The roles that a review of machine access is about: too wide, too trusting, nobody's, or only looking so."""

from collections.abc import Iterable

from apps.demo.company import policies, trusts
from apps.demo.company.model import Document, Policy, Role
from apps.demo.company.policies import aws_managed, document
from apps.demo.company.workloads import owned

VENDOR_FERRY_ADS = "444455556666"  # nobody at Harbourline remembers whose account this is
VENDOR_MONITORING = "111122223333"

RELEASE = Policy(
    "production",
    "release-artefacts",
    (policies.ADMIN, document(policies.bucket_reader("artefacts"))),  # whoever may set a default version is admin
    description="Read release artefacts. Its first version allowed everything",
)
BOUNDARY = Policy("sandbox", "sandbox-boundary", (policies.BOUNDARY,), description="The most a sandbox role may do")
LAKE_WRITER = Policy("data", "lake-writer", (document(policies.bucket_writer("lake-raw")),))
POLICIES = (RELEASE, BOUNDARY, LAKE_WRITER)


def _continuous_delivery() -> Iterable[Role]:
    for account, environment in (("production", "production"), ("staging", "staging")):
        yield Role(
            account,
            "github-payments-release",
            trusts.github(f"repo:harbourline/payments-api:environment:{environment}"),
            path="/ci/",
            description="Releases the payments service",
            inline={"release": policies.DEPLOYER},
            tags=owned("payments", repository="payments-api"),
        )
        yield Role(
            account,
            "github-release",
            trusts.github("repo:harbourline/*"),
            path="/ci/",
            description="Releases everything else; any repository of ours, any branch",
            inline={"release": policies.PASS_ROLE_LAMBDA},
            tags=owned("platform"),
        )
    yield Role(
        "staging",
        "github-preview",
        trusts.github(None),
        path="/ci/",
        description="Preview environments of pull requests",
        inline={"preview": policies.PASS_ROLE_CLOUDFORMATION},
    )
    yield Role(
        "production",
        "terraform-apply",
        trusts.service("codebuild"),
        path="/ci/",
        description="Applies infrastructure as code",
        attached=(aws_managed("AdministratorAccess"),),
        tags=owned("platform", terraform="platform/bootstrap"),
    )
    yield Role(
        "staging",
        "terraform-apply",
        trusts.service("codebuild"),
        path="/ci/",
        attached=(aws_managed("PowerUserAccess"),),
        inline={"roles": policies.NOT_RESOURCE},
        tags=owned("platform", terraform="platform/bootstrap"),
    )
    yield Role(
        "production",
        "image-builder",
        trusts.service("codebuild", StringEquals={"aws:SourceAccount": "<self>"}),
        path="/ci/",
        attached=(RELEASE.arn,),
        inline={"versions": policies.SET_DEFAULT_VERSION},
        tags=owned("platform"),
    )


# account, name, trusted service, permissions, owner tags. Each is one known way to more than it says.
_ESCALATIONS: tuple[tuple[str, str, str, Document, dict[str, str]], ...] = (
    ("production", "ops-automation", "lambda", policies.NOT_ACTION, owned("platform")),
    ("production", "policy-janitor", "lambda", policies.CREATE_POLICY_VERSION, owned("security")),
    ("production", "trust-rotator", "lambda", policies.UPDATE_TRUST, owned("security")),
    ("production", "partner-onboarding", "states", policies.ATTACH_USER_POLICY, owned("freight")),
    ("production", "hotfix-runner", "lambda", policies.LAMBDA_TAKEOVER, owned("booking")),
    ("production", "patch-runner", "states", policies.RUN_ON_INSTANCES, owned("platform")),
    ("production", "config-loader", "ecs-tasks", policies.ALL_SECRETS, {}),
    ("production", "log-shipper-setup", "lambda", policies.STOP_LOGGING, owned("platform")),
    ("production", "batch-launcher", "states", policies.PASS_ROLE_ECS, owned("payments")),
    ("production", "move-2024", "ec2", policies.LAPSED, {"team": "platform"}),
    ("staging", "user-sync", "lambda", policies.CREATE_ACCESS_KEY, owned("security")),
    ("staging", "key-rotation", "lambda", policies.LETTER_CASE, {}),
    ("staging", "support-tooling", "lambda", policies.QUESTION_MARK, {"owner": "support-tools"}),
    ("staging", "spot-runner", "ec2", policies.PASS_ROLE_EC2, owned("platform")),
    ("staging", "nightly-builds", "events", policies.START_BUILDS, owned("platform")),
    ("staging", "everything-but-iam", "ec2", policies.ADMIN_BUT_IAM, owned("booking")),
    ("data", "glue-jobs", "glue", policies.PASS_ROLE_GLUE, owned("data")),
    ("data", "notebooks", "sagemaker", policies.PASS_ROLE_SAGEMAKER, owned("data")),
    ("data", "bucket-sharing", "lambda", policies.SHARE_BUCKETS, owned("data")),
    ("management", "account-vending", "lambda", policies.ADMIN, owned("platform")),
    ("management", "cost-alerts", "lambda", policies.ASSUME_ANYTHING, {}),
    ("security", "responder", "states", policies.ADMIN, owned("security")),
)


def _from_other_accounts() -> Iterable[Role]:
    look = (aws_managed("SecurityAudit"),)
    for account in ("management", "production", "staging", "data", "sandbox"):
        yield Role(
            account,
            "security-collector",
            trusts.principal("arn:aws:iam::<security>:role/collector"),
            path="/security/",
            description="Collects settings for the security account",
            attached=look,
            tags=owned("security"),
        )
    yield Role(
        "production",
        "lake-export",
        trusts.principal("arn:aws:iam::<data>:role/ingest-production"),
        inline={"read": document(policies.bucket_reader("exports"))},
        tags=owned("data"),
    )
    # whoever may assume roles in the data account gets as far as production's exports
    yield Role(
        "data",
        "lake-operator",
        trusts.account("<self>"),
        description="Mends the lake by hand",
        inline={
            "mend": document(
                policies.bucket_writer("lake-raw"),
                policies.allow("sts:AssumeRole", "arn:aws:iam::<production>:role/exports-operator"),
            )
        },
        tags=owned("data"),
    )
    yield Role(
        "production",
        "exports-operator",
        trusts.principal("arn:aws:iam::<data>:role/lake-operator"),
        description="Runs an export again",
        inline={"write": document(policies.bucket_writer("exports"), policies.table("bookings"))},
        tags=owned("data"),
    )
    yield Role(
        "production",
        "staging-promotes",
        trusts.account("<staging>"),
        description="Staging copies its images here",
        inline={"push": document(policies.allow(["ecr:PutImage", "ecr:UploadLayerPart"]))},
        tags=owned("platform"),
    )
    yield Role(
        "production",
        "monitoring-integration",
        trusts.account(VENDOR_MONITORING, external_id="hl-7f31c0a2"),
        path="/vendor/",
        attached=(aws_managed("ReadOnlyAccess"),),
        tags=owned("platform", vendor="monitoring"),
    )
    yield Role(
        "production",
        "ferry-ads-reporting",
        trusts.account(VENDOR_FERRY_ADS),
        path="/vendor/",
        inline={"reports": document(policies.bucket_reader("exports"), policies.table("bookings"))},
    )
    yield Role(
        "sandbox",
        "open-to-all",
        trusts.principal("*"),
        description="demo for the ferry hackathon",
        attached=(aws_managed("AmazonS3ReadOnlyAccess"),),
    )
    yield Role(
        "data",
        "lake-reader",
        trusts.principal("*", StringEquals={"aws:PrincipalOrgID": "<org>"}),
        inline={"read": document(policies.bucket_reader("lake-curated"))},
        tags=owned("data"),
    )


def _other_ways_in() -> Iterable[Role]:
    for account in ("production", "data"):
        yield Role(
            account,
            "cluster-tools",
            trusts.service_account(trusts.CLUSTERS[account], "*:*"),
            description="Any pod of the cluster",
            inline={"tools": document(policies.allow(["secretsmanager:GetSecretValue", "s3:GetObject"]))},
            tags=owned("platform"),
        )
    yield Role(
        "staging",
        "cluster-debug",
        trusts.service_account(trusts.CLUSTERS["staging"], None),
        inline={"debug": document(policies.allow(["logs:*", "cloudwatch:Get*"]))},
    )
    yield Role(
        "production",
        "quay-scanner-gateway",
        trusts.roles_anywhere("scanner-gateway.quay.harbourline.example"),
        description="The ticket scanners on the quay",
        inline={"scan": document(policies.queue("scans"), policies.table("tickets"))},
        tags=owned("freight"),
    )
    yield Role(
        "production",
        "terminal-gateway",
        trusts.roles_anywhere(None),
        description="The old terminal computers",
        inline={"terminal": document(policies.table("bookings"))},
        tags={"owner": "terminal-it"},
    )
    yield Role(
        "production",
        "adfs-operator",
        trusts.saml("corporate-adfs"),
        description="Sign-on from before Identity Center",
        attached=(aws_managed("PowerUserAccess"),),
        tags=owned("platform"),
    )
    yield Role(
        "management",
        "adfs-billing",
        trusts.saml("corporate-adfs"),
        attached=(aws_managed("job-function/Billing"),),
        tags={"owner": "beatrice.fontaine@harbourline.example"},
    )
    yield Role(
        "production",
        "incident-runner",
        trusts.service_here("ssm"),
        description="Runbooks. Gets more rights for the length of an incident",
        inline={"look": document(policies.allow(["ec2:Describe*", "ecs:Describe*"]))},
        tags=owned("platform", **{"gatehouse:time-boxed": "allowed"}),
    )
    yield Role(
        "sandbox",
        "access-manager-trial",
        trusts.account_access_manager(),
        attached=(aws_managed("ReadOnlyAccess"),),
        tags=owned("security"),
    )


def _nobodys() -> Iterable[Role]:
    yield Role(
        "production",
        "old-reporting",
        trusts.principal("AROA4EXAMPLEOLDREPORT"),
        attached=(aws_managed("ReadOnlyAccess"),),
    )
    yield Role(
        "production", "test-role-do-not-delete", trusts.service("ec2"), attached=(aws_managed("AmazonS3FullAccess"),)
    )
    yield Role(
        "production",
        "MyLambdaRole-x8f3k1",
        trusts.service("lambda"),
        path="/service-role/",
        inline={"logs": document(policies.logs("test"))},
    )
    yield Role("staging", "terraform-2021", trusts.principal("AIDA4EXAMPLETERRAFORM"), inline={"all": policies.ADMIN})
    yield Role(
        "staging", "temp-migration", trusts.service("dms"), inline={"read": document(policies.bucket_reader("dump"))}
    )
    yield Role(
        "data", "poc-forecasting", trusts.service("sagemaker"), attached=(aws_managed("AmazonS3ReadOnlyAccess"),)
    )
    yield Role(
        "sandbox", "hackathon-2025", trusts.service("lambda"), inline={"all": policies.ADMIN}, boundary=BOUNDARY.arn
    )


def _data_and_security() -> Iterable[Role]:
    data, security = owned("data"), owned("security")
    for source in ("production", "staging", "partners"):
        trust = trusts.service_here("glue")
        yield Role("data", f"ingest-{source}", trust, attached=(LAKE_WRITER.arn,), tags=data)
    yield Role(
        "data",
        "forecast-training",
        trusts.service("sagemaker"),
        inline={"read": document(policies.bucket_reader("lake-curated"))},
        tags=data,
    )
    yield Role(
        "data",
        "report-mailer",
        trusts.service("lambda"),
        inline={"work": document(policies.mail(), policies.bucket_reader("reports"))},
        tags=data,
    )
    yield Role("data", "AWSServiceRoleForRDS", service_linked="rds.amazonaws.com")
    yield Role(
        "security",
        "collector",
        trusts.service_here("lambda"),
        inline={
            "collect": document(policies.allow("sts:AssumeRole", "arn:aws:iam::*:role/security/security-collector"))
        },
        tags=security,
    )
    yield Role(
        "security",
        "findings-router",
        trusts.service("events"),
        inline={"route": document(policies.topic("findings"))},
        tags=security,
    )
    yield Role(
        "security",
        "log-archive",
        trusts.service("lambda"),
        inline={"archive": document(policies.bucket_writer("log-archive"))},
        tags=security,
    )
    yield Role("security", "AWSServiceRoleForAmazonGuardDuty", service_linked="guardduty.amazonaws.com")
    yield Role("management", "AWSServiceRoleForOrganizations", service_linked="organizations.amazonaws.com")


def roles() -> Iterable[Role]:
    """Every role that is out of the ordinary, and the few ordinary ones of the smaller accounts."""
    yield from _continuous_delivery()
    for account, name, trusted, permissions, tags in _ESCALATIONS:
        yield Role(account, name, trusts.service(trusted), inline={"work": permissions}, tags=tags)
    yield from _from_other_accounts()
    yield from _other_ways_in()
    yield from _data_and_security()
    yield from _nobodys()

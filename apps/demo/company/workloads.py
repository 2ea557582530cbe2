"""The roles of software at work: the services of Harbourline, in production and staging, and what runs underneath."""

from collections.abc import Iterable

from apps.demo.company import policies, trusts
from apps.demo.company.model import Document, Role
from apps.demo.company.people import CAST, email
from apps.demo.company.policies import aws_managed, document

TEAMS = {
    "payments": CAST["bob"],
    "booking": email("Elena Marković"),
    "freight": email("Gunnar Eide"),
    "platform": email("Jonas Rautio"),
    "data": email("Samuel Adeyemi"),
    "security": CAST["farid"],
}

# service, what it runs on, team, permissions. `pod` is a Kubernetes service account in the namespace of the team.
_SERVICES: tuple[tuple[str, str, str, tuple[Document, ...]], ...] = (
    ("booking-api", "pod", "booking", (policies.table("bookings"), policies.topic("booking-events"))),
    ("fare-engine", "pod", "booking", (policies.table("fares"), policies.bucket_reader("fare-tables"))),
    ("timetable-import", "lambda", "booking", (policies.bucket_reader("timetables"), policies.table("sailings"))),
    ("search-indexer", "ecs-tasks", "booking", (policies.queue("booking-events"), policies.metrics())),
    ("web-frontend", "ecs-tasks", "booking", (policies.bucket_reader("web-assets"),)),
    ("mobile-gateway", "ecs-tasks", "booking", (policies.table("sessions"), policies.secret("mobile"))),
    ("ticket-render", "lambda", "booking", (policies.bucket_writer("tickets"),)),
    ("loyalty-points", "ecs-tasks", "booking", (policies.table("loyalty"), policies.queue("booking-events"))),
    ("email-dispatch", "lambda", "booking", (policies.queue("outgoing-mail"), policies.mail())),
    ("session-cleaner", "lambda", "booking", (policies.table("sessions"),)),
    ("payments-api", "pod", "payments", (policies.table("payments"), policies.secret("acquirer"))),
    ("payments-webhooks", "lambda", "payments", (policies.queue("acquirer-webhooks"), policies.table("payments"))),
    ("payments-settlement", "states", "payments", (policies.bucket_writer("settlements"), policies.topic("settled"))),
    ("refunds-worker", "lambda", "payments", (policies.queue("refunds"), policies.secret("acquirer"))),
    ("invoice-export", "states", "payments", (policies.bucket_writer("invoices"),)),
    ("fraud-scoring", "pod", "payments", (policies.bucket_reader("fraud-models"), policies.metrics())),
    ("freight-quotes", "ecs-tasks", "freight", (policies.table("quotes"),)),
    ("manifest-service", "pod", "freight", (policies.table("manifests"), policies.topic("manifest-events"))),
    ("customs-declarations", "lambda", "freight", (policies.secret("customs"), policies.queue("manifest-events"))),
    ("container-tracking", "lambda", "freight", (policies.table("containers"),)),
    ("berth-scheduler", "ecs-tasks", "freight", (policies.table("berths"), policies.metrics())),
    ("vessel-telemetry", "lambda", "freight", (policies.bucket_writer("telemetry"), policies.metrics())),
)
_RUNS_ON = {"lambda": "AWS Lambda", "ecs-tasks": "ECS", "states": "Step Functions", "pod": "EKS"}
# owner tags as different teams spell them
_OWNER_KEY = {
    "payments": "owner",
    "booking": "Owner",
    "freight": "owner-email",
    "platform": "owner",
    "data": "team-owner",
    "security": "owner",
}


def owned(team: str, **more: str) -> dict[str, str]:
    """The tags that this team puts on what it owns."""
    return {_OWNER_KEY[team]: TEAMS[team], "team": team, **more}


def _service_roles(account: str) -> Iterable[Role]:
    for name, platform, team, permissions in _SERVICES:
        if platform == "pod":
            trust = trusts.service_account(trusts.CLUSTERS[account], f"{team}:{name}")
        elif platform in ("lambda", "states"):
            trust = trusts.service(platform)
        else:
            trust = trusts.service_here(platform)
        yield Role(
            account,
            f"{name}-{account}" if platform == "pod" else name,
            trust,
            path=f"/{team}/",
            description=f"{name} on {_RUNS_ON[platform]}",
            inline={"work": document(policies.logs(name), *permissions)},
            tags=owned(team, service=name),
        )


def _foundations(account: str) -> Iterable[Role]:
    cluster = trusts.CLUSTERS[account]
    tags = owned("platform", terraform="platform/base")
    yield Role(
        account,
        "ecs-task-execution",
        trusts.service_here("ecs-tasks"),
        attached=(aws_managed("service-role/AmazonECSTaskExecutionRolePolicy"),),
        tags=tags,
    )
    yield Role(
        account, "eks-cluster", trusts.service("eks"), attached=(aws_managed("AmazonEKSClusterPolicy"),), tags=tags
    )
    yield Role(
        account,
        "eks-node",
        trusts.service("ec2"),
        attached=(aws_managed("AmazonEKSWorkerNodePolicy"), aws_managed("AmazonEC2ContainerRegistryReadOnly")),
        tags=tags,
    )
    yield Role(
        account, "bastion", trusts.service("ec2"), attached=(aws_managed("AmazonSSMManagedInstanceCore"),), tags=tags
    )
    yield Role(
        account,
        "external-dns",
        trusts.service_account(cluster, "kube-system:external-dns"),
        inline={"names": document(policies.allow(["route53:ChangeResourceRecordSets", "route53:List*"]))},
        tags=tags,
    )
    yield Role(
        account,
        "cluster-autoscaler",
        trusts.pod_identity(),
        inline={
            "scale": document(policies.allow(["autoscaling:Describe*", "autoscaling:SetDesiredCapacity"])),
        },
        tags=tags,
    )
    yield Role(account, "AWSServiceRoleForECS", service_linked="ecs.amazonaws.com")
    yield Role(account, "AWSServiceRoleForElasticLoadBalancing", service_linked="elasticloadbalancing.amazonaws.com")


def roles() -> Iterable[Role]:
    """Every role of a service of ours."""
    for account in ("production", "staging"):
        yield from _service_roles(account)
        yield from _foundations(account)

"""IAM users and groups: programs with keys, people from before Identity Center, and two ways in for emergencies."""

from apps.demo.company import policies
from apps.demo.company.model import IamGroup, IamUser
from apps.demo.company.people import CAST, email
from apps.demo.company.policies import aws_managed, document
from apps.demo.company.workloads import owned

GROUPS = (
    IamGroup("production", "legacy-admins", (aws_managed("AdministratorAccess"),)),
    IamGroup("production", "readers", (aws_managed("ReadOnlyAccess"),)),
    IamGroup("staging", "developers", (aws_managed("PowerUserAccess"),)),
)


def _person(address: str) -> dict[str, str]:
    return {"email": address, "owner": address}


USERS = (
    # programs
    IamUser("production", "ci-legacy-deployer", keys=2, inactive_keys=1, inline={"deploy": policies.PASS_ROLE_LAMBDA}),
    IamUser(
        "production",
        "backup-agent",
        path="/machines/",
        inline={"backup": document(policies.bucket_writer("backups"))},
        tags=owned("platform"),
    ),
    IamUser(
        "production",
        "port-authority-feed",
        path="/partners/",
        inline={"feed": document(policies.bucket_reader("berth-feed"))},
        tags=owned("freight", partner="port authority"),
    ),
    IamUser(
        "production", "smtp-relay", path="/machines/", inline={"mail": document(policies.mail())}, tags=owned("booking")
    ),
    IamUser("production", "metrics-exporter", groups=("readers",), tags={"owner": "monitoring"}),
    IamUser("staging", "load-test", keys=2, groups=("developers",), tags=owned("booking")),
    IamUser("staging", "key-custodian", inline={"groups": policies.ADD_TO_GROUP}, tags=owned("security")),
    IamUser("data", "dashboard-reader", inline={"read": policies.DATA_ANALYST}, tags=owned("data")),
    IamUser("data", "airflow-legacy", inline={"jobs": policies.PASS_ROLE_GLUE}, tags=owned("data")),
    IamUser("data", "vendor-sync", path="/partners/", attached=(aws_managed("AmazonS3FullAccess"),)),
    IamUser("security", "siem-forwarder", inline={"read": policies.FINDINGS_READER}, tags=owned("security")),
    IamUser(
        "management",
        "billing-export",
        inline={"bills": document(policies.bucket_reader("bills"))},
        tags=_person(email("Gareth Hughes")),
    ),
    # people
    IamUser(
        "production",
        "bob.lindqvist",
        has_password=True,
        has_mfa=True,
        groups=("legacy-admins",),
        tags=_person(CAST["bob"]),
    ),
    IamUser("production", "gunnar.eide", has_password=True, groups=("readers",), tags=_person(email("Gunnar Eide"))),
    IamUser(
        "data",
        "alice.moreau",
        has_password=True,
        has_mfa=True,
        inline={"look": document(policies.allow(["s3:ListAllMyBuckets", "glue:GetDatabases"]))},
        tags={**_person(CAST["alice"]), "gatehouse:time-boxed": "allowed"},
    ),
    IamUser(
        "staging",
        email("Elena Marković"),  # the whole e-mail: nobody has to be asked whose it is
        keys=0,
        has_password=True,
        has_mfa=True,
        groups=("developers",),
    ),
    IamUser("staging", "j.brown", has_password=True, groups=("developers",)),  # nobody of that name works here
    # for the day when sign-on is down; the passwords are in the safe
    IamUser(
        "management",
        "break-glass",
        keys=0,
        has_password=True,
        has_mfa=True,
        path="/emergency/",
        attached=(aws_managed("AdministratorAccess"),),
        tags=owned("security"),
    ),
)

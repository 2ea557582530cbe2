"""Identity Center at Harbourline: groups, permission sets, and who holds which of them all the time.

Too many people hold privileged access in production all the time, on their own and through groups: that is what the
first review campaign is about. What can be had just in time is held by almost nobody in production.
"""

from collections.abc import Iterable

from apps.demo.company import policies
from apps.demo.company.accounts import ACCOUNTS
from apps.demo.company.model import Assignment, Group, PermissionSet
from apps.demo.company.people import CAST, PEOPLE, email
from apps.demo.company.policies import aws_managed

_ENGINEERING = {"Platform", "Payments", "Booking", "Freight", "Security", "Product engineering"}


def _emails(*names: str) -> tuple[str, ...]:
    return tuple(email(name) for name in names)


def _staff_of(*departments: str) -> tuple[str, ...]:
    return tuple(p.email for p in PEOPLE if p.department in departments and not p.is_contractor)


GROUPS = (
    Group("engineering-all", "Every engineer on the payroll", email("Sunil Ramanathan"), _staff_of(*_ENGINEERING)),
    Group("payments-engineers", "Build and run payments", CAST["bob"], _staff_of("Payments")),
    Group(
        "product-engineers",
        "Build booking, freight and the apps",
        email("Sunil Ramanathan"),
        _staff_of("Booking", "Freight"),
    ),
    Group(
        "platform-engineers",
        "Build and run the platform",
        CAST["carol"],
        _emails("Jonas Rautio", "Aiko Tanaka", "Kwame Boateng", "Lucía Fernández", "Hamza Yusuf", "Tove Nyström"),
    ),
    Group(
        "platform-oncall",
        "Carries the pager. Membership was meant to follow the rota",
        CAST["carol"],
        _emails("Jonas Rautio", "Aiko Tanaka", "Kwame Boateng", "Lucía Fernández", "Owen Prichard", "Nadia Benali"),
    ),
    Group(
        "production-admins",
        "Made for the data centre move of 2023, never emptied",
        CAST["bob"],
        (
            CAST["carol"],
            CAST["erin"],
            *_emails(
                "Marisol Vega", "Sunil Ramanathan", "Jonas Rautio", "Tove Nyström", "Yara Costa", "Samuel Adeyemi"
            ),
        ),
    ),
    Group(
        "data-engineers",
        "Pipelines and the lake",
        email("Leila Farahani"),
        _emails("Samuel Adeyemi", "Chiara Romano", "Björn Aaltonen"),
    ),
    Group(
        "data-analysts",
        "Reports and forecasts",
        email("Leila Farahani"),
        _emails("Grace Muthoni", "Noah Feldman", "Xin Zhao", "Gareth Hughes"),
    ),
    Group("security-admins", "Security engineering", CAST["farid"], _staff_of("Security")),
    Group(
        "auditors",
        "Internal audit and compliance",
        email("Rosalind Whitlock"),
        (CAST["dan"], *_emails("Akira Watanabe")),
    ),
    Group(
        "finance",
        "Sees what the cloud costs",
        email("Desmond Achebe"),
        (*_emails("Desmond Achebe"), *_staff_of("Finance")),
    ),
    Group(
        "support-tier2",
        "Second line: looks into one customer's booking",
        email("Tariq Mansour"),
        _emails("Joanna Wiśniewska", "Diego Álvarez", "Kalinda Perera", "Freya Lund"),
    ),
)

PERMISSION_SETS = (
    PermissionSet("ReadOnly", "See everything, change nothing", "PT8H", False, (aws_managed("ReadOnlyAccess"),)),
    PermissionSet(
        "SupportView", "Look up one customer's booking or payment", "PT1H", True, inline=policies.SUPPORT_VIEW
    ),
    PermissionSet("Deployer", "Roll a service forward or back", "PT1H", True, inline=policies.DEPLOYER),
    PermissionSet("DataAnalyst", "Query the data lake", "PT1H", True, inline=policies.DATA_ANALYST),
    PermissionSet(
        "DatabaseAdmin",
        "Full control of databases, and a shell beside them",
        "PT1H",
        True,
        (aws_managed("AmazonRDSFullAccess"),),
        policies.DATABASE_ADMIN,
    ),
    PermissionSet(
        "NetworkOperator", "Routes, firewalls, load balancers and names", "PT1H", True, inline=policies.NETWORK_OPERATOR
    ),
    PermissionSet(
        "SecurityAudit",
        "Read every setting, for audit and investigations",
        "PT8H",
        False,
        (aws_managed("SecurityAudit"),),
        policies.FINDINGS_READER,
    ),
    PermissionSet("PowerUser", "Everything but users and roles", "PT1H", True, (aws_managed("PowerUserAccess"),)),
    PermissionSet("AdministratorAccess", "Full control", "PT1H", True, (aws_managed("AdministratorAccess"),)),
    PermissionSet(
        "Billing",
        "Bills, budgets and forecasts",
        "PT4H",
        False,
        (aws_managed("AWSBillingReadOnlyAccess"),),
        policies.BILLING,
    ),
    PermissionSet("JitBase", "A way into roles of your own, and nothing else", "PT8H", False, inline=policies.JIT_BASE),
)

_EVERYWHERE = tuple(account.key for account in ACCOUNTS)

# group, permission set, accounts
_GROUP_ROWS = (
    ("engineering-all", "ReadOnly", ("production", "staging", "sandbox")),
    ("engineering-all", "JitBase", ("production",)),
    ("engineering-all", "PowerUser", ("sandbox",)),
    ("payments-engineers", "Deployer", ("staging",)),
    ("product-engineers", "Deployer", ("staging",)),
    ("platform-engineers", "PowerUser", ("staging",)),
    ("platform-engineers", "NetworkOperator", ("staging",)),
    ("platform-oncall", "PowerUser", ("production",)),
    ("platform-oncall", "ReadOnly", ("data", "security")),
    ("production-admins", "AdministratorAccess", ("production",)),
    ("data-engineers", "PowerUser", ("data",)),
    ("data-engineers", "ReadOnly", ("production", "staging")),
    ("data-analysts", "DataAnalyst", ("data",)),
    ("security-admins", "SecurityAudit", _EVERYWHERE),
    ("security-admins", "AdministratorAccess", ("security",)),
    ("auditors", "SecurityAudit", ("management", "production", "data", "security")),
    ("finance", "Billing", ("management",)),
    ("support-tier2", "SupportView", ("staging",)),
)

# person, permission set, accounts
_PERSON_ROWS = (
    # privileged in production, each once with a good reason that has passed
    ("Carol Okafor", "PowerUser", ("production",)),
    ("Erin Walsh", "AdministratorAccess", ("production", "management", "sandbox")),
    ("Aiko Tanaka", "DatabaseAdmin", ("production",)),
    ("Owen Prichard", "DatabaseAdmin", ("production",)),
    ("Viktor Sandoval", "DatabaseAdmin", ("production", "staging")),
    ("Marek Kowalczyk", "PowerUser", ("production",)),
    ("Priya Nair", "DatabaseAdmin", ("production",)),
    ("Callum Fraser", "AdministratorAccess", ("production",)),
    ("Theo Papadakis", "PowerUser", ("production",)),
    ("Hannah Goldberg", "DatabaseAdmin", ("production",)),
    ("Gunnar Eide", "AdministratorAccess", ("production",)),
    ("Pilar Ortega", "PowerUser", ("production",)),
    ("Dmitri Volkov", "PowerUser", ("production",)),
    ("Leila Farahani", "PowerUser", ("production",)),
    ("Grace Muthoni", "DatabaseAdmin", ("production",)),
    ("Patrick Devlin", "AdministratorAccess", ("production",)),
    ("Joanna Wiśniewska", "DatabaseAdmin", ("production",)),
    # not privileged there, or elsewhere
    ("Hamza Yusuf", "NetworkOperator", ("production",)),
    ("Kalinda Perera", "SupportView", ("production",)),
    ("Bob Lindqvist", "PowerUser", ("staging",)),
    ("Carol Okafor", "AdministratorAccess", ("staging",)),
    ("Jonas Rautio", "AdministratorAccess", ("sandbox",)),
    ("Leila Farahani", "AdministratorAccess", ("data",)),
    ("Chiara Romano", "DatabaseAdmin", ("staging",)),
    ("Gareth Hughes", "Billing", ("management",)),  # through finance too: taking one away leaves the other
    ("Farid Haddad", "ReadOnly", ("management",)),
    ("Mallory Quinn", "ReadOnly", ("sandbox",)),
)


def _assignments() -> Iterable[Assignment]:
    for group, permission_set, accounts in _GROUP_ROWS:
        for account in accounts:
            yield Assignment(account, permission_set, group=group)
    for name, permission_set, accounts in _PERSON_ROWS:
        for account in accounts:
            yield Assignment(account, permission_set, person=email(name))


ASSIGNMENTS = tuple(_assignments())

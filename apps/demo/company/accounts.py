"""The six AWS accounts of Harbourline and who answers for each."""

from apps.demo.company.model import Account
from apps.demo.company.people import CAST, email

REGION = "eu-west-1"

# key, organizational unit, environment, owner, purpose, criticality
_ROWS = (
    ("management", (), "management", CAST["erin"], "Organization and sign-on", "high"),
    (
        "production",
        ("Workloads", "Production"),
        "production",
        CAST["bob"],
        "Serves customers",
        "high",
    ),
    (
        "staging",
        ("Workloads", "NonProduction"),
        "staging",
        email("Sunil Ramanathan"),
        "Rehearses every release",
        "medium",
    ),
    (
        "data",
        ("Workloads", "Production"),
        "production",
        email("Leila Farahani"),
        "Data lake and forecasts",
        "high",
    ),
    ("security", ("Security",), "security", CAST["farid"], "Logs and findings", "high"),
    ("sandbox", ("Sandbox",), "sandbox", email("Jonas Rautio"), "Experiments", "low"),
)

ACCOUNTS = tuple(
    Account(key, f"harbourline-{key}", ou, environment, owner, purpose, criticality)
    for key, ou, environment, owner, purpose, criticality in _ROWS
)

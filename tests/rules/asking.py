"""Facts and small rule sets for tests. Left-out facts are Alice's, an engineer's, and those of harmless read access."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from apps.rules import loading
from apps.rules.evaluation import EntitlementFacts, IdentityFacts, Question
from apps.rules.loading import SHIPPED, RuleSet

ALICE = IdentityFacts(id="alice", kind="human", is_active=True, department="engineering", title="Engineer")
READ = EntitlementFacts(
    id="read-only",
    kind="permission_set",
    name="ReadOnly",
    privilege="read",
    environment="staging",
    is_sensitive_read=False,
    can_escalate=False,
    resource_id="111122223333",
)
HOUR = timedelta(hours=1)
PRIVILEGES = ("none", "read", "write", "privileged", "admin", "unknown")
ENVIRONMENTS = ("sandbox", "development", "staging", "production", "unknown", "security", "management")


def asking(
    asked_for: timedelta | None = HOUR, *, has_ticket: bool = False, is_on_call: bool = False, **facts: Any
) -> Question:
    """Alice's question, with facts of hers or of the entitlement changed by name."""
    mine = {
        name: facts.pop(name) for name in list(facts) if name in IdentityFacts.__slots__ and name not in ("id", "kind")
    }
    if "who" in facts:
        mine["kind"] = facts.pop("who")
    return Question(replace(ALICE, **mine), replace(READ, **facts), asked_for, has_ticket, is_on_call)


def rules(text: str) -> RuleSet:
    return loading.parse(text, (SHIPPED / "gatehouse.cedarschema").read_text())


def permit(rule_id: str, tier: str, cap: str, when: str = "true", extra: str = "") -> str:
    if tier == "approval" and "@approvers" not in extra:
        extra += '@approvers("owner") '
    return (
        f'@id("{rule_id}") @says("Because of {rule_id}.") @max("{cap}") {extra}'
        f'permit (principal, action == Action::"{tier}", resource) when {{ {when} }};\n'
    )


def forbid(rule_id: str, tiers: str, when: str = "true") -> str:
    named = ", ".join(f'Action::"{tier}"' for tier in tiers.split())
    return (
        f'@id("{rule_id}") @says("Not because of {rule_id}.") '
        f"forbid (principal, action in [{named}], resource) when {{ {when} }};\n"
    )

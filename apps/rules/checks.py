"""A rule set is tried before it decides: Django does not start on one that does not load or fails its own tests."""

import json
from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from apps.rules.annotations import parse_duration
from apps.rules.evaluation import EntitlementFacts, IdentityFacts, Question, evaluate
from apps.rules.loading import SHIPPED, RuleSet, RuleSetError, in_force


def failed_trials(ruleset: RuleSet, tests: Path) -> list[str]:
    """Ask every question of a rule set's own tests, and name those answered otherwise, one sentence each.

    A test gives facts (what it leaves out is an engineer and harmless read access) and what it expects of the
    verdict's record. Raises RuleSetError when the file cannot be read.
    """
    try:
        trials = json.loads(tests.read_text(encoding="utf-8"))
        return [sentence for trial in trials for sentence in _try(trial, ruleset)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RuleSetError(f"The rules' own tests cannot be read: {error!r}") from error


def _try(trial: dict[str, Any], ruleset: RuleSet) -> list[str]:
    verdict = evaluate(_question(trial), ruleset)
    found = {**verdict.as_record(), "cap": verdict.cap}
    expected = dict(trial["expect"])
    if expected.get("cap"):
        expected["cap"] = parse_duration(expected["cap"])
    return [
        f'"{trial["name"]}": {key} is {found[key]!r} instead of {value!r}'
        for key, value in expected.items()
        if found[key] != value
    ]


def _question(trial: dict[str, Any]) -> Question:
    identity = {"kind": "human", "is_active": True, "department": "engineering", **trial.get("identity", {})}
    entitlement = {
        "kind": "permission_set",
        "name": "ReadOnly",
        "privilege": "read",
        "environment": "staging",
        "is_sensitive_read": False,
        "can_escalate": False,
        **trial.get("entitlement", {}),
    }
    return Question(
        identity=IdentityFacts(id="somebody", **{**identity, "groups": frozenset(identity.get("groups", ()))}),
        entitlement=EntitlementFacts(id="something", **entitlement),
        asked_for=parse_duration(trial["asked_for"]),
        has_ticket=trial.get("has_ticket", False),
        is_on_call=trial.get("is_on_call", False),
    )


@register(Tags.security)
def check_rules(**_kwargs: Any) -> list[CheckMessage]:
    """The rules in force load, fit their schema, and answer their own tests as written."""
    try:
        failed = failed_trials(in_force(), SHIPPED / "tests.json")
    except RuleSetError as error:
        return [Error(str(error), hint="Correct apps/rules/ruleset/.", id="rules.E001")]
    return [Error(f"The rules fail their own test {sentence}.", id="rules.E002") for sentence in failed]

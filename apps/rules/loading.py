"""Reading a rule set: Cedar text and schema in, checked rules out. What is not fully understood does not load."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import cedarpy

from apps.rules import annotations
from apps.rules.annotations import AnnotationError, Requirement

Tier = Literal["auto", "self", "approval"]
TIERS: tuple[Tier, ...] = ("auto", "self", "approval")  # in the order in which an answer is looked for

SHIPPED = Path(__file__).parent / "ruleset"
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_ID = 64
_LONGEST_SENTENCE = 300


class RuleSetError(ValueError):
    """A rule set that must not be used. The message names the rule and says what to change."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One Cedar policy: a permit offers exactly one tier, a forbid closes one or more and has a cap of nothing.

    `cap` is the longest that this rule allows, and `approvers` (any one of them) and `requires` (all of them) belong
    to it alone. `text` is the policy as its author wrote it.
    """

    id: str
    effect: Literal["permit", "forbid"]
    tiers: tuple[Tier, ...]
    says: str
    cap: timedelta
    approvers: tuple[str, ...]
    requires: tuple[Requirement, ...]
    text: str

    @property
    def is_permit(self) -> bool:
        return self.effect == "permit"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules of one version, parsed and validated, with the digest by which a verdict names them."""

    rules: Mapping[str, Rule]
    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    digest: str


@lru_cache(maxsize=1)
def in_force() -> RuleSet:
    """The rule set that decides now: the shipped one, read once a process. Raises RuleSetError."""
    return load(SHIPPED)


def load(folder: Path) -> RuleSet:
    """Read `rules.cedar` and `gatehouse.cedarschema` of a folder. Raises RuleSetError."""
    return parse(
        (folder / "rules.cedar").read_text(encoding="utf-8"),
        (folder / "gatehouse.cedarschema").read_text(encoding="utf-8"),
    )


def parse(rules_text: str, schema_text: str) -> RuleSet:
    """Parse and validate a rule set.

    Every policy is checked against the schema and must carry `@id` and `@says`; a permit also names one tier and its
    `@max`, and `@approvers` exactly when the tier is approval. Policies keep their `@id` as Cedar's policy id, so
    that diagnostics name rules the way people do.

    Raises RuleSetError, with the id of the rule where there is one.
    """
    try:
        schema = cedarpy.Schema.from_str(schema_text)
        parsed = json.loads(cedarpy.policies_to_json_str(rules_text))
    except ValueError as error:
        raise RuleSetError(f"The rules cannot be read: {error}") from error
    if parsed["templates"] or parsed["templateLinks"]:
        raise RuleSetError("The rules contain a template (?principal or ?resource): write it out as a rule")
    _validate(rules_text, schema)
    policies: dict[str, dict[str, Any]] = {}
    rules: dict[str, Rule] = {}
    for position, text in enumerate(_texts(rules_text)):
        policy = parsed["staticPolicies"][f"policy{position}"]
        rule_id = _rule_id(policy, position)
        if rule_id in policies:
            raise RuleSetError(f'Rule "{rule_id}": two rules have this id')
        policies[rule_id] = policy
        rules[rule_id] = _rule(rule_id, policy, text)
    if len(rules) != len(parsed["staticPolicies"]):
        raise RuleSetError("The rules cannot be told apart: end each with a semicolon")
    digest = sha256(json.dumps([schema_text, rules_text]).encode()).hexdigest()
    return RuleSet(rules, cedarpy.PolicySet.from_json_str(_as_json(policies)), schema, digest)


def _validate(rules_text: str, schema: cedarpy.Schema) -> None:
    result = cedarpy.validate_policies(rules_text, schema)
    names = result.id_annotations_by_policy_id
    if not result.validation_passed:
        found = "; ".join(f'Rule "{names.get(e.policy_id, e.policy_id)}": {e.error}' for e in result.errors)
        raise RuleSetError(found or "The rules do not fit their schema")


_PIECE = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|;|[^";/]+|/')


def _texts(rules_text: str) -> list[str]:
    """Each policy as written, in order. Cedar ends a policy, and nothing else, with a semicolon."""
    texts, text = [], ""
    for piece in _PIECE.findall(rules_text):
        text += "" if piece.startswith("//") and not text.strip() else piece
        if piece == ";":
            texts.append(text.strip())
            text = ""
    return texts


def _rule_id(policy: dict[str, Any], position: int) -> str:
    rule_id = policy.get("annotations", {}).get("id") or ""
    if len(rule_id) > _LONGEST_ID or not _ID.fullmatch(rule_id):
        raise RuleSetError(
            f'Rule number {position + 1} has the id "{rule_id[:_LONGEST_ID]}": give it @id("some-words"), '
            "lower-case letters, digits and hyphens"
        )
    return rule_id


_READERS = {
    "max": annotations.parse_duration,
    "approvers": annotations.parse_approvers,
    "requires": annotations.parse_requirements,
}


def _rule(rule_id: str, policy: dict[str, Any], text: str) -> Rule:
    try:
        notes: dict[str, str | None] = dict(policy["annotations"])
        tiers = _tiers(policy["action"])
        _check_which(set(notes), policy["effect"], tiers)
        says = (notes["says"] or "").strip()
        if not 0 < len(says) <= _LONGEST_SENTENCE:
            raise AnnotationError(f"@says must hold a sentence of at most {_LONGEST_SENTENCE} characters")
        values: dict[str, Any] = {name: read(notes[name] or "") for name, read in _READERS.items() if name in notes}
    except AnnotationError as error:
        raise RuleSetError(f'Rule "{rule_id}": {error}') from error
    return Rule(
        id=rule_id,
        effect=policy["effect"],
        tiers=tiers,
        says=says,
        cap=values.get("max", timedelta(0)),
        approvers=values.get("approvers", ()),
        requires=values.get("requires", ()),
        text=text,
    )


def _check_which(found: set[str], effect: str, tiers: tuple[Tier, ...]) -> None:
    """An annotation that is missing, or that nobody would read, is a mistake of which somebody should hear now."""
    needed, allowed = {"id", "says"}, set()
    if effect == "permit":
        if len(tiers) != 1:
            raise AnnotationError('a permit offers one tier: write action == Action::"auto", "self" or "approval"')
        needed.add("max")
        allowed.add("requires")
        if tiers == ("approval",):
            needed.add("approvers")
    for name in sorted(needed - found):
        raise AnnotationError(f"@{name} is missing")
    for name in sorted(found - needed - allowed):
        raise AnnotationError(f"@{name} has no meaning on this rule")


def _tiers(action: dict[str, Any]) -> tuple[Tier, ...]:
    if action["op"] == "All":
        return TIERS
    entities = action["entities"] if "entities" in action else [action["entity"]]
    named = {entity["id"] for entity in entities}
    return tuple(tier for tier in TIERS if tier in named)


def _as_json(policies: Mapping[str, dict[str, Any]]) -> str:
    return json.dumps({"staticPolicies": policies, "templates": {}, "templateLinks": []})

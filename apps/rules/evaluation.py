"""The pure answer to "may this person ask for this, how, and for how long?": facts in, verdict out, no database.

How a verdict comes about (DESIGN §6). Cedar is asked three times, once per tier. Every satisfied permit of a tier is an
offer of its own, with its own cap, approvers and requirements; nothing is ever combined from two rules. A forbid closes
its tier whatever else permits. The first tier, in the order auto, self, approval, that has an offer left is the tier.

An offer counts when its cap covers what is asked and the ticket it requires is there. A step-up (`mfa`) is handed back
as a requirement, because it is checked when the person acts. Where several offers of one tier count, the one with the
largest cap decides, then the one with fewer requirements, then the first id. It stays the same while more time is
asked for, until no offer of the tier covers it.

Any error in Cedar's diagnostics, in any of the three, means no verdict: Cedar skips a forbid that fails to evaluate.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import cedarpy

from apps.core import words
from apps.rules.annotations import Requirement
from apps.rules.loading import TIERS, Rule, RuleSet, Tier, in_force

logger = logging.getLogger(__name__)

CHOICES = tuple(timedelta(minutes=minutes) for minutes in (30, 60, 120, 240, 480))
_LONGEST_ERROR = 500
_STRICTEST = {"privilege": "admin", "environment": "production"}
_TREATED_AS = {
    "privilege": "What this allows is not known, so it is treated as admin access.",
    "environment": "Nobody has confirmed that this is outside production, so it is treated as production.",
}


@dataclass(frozen=True, slots=True)
class IdentityFacts:
    """Who asks. `department` and `employment` in lower case, empty where unknown; `groups` are the names of directory
    groups with a standing membership."""

    id: str
    kind: str
    is_active: bool
    is_manager: bool = False
    department: str = ""
    employment: str = ""
    title: str = ""
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EntitlementFacts:
    """What is asked for. `privilege` and `environment` may be "unknown", which counts as the strictest."""

    id: str
    kind: str
    name: str
    privilege: str
    environment: str
    is_sensitive_read: bool
    can_escalate: bool
    resource_id: str = ""  # the account's number; empty for what belongs to no account


@dataclass(frozen=True, slots=True)
class Question:
    """May this identity have this entitlement for `asked_for`? Without `asked_for`: at all, for any time.

    Raises ValueError for a duration that is not positive.
    """

    identity: IdentityFacts
    entitlement: EntitlementFacts
    asked_for: timedelta | None = None
    has_ticket: bool = False
    is_on_call: bool = False

    def __post_init__(self) -> None:
        if self.asked_for is not None and self.asked_for <= timedelta(0):
            raise ValueError("asked_for must be longer than nothing")


@dataclass(frozen=True, slots=True)
class RuleOffer:
    """One satisfied permit in a tier that no forbid closes: how this access could be had, by this rule alone."""

    tier: Tier
    cap: timedelta
    rule_id: str
    says: str
    approvers: tuple[str, ...]
    requires: tuple[Requirement, ...]

    @property
    def needs_ticket(self) -> bool:
        return any(requirement.kind == "ticket" for requirement in self.requires)

    @property
    def step_up_for(self) -> timedelta | None:
        """How fresh a step-up must be when the person acts; None where none is required."""
        return next((requirement.fresh_for for requirement in self.requires if requirement.kind == "mfa"), None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A forbid that closes a tier, with the sentence that says why."""

    tier: Tier
    rule_id: str
    says: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. `tier` is None when nothing can be asked for as asked, and `why_not` then says so to the person.

    `cap`, `rule_id`, `says`, `approvers` and `requires` are those of the one deciding rule. `offers` holds the best of
    each open tier, whatever its cap (and the best without a ticket, where the best needs one): what could be had
    instead. `refusals` are the forbids in the way, `notes` what was assumed for lack of knowledge. `errors` is for
    administrators and non-empty only when the rules could not be evaluated.
    """

    ruleset_digest: str
    tier: Tier | None = None
    cap: timedelta | None = None
    rule_id: str = ""
    says: str = ""
    approvers: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()
    offers: tuple[RuleOffer, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    why_not: str = ""
    errors: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """The decision as plain JSON values, for the warrant and the audit event. Durations in seconds."""
        return {
            "tier": self.tier,
            "cap_seconds": None if self.cap is None else int(self.cap.total_seconds()),
            "rule_id": self.rule_id,
            "says": self.says,
            "approvers": list(self.approvers),
            "requires": [str(requirement) for requirement in self.requires],
            "notes": list(self.notes),
            "why_not": self.why_not,
            "errors": list(self.errors),
            "ruleset_digest": self.ruleset_digest,
        }


@dataclass(frozen=True, slots=True)
class _Findings:
    """What Cedar said about one question, before anybody's duration is looked at."""

    offers: tuple[RuleOffer, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    errors: tuple[str, ...] = ()


def evaluate(question: Question, ruleset: RuleSet | None = None) -> Verdict:
    """Answer one question by `ruleset`, or by the one in force."""
    ruleset = ruleset or in_force()
    return _decide(question, _ask(question, ruleset), ruleset)


def evaluate_many(questions: Iterable[Question], ruleset: RuleSet | None = None) -> list[Verdict]:
    """Answer many questions in their order, as a catalogue page does.

    Each is asked alone, at well under a millisecond: one batch is hardly faster, and there a fact that Cedar cannot
    read would spoil the answers of its neighbours.
    """
    return [evaluate(question, ruleset) for question in questions]


def what_if(
    question: Question, choices: Iterable[timedelta] = CHOICES, ruleset: RuleSet | None = None
) -> list[tuple[timedelta, Verdict]]:
    """The verdict for each duration somebody could choose, from one evaluation; the question's own is not used."""
    ruleset = ruleset or in_force()
    findings = _ask(question, ruleset)
    return [(choice, _decide(question, findings, ruleset, asked_for=choice)) for choice in choices]


# ---- deciding: pure arithmetic over what Cedar found --------------------------------------------------------------


def _decide(
    question: Question, findings: _Findings, ruleset: RuleSet, *, asked_for: timedelta | None = None
) -> Verdict:
    asked_for = asked_for or question.asked_for
    if findings.errors:
        return Verdict(
            ruleset_digest=ruleset.digest,
            why_not="The rules could not be evaluated, so nothing can be asked for here. Tell an administrator.",
            errors=findings.errors,
        )
    notes = tuple(_TREATED_AS[name] for name in _TREATED_AS if getattr(question.entitlement, name) == "unknown")
    best = next((offer for offer in findings.offers if _counts(offer, asked_for, question.has_ticket)), None)
    if best is None:
        return Verdict(
            ruleset_digest=ruleset.digest,
            offers=_best_of_each(findings.offers),
            refusals=findings.refusals,
            notes=notes,
            why_not=_why_not(findings, asked_for),
        )
    return Verdict(
        ruleset_digest=ruleset.digest,
        tier=best.tier,
        cap=best.cap,
        rule_id=best.rule_id,
        says=best.says,
        approvers=best.approvers,
        requires=best.requires,
        offers=_best_of_each(findings.offers),
        refusals=findings.refusals,
        notes=notes,
    )


def _preference(offer: RuleOffer) -> tuple[int, timedelta, int, str]:
    return TIERS.index(offer.tier), -offer.cap, len(offer.requires), offer.rule_id


def _counts(offer: RuleOffer, asked_for: timedelta | None, has_ticket: bool) -> bool:
    return (asked_for is None or asked_for <= offer.cap) and (has_ticket or not offer.needs_ticket)


def _best_of_each(offers: tuple[RuleOffer, ...]) -> tuple[RuleOffer, ...]:
    """The first offer of each tier, and the first that needs no ticket where that one does. Offers come in order."""
    best: dict[tuple[Tier, bool], RuleOffer] = {}
    for offer in offers:
        if (offer.tier, False) not in best:
            best.setdefault((offer.tier, offer.needs_ticket), offer)
    return tuple(best.values())


def _why_not(findings: _Findings, asked_for: timedelta | None) -> str:
    if not findings.offers:
        closed = {refusal.tier for refusal in findings.refusals}
        if closed == set(TIERS):
            return findings.refusals[-1].says
        return "No rule lets you ask for this."
    longest = max(offer.cap for offer in findings.offers)
    if asked_for is not None and asked_for > longest:
        return f"The longest you can ask for here is {words.duration(longest)}."
    return "This needs a ticket. Add its number."


# ---- asking Cedar --------------------------------------------------------------------------------------------------


def _ask(question: Question, ruleset: RuleSet) -> _Findings:
    try:
        results = cedarpy.is_authorized_batch(
            [_request(question, tier) for tier in TIERS],
            ruleset.policies,
            [_identity(question.identity), _entitlement(question.entitlement)],
            schema=ruleset.schema,
        )
    except ValueError as error:  # an id that is not valid Unicode never reaches Cedar
        return _failed([str(error)], ruleset)
    errors = [error for result in results for error in result.diagnostics.errors]
    if errors or any(result.decision is cedarpy.Decision.NoDecision for result in results):
        return _failed(errors, ruleset)
    offers: list[RuleOffer] = []
    refusals: list[Refusal] = []
    for tier, result in zip(TIERS, results, strict=True):
        rules = sorted((ruleset.rules[rule_id] for rule_id in result.diagnostics.reasons), key=lambda rule: rule.id)
        if result.allowed:
            offers += [_offer(tier, rule) for rule in rules]
        else:
            refusals += [Refusal(tier, rule.id, rule.says) for rule in rules]
    return _Findings(tuple(sorted(offers, key=_preference)), tuple(refusals))


def _failed(errors: Iterable[str], ruleset: RuleSet) -> _Findings:
    short = tuple(dict.fromkeys(_short(error) for error in errors)) or ("Cedar gave no decision",)
    logger.error("The rules %s could not be evaluated: %s", ruleset.digest[:12], "; ".join(short))
    return _Findings(errors=short)


def _offer(tier: Tier, rule: Rule) -> RuleOffer:
    return RuleOffer(tier, rule.cap, rule.id, rule.says, rule.approvers, rule.requires)


def _short(error: str) -> str:
    """Cedar quotes every entity before it says what is wrong: the end of the message is what helps."""
    return error if len(error) <= _LONGEST_ERROR else f"…{error[-_LONGEST_ERROR:]}"


def _uid(type_: str, id_: str) -> dict[str, str]:
    return {"type": type_, "id": id_}


def _request(question: Question, tier: Tier) -> dict[str, Any]:
    return {
        "principal": _uid("Identity", question.identity.id),
        "action": _uid("Action", tier),
        "resource": _uid("Entitlement", question.entitlement.id),
        "context": {"has_ticket": question.has_ticket, "is_on_call": question.is_on_call},
    }


def _identity(facts: IdentityFacts) -> dict[str, Any]:
    return {
        "uid": _uid("Identity", facts.id),
        "attrs": {
            "kind": _uid("IdentityKind", facts.kind),
            "is_active": facts.is_active,
            "is_manager": facts.is_manager,
            "department": facts.department,
            "employment": facts.employment,
            "title": facts.title,
            "groups": sorted(facts.groups),
        },
        "parents": [],
    }


def _entitlement(facts: EntitlementFacts) -> dict[str, Any]:
    return {
        "uid": _uid("Entitlement", facts.id),
        "attrs": {
            "kind": facts.kind,
            "name": facts.name,
            "privilege": _uid("Privilege", _known("privilege", facts.privilege)),
            "environment": _uid("Environment", _known("environment", facts.environment)),
            "is_sensitive_read": facts.is_sensitive_read,
            "can_escalate": facts.can_escalate,
        },
        "parents": [_uid("Resource", facts.resource_id)] if facts.resource_id else [],
    }


def _known(name: str, value: str) -> str:
    return _STRICTEST[name] if value == "unknown" else value

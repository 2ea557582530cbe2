"""How a verdict follows from rules, with small rule sets; what the shipped rules say is in test_shipped."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.rules.evaluation import Question, Verdict, evaluate, evaluate_many, what_if
from apps.rules.loading import TIERS, RuleSet
from tests.rules.asking import HOUR, asking, forbid, permit, rules

MINUTE = timedelta(minutes=1)


def test_the_first_tier_with_an_offer_is_the_tier() -> None:
    found = rules(permit("c", "approval", "4h") + permit("b", "self", "4h") + permit("a", "auto", "4h"))

    assert evaluate(asking(), found).tier == "auto"


def test_without_a_rule_nothing_is_offered() -> None:
    verdict = evaluate(asking(), rules(""))

    assert verdict.tier is None
    assert verdict.why_not == "No rule lets you ask for this."


def test_an_offer_capped_below_what_is_asked_does_not_count() -> None:
    found = rules(permit("quick", "auto", "1h") + permit("slow", "approval", "4h"))

    assert evaluate(asking(HOUR), found).rule_id == "quick"
    assert evaluate(asking(HOUR + timedelta(microseconds=1)), found).rule_id == "slow"
    assert evaluate(asking(5 * HOUR), found).tier is None


def test_too_long_is_answered_with_the_longest() -> None:
    found = rules(permit("quick", "auto", "1h") + permit("slow", "approval", "4h"))

    assert evaluate(asking(5 * HOUR), found).why_not == "The longest you can ask for here is 4 h."


def test_the_cap_of_one_rule_never_serves_another() -> None:
    """What TEAM gets wrong: one hour of admin and eight hours of reading make eight hours of admin there."""
    found = rules(
        permit("admin", "approval", "1h", 'resource.privilege == Privilege::"admin"')
        + permit("read", "approval", "8h", 'resource.privilege == Privilege::"read"', '@approvers("manager")')
    )

    assert evaluate(asking(8 * HOUR, privilege="read"), found).rule_id == "read"
    admin = evaluate(asking(HOUR, privilege="admin"), found)
    assert (admin.rule_id, admin.cap, admin.approvers) == ("admin", HOUR, ("owner",))
    assert evaluate(asking(8 * HOUR, privilege="admin"), found).tier is None


def test_approvers_and_requirements_are_those_of_the_rule_that_decides() -> None:
    found = rules(
        permit("long", "approval", "8h", extra='@approvers("owner") @requires("mfa 15m")')
        + permit("short", "approval", "1h", extra='@approvers("manager")')
    )

    verdict = evaluate(asking(MINUTE), found)

    assert verdict.rule_id == "long"  # the largest cap decides, so that asking for more time changes nothing midway
    assert verdict.approvers == ("owner",)
    assert [str(requirement) for requirement in verdict.requires] == ["mfa 15m"]
    assert verdict.offers[0].step_up_for == 15 * MINUTE


def test_equal_caps_are_decided_by_fewer_requirements_then_by_id() -> None:
    found = rules(
        permit("a", "self", "1h", extra='@requires("mfa 15m")') + permit("c", "self", "1h") + permit("b", "self", "1h")
    )

    assert evaluate(asking(), found).rule_id == "b"


def test_an_offer_that_needs_a_ticket_counts_only_with_one() -> None:
    found = rules(permit("ticketed", "self", "4h", extra='@requires("ticket")') + permit("asked", "approval", "2h"))

    assert evaluate(asking(has_ticket=True), found).rule_id == "ticketed"
    assert evaluate(asking(), found).rule_id == "asked"
    assert evaluate(asking(3 * HOUR), found).why_not == "This needs a ticket. Add its number."
    assert evaluate(asking(5 * HOUR), found).why_not == "The longest you can ask for here is 4 h."


@pytest.mark.parametrize("tier", TIERS)
def test_a_forbid_wins_over_every_permit_of_its_tier(tier: str) -> None:
    found = rules(permit("one", tier, "8h") + permit("two", tier, "1h") + forbid("never", tier))

    verdict = evaluate(asking(), found)

    assert verdict.tier is None
    assert verdict.offers == ()
    assert [(refusal.tier, refusal.rule_id) for refusal in verdict.refusals] == [(tier, "never")]


def test_a_forbid_leaves_the_other_tiers_alone() -> None:
    found = rules(permit("quick", "auto", "8h") + permit("slow", "approval", "1h") + forbid("never", "auto self"))

    assert evaluate(asking(), found).rule_id == "slow"


def test_the_sentence_of_the_forbid_is_the_reason_when_all_is_closed() -> None:
    found = rules(permit("quick", "auto", "8h") + forbid("gone", "auto self approval"))

    assert evaluate(asking(), found).why_not == "Not because of gone."


# Errors


def _with_broken_rule(found: RuleSet, rule: str) -> RuleSet:
    """A rule set whose policies were not validated: a rule fails while it is evaluated."""
    return replace(found, policies=found.policies.with_added_str(rule))


BROKEN = [
    "forbid (principal, action, resource) when { principal.clearance < 3 };",
    'forbid (principal, action == Action::"approval", resource) when { principal.clearance < 3 };',
    'permit (principal, action == Action::"self", resource) when { resource.cost < 3 };',
    "forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_error_in_any_tier_means_no_verdict(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    found = _with_broken_rule(rules(permit("a", "auto", "8h") + permit("c", "approval", "8h")), broken)

    with caplog.at_level(logging.ERROR):
        verdict = evaluate(asking(), found)

    assert verdict.tier is None
    assert verdict.offers == ()
    assert verdict.errors
    assert "could not be evaluated" in verdict.why_not
    assert verdict.errors[0] in caplog.text


def test_an_error_names_its_rule() -> None:
    overflowing = permit("a", "auto", "8h") + forbid("counts-too-far", "auto", "9223372036854775807 + 1 > 0")

    assert "counts-too-far" in evaluate(asking(), rules(overflowing)).errors[0]


@pytest.mark.parametrize(
    "facts",
    [
        {"privilege": "superuser"},
        {"privilege": ""},
        {"environment": "prod"},
        {"who": "robot"},
        {"is_active": None},
        {"name": None},
        {"groups": frozenset({1})},
        {"can_escalate": "no"},
        {"name": "\ud800"},
        {"resource_id": "\ud800"},
    ],
)
def test_facts_outside_the_schema_mean_no_verdict(facts: dict[str, Any]) -> None:
    verdict = evaluate(asking(**facts), rules(permit("a", "auto", "8h")))

    assert verdict.tier is None
    assert verdict.errors


def test_a_fact_that_cannot_be_read_spoils_only_its_own_question() -> None:
    found = rules(permit("a", "auto", "8h"))

    tiers = [v.tier for v in evaluate_many([asking(), asking(name="\ud800"), asking(name="other")], found)]

    assert tiers == ["auto", None, "auto"]


def test_an_answer_without_decision_means_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = cedarpy.AuthzResult({"decision": "NoDecision"})
    monkeypatch.setattr(cedarpy, "is_authorized_batch", lambda *args, **kwargs: [silent] * 3)

    assert evaluate(asking(), rules(permit("a", "auto", "8h"))).errors == ("Cedar gave no decision",)


def test_a_long_error_keeps_its_end_where_the_reason_stands() -> None:
    error = evaluate(asking(name="x" * 5000, privilege="superuser"), rules("")).errors[0]

    assert len(error) < 600
    assert "superuser" in error


@pytest.mark.parametrize("asked_for", [timedelta(0), -HOUR])
def test_a_duration_that_is_not_positive_is_no_question(asked_for: timedelta) -> None:
    with pytest.raises(ValueError, match="asked_for"):
        asking(asked_for)


# Unknown


def test_unknown_counts_as_the_strictest_for_any_rule() -> None:
    found = rules(
        permit("open", "auto", "8h")
        + forbid("admin", "auto", 'resource.privilege == Privilege::"admin"')
        + forbid("production", "auto", 'resource.environment == Environment::"production"')
    )

    assert evaluate(asking(), found).tier == "auto"
    assert [r.rule_id for r in evaluate(asking(privilege="unknown"), found).refusals] == ["admin"]
    assert [r.rule_id for r in evaluate(asking(environment="unknown"), found).refusals] == ["production"]


def test_what_is_assumed_is_said() -> None:
    verdict = evaluate(asking(privilege="unknown", environment="unknown"), rules(permit("a", "auto", "1h")))

    assert len(verdict.notes) == 2
    assert "treated as admin" in verdict.notes[0]
    assert evaluate(asking(), rules("")).notes == ()


# Beforehand


def test_a_question_without_duration_is_answered_by_any_offer() -> None:
    found = rules(permit("a", "auto", "30m") + permit("c", "approval", "8h"))

    verdict = evaluate(asking(None), found)

    assert (verdict.tier, verdict.cap) == ("auto", 30 * MINUTE)
    assert [(offer.tier, offer.cap, offer.approvers) for offer in verdict.offers] == [
        ("auto", 30 * MINUTE, ()),
        ("approval", 8 * HOUR, ("owner",)),
    ]


def test_offers_show_the_best_of_each_tier_and_the_best_without_a_ticket() -> None:
    found = rules(
        permit("ticketed", "approval", "8h", extra='@requires("ticket")')
        + permit("ticketed-shorter", "approval", "6h", extra='@requires("ticket")')
        + permit("plain", "approval", "4h")
        + permit("plain-shorter", "approval", "2h")
    )

    assert [offer.rule_id for offer in evaluate(asking(None), found).offers] == ["ticketed", "plain"]


def test_what_if_answers_each_choice_as_a_question_of_its_own_would_be() -> None:
    found = rules(permit("a", "auto", "1h") + permit("b", "self", "2h") + permit("c", "approval", "4h"))

    answers = what_if(asking(None), ruleset=found)

    assert [verdict.tier for _, verdict in answers] == ["auto", "auto", "self", "approval", None]
    assert all(verdict == evaluate(asking(choice), found) for choice, verdict in answers)


def test_many_questions_are_answered_in_their_order() -> None:
    found = rules(permit("a", "auto", "8h", 'resource.privilege == Privilege::"read"') + permit("c", "approval", "8h"))
    questions = [asking(privilege=privilege) for privilege in ("read", "write", "read")]

    assert evaluate_many(questions, found) == [evaluate(question, found) for question in questions]
    assert evaluate_many([], found) == []


def test_the_record_holds_the_decision_in_plain_values() -> None:
    found = rules(permit("c", "approval", "90m", extra='@approvers("owner") @requires("mfa 15m, ticket")'))

    assert evaluate(asking(has_ticket=True), found).as_record() == {
        "tier": "approval",
        "cap_seconds": 5400,
        "rule_id": "c",
        "says": "Because of c.",
        "approvers": ["owner"],
        "requires": ["mfa 15m", "ticket"],
        "notes": [],
        "why_not": "",
        "errors": [],
        "ruleset_digest": found.digest,
    }


# Hostile names

HOSTILE = [
    'x" || true',
    'x"}},{"uid":{"type":"Identity","id":"alice"},"attrs":{}',
    "a\nb",
    "\u0000",
    "\\",
    'Action::"auto"',
    '{"__entity":{"type":"Privilege","id":"none"}}',
    "\u202egnp.exe",
    "💥" * 200,
]
_GUARDED = rules(
    permit("named", "auto", "8h", 'resource.name == "ReadOnly" && principal.groups.contains("ops")')
    + permit("asked", "approval", "8h")
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("fact", ["name", "title", "department", "employment", "resource_id", "groups"])
def test_a_hostile_string_is_only_a_string(fact: str, text: str) -> None:
    value: Any = frozenset({text}) if fact == "groups" else text

    verdict = evaluate(asking(**{fact: value}), _GUARDED)

    assert (verdict.tier, verdict.errors) == ("approval", ())


@given(st.text(max_size=60), st.text(max_size=60), st.frozensets(st.text(max_size=60), max_size=4))
def test_no_string_opens_what_it_does_not_equal(name: str, title: str, groups: frozenset[str]) -> None:
    expected = "auto" if name == "ReadOnly" and "ops" in groups else "approval"

    assert evaluate(asking(name=name, title=title, groups=groups), _GUARDED).tier == expected


# For all rule sets

_caps = st.integers(1, 24).map(lambda hours: f"{hours}h")
_facts = st.sampled_from(
    ["true", "false", "principal.is_manager", "context.has_ticket", 'resource.privilege == Privilege::"read"']
)
_extras = st.sampled_from(["", '@requires("ticket") ', '@requires("mfa 15m") '])
_permits = st.tuples(st.sampled_from(TIERS), _caps, _facts, _extras)
_forbids = st.tuples(st.sampled_from(["auto", "self", "approval", "auto self", "auto self approval"]), _facts)


@st.composite
def _rule_sets(draw: st.DrawFn) -> RuleSet:
    permits = draw(st.lists(_permits, max_size=6))
    forbids = draw(st.lists(_forbids, max_size=2))
    return rules(
        "".join(permit(f"permit-{n}", *values) for n, values in enumerate(permits))
        + "".join(forbid(f"forbid-{n}", *values) for n, values in enumerate(forbids))
    )


_questions = st.builds(
    lambda asked, **facts: asking(timedelta(minutes=asked), **facts),
    st.integers(1, 1500),
    is_manager=st.booleans(),
    has_ticket=st.booleans(),
    privilege=st.sampled_from(["read", "write", "unknown"]),
)


def _rank(verdict: Verdict) -> int:
    return len(TIERS) if verdict.tier is None else TIERS.index(verdict.tier)


@given(_rule_sets(), _questions, st.integers(1, 1500))
def test_asking_for_more_time_never_opens_a_faster_way(found: RuleSet, question: Question, more: int) -> None:
    assert question.asked_for is not None
    longer = replace(question, asked_for=question.asked_for + more * MINUTE)

    assert _rank(evaluate(longer, found)) >= _rank(evaluate(question, found))


@given(_rule_sets(), _questions)
def test_a_verdict_is_one_rule_and_nothing_of_another(found: RuleSet, question: Question) -> None:
    verdict = evaluate(question, found)
    if verdict.tier is None:
        assert verdict.why_not
        return
    rule = found.rules[verdict.rule_id]

    assert question.asked_for is not None
    assert rule.is_permit and rule.tiers == (verdict.tier,)
    assert (verdict.cap, verdict.approvers, verdict.requires) == (rule.cap, rule.approvers, rule.requires)
    assert question.asked_for <= rule.cap
    assert verdict.tier not in {refusal.tier for refusal in verdict.refusals}
    assert question.has_ticket or "ticket" not in {requirement.kind for requirement in verdict.requires}

"""What the shipped rules say, as tables. The rule set's own tests (tests.json) are its author's; these are ours."""

import json
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.rules import checks, loading
from apps.rules.evaluation import CHOICES, Question, Verdict, evaluate
from apps.rules.loading import SHIPPED, RuleSetError
from tests.rules.asking import ENVIRONMENTS, HOUR, PRIVILEGES, asking, permit, rules

# The way an engineer with a ticket gets half an hour of each, by privilege and environment.
EXPECTED = """
            sandbox   development  staging   production  unknown   security  management
none        auto      auto         auto      auto        auto      approval  approval
read        auto      auto         auto      auto        auto      approval  approval
write       auto      self         self      approval    approval  approval  approval
privileged  approval  approval     approval  approval    approval  approval  approval
admin       approval  approval     approval  approval    approval  approval  approval
unknown     approval  approval     approval  approval    approval  approval  approval
"""
_HEAD, *_ROWS = [line.split() for line in EXPECTED.strip().splitlines()]
TABLE = [(row[0], environment, tier) for row in _ROWS for environment, tier in zip(_HEAD, row[1:], strict=True)]
EVERYTHING = list(product(PRIVILEGES, ENVIRONMENTS))
HALF = timedelta(minutes=30)


def test_the_table_is_complete() -> None:
    assert {(privilege, environment) for privilege, environment, _ in TABLE} == set(EVERYTHING)


@pytest.mark.parametrize(("privilege", "environment", "tier"), TABLE)
def test_an_engineer_gets_what_the_table_says(privilege: str, environment: str, tier: str) -> None:
    verdict = evaluate(asking(HALF, has_ticket=True, privilege=privilege, environment=environment))

    assert (verdict.tier, verdict.errors) == (tier, ())


@pytest.mark.parametrize(("privilege", "environment"), EVERYTHING)
@pytest.mark.parametrize(
    "facts",
    [
        {"department": "contractors"},
        {"department": ""},
        {"employment": "contractor"},
        {"employment": "intern"},
        {"can_escalate": True},
        {"is_sensitive_read": True},
    ],
    ids=str,
)
def test_some_things_always_take_somebody_else(privilege: str, environment: str, facts: dict[str, Any]) -> None:
    verdict = evaluate(
        asking(
            HALF,
            has_ticket=True,
            is_on_call=True,
            privilege=privilege,
            environment=environment,
            groups=frozenset({"platform-oncall"}),
            **facts,
        )
    )

    assert (verdict.tier, verdict.errors) == ("approval", ())


@pytest.mark.parametrize(("privilege", "environment"), EVERYTHING)
@pytest.mark.parametrize("facts", [{"is_active": False}, {"who": "machine"}], ids=str)
def test_who_has_left_and_machines_get_nothing(privilege: str, environment: str, facts: dict[str, Any]) -> None:
    verdict = evaluate(asking(HALF, has_ticket=True, privilege=privilege, environment=environment, **facts))

    assert verdict.tier is None
    assert verdict.offers == ()
    assert verdict.errors == ()


_any_question = st.builds(
    lambda asked, **facts: asking(timedelta(minutes=asked), **facts),
    st.integers(1, 700),
    privilege=st.sampled_from(PRIVILEGES),
    environment=st.sampled_from(ENVIRONMENTS),
    department=st.sampled_from(["engineering", "sales", "contractors", ""]),
    is_sensitive_read=st.booleans(),
    can_escalate=st.booleans(),
    has_ticket=st.booleans(),
    is_on_call=st.booleans(),
    is_manager=st.booleans(),
    groups=st.sampled_from([frozenset[str](), frozenset({"platform-oncall"})]),
)
_RANK = {"auto": 0, "self": 1, "approval": 2, None: 3}


@given(_any_question)
def test_powerful_access_never_goes_out_on_ones_own_word(question: Question) -> None:
    facts = question.entitlement
    verdict = evaluate(question)

    powerful = facts.privilege in ("privileged", "admin", "unknown") or facts.can_escalate or facts.is_sensitive_read
    if powerful and verdict.tier is not None:
        assert verdict.tier == "approval"
        assert "manager" not in verdict.approvers  # the owner's or an administrator's yes, behind a fresh step-up
        assert "mfa" in {requirement.kind for requirement in verdict.requires}


@given(_any_question)
def test_admin_access_lasts_an_hour_at_most(question: Question) -> None:
    verdict = evaluate(question)

    if question.entitlement.privilege in ("admin", "unknown") and verdict.cap is not None:
        assert verdict.cap <= HOUR


@given(_any_question)
def test_unknown_is_answered_as_the_strictest_would_be(question: Question) -> None:
    facts = question.entitlement
    strictest = asking(
        question.asked_for,
        has_ticket=question.has_ticket,
        is_on_call=question.is_on_call,
        department=question.identity.department,
        groups=question.identity.groups,
        privilege={"unknown": "admin"}.get(facts.privilege, facts.privilege),
        environment={"unknown": "production"}.get(facts.environment, facts.environment),
        is_sensitive_read=facts.is_sensitive_read,
        can_escalate=facts.can_escalate,
    )
    found, expected = evaluate(question), evaluate(strictest)

    assert (found.tier, found.cap, found.rule_id) == (expected.tier, expected.cap, expected.rule_id)


@given(_any_question, st.integers(1, 700))
def test_asking_for_more_time_never_opens_a_faster_way(question: Question, more: int) -> None:
    assert question.asked_for is not None
    found = evaluate(question)
    longer = evaluate(
        Question(
            question.identity,
            question.entitlement,
            question.asked_for + timedelta(minutes=more),
            question.has_ticket,
            question.is_on_call,
        )
    )

    assert _RANK[longer.tier] >= _RANK[found.tier]


@given(_any_question)
def test_every_answer_is_a_tier_or_a_sentence(question: Question) -> None:
    verdict: Verdict = evaluate(question)

    assert verdict.errors == ()
    assert bool(verdict.says) == (verdict.tier is not None)
    assert bool(verdict.why_not) == (verdict.tier is None)


@pytest.mark.parametrize(("privilege", "environment"), EVERYTHING)
def test_everything_can_be_asked_for_by_somebody_somehow(privilege: str, environment: str) -> None:
    for sensitive, escalates in product((False, True), repeat=2):
        question = asking(
            min(CHOICES),
            has_ticket=True,
            privilege=privilege,
            environment=environment,
            is_sensitive_read=sensitive,
            can_escalate=escalates,
            department="sales",
        )
        assert evaluate(question).tier is not None


# The rule set's own tests and the system check


def test_the_shipped_rules_pass_their_own_tests() -> None:
    assert checks.failed_trials(loading.in_force(), SHIPPED / "tests.json") == []


def test_every_shipped_permit_is_the_answer_of_one_of_its_tests() -> None:
    answered = {trial["expect"].get("rule_id") for trial in json.loads((SHIPPED / "tests.json").read_text())}

    assert {rule.id for rule in loading.in_force().rules.values() if rule.is_permit} <= answered


def test_a_changed_rule_fails_the_tests_written_for_it() -> None:
    text = (
        (SHIPPED / "rules.cedar")
        .read_text()
        .replace('@max("1h")\n@approvers("owner")', '@max("8h")\n@approvers("owner")')
    )
    changed = loading.parse(text, (SHIPPED / "gatehouse.cedarschema").read_text())

    failed = checks.failed_trials(changed, SHIPPED / "tests.json")

    assert any("for two hours is not offered" in sentence for sentence in failed)


@pytest.mark.parametrize(
    "text", ["", "{}x", '[{"name": "x"}]', '[{"name": "x", "asked_for": "1h", "expect": {"teir": "auto"}}]']
)
def test_own_tests_that_cannot_be_read_are_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "tests.json").write_text(text)

    with pytest.raises(RuleSetError, match="own tests cannot be read"):
        checks.failed_trials(rules(permit("a", "auto", "1h")), tmp_path / "tests.json")


def test_the_check_finds_nothing_wrong_with_the_shipped_rules() -> None:
    assert checks.check_rules() == []


def test_the_check_names_what_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        rules(permit("a", "auto", "1x"))

    monkeypatch.setattr(checks, "in_force", broken)

    [error] = checks.check_rules()
    assert error.id == "rules.E001"
    assert 'Rule "a"' in error.msg


def test_the_check_names_failed_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "in_force", lambda: rules(permit("a", "auto", "24h")))

    found = checks.check_rules()

    assert {error.id for error in found} == {"rules.E002"}
    assert any("Somebody who left" in error.msg for error in found)


# The forbids hold by themselves: a careless permit for everything changes nothing about what they close.

CARELESS = loading.parse(
    (SHIPPED / "rules.cedar").read_text()
    + permit("careless-auto", "auto", "24h")
    + permit("careless-self", "self", "24h")
    + permit("careless-approval", "approval", "24h"),
    (SHIPPED / "gatehouse.cedarschema").read_text(),
)


@pytest.mark.parametrize(
    ("facts", "forbid_id"),
    [
        ({"privilege": "privileged"}, "power-needs-somebody-else"),
        ({"privilege": "admin"}, "power-needs-somebody-else"),
        ({"privilege": "unknown"}, "power-needs-somebody-else"),
        ({"can_escalate": True}, "power-needs-somebody-else"),
        ({"is_sensitive_read": True}, "sensitive-needs-somebody-else"),
        ({"environment": "management"}, "management-needs-somebody-else"),
        ({"department": "contractors"}, "contractors-need-somebody-else"),
        ({"employment": "contractor"}, "contractors-need-somebody-else"),
        ({"department": ""}, "contractors-need-somebody-else"),
    ],
    ids=str,
)
def test_no_careless_permit_opens_what_needs_somebody_else(facts: dict[str, Any], forbid_id: str) -> None:
    verdict = evaluate(asking(**facts), CARELESS)

    assert verdict.tier == "approval"
    assert {(refusal.tier, refusal.rule_id) for refusal in verdict.refusals} == {
        ("auto", forbid_id),
        ("self", forbid_id),
    }


@pytest.mark.parametrize(
    ("facts", "forbid_id"),
    [({"is_active": False}, "inactive-people-ask-for-nothing"), ({"who": "machine"}, "machines-ask-for-nothing")],
    ids=str,
)
def test_no_careless_permit_opens_anything_to_who_may_not_ask(facts: dict[str, Any], forbid_id: str) -> None:
    verdict = evaluate(asking(**facts), CARELESS)

    assert verdict.tier is None
    assert {refusal.rule_id for refusal in verdict.refusals} == {forbid_id}

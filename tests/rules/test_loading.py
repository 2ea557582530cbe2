from datetime import timedelta
from pathlib import Path

import pytest

from apps.rules import loading
from apps.rules.loading import SHIPPED, RuleSetError
from tests.rules.asking import forbid, permit, rules

SCOPE = 'permit (principal, action == Action::"auto", resource);'
ASK = 'permit (principal, action == Action::"approval", resource);'


def test_a_rule_carries_what_its_annotations_say() -> None:
    rule = rules(permit("open", "approval", "90m", extra='@approvers("manager, owner") @requires("ticket")')).rules[
        "open"
    ]

    assert rule.is_permit
    assert rule.tiers == ("approval",)
    assert rule.cap == timedelta(minutes=90)
    assert rule.approvers == ("manager", "owner")
    assert [str(requirement) for requirement in rule.requires] == ["ticket"]


def test_a_forbid_names_the_tiers_it_closes() -> None:
    found = rules(forbid("closed", "self auto") + '@id("all") @says("No.") forbid (principal, action, resource);').rules

    assert found["closed"].tiers == ("auto", "self")
    assert found["all"].tiers == ("auto", "self", "approval")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'@id("x") @says("S.") @max("1x") {SCOPE}', 'Rule "x": "1x" is not a duration'),
        (f'@id("x") @says("S.") @max {SCOPE}', 'Rule "x": "" is not a duration'),
        (f'@id("x") @says("S.") {SCOPE}', 'Rule "x": @max is missing'),
        (f'@id("x") @max("1h") {SCOPE}', 'Rule "x": @says is missing'),
        (f'@id("x") @says(" ") @max("1h") {SCOPE}', 'Rule "x": @says must hold a sentence'),
        (f'@id("x") @says("{"s" * 301}") @max("1h") {SCOPE}', 'Rule "x": @says must hold a sentence'),
        (f'@id("x") @says("S.") @max("1h") {ASK}', 'Rule "x": @approvers is missing'),
        (f'@id("x") @says("S.") @max("1h") @approvers("boss") {ASK}', 'Rule "x": "boss" is not an approver'),
        (f'@id("x") @says("S.") @max("1h") @approvers("owner") {SCOPE}', 'Rule "x": @approvers has no meaning'),
        (f'@id("x") @says("S.") @max("1h") @require("ticket") {SCOPE}', 'Rule "x": @require has no meaning'),
        (f'@id("x") @says("S.") @max("1h") @requires("mfa") {SCOPE}', 'Rule "x": "mfa" is not a requirement'),
        ('@id("x") @says("S.") @max("1h") forbid (principal, action, resource);', 'Rule "x": @max has no meaning'),
        ('@id("x") @says("S.") @max("1h") permit (principal, action, resource);', 'Rule "x": a permit offers one tier'),
        (f'@id("Not Good") @says("S.") @max("1h") {SCOPE}', 'Rule number 1 has the id "Not Good"'),
        (f'@says("S.") @max("1h") {SCOPE}', 'Rule number 1 has the id ""'),
        (permit("x", "auto", "1h") + permit("x", "self", "1h"), 'Rule "x": two rules have this id'),
        ('@id("x") @id("y") forbid (principal, action, resource);', "duplicate annotation"),
        ("permit (principal", "The rules cannot be read"),
        ('@id("x") @says("S.") forbid (principal == ?principal, action, resource);', "template"),
    ],
)
def test_a_rule_that_is_not_understood_does_not_load(text: str, message: str) -> None:
    with pytest.raises(RuleSetError, match=message.replace("?", r"\?")):
        rules(text)


@pytest.mark.parametrize(
    "when",
    [
        "principal.salary == 1",
        'resource.privilege == Privilege::"amdin"',
        'resource.privilege == "admin"',
        "context.asked_for > 1",
        'principal in Group::"ops"',
    ],
)
def test_a_rule_that_does_not_fit_the_schema_does_not_load(when: str) -> None:
    with pytest.raises(RuleSetError, match='Rule "wrong"'):
        rules(permit("right", "auto", "1h") + permit("wrong", "auto", "1h", when))


def test_an_unknown_tier_does_not_load() -> None:
    with pytest.raises(RuleSetError):
        rules(permit("x", "instant", "1h"))


def test_the_text_of_a_rule_is_what_its_author_wrote() -> None:
    first = permit("first", "auto", "1h", 'resource.name == "a;b // c \\" d"').strip()
    second = '@id("second") @says("No; a/b") forbid (principal, action, resource) // why; not\n  when { true };'

    found = rules(f'// Head; of file\n\n{first}\n// Between: "one"\n{second}\n// End;').rules

    assert found["first"].text == first
    assert found["second"].text == second


def test_every_shipped_rule_shows_its_own_text() -> None:
    shipped = loading.load(SHIPPED)

    assert len(shipped.rules) > 10  # more than ten, so that policy10 sorting before policy2 would show
    for rule in shipped.rules.values():
        assert rule.text.startswith(f'@id("{rule.id}")')
        assert rule.effect in rule.text


def test_the_digest_changes_with_the_rules_and_with_the_schema() -> None:
    schema = (SHIPPED / "gatehouse.cedarschema").read_text()
    digests = {
        loading.parse(permit("a", "auto", "1h"), schema).digest,
        loading.parse(permit("a", "auto", "2h"), schema).digest,
        loading.parse(permit("a", "auto", "1h"), schema + "// more").digest,
    }

    assert len(digests) == 3


def test_a_rule_set_without_rules_loads_and_offers_nothing() -> None:
    assert rules("// nothing yet").rules == {}


def test_the_shipped_folder_holds_nothing_but_the_rule_set() -> None:
    assert {path.name for path in Path(SHIPPED).iterdir()} == {"gatehouse.cedarschema", "rules.cedar", "tests.json"}

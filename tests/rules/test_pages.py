import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from apps.rules import loading
from tests.factories.users import UserFactory
from tests.rules.asking import forbid, permit, rules

pytestmark = pytest.mark.django_db


@pytest.fixture
def mallory() -> Client:
    """Somebody who may see nothing else may still read what decides about them."""
    client = Client()
    client.force_login(UserFactory.create(name="Mallory"))
    return client


def test_everybody_signed_in_reads_every_rule(mallory: Client) -> None:
    page = mallory.get(reverse("rules:in_force")).content.decode()

    for rule in loading.in_force().rules.values():
        assert escape(rule.says) in page
        assert escape(rule.text) in page
    assert loading.in_force().digest in page


def test_nobody_reads_the_rules_without_signing_in() -> None:
    response = Client().get(reverse("rules:in_force"))

    assert response.status_code == 302
    assert reverse("account_login") in response["Location"]


def test_the_page_only_reads(mallory: Client) -> None:
    assert mallory.post(reverse("rules:in_force")).status_code == 405


def test_a_rule_shows_its_own_cap_approvers_and_requirements(mallory: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rules(
        permit("r", "approval", "90m", extra='@approvers("manager, owner") @requires("mfa 15m, ticket")')
        + forbid("never", "auto")
    )
    monkeypatch.setattr(loading, "in_force", lambda: found)

    page = mallory.get(reverse("rules:in_force")).content.decode()

    for words in (
        "Up to 1 h 30 min", "Approved by manager or owner", "Step-up, at most 15 min old", "Needs a ticket",
        "No rule opens this tier.", "Not because of never.",
    ):  # fmt: skip
        assert words in page


def test_a_hostile_sentence_is_only_text(mallory: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rules('@id("x") @says("<script>alert(1)</script>") forbid (principal, action, resource);')
    monkeypatch.setattr(loading, "in_force", lambda: found)

    assert "<script>alert(1)" not in mallory.get(reverse("rules:in_force")).content.decode()

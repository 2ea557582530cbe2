"""A reviewer leaves: nothing waits for somebody who is gone, and nobody certifies their own access because of it."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.grants import periodic
from apps.grants.models import Leaving
from apps.grants.services import leaving
from apps.inventory.models import Identity, Principal
from apps.reviews.models import Campaign, Decision, ReviewItem
from apps.reviews.services import items
from tests.reviews.conftest import Company, decide_all
from tests.security.conftest import _roles, acting  # noqa: F401  fixtures


def left(who: Principal) -> None:
    """They left, and it was long enough ago."""
    Identity.objects.filter(pk=who.identity_id).update(ended_at=timezone.now())
    leaving.notice(who.identity, by=audit.CLOCK)
    Leaving.objects.update(noticed_at=timezone.now() - Leaving.SETTLE)
    periodic.follow_people()


@pytest.fixture
def waiting(company: Company) -> Campaign:
    """Carol reviews what Alice and Bob hold; Dora is her manager."""
    company.dora = company.person("dora")
    company.managed_by(company.carol, company.dora)
    for who in (company.alice, company.bob):
        company.stands(who, company.admin)
    return company.launch(holders=["human"])


def reviewers(campaign: Campaign) -> set[str]:
    return {str(item.reviewer) for item in ReviewItem.objects.filter(campaign=campaign)}


def test_what_waits_for_a_reviewer_who_left_goes_to_their_manager(company: Company, waiting: Campaign) -> None:
    assert reviewers(waiting) == {"Carol"}
    left(company.carol)
    assert reviewers(waiting) == {"Dora"}
    item = ReviewItem.objects.filter(campaign=waiting).first()
    assert item and item.reviewer_rule == f"Passed on by the clock: {company.carol.identity} left."
    event = AuditEvent.objects.get(event="reviews.review_item.reassigned")
    assert event.data["items"] == 2 and event.data["reason"] == f"{company.carol.identity} left."
    assert Leaving.objects.get().passed["holdings to review"] == 2


def test_what_they_decided_and_did_not_sign_is_open_again(company: Company, waiting: Campaign) -> None:
    decide_all(waiting, "revoke", reviewer=company.carol_user)
    left(company.carol)
    assert set(ReviewItem.objects.values_list("choice", flat=True)) == {"undecided"}
    assert Decision.objects.filter(by=None, choice="undecided").count() == 2


def test_what_they_signed_for_stands(company: Company, waiting: Campaign) -> None:
    decide_all(waiting, "keep", reviewer=company.carol_user)
    items.submit(campaign=waiting, by=company.carol_user)
    left(company.carol)
    assert reviewers(waiting) == {"Carol"} and set(ReviewItem.objects.values_list("choice", flat=True)) == {"keep"}


def test_nobody_gets_their_own_access_to_review_because_somebody_left(company: Company) -> None:
    """Carol reviews what her own manager holds as an owner's login: it goes to the fallback."""
    company.dora = company.person("dora")
    company.managed_by(company.carol, company.dora)
    company.managed_by(company.dora, company.carol)
    company.stands(company.dora, company.admin)
    company.stands(company.alice, company.admin)
    campaign = company.launch(holders=["human"])
    left(company.carol)
    found = {item.holder_name: str(item.reviewer) for item in ReviewItem.objects.filter(campaign=campaign)}
    names = {str(who.identity): who for who in (company.alice, company.dora)}
    assert {name: found[name] for name in names} == {
        str(company.alice.identity): "Dora",
        str(company.dora.identity): "Frank",
    }


def test_with_nobody_above_the_fallback_and_then_administrators_take_over(company: Company, waiting: Campaign) -> None:
    company.managed_by(company.carol, None)
    Identity.objects.filter(pk=company.frank.identity_id).update(user=None)
    left(company.carol)
    assert reviewers(waiting) == {"Erin"}


def test_a_review_that_is_launched_later_asks_who_stands_in(company: Company) -> None:
    company.dora = company.person("dora")
    company.managed_by(company.carol, company.dora)
    company.stands(company.alice, company.admin)
    Identity.objects.filter(pk=company.carol.identity_id).update(ended_at=timezone.now())
    campaign = company.launch(holders=["human"])
    item = ReviewItem.objects.get(campaign=campaign)
    assert (str(item.reviewer), item.rule) == ("Dora", "manager")
    assert "in place of" in item.reviewer_rule and "who left" in item.reviewer_rule


def test_who_is_back_does_not_get_their_reviews_back(company: Company, waiting: Campaign) -> None:
    left(company.carol)
    Identity.objects.filter(pk=company.carol.identity_id).update(ended_at=None)
    periodic.follow_people()
    assert reviewers(waiting) == {"Dora"}

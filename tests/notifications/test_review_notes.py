"""What reviewers and administrators are told about reviews."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from apps.notifications.models import Notification
from apps.reviews.models import Campaign, ReviewItem
from apps.reviews.services import campaigns, items
from tests.factories.users import UserFactory
from tests.grants.system import START
from tests.notifications.conftest import mailed, told, unread
from tests.reviews.conftest import REASON, Company, decide_all

LAUNCHED, REMINDED, CLOSED = (f"reviews.campaign.{what}" for what in ("launched", "reminded", "closed"))


@pytest.fixture
def company(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with time_machine.travel(START, tick=False):
        made = Company()
        for who in (made.alice, made.bob):
            made.holds(who, made.read)
        made.world.add_principal("iam_user", "robot", account_id=made.account.external_id)
        made.holds(made.machine("robot"), made.read)
        yield made


@pytest.fixture
def campaign(company: Company) -> Campaign:
    """Two items for Carol, one for Frank."""
    return company.launch()


def test_each_reviewer_gets_a_mail_that_links_straight_to_their_items(company: Company, campaign: Campaign) -> None:
    due = "09:00 UTC on 2 December"
    assert told(LAUNCHED) == {
        "Carol": [f"Review 2 holdings for Q4 2026 until {due}"],
        "Frank": [f"Review 1 holding for Q4 2026 until {due}"],
    }
    assert mailed(LAUNCHED) == {"Carol", "Frank"}
    assert set(Notification.objects.values_list("url", flat=True)) == {f"/reviews/{campaign.pk}/mine/"}


def test_only_who_has_something_left_is_reminded(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    campaigns.remind(campaign, by=company.erin_user)
    assert told(REMINDED) == {"Frank": ["1 holding of Q4 2026 waits for you until 09:00 UTC on 2 December"]}


def test_whoever_is_passed_an_item_is_told_by_whom_and_why(company: Company, campaign: Campaign) -> None:
    rows = ReviewItem.objects.filter(reviewer=company.frank_user)
    items.reassign(rows, campaign=campaign, to=company.carol_user, by=company.frank_user, reason="She runs it.")
    kind = "reviews.review_item.reassigned"
    assert told(kind) == {"Carol": ["Frank passed you 1 holding of Q4 2026 to review"]}
    note = Notification.objects.get(kind=kind)
    assert "“She runs it.”" in note.text and note.url == f"/reviews/{campaign.pk}/mine/"


def test_administrators_hear_that_it_closed_and_nothing_waits_any_more(company: Company, campaign: Campaign) -> None:
    fred = UserFactory(name="Fred", administrator=True)
    told(LAUNCHED)
    for reviewer in (company.carol_user, company.frank_user):
        decide_all(campaign, "keep", reviewer=reviewer)
        items.submit(campaign=campaign, by=reviewer)
    campaigns.close(campaign, by=company.erin_user)
    found = told(CLOSED)
    assert found["Fred"] == ["Erin closed the review Q4 2026"]
    assert {"Erin", "Carol", "Frank", "Dan", "Mallory"}.isdisjoint(found)
    assert Notification.objects.get(kind=CLOSED, recipient=fred).text.startswith("3 kept, 0 revoked.")
    assert unread(company.carol_user, LAUNCHED) == 0


def test_a_review_that_closed_before_anybody_was_told_asks_nobody(company: Company, campaign: Campaign) -> None:
    campaigns.close(campaign, by=company.erin_user, force=True, note="Launched by mistake.")
    assert told(LAUNCHED) == {}


def test_the_holder_hears_that_a_review_took_it_away(
    company: Company, campaign: Campaign, django_capture_on_commit_callbacks, enqueued
) -> None:
    decide_all(campaign, "revoke", reviewer=company.carol_user)
    with django_capture_on_commit_callbacks(execute=True):
        items.submit(campaign=campaign, by=company.carol_user)
    enqueued.run()
    company.run_clock()
    assert told("grants.grant.removal_decided") == {
        "Alice": ["Carol decided that you no longer hold Read in production"],
        "Bob": ["Carol decided that you no longer hold Read in production"],
    }
    assert REASON in Notification.objects.filter(kind="grants.grant.removal_decided").first().text
    assert set(told("grants.grant.revoked")) == {"Alice", "Bob"}

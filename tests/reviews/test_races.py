"""Two at once: reviewers do not wait for each other, and nobody closes a campaign under an open decision."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, transaction
from django.db import connection as database

from apps.grants.models import Grant
from apps.reviews import removals
from apps.reviews.models import Campaign, ReviewItem, SignOff
from apps.reviews.services import campaigns, items
from apps.reviews.services.items import NotAllowed
from tests.reviews.conftest import REASON, Company, decide_all, item_of


@pytest.fixture
def campaign(office: Company) -> Campaign:
    """Carol reviews what Alice holds, Frank what a machine nobody owns holds."""
    office.holds(office.alice, office.read)
    office.stands(office.machine("robot"), office.read)
    return office.launch()


def elsewhere(act: Callable[[], object]) -> object:
    """Run in another process's place: a thread with a connection of its own that waits for locks only briefly."""

    def run() -> object:
        try:
            with transaction.atomic():
                with database.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '100ms'")
                return act()
        finally:
            database.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def test_a_campaign_is_not_closed_under_an_open_decision(office: Company, campaign: Campaign) -> None:
    item = item_of(campaign, office.alice, office.read)
    carol, erin = item.reviewer, office.erin_user

    def close() -> Campaign:
        return campaigns.close(campaign, by=erin, force=True, note="The quarter is over.")

    with transaction.atomic():
        items.decide(item, choice="keep", by=carol)
        with pytest.raises(OperationalError):
            elsewhere(close)
    assert close().tie_out["counts"]["keep"] == 1


def test_nothing_is_decided_under_a_close(office: Company, campaign: Campaign) -> None:
    item = item_of(campaign, office.alice, office.read)
    carol = item.reviewer
    with transaction.atomic():
        campaigns.close(campaign, by=office.erin_user, force=True, note="The quarter is over.")
        with pytest.raises(OperationalError):
            elsewhere(lambda: items.decide(item, choice="keep", by=carol))
    with pytest.raises(NotAllowed, match="not running"):
        items.decide(item, choice="keep", by=carol)


def test_reviewers_do_not_wait_for_each_other(office: Company, campaign: Campaign) -> None:
    first, second = campaign.items.select_related("reviewer").order_by("pk")
    assert first.reviewer != second.reviewer
    with transaction.atomic():
        items.decide(first, choice="keep", by=first.reviewer)
        elsewhere(lambda: items.decide(second, choice="keep", by=second.reviewer))
    assert campaign.items.decided().count() == 2


def test_of_two_signatures_at_once_one_signs(office: Company, campaign: Campaign) -> None:
    carol = office.carol_user
    decide_all(campaign, "keep", reviewer=carol)
    with transaction.atomic():
        items.submit(campaign=campaign, by=carol)
        with pytest.raises(OperationalError):
            elsewhere(lambda: items.submit(campaign=campaign, by=carol))
    with pytest.raises(NotAllowed, match="nothing left"):
        items.submit(campaign=campaign, by=carol)
    assert SignOff.objects.count() == 1


def test_of_two_workers_at_once_one_begins_a_removal(office: Company, campaign: Campaign) -> None:
    carol = office.carol_user
    decide_all(campaign, "revoke", reviewer=carol)
    items.submit(campaign=campaign, by=carol)
    [item] = ReviewItem.objects.filter(reviewer=carol)
    assert item.reason == REASON
    with transaction.atomic():
        removals.carry_out(campaign.pk, carol.pk)
        elsewhere(lambda: removals.carry_out(campaign.pk, carol.pk))  # passes it by
    assert Grant.objects.count() == 1

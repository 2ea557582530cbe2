"""Carol comes from a mail, decides, and what she signed is taken away. Her desk's keys: tests/reviews/test_browser.py."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.audit.models import AuditEvent
from apps.notifications import consumer, mailing
from apps.notifications.models import Delivery
from apps.reviews import removals
from apps.users.models import User
from tests.reviews.conftest import Company
from tests.users.conftest import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def give_password(user: User) -> None:
    user.set_password(PASSWORD)
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)


def mailed_path(user: User) -> str:
    """Where the link in this user's newest mail leads."""
    consumer.deal_with(list(AuditEvent.objects.order_by("pk")))
    Delivery.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
    mailing.send_due()
    [message] = [each for each in mail.outbox if each.to == [user.email]]
    link = re.search(r"https?://[^/\s]+(/\S+)", str(message.body))
    assert link
    return link[1]


def test_a_mail_leads_through_sign_in_to_the_queue_and_what_is_signed_is_removed(
    transactional_db: None, page: Page, live_server: LiveServer
) -> None:
    office = Company()
    carol = office.carol_user
    give_password(carol)
    for who in (office.alice, office.bob):
        office.holds(who, office.read)
    campaign = office.launch()

    page.goto(f"{live_server.url}{mailed_path(carol)}")
    page.get_by_label("Email").fill(carol.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("Item 1 of 2")).to_be_visible()

    page.keyboard.press("r")
    expect(page.get_by_label("Why shall it go?")).to_be_focused()
    page.keyboard.type("Moved to another team.")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Item 2 of 2")).to_be_visible()
    page.keyboard.press("k")
    page.get_by_role("link", name="Sign 2 decisions").click()
    page.get_by_role("button", name="Sign 2 decisions").click()
    expect(page.get_by_role("heading", name="You signed for this")).to_be_visible()

    removals.carry_out(campaign.pk, carol.pk)
    office.work()
    assert {office.can_use(office.alice), office.can_use(office.bob)} == {True, False}
    page.goto(f"{live_server.url}/reviews/{campaign.pk}/mine/")
    expect(page.locator("main")).to_contain_text("Removed")

"""Alice asks, uses it and is done, by keyboard and by mouse."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from apps.access.models import AccessRequest
from apps.grants import provisioning
from apps.grants.models import Grant
from tests.access.conftest import Company
from tests.browser.conftest import PHONE, WITHOUT_SCRIPTS, Enter, install_clock, poll

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_she_asks_by_keyboard_watches_it_start_and_is_done(company: Company, enter: Enter) -> None:
    company.offer(company.read)
    company.offer(company.admin)
    page = enter(company.alice_user, before=install_clock)

    page.keyboard.press("n")
    page.wait_for_url("**/request/")
    expect(page.get_by_role("row")).to_have_count(3)
    page.keyboard.press("/")
    page.keyboard.type("rea")
    page.clock.fast_forward(1_000)
    rows = page.locator("#rows")
    expect(rows.get_by_role("status")).to_have_text("1 shown. Clear filters")
    assert page.url.endswith("/request/?q=rea")

    opener = rows.get_by_role("link", name="Read")
    opener.click()
    panel = page.locator("[data-panel]")
    expect(panel.get_by_role("heading", name="Read")).to_be_focused()
    assert re.search(r"/request/\d+/\?q=rea$", page.url)
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(opener).to_be_focused()
    assert page.url.endswith("/request/?q=rea")

    opener.press("Enter")
    expect(panel.get_by_text("You get this at once")).to_be_visible()
    page.keyboard.press("2")
    expect(panel.get_by_role("radio", name=re.compile("^1 h"))).to_be_checked()
    panel.get_by_label("Why do you need it?").fill("Looking into INC-1.")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/grants/*/")
    badge, time_left = page.locator("#state"), page.locator(".gh-stat", has_text="Time left")
    expect(badge).to_have_text("Starting")
    expect(time_left).to_have_count(0)

    grant = AccessRequest.objects.get().grant
    assert grant is not None
    provisioning.provision(grant.pk)
    poll(page)
    expect(badge).to_have_text("Active")
    expect(time_left).to_contain_text("min")
    assert company.can_use()

    page.get_by_role("button", name="I’m done").click()
    question = page.get_by_role("dialog", name="End Read now?")
    question.get_by_role("button", name="Cancel").click()
    expect(badge).to_have_text("Active")
    page.get_by_role("button", name="I’m done").click()
    question.get_by_role("button", name="End it now").click()
    expect(badge).to_have_text("Ending")

    provisioning.deprovision(grant.pk)
    poll(page)
    expect(badge).to_have_text("Removed and checked")
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    assert not company.can_use()


def test_what_is_wrong_is_said_in_the_panel_and_nothing_typed_is_lost(company: Company, enter: Enter) -> None:
    page = enter(company.alice_user, f"/request/{company.offer(company.read).pk}/")
    page.get_by_label("Why do you need it?").fill("test")
    page.get_by_role("button", name="Start now").click()
    expect(page.get_by_role("alert")).to_contain_text("Say in a few words why you need it.")
    expect(page.get_by_label("Why do you need it?")).to_have_value("test")


def test_on_a_phone_she_asks_in_a_sheet_with_its_button_in_reach(company: Company, enter: Enter) -> None:
    company.offer(company.read)
    page = enter(company.alice_user, **PHONE)
    page.get_by_role("link", name="Request", exact=True).tap()
    page.locator("#rows").get_by_role("link", name="Read").tap()
    start = page.get_by_role("button", name="Start now")
    expect(start).to_be_in_viewport()
    page.get_by_text("30 min", exact=False).first.tap()
    page.get_by_label("Why do you need it?").fill("Looking into INC-1.")
    expect(start).to_be_in_viewport()
    start.tap()
    expect(page.locator("#state")).to_have_text("Starting")
    assert Grant.objects.get().duration == timedelta(minutes=30)


def test_without_scripts_she_asks_and_ends(company: Company, enter: Enter) -> None:
    company.offer(company.read)
    page = enter(company.alice_user, **WITHOUT_SCRIPTS)
    page.get_by_role("searchbox", name="Find access").fill("read")
    page.get_by_role("searchbox", name="Find access").press("Enter")
    page.locator("#rows").get_by_role("link", name="Read").click()
    page.get_by_label("Why do you need it?").fill("Looking into INC-1.")
    page.get_by_role("button", name="Start now").click()
    expect(page.locator("#state")).to_have_text("Starting")
    provisioning.provision(Grant.objects.get().pk)
    page.reload()
    expect(page.locator("#state")).to_have_text("Active")
    page.get_by_role("button", name="I’m done").click()
    expect(page.locator("#state")).to_have_text("Ending")
    assert Grant.objects.get().state == "revoking"

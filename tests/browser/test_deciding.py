"""Somebody says yes: Alice herself with her passkey, Bob with a code, at his desk and on his phone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from apps.access.models import AccessRequest
from apps.access.services import requests
from apps.grants import provisioning
from apps.users import totp
from tests.access.conftest import PASSKEY, Company
from tests.browser.conftest import PHONE, WITHOUT_SCRIPTS, Enter, install_clock, poll
from tests.grants.signing import give_key
from tests.users.conftest import give_passkey, give_totp
from tests.users.soft_key import SoftKey
from tests.users.test_browser import insert

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_she_confirms_with_a_passkey_in_the_browser_that_asked(
    company: Company, enter: Enter, settings: Settings
) -> None:
    settings.STEP_UP_WAITING_TIME = timedelta(0)
    company.account.environment = "staging"
    company.account.save()
    offer = company.offer(company.permission_set("Operator", "write"))
    key = SoftKey()
    give_passkey(company.alice_user, key, age=timedelta(0))
    page = enter(company.alice_user, f"/request/{offer.pk}/", before=lambda page: insert(page, key, verifies=True))

    expect(page.get_by_text("You can approve this yourself")).to_be_visible()
    page.get_by_label("Why do you need it?").fill("Looking into INC-1.")
    page.get_by_role("button", name="Ask and confirm").click()
    page.get_by_role("button", name="Confirm with a passkey").click()
    page.get_by_role("button", name="Use your passkey").click()
    page.wait_for_url("**/requests/*/")
    page.get_by_role("button", name="Confirm with a passkey").click()
    page.wait_for_url("**/grants/*/")
    expect(page.locator("#state")).to_have_text("Starting")
    assert AccessRequest.objects.get().confirmed_by == "passkey"


@pytest.mark.parametrize("device", [{}, PHONE], ids=["desk", "phone"])
def test_he_approves_with_a_code_and_she_sees_it(
    company: Company, asked: AccessRequest, enter: Enter, device: dict
) -> None:
    authenticator = give_totp(company.bob_user)
    hers = enter(company.alice_user, asked.get_absolute_url(), before=install_clock)
    expect(hers.get_by_text("Waiting for approval")).to_be_visible()

    his = enter(company.bob_user, **device)
    his.get_by_role("link", name="Look at it").click()
    his.get_by_role("link", name="Decide").click()
    approve(his, totp.now(authenticator))

    poll(hers)
    expect(hers.get_by_text("Allowed")).to_be_visible()
    hers.get_by_role("link", name="the grant’s page").click()
    expect(hers.locator("#state")).to_have_text("Starting")


def approve(page: Page, code: str) -> None:
    page.get_by_role("button", name="Approve and start, 1 h").click()
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Confirm with the code").click()
    page.get_by_role("button", name="Approve and start, 1 h").click()
    expect(page.get_by_role("link", name="See the grant")).to_be_visible()


@pytest.mark.parametrize("device", [{}, PHONE], ids=["desk", "phone"])
def test_his_passkey_signs_what_is_privileged(
    company: Company, enter: Enter, settings: Settings, live_server: LiveServer, device: dict
) -> None:
    settings.BASE_URL = live_server.url
    asked = ask_for_admin(company)
    key = give_key(company.bob_user, SoftKey(origin=live_server.url, host="localhost"))
    page = enter(
        company.bob_user,
        asked.get_absolute_url(),
        before=lambda page: insert(page, key, verifies=True),
        **device,
    )
    page.get_by_role("button", name="Approve and start, 1 h").click()
    expect(page.get_by_role("link", name="See the grant")).to_be_visible()
    asked.refresh_from_db()
    assert asked.grant is not None
    provisioning.provision(asked.grant.pk)
    assert company.can_use(what=company.admin)


def test_a_passkey_that_does_not_sign_is_told_and_nothing_is_sent(
    company: Company, enter: Enter, settings: Settings, live_server: LiveServer
) -> None:
    """The browser holds another key than his."""
    settings.BASE_URL = live_server.url
    asked = ask_for_admin(company)
    give_key(company.bob_user)
    other = SoftKey(origin=live_server.url, host="localhost")
    page = enter(company.bob_user, asked.get_absolute_url(), before=lambda page: insert(page, other, verifies=True))
    page.get_by_role("button", name="Approve and start, 1 h").click()
    expect(page.get_by_text("The passkey did not sign")).to_be_visible()
    asked.refresh_from_db()
    assert asked.state == "waiting"


def test_without_scripts_or_a_passkey_he_is_told_what_to_do(company: Company, enter: Enter) -> None:
    asked = ask_for_admin(company)
    page = enter(company.bob_user, asked.get_absolute_url(), **WITHOUT_SCRIPTS)
    expect(page.get_by_text("You have no passkey that can sign this")).to_be_visible()
    give_key(company.bob_user)
    page.reload()
    page.get_by_role("button", name="Approve and start, 1 h").click()
    expect(page.get_by_text("Privileged access is approved with a passkey, in a browser")).to_be_visible()


def ask_for_admin(company: Company) -> AccessRequest:
    return requests.ask(
        company.offer(company.admin),
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="The queue is stuck.",
        ticket_ref="INC-1",
        by=company.alice_user,
        place=replace(PASSKEY, step_up={**PASSKEY.step_up, "at": timezone.now().isoformat()}),
    )


def test_without_scripts_he_approves(company: Company, asked: AccessRequest, enter: Enter) -> None:
    authenticator = give_totp(company.bob_user)
    page = enter(company.bob_user, "/approvals/", **WITHOUT_SCRIPTS)
    page.get_by_role("link", name="Decide").click()
    approve(page, totp.now(authenticator))
    asked.refresh_from_db()
    assert asked.state == "allowed"

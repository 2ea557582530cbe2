"""Alice holds access that a broker makes sessions for: shown to her once, or opened in AWS's console."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from apps.connectors import registry
from apps.grants.broker import server
from apps.grants.models import Grant, Minting
from apps.users import totp
from tests.access.conftest import Company
from tests.browser.conftest import PHONE, WITHOUT_SCRIPTS, Enter
from tests.browser.test_barriers import RULES
from tests.grants.signing import draft, give_key, signed_by
from tests.grants.test_broker import KEY, SECRET, FakeMinter, serving
from tests.users.conftest import give_totp
from tests.users.soft_key import SoftKey
from tests.users.test_browser import insert

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CONSOLE = "https://signin.aws.amazon.com/federation"


class Minter(FakeMinter):
    """Leads into AWS's own console."""

    def console_url(self, minted: object) -> str:
        return f"{CONSOLE}?Action=login&SigninToken=a"


@pytest.fixture(autouse=True)
def _broker(settings: Settings, monkeypatch: pytest.MonkeyPatch, live_server: LiveServer) -> Iterator[None]:
    settings.BASE_URL = live_server.url
    monkeypatch.setitem(registry.MINTERS, ("fake", "idc_assignment"), f"{__name__}:Minter")
    with tempfile.TemporaryDirectory(prefix="gh") as folder:
        settings.BROKER_SOCKET, settings.BROKER_KEY = f"{folder}/broker", KEY
        with serving(server.Broker(Path(settings.BROKER_SOCKET), key=KEY, peers=[os.geteuid()])):
            yield


@pytest.fixture
def grant(company: Company) -> Grant:
    return company.active()


@pytest.fixture
def admin(company: Company) -> Grant:
    """Privileged, and approved with Bob's passkey."""
    authority = signed_by(
        company.bob_user, give_key(company.bob_user), draft(company.alice, company.admin, ticket_ref="INC-1")
    )
    return company.active(what=company.admin, authority=authority, ticket_ref="INC-1")


def without_barriers(page: Page) -> None:
    page.evaluate(Axe().axe_script)
    violations = page.evaluate("options => axe.run(options).then(results => results.violations)", RULES)
    assert [one["id"] for one in violations] == []


@pytest.mark.parametrize("device", [{}, PHONE, WITHOUT_SCRIPTS], ids=["desk", "phone", "without scripts"])
def test_she_confirms_with_a_code_and_sees_her_session_once(
    company: Company, grant: Grant, enter: Enter, device: dict
) -> None:
    authenticator = give_totp(company.alice_user)
    page = enter(company.alice_user, grant.get_absolute_url(), **device)
    page.get_by_role("button", name="Show credentials").click()
    page.get_by_label("Code").fill(totp.now(authenticator))
    page.get_by_role("button", name="Confirm with the code").click()
    page.get_by_role("button", name="Show credentials").click()
    expect(page.get_by_text("Shown once, here alone")).to_be_visible()
    page.get_by_text("Show the lines").click()
    expect(page.get_by_text(f"export AWS_SECRET_ACCESS_KEY={SECRET}")).to_be_visible()
    if device != WITHOUT_SCRIPTS:
        without_barriers(page)
    page.get_by_role("link", name="Back to the grant").click()
    expect(page.get_by_text("Session for the command line")).to_be_visible()
    assert SECRET not in page.content()
    with pytest.raises(Error, match="ERR_CACHE_MISS"):  # the browser kept no copy either
        page.go_back()


def test_her_passkey_signs_for_a_session_of_what_is_privileged(
    company: Company, admin: Grant, enter: Enter, live_server: LiveServer
) -> None:
    key = give_key(company.alice_user, SoftKey(origin=live_server.url, host="localhost"))
    page = enter(company.alice_user, admin.get_absolute_url(), before=lambda page: insert(page, key, verifies=True))
    page.get_by_role("button", name="Show credentials").click()
    without_barriers(page)
    page.get_by_role("button", name="Sign and show credentials").click()
    expect(page.get_by_text("Shown once, here alone")).to_be_visible()
    assert Minting.objects.get().signed_digest


def test_her_passkey_signs_and_the_browser_goes_to_awss_console(
    company: Company, admin: Grant, enter: Enter, live_server: LiveServer
) -> None:
    """Leaving this origin by a form is what the page's own policy allows for AWS alone."""
    key = give_key(company.alice_user, SoftKey(origin=live_server.url, host="localhost"))
    page = enter(company.alice_user, admin.get_absolute_url(), before=lambda page: insert(page, key, verifies=True))
    page.locator("form[action$='/session/'] button[value=console]").evaluate("b => b.removeAttribute('formtarget')")
    page.get_by_role("button", name="Open console").click()
    page.get_by_role("button", name="Sign and open the console").click()
    # Nobody looks names up here, so what is left of it is the browser's own page about the host that it was sent to.
    expect(page).to_have_title(urlsplit(CONSOLE).hostname or "")

"""Somebody's ways into an account in a real browser: readable by everybody, whole on a phone, and live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.inventory import tracing
from tests.factories.users import UserFactory
from tests.inventory.company import EVERYTHING, Company, allow, trust
from tests.inventory.test_browser import WCAG

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def erin_at(page: Page, live_server: LiveServer, transactional_db: None) -> Page:
    client = Client()
    client.force_login(UserFactory(name="Erin", administrator=True))
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    return page


@pytest.fixture
def company(transactional_db: None) -> Company:
    company = Company()
    alice = company.person("alice")
    alice.identity.name = "Alice Moreau"
    alice.identity.save()
    engineers = company.group("Engineers", alice)
    company.holds(engineers.group, company.permission_set("Deploy", allow("sts:AssumeRole"), account=company.tools))
    company.holds(engineers.group, company.permission_set("ReadOnly", allow("s3:Get*")))
    company.holds(alice, company.permission_set("SupportTools", allow("dynamodb:PutItem")))
    company.role("deployer", trust(company.root(company.tools)), may=[allow("cloudformation:UpdateStack")])
    mfa = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    company.role("break-glass", trust({"AWS": company.arn("deployer")}, Condition=mfa), may=[EVERYTHING])
    company.role("auditor", trust(company.root(company.tools)), may=[allow("ec2:Describe*")])
    tracing.trace(company.connection)
    return company


def shoot(page: Page, name: str) -> None:
    """A picture for whoever looks at the design, when a place for it is given."""
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{name}.png", full_page=True)


def test_a_way_is_taken_away_and_what_remains_is_seen(erin_at: Page, live_server: LiveServer, company: Company) -> None:
    alice = company.connection.identities.get(name="Alice Moreau")
    address = live_server.url + reverse("inventory:paths", args=[alice.pk])
    for width in (1440, 390):
        erin_at.set_viewport_size({"width": width, "height": 900})
        for url in (address, f"{address}?account={company.prod.pk}"):
            erin_at.goto(url)
            found = Axe().run(erin_at, options=WCAG)
            assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
            assert erin_at.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), url
            for theme in ("light", "dark"):
                erin_at.evaluate(f"document.documentElement.dataset.bsTheme = '{theme}'")
                shoot(erin_at, f"{'paths' if 'account=' in url else 'accounts'}-{width}-{theme}")
    erin_at.set_viewport_size({"width": 1440, "height": 900})
    erin_at.get_by_role("link", name="What remains without Deploy, through Engineers → deployer", exact=True).click()
    expect(erin_at.get_by_text("3 ways in remain")).to_be_visible()
    expect(erin_at.get_by_text("Remains", exact=True)).to_have_count(3)
    assert "without=" in erin_at.url
    shoot(erin_at, "without-1440-dark")
    erin_at.goto(live_server.url + reverse("inventory:account_paths", args=[company.prod.pk]))
    shoot(erin_at, "who-1440-light")
    erin_at.get_by_role("link", name="Alice Moreau").click()
    expect(erin_at.get_by_role("heading", name="How Alice Moreau gets into prod")).to_be_visible()

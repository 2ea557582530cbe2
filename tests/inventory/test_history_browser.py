"""The history pages in a real browser: readable by everybody, whole on a phone, a day chosen by hand."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.inventory.models import Assignment
from tests.factories import inventory as make
from tests.factories.users import UserFactory
from tests.inventory.test_browser import WCAG
from tests.inventory.test_history import period

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_somebody_looks_at_a_day_and_compares_it(page: Page, live_server: LiveServer, transactional_db: None) -> None:
    now = timezone.now()
    org = make.ConnectionFactory(name="acme", baselined=True)
    for day in range(40):
        make.SyncRunFactory(connection=org, started_at=now - timedelta(days=day))
    prod = make.ResourceFactory(connection=org, name="prod-payments")
    admin = make.EntitlementFactory(connection=org, resource=prod, name="AdministratorAccess", privilege="admin")
    member = make.EntitlementFactory(connection=org, membership=True, group__name="sre-oncall", privilege="admin")
    alice = make.PrincipalFactory(connection=org, identity__name="Alice Moreau")
    bob = make.PrincipalFactory(connection=org, identity__name="Bob Lindqvist")

    def holds(principal, entitlement, since: int, until: int | None = None) -> Assignment:
        ended = now - timedelta(days=until) if until else None
        during = period(now - timedelta(days=since), ended)
        return make.AssignmentFactory(
            connection=org, principal=principal, entitlement=entitlement, period=during, is_standing=since > 30
        )

    holds(member.group, admin, 39)
    holds(alice, member, 10)
    holds(bob, member, 39, 20)
    holds(bob, admin, 5, 4)
    client = Client()
    client.force_login(UserFactory(name="Dan", auditor=True))
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])

    pictures = os.environ.get("PICTURES")
    month = (now - timedelta(days=30)).date().isoformat()
    for subject, name in ((alice.identity, "identity"), (admin, "entitlement"), (prod, "account")):
        url = live_server.url + reverse(f"inventory:{name}_history", args=[subject.pk])
        for width, query in ((1440, ""), (390, f"?since={month}"), (1440, f"?since={month}"), (390, "?on=2020-01-01")):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(url + query)
            found = Axe().run(page, options=WCAG)
            assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), url
            if pictures:
                page.screenshot(path=Path(pictures) / f"{name}-{width}-{len(query)}.png", full_page=True)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(live_server.url + prod.get_absolute_url())
    page.get_by_role("link", name="History").click()
    page.get_by_role("textbox", name="On").fill((now - timedelta(days=25)).date().isoformat())
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("link", name="Bob Lindqvist")).to_be_visible()
    expect(page.get_by_role("link", name="Alice Moreau")).to_have_count(0)

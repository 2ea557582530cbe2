"""The pages of the catalogue's keepers in a real browser: readable by everybody, whole on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from tests.access.conftest import Company
from tests.access.test_offers import group

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_offering_is_accessible_and_fits(
    transactional_db: None, live_server: LiveServer, new_page: Callable[..., Page], width: int, scheme: str
) -> None:
    company = Company()
    company.offer(group(company), provisioner="group_membership")
    rows = (company.read, group(company, "on-call"), group(company, "owners", privilege="admin"))
    urls = [reverse("access:offers"), *(reverse("access:add_offer", args=[row.pk]) for row in rows)]
    client = Client()
    client.force_login(company.erin)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page = new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    for number, url in enumerate(urls):
        page.goto(live_server.url + url)
        if os.environ.get("SHOTS"):
            page.screenshot(path=f"{os.environ['SHOTS']}/offers-{number}-{width}-{scheme}.png", full_page=True)
        found = Axe().run(page, options=WCAG)
        assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), url

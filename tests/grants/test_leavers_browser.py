"""The pages about who left in a real browser: readable by everybody, whole on a phone."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from apps.grants import periodic
from apps.grants.models import Leaving
from apps.inventory.models import Assignment, Identity
from apps.users.models import User
from tests.factories.inventory import EntitlementFactory, PrincipalFactory, SyncRunFactory
from tests.grants.system import System
from tests.grants.test_drift import known_administrator
from tests.grants.test_leaving_brake import leave

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
NAMES = ("Priya Raman", "Tomasz Wieczorek", "Ines Duarte", "Oluwaseun Adebayo", "Hannah Vogel", "Bo Nilsson")


@pytest.fixture
def erin(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> User:
    """In front of one leaver in every state, and six whom the brake holds."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = System()
    erin = known_administrator(made, "Erin Example")
    SyncRunFactory(connection=made.connection)
    boss = PrincipalFactory(connection=made.connection, identity__name="Carol Whitfield").identity
    for who, name in ((made.alice, "Alice Moreau"), (made.bob, "Bob Lindqvist")):
        Identity.objects.filter(pk=who.identity_id).update(name=name, manager=boss)
    scim = EntitlementFactory(
        connection=made.connection,
        membership=True,
        group__is_externally_owned=True,
        group__name="engineers",
        name="engineers",
    )
    made.active(made.alice)
    made.holds(made.alice, made.admin)
    Assignment.objects.create(
        connection=made.connection,
        principal=made.alice,
        entitlement=scim,
        period=(timezone.now(), None),
        is_standing=True,
    )
    leave(made.alice)
    Leaving.objects.update(noticed_at=timezone.now() - timedelta(hours=3))
    periodic.follow_people()
    leave(made.bob)
    some = [PrincipalFactory(connection=made.connection, identity__name=name) for name in NAMES]
    for who in some:
        made.world.add_user(who.external_id)
        made.holds(who, made.read)
    leave(*some)
    Leaving.objects.filter(passed_at=None).exclude(identity=made.bob.identity).update(
        noticed_at=timezone.now() - timedelta(hours=1)
    )
    periodic.follow_people()
    return erin


@pytest.fixture
def browser(page: Page, live_server: LiveServer, erin: User) -> Page:
    client = Client()
    client.force_login(erin)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    return page


def test_the_pages_are_accessible_and_fit(browser: Page, live_server: LiveServer) -> None:
    shots = os.environ.get("SHOTS")
    first = Leaving.objects.get(identity__name="Alice Moreau")
    pages = {"leavers": reverse("leavers:every"), "leaver": reverse("leavers:detail", args=[first.pk])}
    for width in (1440, 390):
        browser.set_viewport_size({"width": width, "height": 900})
        for name, url in pages.items():
            for scheme in ("light", "dark") if shots else ("light",):
                browser.emulate_media(color_scheme=scheme)
                browser.goto(live_server.url + url)
                if shots:
                    browser.screenshot(path=f"{shots}/{name}-{width}-{scheme}.png", full_page=True)
            found = Axe().run(browser, options=WCAG)
            assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
            assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), url

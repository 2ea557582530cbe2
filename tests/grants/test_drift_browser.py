"""The pages about drift in a real browser: readable by everybody, whole on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from apps.connectors.fake_world import Line
from apps.grants import reconciling
from apps.grants.models import Drift, Home
from apps.grants.services import drift as deciding
from apps.grants.services import narrowing
from apps.users.models import User
from tests.factories.inventory import SyncRunFactory
from tests.grants.system import ACCOUNT, System
from tests.grants.test_drift import guard_only, hold, known_administrator

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
PAST = timedelta(hours=1)


@pytest.fixture
def erin(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """In front of one difference of every kind, three that the brake holds, and a doubted database."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = System()
    erin = known_administrator(made, "Erin Example")
    SyncRunFactory(connection=made.connection)
    deciding.decide(reconciling.compare(made.connection.pk))
    weak = made.active(duration=timedelta(hours=2))
    made.world.guards[ACCOUNT]["alice", made.read.external_id] = Line(timezone.now() + timedelta(days=9), True, False)
    lost = made.active(made.bob, duration=timedelta(hours=2))
    made.world.unassign("bob", made.read.external_id)
    for grant in (weak, lost):
        old = {"active_at": grant.active_at - PAST, "narrowed_at": timezone.now() - PAST}
        type(grant).objects.filter(pk=grant.pk).update(**old)
    hold(made, "bob", "admin")
    deciding.decide(reconciling.compare(made.connection.pk))
    for row in Drift.objects.filter(kind=Drift.Kind.TAMPERED):
        reconciling.repair(row.pk)
    stays = Drift.objects.get(kind=Drift.Kind.UNINTENDED)
    until = timezone.now() + timedelta(days=7)
    deciding.accept(stays, by=erin, until=until, reason="The migration of the billing team ends next week.")
    guard_only(made, "read")
    for name in ("carol", "dave", "mallory", "trent"):
        setattr(made, name, made.person(name))
        hold(made, name)
    made.world.guards[ACCOUNT]["alice", made.read.external_id] = Line(timezone.now() + timedelta(days=9), True, False)
    deciding.decide(reconciling.compare(made.connection.pk))
    narrowing.doubt(by=erin, reason="We copied the files of the old server.")
    yield erin
    Home.objects.all().delete()


@pytest.fixture
def at(live_server: LiveServer, erin: User, new_page: Callable[..., Page]) -> Callable[..., Page]:
    client = Client()
    client.force_login(erin)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value

    def open_page(url: str, **options: object) -> Page:
        page = new_page(**options)
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
        page.goto(live_server.url + url)
        return page

    return open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_is_accessible_and_fits(at: Callable[..., Page], width: int, scheme: str) -> None:
    urls = [reverse("drift:every"), *(reverse("drift:detail", args=[row.pk]) for row in Drift.objects.all()[:3])]
    for number, url in enumerate(urls):
        page = at(url, viewport={"width": width, "height": 900}, color_scheme=scheme)
        if os.environ.get("SHOTS"):
            page.screenshot(path=f"{os.environ['SHOTS']}/{number}-{width}-{scheme}.png", full_page=True)
        found = Axe().run(page, options=WCAG)
        assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), url

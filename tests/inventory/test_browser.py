"""The inventory in a real browser: readable by everybody, live where it moves, whole on a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.audit import services as audit
from apps.connectors.base import Finding
from apps.connectors.fake_world import World
from apps.inventory import services, sync
from apps.inventory.models import Connection, ConnectionTest, Entitlement, Identity, Resource, SyncRun
from apps.inventory.sync import testing
from tests.factories.users import UserFactory
from tests.inventory.conftest import PROD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# WCAG 2.2 AA, which is what the design promises; the rest of axe's rules are opinions
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


@pytest.fixture
def erin_at(page: Page, live_server: LiveServer, transactional_db: None, org: Connection, world: World) -> Page:
    """Erin is signed in, in front of an organization that was read, tested and baselined."""
    longest = "sso:ListCustomerManagedPolicyReferencesInPermissionSet"
    world.findings = [Finding(PROD, "prod", longest, "missing", "The role lacks the right.", "Update the stack.")]
    sync.run(org.pk, by=audit.WORKER)
    erin = UserFactory(name="Erin", administrator=True)
    services.baseline(org, by=erin)
    testing.run(services.request_test(org, by=erin).pk, by=audit.WORKER)
    client = Client()
    client.force_login(erin)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    return page


def pages() -> list[str]:
    return [
        reverse("inventory:identities"),
        f"{reverse('inventory:identities')}?kind=machine",
        Identity.objects.get(external_id="alice").get_absolute_url(),
        Identity.objects.get(external_id="ci").get_absolute_url(),
        reverse("inventory:entitlements"),
        Entitlement.objects.get(external_id=f"Admin@{PROD}").get_absolute_url(),
        Entitlement.objects.get(external_id="membership:engineers").get_absolute_url(),
        reverse("inventory:accounts"),
        Resource.objects.get(external_id=PROD).get_absolute_url(),
        reverse("inventory:connections"),
        Connection.objects.get().get_absolute_url(),
        reverse("inventory:add_connection"),
        reverse("inventory:edit_connection", args=[Connection.objects.get().name]),
        reverse("inventory:connection_test", args=[Connection.objects.get().name, ConnectionTest.objects.get().pk]),
    ]


@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_is_accessible_and_fits(erin_at: Page, live_server: LiveServer, width: int) -> None:
    erin_at.set_viewport_size({"width": width, "height": 900})
    for url in pages():
        erin_at.goto(live_server.url + url)
        found = Axe().run(erin_at, options=WCAG)
        assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
        assert erin_at.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), url


def test_the_list_narrows_while_somebody_types(erin_at: Page, live_server: LiveServer) -> None:
    erin_at.goto(live_server.url + reverse("inventory:identities"))
    erin_at.keyboard.press("/")
    erin_at.keyboard.type("moreau")
    expect(erin_at.get_by_role("link", name="Bob Lindqvist")).to_have_count(0)
    expect(erin_at.get_by_role("link", name="Alice Moreau")).to_be_visible()
    assert "q=moreau" in erin_at.url


def test_a_sync_is_watched_until_it_is_over(erin_at: Page, live_server: LiveServer) -> None:
    org = Connection.objects.get()
    run = SyncRun.objects.create(connection=org, done=1, total=4, doing="prod: roles")
    erin_at.goto(live_server.url + org.get_absolute_url())
    expect(erin_at.get_by_text("prod: roles")).to_be_visible()
    SyncRun.objects.filter(pk=run.pk).update(done=2, doing="prod: policies")
    expect(erin_at.get_by_text("prod: policies")).to_be_visible()
    SyncRun.objects.filter(pk=run.pk).update(state="failed", problem="AWS does not answer.", finished_at=run.started_at)
    expect(erin_at.get_by_text("AWS does not answer.").first).to_be_visible()


def test_an_owner_is_set_in_a_dialog(erin_at: Page, live_server: LiveServer) -> None:
    prod = Resource.objects.get(external_id=PROD)
    erin_at.goto(live_server.url + prod.get_absolute_url())
    erin_at.get_by_role("button", name="Set owner").click()
    erin_at.get_by_label("Owner's e-mail").fill("bob@example.com")
    erin_at.get_by_role("button", name="Save owner").click()
    expect(erin_at.get_by_text("Bob Lindqvist answers for prod.")).to_be_visible()
    prod.refresh_from_db()
    assert prod.owner is not None and prod.owner.external_id == "bob"

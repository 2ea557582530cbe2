"""The pages of emergency stops in a real browser: readable by everybody, whole on a phone, true while AWS follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from apps.connectors.errors import Denied
from apps.connectors.fake_world import raises
from apps.grants import provisioning
from apps.grants.models import Scope, Stop
from apps.grants.services import stops
from apps.users.models import User
from tests.browser.conftest import sign_in
from tests.factories.inventory import EntitlementFactory, ResourceFactory
from tests.factories.users import UserFactory
from tests.grants.lifting import known
from tests.grants.signing import give_key
from tests.grants.system import System
from tests.users.soft_key import SoftKey
from tests.users.test_browser import insert

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def system(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = System()
    made.world.add_account("444455556666")
    sandbox = ResourceFactory(connection=made.connection, external_id="444455556666", name="sandbox")
    record = made.world.add_permission_set("Logs", "444455556666")
    logs = EntitlementFactory(
        connection=made.connection, resource=sandbox, external_id=record.external_id, name="Logs", privilege="read"
    )
    made.active()
    made.active(who=made.bob)
    made.active(what=logs)
    made.holds(made.bob, made.admin)
    return made


@pytest.fixture
def erin(system: System) -> User:
    made = known(UserFactory(name="Erin Example", administrator=True))
    give_key(made)
    return made


@pytest.fixture
def stop(system: System, erin: User) -> Stop:
    """Everything, written in one account and refused in the other."""
    stop = stops.order(
        scope=Scope.ALL, reason="Alice's laptop was stolen.", by=erin, step_up=PASSKEY, attach_policy=True
    )
    first, second, policy = stop.writes.all()
    provisioning.write_stop(first.pk)
    system.world.script(
        "enforce", raises(Denied("AWS denies iam:CreatePolicyVersion. Give Gatehouse's role this right."))
    )
    provisioning.write_stop(second.pk)
    provisioning.write_stop(policy.pk)
    return stop


@pytest.fixture
def at(live_server: LiveServer, erin: User, new_page: Callable[..., Page]) -> Callable[..., Page]:
    client = Client()
    client.force_login(erin)
    session = client.cookies[django_settings.SESSION_COOKIE_NAME].value

    def open_page(url: str, **options: object) -> Page:
        page = new_page(**options)
        page.context.add_cookies(
            [{"name": django_settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        page.goto(live_server.url + url)
        return page

    return open_page


def check(page: Page) -> None:
    found = Axe().run(page, options=WCAG)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desktop"])
def test_the_pages_can_be_read_by_everybody(at: Callable[..., Page], stop: Stop, viewport: dict[str, int]) -> None:
    for url in (reverse("stops:every"), f"{reverse('stops:every')}?scope=all", stop.get_absolute_url()):
        check(at(url, viewport=viewport))


def test_an_account_turns_from_red_to_denied_by_itself(at: Callable[..., Page], stop: Stop) -> None:
    page = at(stop.get_absolute_url())
    expect(page.get_by_text("Not yet", exact=True)).to_be_visible()
    stop.writes.update(next_try_at=stop.ordered_at)
    for row in stop.writes.unsettled():
        provisioning.write_stop(row.pk)
    expect(page.get_by_text("Not yet", exact=True)).to_be_hidden(timeout=10_000)


def test_what_is_typed_while_the_page_looks_again_stays(at: Callable[..., Page], stop: Stop) -> None:
    page = at(stop.get_absolute_url())
    page.get_by_label("Why may it go?").fill("It was a drill.")
    with page.expect_response(lambda answer: stop.get_absolute_url() in answer.url, timeout=10_000):
        pass
    expect(page.get_by_label("Why may it go?")).to_have_value("It was a drill.")


def test_it_asks_once_more_before_it_stops(at: Callable[..., Page], system: System) -> None:
    page = at(f"{reverse('stops:every')}?scope=all")
    page.get_by_label("Why").fill("Somebody is inside.")
    page.get_by_role("button", name="Stop it now").click()
    expect(page.get_by_role("dialog")).to_contain_text("3 grants of 2 in 2 accounts end at once")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert not Stop.objects.exists()


def test_two_passkeys_lift_it(
    live_server: LiveServer, settings: Settings, new_page: Callable[..., Page], stop: Stop, erin: User
) -> None:
    settings.BASE_URL = live_server.url
    frank = known(UserFactory(name="Frank Example", administrator=True))

    def page_of(user: User) -> Page:
        key, page = give_key(user, SoftKey(origin=live_server.url, host="localhost")), new_page(viewport=PHONE)
        sign_in(page, user, live_server.url)
        insert(page, key, verifies=True)
        page.goto(live_server.url + stop.get_absolute_url())
        return page

    hers = page_of(erin)
    hers.get_by_label("Why may it go?").fill("The laptop was found.")
    hers.get_by_role("button", name="Sign and propose to lift it").click()
    expect(hers.get_by_text("Another administrator signs it within a day")).to_be_visible()
    his = page_of(frank)
    his.get_by_role("button", name="Sign and lift it").click()
    his.get_by_role("dialog").get_by_role("button", name="Lift it").click()
    expect(his.get_by_text("A worker checks both signatures")).to_be_visible()
    provisioning.lift_stop(stop.pk)
    expect(his.get_by_text("Nothing that ended came back")).to_be_visible(timeout=10_000)
    check(his)

"""The frame, the keyboard and the dialogs in a real browser, with a page built like any app's."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from apps.core import navigation
from apps.core.navigation import Place
from apps.users.models import User
from tests.factories.users import UserFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def alice(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> User:
    settings.ROOT_URLCONF = "tests.core.sample.urls"
    monkeypatch.setattr(navigation, "_places", {})
    navigation.register(Place(label="Other page", icon="key", url_name="other", phone=True, search=True))
    return UserFactory(name="Alice Anders")


def sign_in(page: Page, user: User, url: str) -> None:
    client = Client()
    client.force_login(user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": url}])


@pytest.fixture
def rows(page: Page, alice: User, live_server: LiveServer) -> Page:
    sign_in(page, alice, live_server.url)
    page.goto(live_server.url)
    return page


def test_ctrl_k_goes_to_a_place(rows: Page) -> None:
    rows.keyboard.press("Control+k")
    rows.keyboard.type("oth")
    rows.keyboard.press("Enter")
    expect(rows.get_by_role("heading", level=1)).to_have_text("Other page")


def test_ctrl_k_searches_where_one_can_search(rows: Page) -> None:
    rows.keyboard.press("Control+k")
    rows.keyboard.type("pay & go")
    rows.get_by_role("link", name="Search other page for").click()
    rows.wait_for_url("**/other/?q=pay+%26+go")


def test_rows_are_walked_and_opened_by_keyboard_and_esc_comes_back(rows: Page) -> None:
    for key in ("j", "ArrowDown", "j", "k"):
        rows.keyboard.press(key)
    expect(rows.get_by_role("link", name="Beta")).to_be_focused()
    rows.keyboard.press("Enter")
    expect(rows.get_by_role("heading", name="Beta")).to_be_focused()
    assert rows.url.endswith("/rows/Beta/")
    rows.keyboard.press("Escape")
    expect(rows.get_by_role("heading", name="Beta")).to_have_count(0)
    expect(rows.get_by_role("link", name="Beta")).to_be_focused()
    assert rows.url.endswith("/")


def test_a_panel_has_an_address_of_its_own(rows: Page, live_server: LiveServer) -> None:
    rows.goto(f"{live_server.url}/rows/Gamma/")
    expect(rows.get_by_role("heading", name="Gamma")).to_be_visible()
    rows.get_by_label("Close panel").click()
    rows.wait_for_url(f"{live_server.url}/")


def test_back_closes_the_panel(rows: Page, live_server: LiveServer) -> None:
    rows.get_by_role("link", name="Alpha").click()
    expect(rows.get_by_role("heading", name="Alpha")).to_be_visible()
    rows.go_back()
    expect(rows.get_by_role("heading", name="Alpha")).to_have_count(0)


def test_single_keys_are_letters_inside_a_field(rows: Page) -> None:
    rows.keyboard.press("/")
    rows.keyboard.type("n?j")
    expect(rows.get_by_label("Find a row")).to_have_value("n?j")


def test_a_key_presses_its_button_and_the_help_names_it(rows: Page) -> None:
    rows.keyboard.press("?")
    help_ = rows.get_by_role("dialog", name="Keys")
    expect(help_).to_contain_text("Next page")
    expect(help_).not_to_contain_text("Revoke")  # nothing is picked, so its button is not there
    rows.keyboard.press("Escape")
    rows.keyboard.press("n")
    rows.wait_for_url("**/other/")


def test_who_turned_single_keys_off_has_none(page: Page, alice: User, live_server: LiveServer) -> None:
    alice.single_keys = False
    alice.save()
    sign_in(page, alice, live_server.url)
    page.goto(live_server.url)
    for key in ("n", "j", "?", "/"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("document.activeElement === document.body")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog", name="Go to")).to_be_visible()


def test_many_are_picked_at_once_and_a_question_comes_before_what_hurts(rows: Page) -> None:
    expect(rows.get_by_role("button", name="Revoke")).to_be_hidden()
    rows.get_by_label("Pick Alpha").click()
    rows.get_by_label("Pick Gamma").click(modifiers=["Shift"])
    expect(rows.get_by_text("3 picked")).to_be_visible()
    rows.keyboard.press("r")
    question = rows.get_by_role("dialog", name="Revoke these?")
    question.get_by_role("button", name="Cancel").click()
    assert "/other/" not in rows.url
    rows.keyboard.press("r")
    question.get_by_role("button", name="Revoke", exact=True).click()
    expect(rows.locator(".gh-sub")).to_have_text("Alpha, Beta, Gamma")


def test_copying_says_so(rows: Page) -> None:
    rows.context.grant_permissions(["clipboard-read", "clipboard-write"])
    rows.get_by_role("button", name="Copy").click()
    expect(rows.get_by_role("status").get_by_text("Copied. It works until 16:42.")).to_be_visible()
    assert rows.evaluate("navigator.clipboard.readText()") == "aws sso login"


def test_the_script_says_the_same_time_left_as_the_server(rows: Page) -> None:
    said = rows.locator("[data-countdown-text] time").all_inner_texts()
    assert said == ["12 min", "1 h 47 min", "1 day 3 h"]
    rows.evaluate("document.querySelectorAll('[data-countdown-text] time').forEach(time => time.textContent = '')")
    rows.evaluate("document.dispatchEvent(new Event('htmx:load'))")
    assert rows.locator("[data-countdown-text] time").all_inner_texts() == said


def test_the_theme_is_remembered(rows: Page) -> None:
    rows.get_by_role("button", name="Use dark theme").click()
    rows.reload()
    expect(rows.locator("html")).to_have_attribute("data-bs-theme", "dark")
    rows.get_by_role("button", name="Alice Anders, your menu").first.click()
    rows.get_by_text("System").click()
    expect(rows.locator("html")).to_have_attribute("data-bs-theme", "light")


@pytest.mark.parametrize("path", ["/", "/rows/Alpha/", "/accounts/2fa/", "/accounts/sessions/", "/accounts/logout/"])
def test_pages_have_no_barriers(rows: Page, live_server: LiveServer, path: str) -> None:
    rows.goto(f"{live_server.url}{path}")
    for width in (1440, 390):
        rows.set_viewport_size({"width": width, "height": 844})
        assert rows.evaluate("document.documentElement.scrollWidth") <= width
        for theme in ("light", "dark"):
            rows.evaluate("theme => { document.documentElement.dataset.bsTheme = theme }", theme)
            found = Axe().run(rows).response["violations"]
            barriers = [(each["id"], [node["target"] for node in each["nodes"]]) for each in found]
            assert barriers == [], (width, theme)


def test_without_scripts_the_menu_opens_and_signs_out(browser: Browser, alice: User, live_server: LiveServer) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, alice, live_server.url)
    page.goto(live_server.url)
    page.get_by_role("button", name="Alice Anders, your menu").first.click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/**")
    context.close()

"""The desk in a real browser: by keyboard, in bulk, on a phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.reviews.models import Campaign, SignOff
from apps.users.models import User
from tests.reviews.conftest import Company, client_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def campaign(office: Company) -> Campaign:
    """Carol reviews Read and Admin of Alice and Bob; the worst of each comes first."""
    for who in (office.alice, office.bob):
        office.stands(who, office.read)
        office.stands(who, office.admin)
    return office.launch()


@pytest.fixture
def visit(new_page: Callable[..., Page], live_server: LiveServer) -> Callable[..., Page]:
    def visit(user: User, path: str, **options: object) -> Page:
        page = new_page(base_url=live_server.url, **options)
        name = settings.SESSION_COOKIE_NAME
        value = client_of(user).cookies[name].value
        page.context.add_cookies([{"name": name, "value": value, "url": live_server.url}])
        page.goto(path)
        return page

    return visit


def answers(campaign: Campaign) -> list[str]:
    return list(campaign.items.order_by("pk").values_list("choice", flat=True))


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:120]}" for each in found]


def test_a_review_by_keyboard_alone(office: Company, campaign: Campaign, visit: Callable[..., Page]) -> None:
    page = visit(office.carol_user, f"/reviews/{campaign.pk}/mine/")
    place = page.locator("article .gh-push").first
    expect(place).to_have_text("Item 1 of 4")
    page.keyboard.press("k")  # privileged: asks for a reason
    expect(page.get_by_label("Why does it stay?")).to_be_focused()
    page.keyboard.type("On call this quarter.")
    page.keyboard.press("Enter")
    expect(place).to_have_text("Item 2 of 4")
    page.keyboard.press("k")
    expect(place).to_have_text("Item 3 of 4")
    assert answers(campaign) == ["keep", "keep", "undecided", "undecided"]
    page.keyboard.press("z")
    expect(place).to_have_text("Item 2 of 4")
    assert answers(campaign) == ["keep", "undecided", "undecided", "undecided"]
    page.keyboard.press("j")
    expect(place).to_have_text("Item 3 of 4")
    page.keyboard.press("ArrowDown")
    expect(place).to_have_text("Item 4 of 4")
    page.keyboard.press("ArrowUp")
    expect(place).to_have_text("Item 3 of 4")
    page.keyboard.press("r")
    expect(page.get_by_label("Why shall it go?")).to_be_focused()
    page.keyboard.type("krz")  # keys are letters inside a field
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Say in a few words why it shall go")
    page.keyboard.type(" changed teams")
    page.keyboard.press("Enter")
    expect(place).to_have_text("Item 4 of 4")
    assert campaign.items.get(choice="revoke").reason == "krz changed teams"
    page.keyboard.press("k")
    expect(place).to_have_text("Item 2 of 4")
    page.keyboard.press("k")
    expect(page.get_by_role("link", name="Sign 4 decisions")).to_be_visible()
    page.get_by_role("link", name="Sign 4 decisions").click()
    page.get_by_role("button", name="Sign 4 decisions").click()
    expect(page.get_by_role("heading", name="You signed for this")).to_be_visible()
    assert SignOff.objects.get().counts == {"items": 4, "keep": 3, "revoke": 1, "bulk": 0}


def test_many_are_picked_and_revoked_with_one_reason(
    office: Company, campaign: Campaign, visit: Callable[..., Page]
) -> None:
    page = visit(office.carol_user, f"/reviews/{campaign.pk}/mine/")
    bar = page.locator("[data-bulk-bar]")
    expect(bar).to_be_hidden()
    page.locator("[data-pick]").first.click()
    page.locator("[data-pick]").nth(2).click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 picked")
    bar.get_by_label("One reason for all of them").fill("The project has ended.")
    bar.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_contain_text("Revoked 3.")
    assert answers(campaign) == ["revoke", "revoke", "revoke", "undecided"]


def test_the_pages_are_accessible_and_fit_a_phone(
    office: Company, campaign: Campaign, visit: Callable[..., Page]
) -> None:
    desk, run = f"/reviews/{campaign.pk}/mine/", f"/reviews/campaigns/{campaign.pk}/"
    first = campaign.items.first()
    assert first
    for user, paths in (
        (office.carol_user, [desk, f"{desk}{first.pk}/?choice=revoke", f"{desk}sign/"]),
        (office.erin_user, [run, f"{run}items/", f"{run}items/{first.pk}/", "/reviews/campaigns/new/"]),
    ):
        page = visit(user, "/reviews/")
        for path in paths:
            page.set_viewport_size({"width": 1440, "height": 900})
            page.goto(path)
            assert violations(page) == [], path
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


@pytest.mark.parametrize("scripts", [True, False])
def test_a_decision_takes_with_and_without_scripts(
    office: Company, campaign: Campaign, visit: Callable[..., Page], scripts: bool
) -> None:
    page = visit(office.carol_user, f"/reviews/{campaign.pk}/mine/", java_script_enabled=scripts)
    page.get_by_role("link", name="Revoke").click()
    page.get_by_label("Why shall it go?").fill("The project has ended.")
    page.get_by_role("button", name="Revoke with this reason").click()
    expect(page.locator("article .gh-push").first).to_have_text("Item 2 of 4")
    assert answers(campaign)[0] == "revoke"

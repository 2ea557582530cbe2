"""Every page that can be opened, as somebody sees it who has something there: no barrier that axe knows (WCAG 2.2 AA), on a
large light screen and on a small dark one, and nothing to scroll sideways for."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page

from apps.grants import provisioning
from tests.browser.conftest import Enter
from tests.people import People
from tests.test_routes import TABLE

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NO_PAGES = {"healthz", "inventory:progress", "inventory:test_progress"}  # parts of pages, and answers for programs
PAGES = [name for name, route in TABLE.items() if route.get and name not in NO_PAGES]
APPS = sorted({name.partition(":")[0] for name in PAGES})
HAS_MOST = {
    "reviews": "carol",
    "evidence": "dan",
    "inventory": "erin",
    "access:approvals": "bob",
    "access:detail": "bob",
}
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "resultTypes": ["violations"],
    "preload": False,  # of stylesheets: only a rule about turned screens reads them, and there is none in ours
}
LOOKS: list[tuple[Any, int]] = [("light", 1440), ("dark", 390)]


@pytest.fixture
def people(transactional_db: None) -> People:
    people = People()
    provisioning.provision(people.grant.pk)
    return people


@pytest.mark.parametrize("app", APPS)
def test_pages_have_no_barriers(app: str, people: People, enter: Enter) -> None:
    entered: dict[str, Page] = {}
    found: dict[str, Any] = {}
    for name in PAGES:
        if name.partition(":")[0] != app:
            continue
        who = visitor(name)
        path = reverse(name, kwargs=TABLE[name].args(people))
        if who not in entered:
            entered[who] = enter(people.users[who], "/healthz", before=bring_axe)
        page = entered[who]
        answer = page.goto(path)
        assert answer is not None and answer.status == 200, name
        for theme, width in LOOKS:
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": width, "height": 900})
            if barriers := barriers_of(page):
                found[f"{name}, {theme}, {width}"] = barriers
    assert found == {}


def visitor(name: str) -> str:
    """Whoever of those that may open it has most to see there."""
    may = TABLE[name].get or frozenset()
    wanted = (HAS_MOST.get(name), HAS_MOST.get(name.partition(":")[0]), "alice", "erin")
    return next(who for who in wanted if who in may)


def bring_axe(page: Page) -> None:
    """Into every page that this one will show."""
    page.add_init_script(Axe().axe_script)


def barriers_of(page: Page) -> list[Any]:
    violations = page.evaluate("options => axe.run(options).then(results => results.violations)", RULES)
    barriers: list[Any] = [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in violations]
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*barriers, f"{too_wide} px too wide"] if too_wide > 0 else barriers

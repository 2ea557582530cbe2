"""The fixtures `browser`, `new_page` and `page`: the system's own Chromium, driven by Playwright, that reaches only this
machine.

Without Chromium these tests are skipped; with REQUIRE_BROWSER=1, as in CI, they fail instead.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

OPTIONS = [
    "--no-sandbox",  # containers run tests as root; only our own pages are opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]
PATIENCE = 10_000  # milliseconds until a page that does not show what it should has failed
VISITOR = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", "timezone_id": "UTC"}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        absent = "There is no Chromium. Install it: apt-get install chromium"
        if os.environ.get("REQUIRE_BROWSER", "0") != "0":
            pytest.fail(absent)
        pytest.skip(absent)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as patch:
        # Playwright's synchronous interface runs an event loop, and Django would refuse to query beside one.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        # Beside a loop Django keeps connections of its own (asgiref's `Local`), which nobody finds again once it is gone.
        connections.close_all()
        browser.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages, each of a fresh visitor with a browser profile of their own; it takes the options of
    `Browser.new_context`. An error in any console, such as a breach of the CSP, fails the test."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def listen(message: ConsoleMessage) -> None:
        is_refusal = "status of 422" in message.text  # a form that says what is wrong with it
        if message.type == "error" and not is_refusal and not message.location["url"].endswith("/favicon.ico"):
            complaints.append(message.text)

    def make(**options: Any) -> Page:
        context = browser.new_context(**{**VISITOR, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A fresh page of a fresh visitor."""
    return new_page()

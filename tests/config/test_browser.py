"""The browser of the harness: it opens our pages, and a complaint of the browser fails the test."""

import pytest
from playwright.sync_api import Error, Page
from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.browser


@pytest.mark.django_db(transaction=True)
def test_it_opens_our_pages(live_server: LiveServer, page: Page) -> None:
    page.goto(f"{live_server.url}/healthz")
    assert '"broker": "well"' in page.content()


def test_it_reaches_nothing_else(page: Page) -> None:
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        page.goto("http://example.com/")

"""People at their browsers: `enter(user, path)` is a page of somebody signed in, each time in a profile of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from apps.access.models import AccessRequest
from apps.access.services import requests
from apps.users.models import User
from tests.access.conftest import LAPTOP, Company

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WITHOUT_SCRIPTS: dict[str, Any] = {"java_script_enabled": False}

Enter = Callable[..., Page]


@pytest.fixture
def enter(new_page: Callable[..., Page], live_server: LiveServer) -> Enter:
    def enter(
        user: User, path: str = "/", *, before: Callable[[Page], Any] = lambda page: None, **options: Any
    ) -> Page:
        page = new_page(base_url=live_server.url, **options)
        sign_in(page, user, live_server.url)
        before(page)
        page.goto(path)
        return page

    return enter


@pytest.fixture
def company(transactional_db: None) -> Company:
    return Company()


@pytest.fixture
def asked(company: Company) -> AccessRequest:
    """Alice asks for write access in production, which Bob may open, who owns the account."""
    write = company.permission_set("Operator", "write")
    return requests.ask(
        company.offer(write),
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="Card payments are slow.",
        by=company.alice_user,
        place=LAPTOP,
    )


def sign_in(page: Page, user: User, url: str) -> None:
    client = Client()
    client.force_login(user)
    name = django_settings.SESSION_COOKIE_NAME
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": url}])


def install_clock(page: Page) -> None:
    """For `enter(before=)`: the page's clock can be put forward with `poll`."""
    page.clock.install()


def poll(page: Page) -> None:
    """Let the seconds pass after which a page asks how things are."""
    page.clock.fast_forward(5_000)

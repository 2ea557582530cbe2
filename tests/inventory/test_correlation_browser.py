"""The queue of logins and a machine's page, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.audit import services as audit
from apps.connectors import fake_world
from apps.connectors.base import CredentialRecord
from apps.inventory import services, sync
from apps.inventory.models import Connection, Correlation, Identity
from apps.inventory.models.holders import Classification
from apps.users.models import User
from tests.inventory.conftest import PROD
from tests.inventory.test_browser import WCAG, erin_at

__all__ = ["erin_at"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PICTURES = os.environ.get("PICTURES", "")


@pytest.fixture
def asked(world: fake_world.World) -> None:
    for name in ("alice@example.com", "blindqvist", "bob"):
        world.add_principal(
            "iam_user", f"arn:{name}", name=name, account_id=PROD, attributes={"tags": {"team": "shop"}}
        )
        world.credentials.append(CredentialRecord(f"arn:{name}", "password", "password"))
    world.add_principal(
        "iam_role",
        "partner",
        account_id=PROD,
        attributes={
            "trust": {
                "Statement": [
                    {
                        "Sid": "Partner",
                        "Effect": "Allow",
                        "Action": "sts:AssumeRole",
                        "Principal": {"AWS": "999900001111", "Service": "states.amazonaws.com"},
                    }
                ]
            }
        },
    )


def picture(page: Page, name: str) -> None:
    if PICTURES:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=Path(PICTURES) / f"{name}-{scheme}.png", full_page=True)


def whole(page: Page) -> None:
    found = Axe().run(page, options=WCAG)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_logins_are_answered_by_keys_and_a_machine_says_why(
    asked: None, erin_at: Page, live_server: LiveServer
) -> None:
    sync.run(Connection.objects.get().pk, by=audit.WORKER)
    erin = User.objects.get(name="Erin")
    partner = Identity.objects.get(external_id="partner")
    services.correct(partner, classification=Classification.SAML, reason="People come through it.", by=erin)
    services.describe(partner, purpose="Partner reads invoices.", consumers="Finance", by=erin)
    services.set_successor(partner, Identity.objects.get(external_id="bob"), by=erin)
    for width in (1440, 390):
        erin_at.set_viewport_size({"width": width, "height": 900})
        erin_at.goto(live_server.url + partner.get_absolute_url())
        whole(erin_at)
        picture(erin_at, f"machine-{width}")
        erin_at.goto(live_server.url + reverse("inventory:logins"))
        whole(erin_at)
        picture(erin_at, f"logins-{width}")
        erin_at.get_by_role("link", name="bob", exact=True).click()
        expect(erin_at.get_by_role("heading", name="Whose is bob?")).to_be_visible()
        whole(erin_at)
        picture(erin_at, f"login-{width}")
    erin_at.set_viewport_size({"width": 1440, "height": 900})
    erin_at.keyboard.press("l")
    expect(erin_at.get_by_role("heading", name="Whose is blindqvist?")).to_be_visible()
    erin_at.keyboard.press("m")
    expect(erin_at.get_by_text("Nothing waits for you")).to_be_visible()
    said = dict(Correlation.objects.values_list("principal__name", "decision"))
    assert said == {"alice@example.com": "person", "blindqvist": "machine", "bob": "person"}

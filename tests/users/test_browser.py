"""A real browser with a passkey, as far as software can be one."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from django.conf import settings
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.users.models import User
from tests.users.conftest import client_of, events, give_passkey, give_totp, make_person
from tests.users.soft_key import SoftKey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


def signed_in(page: Page, user: User, url: str) -> None:
    session = client_of(user).cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": url}])


def insert(page: Page, key: SoftKey, *, verifies: bool) -> None:
    """Put the key into the browser, which then answers for the person at once."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": verifies,
        "isUserVerified": verifies,
        "automaticPresenceSimulation": True,
    }
    added = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    private = key.private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    credential = {
        "credentialId": base64.b64encode(key.id).decode(),
        "isResidentCredential": False,
        "rpId": "localhost",
        "privateKey": base64.b64encode(private).decode(),
        "signCount": 1,
    }
    devtools.send("WebAuthn.addCredential", {"authenticatorId": added["authenticatorId"], "credential": credential})


def test_a_passkey_in_a_browser_steps_up(page: Page, live_server: LiveServer) -> None:
    alice, key = make_person("Alice"), SoftKey()
    give_passkey(alice, key)
    give_totp(alice)
    signed_in(page, alice, live_server.url)
    insert(page, key, verifies=True)
    page.goto(f"{live_server.url}/settings/step-up/?next=/settings/&passkey=1")
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm that it is you")
    page.get_by_role("button", name="Use your passkey").click()
    page.wait_for_url("**/settings/")
    assert [event.data["method"] for event in events("users.user.stepped_up")] == ["passkey"]

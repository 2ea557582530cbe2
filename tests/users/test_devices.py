"""Where a request comes from, and when it comes from another device."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.conf import settings as django_settings
from django.core import signing
from django.http import HttpRequest
from django.test import Client
from pytest_django import Settings

from apps.users import devices
from apps.users.models import User
from tests.users.conftest import client_of, events, give_totp, sign_in

pytestmark = pytest.mark.django_db

COOKIE = django_settings.DEVICE_COOKIE_NAME


def request_from(client: Client) -> HttpRequest:
    return client.get("/settings/").wsgi_request


def test_a_browser_gets_its_device_when_somebody_signs_in(client: Client, alice: User) -> None:
    client.get("/accounts/login/")
    assert COOKIE not in client.cookies
    sign_in(client, alice.email)
    cookie = client.cookies[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert devices.device_id(request_from(client)) == signing.loads(cookie.value, salt=devices.SALT)[0]
    assert client.cookies[COOKIE].value == cookie.value


def test_a_device_outlives_the_session(alice: User) -> None:
    client = client_of(alice)
    before = devices.device_id(request_from(client))
    client.post("/accounts/logout/")
    client.force_login(alice)
    assert devices.device_id(request_from(client)) == before


@pytest.mark.parametrize(
    "value",
    ["", "x", "x:y:z", signing.dumps(["id"], salt=devices.SALT), signing.dumps(["id", 1])],
    ids=[
        "empty",
        "word",
        "three parts",
        "too short",
        "wrong salt",
    ],  # the values hold the time: each worker has its own
)
def test_a_forged_cookie_is_a_new_device(alice: User, value: str) -> None:
    client = client_of(alice)
    client.cookies[COOKIE] = value
    assert devices.of(request_from(client)).is_new
    assert len(devices.device_id(request_from(client))) == 32


def test_two_browsers_are_two_devices_and_two_sessions(alice: User) -> None:
    laptop, phone = request_from(client_of(alice)), request_from(client_of(alice))
    assert devices.device_id(laptop) != devices.device_id(phone)
    assert devices.session_digest(laptop) != devices.session_digest(phone)


def test_a_second_sign_in_on_the_same_browser_is_the_same_device(alice: User) -> None:
    client = client_of(alice)
    first = request_from(client)
    client.post("/accounts/logout/")
    client.force_login(alice)
    second = request_from(client)
    assert devices.session_digest(first) != devices.session_digest(second)
    assert devices.device_id(first) == devices.device_id(second)


def test_a_stolen_session_in_another_browser_is_the_same_session(alice: User) -> None:
    laptop, thief = client_of(alice), client_of(alice)
    request_from(thief)
    thief.cookies[django_settings.SESSION_COOKIE_NAME] = laptop.cookies[django_settings.SESSION_COOKIE_NAME].value
    assert devices.session_digest(request_from(thief)) == devices.session_digest(request_from(laptop))


def test_a_device_keeps_its_age_and_throwing_the_cookie_away_makes_a_young_one(alice: User) -> None:
    client = client_of(alice)
    with time_machine.travel("2026-11-01 08:00Z", tick=False) as clock:
        request_from(client)
        clock.shift(3600)
        assert devices.device_since(request_from(client)) == datetime(2026, 11, 1, 8, tzinfo=UTC)
        del client.cookies[COOKIE]
        assert devices.device_since(request_from(client)) == datetime(2026, 11, 1, 9, tzinfo=UTC)


def test_a_session_is_named_without_giving_it_away(alice: User) -> None:
    request = request_from(client_of(alice))
    assert len(devices.session_digest(request)) == 32
    assert request.session.session_key not in devices.session_digest(request)


def test_what_people_do_says_where(alice: User) -> None:
    give_totp(alice)
    client = client_of(alice)
    request = request_from(client)
    client.post("/settings/step-up/", {"code": "000000"}, headers={"user-agent": "Mozilla\x1b[31m" + "x" * 500})
    [event] = events("users.user.step_up_failed")
    assert event.origin["address"] == "127.0.0.1"
    assert event.origin["device"] == devices.device_id(request)
    assert event.origin["session"] == devices.session_digest(request)
    assert event.origin["agent"].startswith("Mozilla [31m")
    assert len(event.origin["agent"]) == devices.LONGEST_AGENT


def test_a_sign_in_says_which_session_it_made(client: Client, alice: User) -> None:
    sign_in(client, alice.email)
    [event] = events("users.user.signed_in")
    assert event.origin["session"] == devices.session_digest(request_from(client))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "6.6.6.6", "127.0.0.1"),  # nobody before us: whatever a client says is not believed
        (1, "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        (2, "6.6.6.6, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (1, "<script>", ""),
        (2, "203.0.113.7", ""),
    ],
)
def test_an_address_is_what_the_trusted_proxies_saw(
    rf: object, settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    request = rf.get("/", headers={"x-forwarded-for": forwarded})  # type: ignore[attr-defined]
    assert devices.address(request) == address

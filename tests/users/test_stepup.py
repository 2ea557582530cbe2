"""Step-up: who is here now, and what does not prove it."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from django_htmx.middleware import HtmxDetails
from pytest_django import Settings

from apps.users import services, stepup
from apps.users.models import User
from tests.users.conftest import (
    client_of,
    events,
    give_passkey,
    give_recovery_codes,
    give_totp,
    make_person,
    sign_in,
)
from tests.users.soft_key import PRESENT, SoftKey

pytestmark = pytest.mark.django_db

PAGE = "/settings/step-up/"
RECENTLY = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)


def request_of(user: User | AnonymousUser, **session: Any) -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = user
    request.session = SessionStore()
    request.session.update(session)
    return request


def stepped_up(user: User, authenticator: Authenticator, age: timedelta) -> HttpRequest:
    """A session that holds a step-up with this authenticator, `age` ago."""
    method = stepup.METHODS[Authenticator.Type(authenticator.type)].value
    given = {"method": method, "authenticator": authenticator.pk, "at": (timezone.now() - age).isoformat()}
    return request_of(user, **{stepup.PROOFS: {method: given}})


def has_fresh(request: HttpRequest, *, privileged: bool = False) -> bool:
    return stepup.has_fresh(request, within=RECENTLY, privileged=privileged)


# The truth table


@pytest.mark.parametrize(
    ("method", "age", "privileged", "enrolled_for"),
    [*product(["passkey", "totp"], [MINUTE, 20 * MINUTE], [False, True], [timedelta(days=30), timedelta(hours=23)])],
)
def test_fresh_means_recent_strong_enough_and_past_the_waiting_time(
    alice: User, method: str, age: timedelta, privileged: bool, enrolled_for: timedelta
) -> None:
    authenticator = (give_passkey if method == "passkey" else give_totp)(alice, age=enrolled_for)
    expected = age == MINUTE and enrolled_for.days == 30 and (method == "passkey" or not privileged)
    assert has_fresh(stepped_up(alice, authenticator, age), privileged=privileged) is expected


def test_nobody_enrolled_means_no(alice: User) -> None:
    assert not has_fresh(request_of(alice))
    assert stepup.proof(request_of(alice)) == {}


def test_nobody_signed_in_means_no(alice: User) -> None:
    request = stepped_up(alice, give_passkey(alice), MINUTE)
    request.user = AnonymousUser()
    assert not has_fresh(request)


def test_somebody_elses_authenticator_proves_nothing(alice: User, mallory: User) -> None:
    give_passkey(mallory)
    assert not has_fresh(stepped_up(mallory, give_passkey(alice), MINUTE))


def test_a_removed_authenticator_proves_nothing(alice: User) -> None:
    authenticator = give_passkey(alice)
    request = stepped_up(alice, authenticator, MINUTE)
    authenticator.delete()
    assert not has_fresh(request)


def test_enrolling_anything_ends_earlier_step_ups_in_every_session(alice: User) -> None:
    request = stepped_up(alice, give_passkey(alice), 2 * MINUTE)
    assert has_fresh(request)
    give_totp(alice, age=MINUTE)
    assert not has_fresh(request)


def test_a_step_up_from_the_future_proves_nothing(alice: User) -> None:
    assert not has_fresh(stepped_up(alice, give_passkey(alice), -MINUTE))


def test_a_step_up_during_the_waiting_time_does_not_count_afterwards(alice: User) -> None:
    authenticator = give_passkey(alice, age=timedelta(hours=24, minutes=5))
    assert has_fresh(stepped_up(alice, authenticator, MINUTE))
    assert not has_fresh(stepped_up(alice, authenticator, 10 * MINUTE))


def test_the_waiting_time_is_set_by_the_installation(alice: User, settings: Settings) -> None:
    authenticator = give_passkey(alice, age=2 * MINUTE)
    assert [each.is_waiting for each in stepup.methods(alice)] == [True]
    settings.STEP_UP_WAITING_TIME = timedelta(0)
    assert [each.is_waiting for each in stepup.methods(alice)] == [False]
    assert has_fresh(stepped_up(alice, authenticator, MINUTE))


def test_methods_are_passkeys_then_codes_and_never_recovery_codes(alice: User) -> None:
    give_totp(alice)
    give_passkey(alice)
    give_recovery_codes(alice)
    assert [each.method for each in stepup.methods(alice)] == ["passkey", "totp"]


def test_the_proof_says_what_it_rests_on(alice: User) -> None:
    request = stepped_up(alice, give_totp(alice), MINUTE)
    authenticator = Authenticator.objects.get()
    proof = stepup.proof(request, within=RECENTLY)
    assert (proof["method"], proof["authenticator"]) == ("totp", authenticator.pk)
    assert proof["at"].endswith("+00:00")
    assert stepup.proof(request, within=RECENTLY, privileged=True) == {}


# On the page


def fresh(client: Client, *, privileged: bool = False) -> bool:
    request = request_of(User.objects.get(pk=client.session["_auth_user_id"]), **dict(client.session.items()))
    return has_fresh(request, privileged=privileged)


def code_of(user: User) -> str:
    return services.totp_now(user)


def challenge(client: Client) -> str:
    options = client.get(PAGE).context["options"]["request_options"]
    assert options["publicKey"]["userVerification"] == "required"
    return str(options["publicKey"]["challenge"])


def answer(client: Client, credential: object, **post: str) -> Any:
    return client.post(PAGE, {"credential": json.dumps(credential), **post})


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


def secure(user: User) -> Client:
    client = client_of(user)
    client.defaults.update({"wsgi.url_scheme": "https", "SERVER_PORT": "443"})
    return client


def test_a_code_steps_up_for_what_is_not_privileged(alice: User) -> None:
    give_totp(alice)
    client = client_of(alice)
    assert client.post(PAGE, {"code": code_of(alice), "next": "/settings/"})["Location"] == "/settings/"
    assert fresh(client)
    assert not fresh(client, privileged=True)
    [event] = events("users.user.stepped_up")
    assert event.data["method"] == "totp"
    assert event.data["authenticator"] == Authenticator.objects.get().pk


def test_a_passkey_steps_up_for_everything(alice: User, key: SoftKey) -> None:
    give_passkey(alice, key)
    client = secure(alice)
    assert answer(client, key.sign(challenge(client)), next="/settings/")["Location"] == "/settings/"
    assert fresh(client, privileged=True)
    assert [event.data["method"] for event in events("users.user.stepped_up")] == ["passkey"]


def refused(client: Client, response: HttpResponse) -> bool:
    return response.status_code == 422 and not fresh(client) and len(events("users.user.step_up_failed")) > 0


def test_a_passkey_without_user_verification_is_refused(alice: User, key: SoftKey) -> None:
    give_passkey(alice, key)
    client = secure(alice)
    assert refused(client, answer(client, key.sign(challenge(client), flags=PRESENT)))


def test_user_verification_is_checked_even_if_the_challenge_forgot_to_ask(alice: User, key: SoftKey) -> None:
    give_passkey(alice, key)
    client = secure(alice)
    signed = key.sign(challenge(client), flags=PRESENT)
    session = client.session
    session[stepup.CHALLENGE]["state"]["user_verification"] = "discouraged"
    session.save()
    assert refused(client, answer(client, signed))


def test_a_challenge_counts_once(alice: User, key: SoftKey) -> None:
    give_passkey(alice, key)
    client = secure(alice)
    signed = key.sign(challenge(client))
    answer(client, signed)
    session = client.session
    del session[stepup.PROOFS]
    session.save()
    assert refused(client, answer(client, signed))


def test_a_challenge_of_another_session_is_refused(alice: User, key: SoftKey) -> None:
    give_passkey(alice, key)
    client, elsewhere = secure(alice), secure(alice)
    challenge(client)
    assert refused(client, answer(client, key.sign(challenge(elsewhere))))


def test_a_challenge_gets_old(alice: User, key: SoftKey) -> None:
    give_passkey(alice, key)
    client = secure(alice)
    signed = key.sign(challenge(client))
    with time_machine.travel(timezone.now() + timedelta(minutes=6), tick=False):
        assert refused(client, answer(client, signed))


@pytest.mark.parametrize("origin", ["https://evil.example.com", "http://testserver", "https://testserver.evil.com"])
def test_a_passkey_signed_on_another_site_is_refused(alice: User, origin: str) -> None:
    key = SoftKey(origin=origin)
    give_passkey(alice, key)
    client = secure(alice)
    assert refused(client, answer(client, key.sign(challenge(client))))


def test_somebody_elses_passkey_is_refused(alice: User, mallory: User, key: SoftKey) -> None:
    give_passkey(alice)
    give_passkey(mallory, key)
    client = secure(alice)
    assert refused(client, answer(client, key.sign(challenge(client))))


@pytest.mark.parametrize("credential", [{}, [], "x", 1, {"id": "AA", "response": {}}, {"id": None, "response": None}])
def test_what_is_no_passkey_answer_is_refused_politely(alice: User, credential: object) -> None:
    give_passkey(alice)
    client = secure(alice)
    challenge(client)
    assert answer(client, credential).status_code == 422
    assert not fresh(client)


def test_a_waiting_authenticator_is_shown_but_not_asked(alice: User) -> None:
    give_passkey(alice, age=MINUTE)
    give_totp(alice, age=MINUTE)
    client = client_of(alice)
    page = client.get(PAGE)
    assert page.context["options"] is None
    assert not page.context["offers_code"]
    assert "It counts from" in page.content.decode()
    assert refused(client, client.post(PAGE, {"code": code_of(alice)}))


def test_whoever_has_nothing_is_told_what_to_do(alice: User) -> None:
    assert "Add a passkey" in client_of(alice).get(PAGE).content.decode()


def test_only_passkeys_are_offered_for_what_is_privileged(alice: User) -> None:
    give_totp(alice)
    page = client_of(alice).get(PAGE, {"passkey": "1"})
    assert not page.context["offers_code"]
    assert "only a passkey counts" in page.content.decode()


# A code counts once


def test_a_code_counts_once(alice: User) -> None:
    give_totp(alice)
    code = code_of(alice)
    client = client_of(alice)
    client.post(PAGE, {"code": code})
    elsewhere = client_of(alice)
    assert refused(elsewhere, elsewhere.post(PAGE, {"code": code}))


def test_a_code_counts_once_for_as_long_as_it_is_valid(alice: User) -> None:
    """A period later allauth has forgotten the code, and the tolerance still takes it."""
    give_totp(alice)
    period = timezone.now().replace(second=0, microsecond=0)
    with time_machine.travel(period, tick=False):
        code = code_of(alice)
    with time_machine.travel(period - timedelta(seconds=1), tick=False):
        client_of(alice).post(PAGE, {"code": code})
    forget_allauths_mark(alice, code)
    with time_machine.travel(period + timedelta(seconds=45), tick=False):
        assert client_of(alice).post(PAGE, {"code": code}).status_code == 422
    assert len(events("users.user.stepped_up")) == 1


def forget_allauths_mark(user: User, code: str) -> None:
    assert cache.delete(f"allauth.mfa.totp.used?user={user.pk}&code={code}")


def test_a_code_used_to_sign_in_does_not_step_up(client: Client, alice: User) -> None:
    give_totp(alice)
    code = code_of(alice)
    sign_in(client, alice.email)
    assert client.post("/accounts/2fa/authenticate/", {"code": code})["Location"] == "/"
    assert not fresh(client)
    forget_allauths_mark(alice, code)
    assert refused(client, client.post(PAGE, {"code": code}))


def test_a_code_used_to_step_up_does_not_sign_in(client: Client, alice: User) -> None:
    give_totp(alice)
    code = code_of(alice)
    client_of(alice).post(PAGE, {"code": code})
    forget_allauths_mark(alice, code)
    sign_in(client, alice.email)
    assert client.post("/accounts/2fa/authenticate/", {"code": code}).status_code == 200
    assert "_auth_user_id" not in client.session


def test_a_recovery_code_never_counts(client: Client, alice: User) -> None:
    """Not on the page, and not by having signed in with one."""
    give_totp(alice)
    first, second, *_ = give_recovery_codes(alice)
    sign_in(client, alice.email)
    client.post("/accounts/2fa/authenticate/", {"code": first})
    assert "_auth_user_id" in client.session
    assert not fresh(client)
    assert refused(client, client.post(PAGE, {"code": second}))


def test_a_password_never_counts(client: Client, alice: User) -> None:
    sign_in(client, alice.email)
    client.post("/accounts/reauthenticate/", {"password": "correct horse battery staple"})
    assert not fresh(client)


def test_guessing_codes_is_stopped(alice: User) -> None:
    give_totp(alice)
    client = client_of(alice)
    for _ in range(5):
        client.post(PAGE, {"code": "000000"})
    response = client.post(PAGE, {"code": code_of(alice)})
    assert "Too many tries" in response.content.decode()
    assert not fresh(client)


# Coming back


@pytest.mark.parametrize(
    ("asked", "goes"),
    [
        ("/settings/?a=b", "/settings/?a=b"),
        ("https://evil.example.com/", "/"),
        ("//evil.example.com/", "/"),
        ("/\\evil.example.com", "/"),
        ("javascript:alert(1)", "/"),
        ("settings", "/"),
        ("", "/"),
    ],
)
def test_afterwards_people_stay_here(alice: User, asked: str, goes: str) -> None:
    give_totp(alice)
    assert client_of(alice).post(PAGE, {"code": code_of(alice), "next": asked})["Location"] == goes
    assert client_of(alice).get(PAGE, {"next": asked}).context["next"] == goes


@stepup.required(within=RECENTLY)
def sensitive(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


@stepup.required(within=RECENTLY, privileged=True)
def privileged(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


def asking(method: str, path: str, user: User, **headers: str) -> HttpRequest:
    request = getattr(RequestFactory(), method)(path, headers=headers)
    request.user, request.session = user, SessionStore()
    request.htmx = HtmxDetails(request)
    return request


def test_a_view_asks_first_and_comes_back(alice: User) -> None:
    response = sensitive(asking("get", "/grants/7/?tab=story", alice))
    assert (response.status_code, response["Location"]) == (302, f"{PAGE}?next=%2Fgrants%2F7%2F%3Ftab%3Dstory")
    assert "passkey=1" in privileged(asking("get", "/grants/7/", alice))["Location"]


def test_a_form_comes_back_to_the_page_it_stood_on(alice: User) -> None:
    here = asking("post", "/grants/7/revoke/", alice, referer="http://testserver/grants/?page=2")
    assert sensitive(here)["Location"] == f"{PAGE}?next=%2Fgrants%2F%3Fpage%3D2"
    elsewhere = asking("post", "/grants/7/revoke/", alice, referer="https://evil.example.com/grants/")
    assert sensitive(elsewhere)["Location"] == f"{PAGE}?next=%2F"


def test_htmx_moves_the_whole_page(alice: User) -> None:
    request = asking("post", "/x/", alice, hx_request="true", hx_current_url="http://testserver/grants/")
    response = sensitive(request)
    assert (response.status_code, response["HX-Redirect"]) == (204, f"{PAGE}?next=%2Fgrants%2F")


def test_a_view_opens_after_a_step_up(alice: User) -> None:
    request = stepped_up(alice, give_totp(alice), MINUTE)
    assert sensitive(request).content == b"done"
    assert privileged(request).status_code == 302


def test_signing_out_forgets_the_step_up(alice: User) -> None:
    give_totp(alice)
    client = client_of(alice)
    client.post(PAGE, {"code": code_of(alice)})
    client.post("/accounts/logout/")
    client.force_login(alice)
    assert not fresh(client)


def test_a_session_is_not_somebody_elses_step_up(alice: User) -> None:
    give_totp(alice)
    client = client_of(alice)
    client.post(PAGE, {"code": code_of(alice)})
    assert fresh(client)
    assert not fresh(client_of(alice))
    client.force_login(make_person("Bob"))
    assert stepup.PROOFS not in client.session

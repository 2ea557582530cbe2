"""Single sign-on: only who was linked beforehand comes in, by issuer and subject."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from apps.users import oidc, services
from apps.users.models import User
from tests.users.conftest import client_of, events, give_recovery_codes, give_totp, is_signed_in, make_person
from tests.users.fake_idp import FakeIdp, running

pytestmark = pytest.mark.django_db


@pytest.fixture
def idp(settings: Settings) -> Iterator[FakeIdp]:
    with running(settings) as provider:
        yield provider
    assert provider.failures == []


@pytest.fixture
def linked(alice: User, erin: User, idp: FakeIdp) -> User:
    services.link_user(user=alice, issuer=idp.issuer, subject="00u-alice", by=erin)
    return alice


def test_a_linked_subject_signs_in(client: Client, linked: User, idp: FakeIdp) -> None:
    assert idp.sign_in(client, "00u-alice")["Location"] == "/"
    assert client.session["_auth_user_id"] == str(linked.pk)
    assert idp.asked["code_challenge_method"] == "S256"
    [event] = events("users.user.signed_in")
    assert event.data["method"] == "sso"


def test_an_unknown_subject_is_told_what_to_ask_for(client: Client, linked: User, idp: FakeIdp) -> None:
    response = idp.sign_in(client, "00u-stranger")
    page = response.content.decode()
    assert response.status_code == 403
    assert "Your sign-in worked but no Gatehouse user is linked to it" in page
    assert "00u-stranger" in page
    assert not is_signed_in(client)


def test_an_address_links_nobody(client: Client, alice: User, idp: FakeIdp) -> None:
    response = idp.sign_in(client, "00u-mallory", email=alice.email, email_verified=True)
    assert response.status_code == 403
    assert not is_signed_in(client)
    assert not SocialAccount.objects.exists()


def test_nobody_links_a_subject_to_themselves(mallory: User, linked: User, idp: FakeIdp) -> None:
    client = client_of(mallory)
    assert idp.sign_in(client, "00u-mallory", query="?process=connect").status_code == 403
    assert SocialAccount.objects.filter(user=mallory).count() == 0
    assert idp.sign_in(client, "00u-alice", query="?process=connect").status_code == 403
    assert SocialAccount.objects.get().user == linked


def test_a_subject_of_another_issuer_is_somebody_else(client: Client, alice: User, erin: User, idp: FakeIdp) -> None:
    services.link_user(user=alice, issuer="https://old.example.com", subject="00u-alice", by=erin)
    assert idp.sign_in(client, "00u-alice").status_code == 403
    assert not is_signed_in(client)


@pytest.mark.parametrize("claims", [{"iss": "https://evil.example.com"}, {"aud": "another-client"}, {"exp": 1}])
def test_a_token_that_is_not_for_us_is_refused(
    client: Client, linked: User, idp: FakeIdp, claims: dict[str, str]
) -> None:
    idp.sign_in(client, "00u-alice", **claims)
    assert not is_signed_in(client)


def test_a_provider_that_calls_itself_something_else_is_refused(client: Client, linked: User, idp: FakeIdp) -> None:
    idp.announced = "https://evil.example.com"
    assert idp.sign_in(client, "00u-alice", iss=idp.announced).status_code == 403
    assert not is_signed_in(client)


def test_somebody_who_is_kept_out_does_not_get_in(client: Client, linked: User, erin: User, idp: FakeIdp) -> None:
    services.deactivate_user(user=linked, by=erin)
    idp.sign_in(client, "00u-alice")
    assert not is_signed_in(client)


# Authenticators change only after a fresh sign-in at the provider

ENROL = "/accounts/2fa/totp/activate/"


def test_right_after_the_sign_in_an_authenticator_can_be_added(client: Client, linked: User, idp: FakeIdp) -> None:
    idp.sign_in(client, "00u-alice", auth_time=int(time.time()))
    assert client.get(ENROL).status_code == 200


def test_an_old_sign_in_at_the_provider_is_not_fresh(client: Client, linked: User, idp: FakeIdp) -> None:
    """Our session is new, but the provider saw the person an hour ago and only passed a cookie on."""
    idp.sign_in(client, "00u-alice", auth_time=int(time.time()) - 3600)
    assert client.get(ENROL)["Location"] == "/settings/sign-in-again/?next=%2Faccounts%2F2fa%2Ftotp%2Factivate%2F"


def test_without_auth_time_the_sign_in_here_counts(client: Client, linked: User, idp: FakeIdp) -> None:
    idp.sign_in(client, "00u-alice")
    assert client.get(ENROL).status_code == 200
    session = client.session
    session["users.sso_at"] -= 3600
    session.save()
    assert client.get(ENROL).status_code == 302


def test_signing_in_again_asks_the_provider_to_ask_again(client: Client, linked: User, idp: FakeIdp) -> None:
    idp.sign_in(client, "00u-alice", auth_time=int(time.time()) - 3600)
    url = client.get("/settings/sign-in-again/", {"next": ENROL}).context["sso_url"]
    idp.sign_in(client, "00u-alice", query=f"?{url.partition('?')[2]}", auth_time=int(time.time()))
    assert (idp.asked["prompt"], idp.asked["max_age"]) == ("login", "0")
    assert client.get(ENROL).status_code == 200


def test_with_single_sign_on_a_recovery_code_is_no_fresh_sign_in(client: Client, linked: User, idp: FakeIdp) -> None:
    give_totp(linked)
    code, another, *_ = give_recovery_codes(linked)
    idp.sign_in(client, "00u-alice", auth_time=int(time.time()) - 3600)
    client.post("/accounts/2fa/authenticate/", {"code": code})
    assert is_signed_in(client)
    client.post("/accounts/2fa/reauthenticate/", {"code": another})
    assert client.post("/accounts/2fa/totp/deactivate/").status_code == 302
    assert Authenticator.objects.filter(type="totp").exists()


# Linking


def link(*args: str) -> str:
    out = StringIO()
    call_command("link_user", *args, stdout=out)
    return out.getvalue()


def test_an_administrator_links_by_command(client: Client, alice: User, idp: FakeIdp) -> None:
    said = link(alice.email, "--subject", "00u-alice")
    assert "/accounts/oidc/127.0.0.1-" in said
    idp.sign_in(client, "00u-alice")
    assert is_signed_in(client)
    [event] = events("users.user.linked")
    assert (event.actor_kind, event.data) == ("command", {"issuer": idp.issuer, "subject": "00u-alice"})


def test_a_link_is_taken_away(client: Client, linked: User, idp: FakeIdp) -> None:
    link(linked.email, "--unlink")
    assert idp.sign_in(client, "00u-alice").status_code == 403
    assert len(events("users.user.unlinked")) == 1


def test_a_subject_belongs_to_one_user_and_a_user_to_one_subject(linked: User, mallory: User, idp: FakeIdp) -> None:
    with pytest.raises(CommandError, match="linked to another user"):
        link(mallory.email, "--subject", "00u-alice")
    with pytest.raises(CommandError, match="Unlink it first"):
        link(linked.email, "--subject", "00u-other")
    assert SocialAccount.objects.count() == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nobody@example.com", "--subject", "x"], "There is no user"),
        (["alice@example.com", "--issuer", "https://x.example.com"], "Give --subject"),
        (["alice@example.com", "--issuer", "", "--subject", "x"], "Name the identity provider"),
        (["alice@example.com", "--issuer", "https://x.example.com", "--unlink"], "is not linked"),
    ],
)
def test_a_link_that_cannot_be_says_why(alice: User, args: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        link(*args)


# Configuration


def test_issuers_of_one_host_are_told_apart() -> None:
    one, two = "https://login.example.com/one", "https://login.example.com/two"
    assert oidc.provider_id(one) != oidc.provider_id(two)
    assert oidc.provider_id(one) == oidc.provider_id(f"{one}/")
    assert oidc.provider_id(one).startswith("login.example.com-")


def test_the_policy_lets_forms_go_to_the_issuer_only() -> None:
    assert oidc.origin("https://login.example.com:8443/tenant") == "https://login.example.com:8443"


@pytest.mark.parametrize("issuer", ["http://login.example.com", "login.example.com", "https://"])
def test_an_issuer_without_tls_is_refused(issuer: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="OIDC_ISSUER"):
        oidc.origin(issuer)


def test_an_issuer_needs_a_client() -> None:
    with pytest.raises(ImproperlyConfigured, match="OIDC_CLIENT_ID"):
        oidc.providers(issuer="https://login.example.com", client_id="", client_secret="", name="x")


def test_without_an_issuer_there_is_no_single_sign_on(client: Client, alice: User) -> None:
    assert oidc.providers(issuer="", client_id="", client_secret="", name="x") == {}
    assert client.post("/accounts/oidc/anything/login/").status_code == 404


def test_an_emergency_user_changes_authenticators_with_the_password(client: Client, idp: FakeIdp) -> None:
    make_person("Erin", is_emergency=True)
    client.post("/accounts/login/", {"login": "erin@example.com", "password": "correct horse battery staple"})
    assert client.get(ENROL)["Location"].startswith("/accounts/reauthenticate/")
    client.post("/accounts/reauthenticate/", {"password": "correct horse battery staple"})
    assert client.get(ENROL).status_code == 200


def test_the_sign_in_page_offers_it(client: Client, idp: FakeIdp) -> None:
    page = client.get("/accounts/login/").content.decode()
    assert "Sign in with Corporate sign-in" in page
    assert f"/accounts/oidc/{oidc.provider_id(idp.issuer)}/login/" in page


def test_the_settings_follow_the_environment() -> None:
    program = (
        "from config import settings as s;"
        "print(s.CONTENT_SECURITY_POLICY['DIRECTIVES']['form-action'][:2], s.OIDC_NAME)"
    )
    environment = {
        **os.environ,
        "OFFLINE": "1",
        "OIDC_ISSUER": "https://login.example.com/tenant",
        "OIDC_CLIENT_ID": "gatehouse",
        "OIDC_NAME": "Corporate sign-in",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[\"'self'\", 'https://login.example.com'] Corporate sign-in"

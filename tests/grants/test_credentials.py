"""Asking for a session on a grant's page: the holder alone, after a step-up, shown once and kept nowhere."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session as Stored
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from apps.connectors import registry
from apps.grants import services
from apps.grants.broker import client as broker
from apps.grants.broker import signing
from apps.grants.broker.client import NoBroker, Refused, Session
from apps.grants.models import EndReason, Grant, Minting
from apps.users import stepup
from tests.grants.signing import give_key
from tests.grants.system import System
from tests.grants.test_broker import SECRET, SPILLS, TOKEN, URL, tables_with

FRESH = {"method": "totp", "authenticator": 1}


@pytest.fixture
def grant(system: System, monkeypatch: pytest.MonkeyPatch) -> Grant:
    monkeypatch.setitem(registry.MINTERS, ("fake", "idc_assignment"), "tests.grants.test_broker:FakeMinter")
    return system.active()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the broker was asked; it always gives something."""
    calls: list[dict[str, Any]] = []

    def ask(grant: Grant, **fields: Any) -> Session:
        calls.append({"grant": grant, **fields})
        ends = {"expires_at": timezone.now() + timedelta(hours=1), "session_name": "alice-x"}
        if fields["kind"] == Minting.Kind.CONSOLE:
            return Session(**ends, console_url=URL)
        keys = {"access_key_id": "ASIAEXAMPLE", "secret_access_key": SECRET, "session_token": TOKEN}
        return Session(**ends, **keys)

    monkeypatch.setattr(broker, "ask", ask)
    return calls


@pytest.fixture
def stepped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def proof(request: Any, *, within: timedelta | None = None, privileged: bool = False) -> dict[str, Any]:
        assert within == timedelta(minutes=15)
        return {} if privileged else {**FRESH, "at": timezone.now().isoformat()}

    monkeypatch.setattr(stepup, "proof", proof)


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def post(grant: Grant, user: Any, kind: str = "cli", client: Client | None = None) -> HttpResponse:
    client = client or signed_in(user)
    answer: Any = client.post(f"/grants/{grant.pk}/session/", {"kind": kind}, headers={"referer": "http://testserver/"})
    return answer  # type: ignore[no-any-return]


def holder(grant: Grant) -> Any:
    return grant.identity.user  # type: ignore[union-attr]


@pytest.mark.usefixtures("stepped_up")
def test_the_holder_sees_the_session_once(grant: Grant, asked: list[dict[str, Any]]) -> None:
    page = post(grant, holder(grant))
    text = page.content.decode()
    assert f"export AWS_SECRET_ACCESS_KEY={SECRET}" in text and f"export AWS_SESSION_TOKEN={TOKEN}" in text
    assert "no-store" in page["Cache-Control"]
    assert "Location" not in page
    [call] = asked
    assert (call["grant"], call["by"], call["kind"]) == (grant, holder(grant), "cli")
    assert call["step_up"]["method"] == "totp" and "address" in call["origin"]


@pytest.mark.usefixtures("stepped_up", "asked")
def test_the_credential_process_output_is_what_the_command_line_takes(grant: Grant) -> None:
    page: Any = post(grant, holder(grant))
    given = json.loads(page.context["process"])
    assert given.keys() == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    assert given["Version"] == 1 and given["Expiration"].endswith("Z")


@pytest.mark.usefixtures("stepped_up", "asked")
def test_the_console_opens_by_a_redirect_to_aws_that_nobody_stores(grant: Grant) -> None:
    page = post(grant, holder(grant), "console")
    assert (page.status_code, page["Location"], page.content) == (303, URL, b"")
    assert "no-store" in page["Cache-Control"]


@pytest.mark.usefixtures("stepped_up", "asked")
def test_nothing_of_it_stays_with_the_portal(grant: Grant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = signed_in(holder(grant))
    for kind in ("cli", "console"):
        post(grant, holder(grant), kind, client)
    assert not list(tables_with(*SPILLS))
    assert not any(spill in caplog.text for spill in SPILLS)
    for stored in Stored.objects.all():
        assert not any(spill in json.dumps(stored.get_decoded()) for spill in SPILLS)
    assert not any(spill in str(client.cookies) for spill in SPILLS)
    redis = cache._cache.get_client()  # type: ignore[attr-defined]
    for key in redis.keys("*"):
        assert not any(spill.encode() in (redis.dump(key) or b"") for spill in SPILLS)
    later = client.get(grant.get_absolute_url()).content.decode()
    assert not any(spill in later for spill in SPILLS)


@pytest.mark.usefixtures("stepped_up")
@pytest.mark.parametrize("kind", ["", "root", "CLI"])
def test_only_what_is_offered_can_be_asked_for(grant: Grant, asked: list[Any], kind: str) -> None:
    assert post(grant, holder(grant), kind).status_code == 404
    assert not asked


@pytest.mark.usefixtures("stepped_up")
def test_nobody_else_gets_it_not_even_who_may_see_or_end_the_grant(
    grant: Grant, system: System, asked: list[Any]
) -> None:
    system.account.owner = system.bob.identity
    system.account.save()
    bob = system.bob.identity.user  # type: ignore[union-attr]
    assert signed_in(bob).get(grant.get_absolute_url()).status_code == 200
    assert post(grant, bob).status_code == 404
    Grant.objects.filter(pk=grant.pk).update(requested_by=bob)
    assert post(grant, bob).status_code == 404
    assert not asked


def test_it_takes_a_step_up(grant: Grant, asked: list[Any]) -> None:
    page = post(grant, holder(grant))
    assert page.status_code == 302 and "step-up" in page["Location"]
    assert not asked


@pytest.fixture
def privileged(grant: Grant) -> Grant:
    grant.entitlement.privilege = "privileged"
    grant.entitlement.save()
    return grant


@pytest.mark.usefixtures("stepped_up")
def test_for_privileged_access_the_page_asks_for_a_signature_first(privileged: Grant, asked: list[Any]) -> None:
    give_key(holder(privileged))
    page: Any = post(privileged, holder(privileged))
    assert page.status_code == 200 and "Sign and show credentials" in page.content.decode()
    assert page.context["passkey"]["challenge"]
    assert not asked
    assert "Sign and open the console" in post(privileged, holder(privileged), "console").content.decode()


@pytest.mark.usefixtures("stepped_up")
def test_without_a_passkey_that_counts_the_page_says_so(privileged: Grant, asked: list[Any]) -> None:
    assert "no passkey that can sign" in post(privileged, holder(privileged)).content.decode()
    assert not asked


def test_what_the_passkey_signed_goes_to_the_broker(privileged: Grant, asked: list[dict[str, Any]]) -> None:
    key = give_key(holder(privileged))
    client = signed_in(holder(privileged))
    page: Any = post(privileged, holder(privileged), client=client)
    credential = json.dumps(key.sign(page.context["passkey"]["challenge"]))
    fields = {name: page.context[name] for name in ("nonce", "expires")}
    answer = client.post(f"/grants/{privileged.pk}/session/", {"kind": "cli", "credential": credential, **fields})
    assert SECRET in answer.content.decode()
    [call] = asked
    assert call["step_up"] == {}
    assert signing.verify(privileged, holder(privileged), call["signed"]).step_up["method"] == "passkey"


@pytest.mark.parametrize("credential", ["x", "[]", "{}", "null", '{"id": 1}'])
def test_what_is_no_signature_is_asked_for_again(privileged: Grant, asked: list[Any], credential: str) -> None:
    give_key(holder(privileged))
    client = signed_in(holder(privileged))
    page = client.post(f"/grants/{privileged.pk}/session/", {"kind": "cli", "credential": credential})
    assert "Sign and show" in page.content.decode()
    assert not asked


@pytest.mark.usefixtures("stepped_up")
def test_a_grant_that_ended_gives_nothing(grant: Grant, asked: list[Any]) -> None:
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    assert post(grant, holder(grant)).status_code == 404
    assert not asked


@pytest.mark.usefixtures("stepped_up")
@pytest.mark.parametrize(
    ("error", "status"), [(NoBroker("The broker does not answer."), 503), (Refused("The grant is not active."), 409)]
)
def test_what_went_wrong_is_said_in_words(
    grant: Grant, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def ask(*_: Any, **__: Any) -> Session:
        raise error

    monkeypatch.setattr(broker, "ask", ask)
    page = post(grant, holder(grant))
    assert page.status_code == status
    assert str(error) in page.content.decode()
    assert "no-store" in page["Cache-Control"]


@pytest.mark.usefixtures("stepped_up")
def test_values_are_quoted_for_the_shell(grant: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = Session(timezone.now(), "x", "ASIA", "a; rm -rf $HOME", "b`c`", endpoint_url="http://127.0.0.1:5000")
    monkeypatch.setattr(broker, "ask", lambda *_, **__: evil)
    page: Any = post(grant, holder(grant))
    assert "export AWS_SECRET_ACCESS_KEY='a; rm -rf $HOME'" in page.context["exports"]
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:5000" in page.context["exports"]


def test_the_buttons_are_the_holders_alone(grant: Grant, system: System) -> None:
    system.account.owner = system.bob.identity
    system.account.save()
    assert "Show credentials" in signed_in(holder(grant)).get(grant.get_absolute_url()).content.decode()
    bob = signed_in(system.bob.identity.user)  # type: ignore[union-attr]
    assert "Show credentials" not in bob.get(grant.get_absolute_url()).content.decode()

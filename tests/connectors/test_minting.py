"""Sessions that the broker makes: named after person and grant, dated to the second, shown once."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from apps.connectors import registry
from apps.connectors.aws import minting
from apps.connectors.aws import session as aws_session
from apps.connectors.aws.guard import size
from apps.connectors.aws.minting import TierSessions, session_name, session_policy
from apps.connectors.aws.session import Api
from apps.connectors.errors import Denied, Refused, Unreachable
from apps.connectors.minting import Minted
from tests.connectors.conftest import CONFIG, HUB, Org, Stubs
from tests.connectors.test_sts_broker import ALICE, target

NOW = datetime(2031, 3, 5, 9, 0, tzinfo=UTC)
SECRETS = ("the-secret-key", "the-session-token")


def minted() -> Minted:
    return Minted("ASIAEXAMPLE", *SECRETS, NOW + timedelta(hours=1), f"alice-{ALICE}")


@pytest.fixture
def asked(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What STS was asked, and a minter that asks it."""
    calls: dict[str, Any] = {}

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        calls.update(params, account_id=account_id, role=self.role, operation=operation)
        return {
            "Credentials": {
                "AccessKeyId": "ASIAEXAMPLE",
                "SecretAccessKey": SECRETS[0],
                "SessionToken": SECRETS[1],
                "Expiration": NOW + timedelta(seconds=params["DurationSeconds"]),
            }
        }

    monkeypatch.setattr(Api, "call", call)
    monkeypatch.setattr(minting, "session", lambda config: stubs.api.session)
    return calls


def mint(for_seconds: float, person: str = "alice@example.com") -> Minted:
    return TierSessions(CONFIG).mint(target(), NOW + timedelta(seconds=for_seconds), person=person, now=NOW)


# ---- what AWS is asked for


@pytest.mark.parametrize(
    ("remaining", "asked_for"), [(1, 900), (60, 900), (900, 900), (901, 901), (3600, 3600), (3601, 3600), (28800, 3600)]
)
def test_a_session_is_as_short_as_aws_allows(asked: dict[str, Any], remaining: int, asked_for: int) -> None:
    made = mint(remaining)
    assert asked["DurationSeconds"] == asked_for
    assert made.expires_at == NOW + timedelta(seconds=min(remaining, asked_for))


def test_the_session_carries_its_end_its_grant_and_its_person(asked: dict[str, Any]) -> None:
    mint(600)
    assert json.loads(asked["Policy"]) == session_policy(NOW + timedelta(seconds=600))
    assert asked["Tags"] == [{"Key": "jit-grant", "Value": ALICE}]
    assert asked["TransitiveTagKeys"] == ["jit-grant"]
    assert asked["RoleSessionName"] == f"alice@example.com-{ALICE}"
    assert asked["SourceIdentity"] == "alice@example.com"
    assert asked["RoleArn"] == "arn:aws:iam::111122223333:role/jit/tier/JitReadOnly"
    assert (asked["account_id"], asked["role"], asked["operation"]) == (HUB, "broker_role", "assume_role")


def test_the_end_is_rounded_down(asked: dict[str, Any]) -> None:
    made = mint(600.999)
    assert made.expires_at == NOW + timedelta(seconds=600)
    assert "2031-03-05T09:10:00Z" in asked["Policy"]


@pytest.mark.parametrize("remaining", [0, 0.9, -1, -3600])
def test_nothing_is_made_for_a_grant_that_is_over(asked: dict[str, Any], remaining: float) -> None:
    with pytest.raises(Refused, match="over"):
        mint(remaining)
    assert not asked


@pytest.mark.parametrize(
    "person",
    ["a" * 300, "aws:root", "Ünal Öz", "eve\n{admin}", "", "-", "x" * 47 + "@example.com", "😀" * 80],
)
def test_any_name_becomes_one_that_aws_takes_and_the_grant_is_never_cut(asked: dict[str, Any], person: str) -> None:
    mint(600, person)
    for name in (asked["RoleSessionName"], asked["SourceIdentity"]):
        assert 2 <= len(name) <= 64
        assert all(letter.isascii() and (letter.isalnum() or letter in "_+=,.@-") for letter in name)
        assert not name.lower().startswith("aws:")
    assert session_name(person, ALICE).endswith(f"-{ALICE}")


def test_the_session_policy_fits() -> None:
    assert size(session_policy(NOW)) < minting.POLICY_LIMIT / 4


def test_the_brokers_own_session_carries_no_source_identity_which_nobody_could_change(
    org: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS: a source identity stays along a chain of roles and cannot be set anew."""
    made: list[dict[str, Any]] = []
    real = aws_session.Session._make

    def make(self: Any, *args: Any, **kwargs: Any) -> Any:
        client = real(self, *args, **kwargs)
        if args[0] == "sts":
            client.meta.events.register(
                "before-parameter-build.sts.AssumeRole", lambda params, **_: made.append(params)
            )
        return client

    monkeypatch.setattr(aws_session.Session, "_make", make)
    now = datetime.now(UTC)
    what = target(account_id=org.account_id)
    session = TierSessions(CONFIG).mint(what, now + timedelta(hours=1), person="alice", now=now)
    assert session.access_key_id
    broker, tier = made
    assert "SourceIdentity" not in broker and broker["RoleArn"] == f"arn:aws:iam::{HUB}:role/portal/PortalBroker"
    assert tier["SourceIdentity"] == "alice"


def test_the_sessions_keys_work(org: Org) -> None:
    now = datetime.now(UTC)
    made = TierSessions(CONFIG).mint(
        target(account_id=org.account_id), now + timedelta(hours=1), person="alice", now=now
    )
    who = org.aws.client(
        "sts",
        aws_access_key_id=made.access_key_id,
        aws_secret_access_key=made.secret_access_key,
        aws_session_token=made.session_token,
    ).get_caller_identity()
    assert who["Account"] == org.account_id
    assert who["Arn"].endswith(f"assumed-role/JitReadOnly/alice-{ALICE}")


def test_a_denied_mint_says_so_and_nothing_else(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minting, "session", lambda config: stubs.api.session)
    stubs.refuse("sts", "assume_role", "AccessDenied", 403)
    with pytest.raises(Denied, match="sts:AssumeRole"):
        mint(600)


# ---- shown once


def test_a_session_does_not_show_its_secrets_and_cannot_be_kept() -> None:
    made = minted()
    for shown in (repr(made), str(made), f"{made}", f"{[made]}"):
        assert "ASIAEXAMPLE" in shown
        assert not any(secret in shown for secret in SECRETS)
    for keep in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            keep(made)  # type: ignore[operator]


# ---- the console


class Federation(HTTPServer):
    """What AWS's federation endpoint does, on this machine."""

    answer: tuple[int, bytes] = (200, b'{"SigninToken": "a-token"}')
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Federation

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.answer[0])
        for header in self.server.headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(self.server.answer[1])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def federation(org: Org, monkeypatch: pytest.MonkeyPatch) -> Iterator[Federation]:
    server = Federation()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_SIGNIN_URL", f"http://127.0.0.1:{server.server_port}/federation")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_console_address_holds_a_token_and_not_the_session(federation: Federation) -> None:
    url = TierSessions(CONFIG).console_url(minted())
    asked = parse_qs(urlsplit(federation.asked[0]).query)
    assert asked["Action"] == ["getSigninToken"]
    assert json.loads(asked["Session"][0]) == {
        "sessionId": "ASIAEXAMPLE",
        "sessionKey": SECRETS[0],
        "sessionToken": SECRETS[1],
    }
    given = parse_qs(urlsplit(url).query)
    assert given["SigninToken"] == ["a-token"] and given["Action"] == ["login"]
    assert given["Destination"] == ["https://console.aws.amazon.com/"]
    assert not any(secret in url for secret in SECRETS)


@pytest.mark.parametrize(
    "answer", [(500, b""), (403, b"no"), (200, b"not json"), (200, b"[]"), (200, b"{}"), (200, b'{"SigninToken": 1}')]
)
def test_a_console_that_does_not_answer_well_is_no_secret_spilled(
    federation: Federation, answer: tuple[int, bytes]
) -> None:
    federation.answer = answer
    with pytest.raises(Unreachable) as failure:
        TierSessions(CONFIG).console_url(minted())
    assert not any(secret in chain for chain in _chain(failure.value) for secret in SECRETS)


def test_a_session_follows_no_redirect(federation: Federation) -> None:
    federation.answer, federation.headers = (302, b""), (("Location", "/elsewhere"),)
    with pytest.raises(Unreachable):
        TierSessions(CONFIG).console_url(minted())
    assert len(federation.asked) == 1


def test_a_session_of_another_aws_is_never_sent_to_awss_console(org: Org) -> None:
    with pytest.raises(Refused, match="no console"):
        TierSessions(CONFIG).console_url(minted())


def test_a_session_travels_encrypted_only(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SIGNIN_URL", "http://signin.example.com/federation")
    with pytest.raises(Refused, match="https"):
        TierSessions(CONFIG).console_url(minted())


def test_the_registry_knows_who_makes_sessions() -> None:
    assert registry.has_minter("aws", "sts_broker") and not registry.has_minter("aws", "idc_assignment")
    assert isinstance(registry.minter("aws", "sts_broker", CONFIG), TierSessions)


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error!r} {getattr(error, 'url', '')}"
        error = error.__cause__ or error.__context__

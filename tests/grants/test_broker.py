"""The broker: who gets a session and who gets nothing, and that nobody else ever sees one."""

from __future__ import annotations

import io
import logging
import os
import pickle
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors import registry
from apps.connectors.base import Target
from apps.connectors.errors import Denied, Unreachable
from apps.connectors.minting import Minted
from apps.grants import services
from apps.grants.broker import client, minting, server, signing, wire
from apps.grants.broker.minting import Asked, NotGiven, hand_out
from apps.grants.models import EndReason, Grant, Minting, Scope, State, Warrant
from apps.grants.services import stops
from apps.users import assertions
from tests.factories.users import UserFactory
from tests.grants.signing import draft as drafted
from tests.grants.signing import give_key, signed_by
from tests.grants.system import System
from tests.users.soft_key import SoftKey

KEY = "0123456789abcdef0123456789abcdef"
SECRET, TOKEN, URL = (
    "ThisIsTheSecretKey",
    "ThisIsTheSessionToken",
    "https://signin.example.com/?SigninToken=ThisIsAToken",
)
SPILLS = (SECRET, TOKEN, "ThisIsAToken")


class FakeMinter:
    """Makes sessions of nothing, and says what it was asked for."""

    asked: list[dict[str, Any]] = []
    during: Callable[[], None] | None = None
    error: Exception | None = None
    console_error: Exception | None = None

    def __init__(self, config: Any) -> None: ...

    def mint(self, target: Target, not_after: datetime, *, person: str, now: datetime) -> Minted:
        FakeMinter.asked.append({"target": target, "not_after": not_after, "person": person, "now": now})
        if FakeMinter.during:
            FakeMinter.during()
        if FakeMinter.error:
            raise FakeMinter.error
        return Minted("ASIAEXAMPLE", SECRET, TOKEN, min(not_after, now + timedelta(hours=1)), f"{person}-x")

    def require_console(self) -> None:
        if FakeMinter.console_error:
            raise FakeMinter.console_error

    def console_url(self, minted: Minted) -> str:
        return URL


@pytest.fixture(autouse=True)
def _minter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MINTERS, ("fake", "idc_assignment"), f"{__name__}:FakeMinter")
    monkeypatch.setattr(FakeMinter, "asked", [])
    monkeypatch.setattr(FakeMinter, "during", None)
    monkeypatch.setattr(FakeMinter, "error", None)
    monkeypatch.setattr(FakeMinter, "console_error", None)


@pytest.fixture
def grant(system: System) -> Grant:
    return system.active()


def asking(grant: Grant, **fields: Any) -> Asked:
    assert grant.identity is not None
    values = {
        "reference": grant.reference,
        "user_id": str(grant.identity.user_id),
        "kind": Minting.Kind.CLI,
        "step_up": {"method": "totp", "at": timezone.now().isoformat()},
        "origin": {"address": "192.0.2.7"},
    }
    return Asked(**{**values, **fields})


def refused(grant: Grant, **fields: Any) -> str:
    """Why there is no session; nothing is recorded as handed out, and AWS was not asked."""
    before = len(FakeMinter.asked)
    with pytest.raises(NotGiven) as refusal:
        hand_out(asking(grant, **fields))
    assert len(FakeMinter.asked) == before
    assert not Minting.objects.exists()
    assert not AuditEvent.objects.filter(event="grants.grant.credentials_minted").exists()
    return str(refusal.value)


# ---- who gets one


def test_the_holder_of_an_active_grant_gets_a_session_until_its_end(grant: Grant) -> None:
    given = hand_out(asking(grant))
    assert (given["secret_access_key"], given["session_token"]) == (SECRET, TOKEN)
    [asked] = FakeMinter.asked
    assert asked["not_after"] == grant.ends_at
    assert asked["person"] == grant.identity.user.email  # type: ignore[union-attr]
    [row] = Minting.objects.all()
    assert (row.grant, row.access_key_id, row.kind) == (grant, "ASIAEXAMPLE", "cli")
    assert row.expires_at.isoformat() == given["expires_at"]


def test_one_event_says_who_got_which_key_and_nothing_of_the_secret(grant: Grant) -> None:
    hand_out(asking(grant))
    [event] = AuditEvent.objects.filter(event="grants.grant.credentials_minted")
    assert event.actor_id == str(grant.identity.user_id)  # type: ignore[union-attr]
    assert event.data["access_key_id"] == "ASIAEXAMPLE"
    assert event.data["expires_at"] == Minting.objects.get().expires_at.isoformat()
    assert event.origin == {"address": "192.0.2.7"}


def test_for_the_console_the_keys_stay_with_the_broker(grant: Grant) -> None:
    given = hand_out(asking(grant, kind=Minting.Kind.CONSOLE))
    assert given["console_url"] == URL
    assert not {"access_key_id", "secret_access_key", "session_token"} & given.keys()
    assert Minting.objects.get().kind == "console"


def test_without_a_console_no_session_is_made_for_one(grant: Grant) -> None:
    FakeMinter.console_error = Denied("This AWS has no console.")
    assert refused(grant, kind=Minting.Kind.CONSOLE) == "This AWS has no console."
    assert hand_out(asking(grant))


def test_every_asking_is_a_session_of_its_own(grant: Grant) -> None:
    for _ in range(3):
        hand_out(asking(grant))
    assert Minting.objects.count() == 3


def test_the_earlier_of_both_ends_counts(grant: Grant) -> None:
    sooner = timezone.now() + timedelta(minutes=5)
    Grant.objects.filter(pk=grant.pk).update(not_after=sooner)
    hand_out(asking(grant))
    assert FakeMinter.asked[0]["not_after"] == sooner


# ---- who gets none


def test_somebody_else_learns_nothing(grant: Grant, system: System) -> None:
    bob = str(system.bob.identity.user_id)  # type: ignore[union-attr]
    for user_id in (bob, "", "0", "None"):
        assert refused(grant, user_id=user_id) == "You hold no such grant."
    assert refused(grant, reference="aaaaaaaaaaaaaaaa") == "You hold no such grant."


def test_who_asked_for_somebody_else_gets_no_session_of_theirs(grant: Grant) -> None:
    other = UserFactory()
    Grant.objects.filter(pk=grant.pk).update(requested_by=other)
    assert "no such grant" in refused(grant, user_id=str(other.pk))


@pytest.mark.parametrize("state", sorted(set(State.values) - {State.ACTIVE, State.REVOKED}))
def test_a_grant_that_is_not_active_gives_nothing(grant: Grant, state: str) -> None:
    Grant.objects.filter(pk=grant.pk).update(state=state, end_reason=EndReason.DONE)
    assert "not active" in refused(grant)


def test_a_grant_that_a_stop_covers_gives_nothing_also_before_the_clock_ended_it(grant: Grant) -> None:
    stops.order(
        scope=Scope.ALL,
        reason="Somebody is inside.",
        by=UserFactory(administrator=True),
        step_up={"method": "passkey", "authenticator": 1, "at": timezone.now().isoformat()},
    )
    Grant.objects.filter(pk=grant.pk).update(state=State.ACTIVE)  # what a race let through
    assert "stop" in refused(grant).lower()


@pytest.mark.parametrize("field", ["ends_at", "not_after"])
def test_a_grant_whose_time_is_up_gives_nothing_also_before_the_clock_saw_it(grant: Grant, field: str) -> None:
    Grant.objects.filter(pk=grant.pk).update(**{field: timezone.now()})
    assert "not active" in refused(grant)


def test_a_grant_without_an_end_gives_nothing(grant: Grant) -> None:
    Grant.objects.filter(pk=grant.pk).update(ends_at=None)
    assert "not active" in refused(grant)


def test_whoever_left_gets_nothing(grant: Grant) -> None:
    identity = grant.identity
    assert identity is not None and identity.user is not None
    identity.user.is_active = False
    identity.user.save()
    assert "left" in refused(grant)
    identity.user.is_active = True
    identity.user.save()
    identity.ended_at = timezone.now()
    identity.save()
    assert "left" in refused(grant)


def test_nothing_where_gatehouse_may_only_look(grant: Grant) -> None:
    grant.connection.paused_at = timezone.now()
    grant.connection.save()
    assert "only look" in refused(grant)


def test_a_grant_of_another_kind_has_no_sessions(grant: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry.MINTERS, ("fake", "idc_assignment"))
    assert "without a session" in refused(grant)


@pytest.mark.parametrize(
    "step_up",
    [
        {},
        {"method": "totp"},
        {"method": "password", "at": "now"},
        {"method": "totp", "at": "now"},
        {"method": "totp", "at": None},
        {"method": ["totp"], "at": 7},
    ],
)
def test_no_session_without_a_fresh_step_up(grant: Grant, step_up: dict[str, Any]) -> None:
    assert "Confirm" in refused(grant, step_up=step_up)


@pytest.mark.parametrize("age", [timedelta(minutes=15, seconds=1), timedelta(days=1), timedelta(seconds=-1)])
def test_an_old_step_up_is_none_nor_one_of_the_future(grant: Grant, age: timedelta) -> None:
    assert "Confirm" in refused(grant, step_up={"method": "passkey", "at": (timezone.now() - age).isoformat()})


def test_a_method_that_is_no_step_up_is_none(grant: Grant) -> None:
    assert "Confirm" in refused(grant, step_up={"method": "password", "at": timezone.now().isoformat()})


@pytest.fixture
def admin(system: System) -> Grant:
    """Alice's, approved with Bob's passkey."""
    bob = system.bob.identity.user  # type: ignore[union-attr]
    authority = signed_by(bob, give_key(bob), drafted(system.alice, system.admin, ticket_ref="INC-1"))
    return system.active(what=system.admin, authority=authority, ticket_ref="INC-1")


def signed_for(grant: Grant, key: SoftKey, **changes: str) -> dict[str, Any]:
    """The holder's passkey asks for one session of this grant. `changes` are made after it signed."""
    assert grant.identity is not None and grant.identity.user is not None
    page = signing.asked_of(grant, grant.identity.user)
    assertion = assertions.kept(key.sign(page["passkey"]["challenge"]))
    return {"assertion": assertion, "nonce": page["nonce"], "expires": page["expires"], **changes}


def test_privileged_access_takes_the_holders_passkey_over_exactly_this_session(admin: Grant) -> None:
    key = give_key(admin.identity.user)  # type: ignore[union-attr, arg-type]
    assert hand_out(asking(admin, step_up={}, signed=signed_for(admin, key)))
    [event] = AuditEvent.objects.filter(event="grants.grant.credentials_minted")
    assert event.data["step_up"]["method"] == "passkey"


def test_for_privileged_access_the_webs_word_is_nothing(admin: Grant) -> None:
    for method in ("totp", "passkey"):
        step_up = {"method": method, "at": timezone.now().isoformat(), "authenticator": 1}
        assert "your passkey" in refused(admin, step_up=step_up)


def test_a_signature_serves_once(admin: Grant) -> None:
    signed = signed_for(admin, give_key(admin.identity.user))  # type: ignore[union-attr, arg-type]
    hand_out(asking(admin, signed=signed))
    with pytest.raises(NotGiven, match="served before"):
        hand_out(asking(admin, signed=signed))
    with pytest.raises(NotGiven, match="served before"):
        hand_out(asking(admin, signed=signed, kind=Minting.Kind.CONSOLE))
    assert len(FakeMinter.asked) == 1


def test_two_that_come_at_once_with_one_signature_are_one(admin: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = signed_for(admin, give_key(admin.identity.user))  # type: ignore[union-attr, arg-type]

    def meanwhile() -> None:
        FakeMinter.during = None
        hand_out(asking(admin, signed=signed))

    FakeMinter.during = meanwhile  # type: ignore[assignment]
    with pytest.raises(NotGiven, match="served before"):
        hand_out(asking(admin, signed=signed))
    assert Minting.objects.count() == 1


def test_what_is_signed_for_something_else_gives_nothing(admin: Grant, system: System, clock: Any) -> None:
    holder = admin.identity.user  # type: ignore[union-attr]
    key = give_key(holder)  # type: ignore[arg-type]
    bobs = give_key(system.bob.identity.user)  # type: ignore[union-attr, arg-type]
    later = (timezone.now() + timedelta(hours=1)).isoformat()
    good = signed_for(admin, key)
    other = signed_for(replace_reference(admin), key)
    cases = [
        {},
        {"assertion": good["assertion"]},
        {**good, "nonce": "another"},
        {**good, "expires": later},
        {**good, "expires": "now"},
        {**good, "assertion": {}},
        {**good, "assertion": {**good["assertion"], "signature": "AAAA"}},
        signed_for(admin, bobs),
        other,
    ]
    for signed in cases:
        assert "your passkey" in refused(admin, signed=signed)
    clock.shift(timedelta(minutes=10, seconds=1))
    assert "another time" in refused(admin, signed=good)


def replace_reference(grant: Grant) -> Grant:
    """The same grant under another name, as another grant would be."""
    other = Grant.objects.with_names().get(pk=grant.pk)
    other.reference = "aaaaaaaaaaaaaaaa"
    return other


def test_a_row_without_a_warrant_gives_nothing_and_raises_an_alarm(
    grant: Grant, caplog: pytest.LogCaptureFixture
) -> None:
    Warrant.objects.get(grant=grant).delete()
    assert "no warrant" in refused(grant)
    [event] = AuditEvent.objects.filter(event="grants.grant.credentials_refused")
    assert event.actor_name == "the broker"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_grant_that_was_changed_under_its_warrant_gives_nothing(grant: Grant, system: System) -> None:
    Grant.objects.filter(pk=grant.pk).update(entitlement=system.permission_set("Other", "read"))
    assert "something else" in refused(grant)


def test_rules_that_no_longer_give_it_give_no_session(grant: Grant) -> None:
    grant.identity.department = "Sales"  # type: ignore[union-attr]
    grant.identity.save()  # type: ignore[union-attr]
    assert "gives no session" in refused(grant)


def test_a_grant_that_ends_while_aws_is_asked_gives_nothing(grant: Grant) -> None:
    FakeMinter.during = lambda: services.end(grant, by=grant.requested_by, reason=EndReason.DONE)  # type: ignore[assignment]
    with pytest.raises(NotGiven, match="ended just now"):
        hand_out(asking(grant))
    assert not Minting.objects.exists()


@pytest.mark.parametrize("error", [Denied("AWS denies it."), Unreachable("No answer.")])
def test_what_aws_refuses_is_said_without_what_it_answered(
    grant: Grant, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    error.__cause__ = ValueError(SECRET)  # as a parser would quote what it could not read
    FakeMinter.error = error
    with pytest.raises(NotGiven) as refusal:
        hand_out(asking(grant))
    assert refusal.value.__cause__ is None and refusal.value.__suppress_context__
    assert not any(spill in caplog.text for spill in SPILLS)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"grant": "a", "user": "1", "kind": "cli"},
        {"grant": "a", "user": "1", "kind": "root", "step_up": {}, "origin": {}},
        {"grant": "a", "user": "1", "kind": "cli", "step_up": [], "origin": {}},
        {"grant": "a", "user": "1", "kind": "cli", "step_up": {}, "origin": "x"},
        {"grant": "a", "user": "1", "kind": "cli", "step_up": {}, "origin": {}, "signed": "x"},
    ],
)
def test_what_is_no_request_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(NotGiven):
        Asked.of(body)


def test_where_a_request_came_from_is_bounded() -> None:
    many = {f"name{number}" * 20: "x" * 5000 for number in range(50)}
    asked = Asked.of({"grant": "a", "user": "1", "kind": "cli", "step_up": {}, "origin": many})
    assert len(asked.origin) <= 10
    assert all(len(name) <= 40 and len(value) <= 200 for name, value in asked.origin.items())


# ---- what is kept


def test_what_was_minted_can_never_be_changed(grant: Grant) -> None:
    hand_out(asking(grant))
    for change in (lambda: Minting.objects.update(access_key_id="AKIA"), lambda: Minting.objects.all().delete()):
        with pytest.raises(Exception, match="append_only"), transaction.atomic():
            change()


def test_the_secret_is_in_no_table_no_log_and_no_cache(
    grant: Grant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for kind in Minting.Kind.values:
        hand_out(asking(grant, kind=Minting.Kind(kind)))
    assert not any(spill in caplog.text for spill in SPILLS)
    assert not list(tables_with(*SPILLS))
    assert list(tables_with("ASIAEXAMPLE")) == ["audit_auditevent", "grants_minting"]  # the search finds what is there


def tables_with(*spills: str) -> Iterator[str]:
    """The tables in which any column holds any of these texts."""
    for table in sorted(connection.introspection.table_names()):
        with connection.cursor() as cursor:
            cursor.execute(
                f'SELECT 1 FROM "{table}" t WHERE t::text LIKE ANY(%s) LIMIT 1', [[f"%{spill}%" for spill in spills]]
            )
            if cursor.fetchone():
                yield table


def test_what_a_page_is_given_does_not_show_its_secrets() -> None:
    session = client.Session(timezone.now(), "alice-x", "ASIAEXAMPLE", SECRET, TOKEN, URL)
    assert not any(spill in f"{session!r} {session}" for spill in SPILLS)
    with pytest.raises(TypeError):
        pickle.dumps(session)


# ---- the socket


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's may not be long."""
    with tempfile.TemporaryDirectory(prefix="gh") as path:
        yield Path(path)


@pytest.fixture
def path(folder: Path, settings: Any) -> Path:
    settings.BROKER_SOCKET = str(folder / "broker")
    settings.BROKER_KEY = KEY
    return folder / "broker"


@pytest.fixture
def broker(path: Path) -> Iterator[server.Broker]:
    with serving(server.Broker(path, key=KEY, peers=[os.geteuid()])) as running:
        yield running


class serving:  # noqa: N801
    """A broker that runs in a thread of this process."""

    def __init__(self, broker: server.Broker) -> None:
        self.broker = broker
        self.thread = threading.Thread(target=broker.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> server.Broker:
        self.thread.start()
        return self.broker

    def __exit__(self, *_: object) -> None:
        self.broker.shutdown()
        self.thread.join()
        self.broker.server_close()


@pytest.fixture
def believed(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What got past the socket; the answer is a session to whoever asked."""
    asked: list[Asked] = []

    def answer(one: Asked) -> dict[str, str]:
        asked.append(one)
        return {
            "expires_at": timezone.now().isoformat(),
            "session_name": "alice-x",
            "access_key_id": "ASIAEXAMPLE",
            "secret_access_key": SECRET,
            "session_token": TOKEN,
        }

    monkeypatch.setattr(minting, "hand_out", answer)
    return asked


def say(path: Path, line: bytes) -> bytes:
    with closing(socket.socket(socket.AF_UNIX)) as to:
        to.settimeout(10)
        to.connect(str(path))
        try:
            to.sendall(line)
            to.shutdown(socket.SHUT_WR)
            return to.makefile("rb").read()
        except (BrokenPipeError, ConnectionResetError):
            return b""


def request(**fields: Any) -> dict[str, Any]:
    said = {"grant": "a" * 16, "user": "1", "kind": "cli", "step_up": {"method": "totp", "at": "x"}, "origin": {}}
    return {"nonce": "n" * 32, "at": time.time(), **said, **fields}


def sealed(key: str = KEY, **fields: Any) -> bytes:
    return wire.seal(request(**fields), key, wire.REQUEST)


def test_a_good_request_is_answered_once(broker: server.Broker, path: Path, believed: list[Asked]) -> None:
    line = sealed()
    answer = wire.unseal(say(path, line), KEY, wire.ANSWER)
    assert answer["nonce"] == "n" * 32 and answer["session"]["secret_access_key"] == SECRET
    assert say(path, line) == b""  # replayed
    assert len(believed) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"garbage\n",
        b"\x00\xff\xfe\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"body": 1, "mac": 2}\n',
        b'{"body": "{}", "mac": "\\u00e9"}\n',
        b"[" * 5000 + b"\n",
        sealed(key="another-key-another-key-another-key"),
        sealed()[:-1],
        wire.seal(request(), KEY, wire.ANSWER),
        wire.seal(request(), KEY, ""),
        sealed().replace(b"cli", b"console"),
        sealed(at=time.time() - 31),
        sealed(at=time.time() + 3600),
        sealed(at="now"),
        sealed(at=True),
        sealed(at=float("nan")),
        sealed(nonce=""),
        sealed(nonce=None),
        sealed(nonce="n" * 65),
        sealed(padding="x" * wire.MOST_ASKED),
        b"x" * 1_000_000,
    ],
)
def test_what_an_attacker_says_to_the_socket_is_not_answered(
    broker: server.Broker, path: Path, believed: list[Asked], line: bytes
) -> None:
    assert say(path, line) == b""
    assert believed == []
    assert wire.unseal(say(path, sealed(nonce="m" * 32)), KEY, wire.ANSWER)["session"]  # it still works for others


def test_another_user_of_the_machine_gets_no_answer(
    broker: server.Broker, path: Path, believed: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "peer_of", lambda line: 31337)
    assert say(path, sealed()) == b""
    assert believed == []


def test_the_kernel_says_who_connects(path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert server.peer_of(ours) == os.geteuid()


def test_the_socket_is_the_brokers_alone(broker: server.Broker, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_named_users_reach_it_by_their_group(path: Path) -> None:
    with serving(server.Broker(path, key=KEY, peers=[os.geteuid(), 4711])):
        assert path.stat().st_mode & 0o777 == 0o660


def test_whoever_says_nothing_holds_nobody_up(
    broker: server.Broker, path: Path, believed: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(server.AT_ONCE - 1)]
    for line in silent:
        line.connect(str(path))
    assert say(path, sealed()) != b""
    for line in silent:
        line.close()


def test_a_slow_request_is_given_up(
    broker: server.Broker, path: Path, believed: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ASK_WITHIN", 0.0)
    assert say(path, sealed()) == b""
    assert believed == []


def test_a_flood_is_turned_away_and_forgotten_again() -> None:
    now = [1000.0]
    nonces = wire.Nonces(lambda: now[0])
    nonces.MOST = 3  # type: ignore[misc]
    for number in range(3):
        nonces.spend(f"{number:032}", now[0])
    with pytest.raises(wire.Rejected, match="too many"):
        nonces.spend("x" * 32, now[0])
    now[0] += 2 * wire.FRESH_FOR + 1
    nonces.spend("x" * 32, now[0])


def test_a_nonce_is_remembered_for_as_long_as_its_request_would_count() -> None:
    now = [1000.0]
    nonces = wire.Nonces(lambda: now[0])
    nonces.spend("n" * 32, now[0] + wire.FRESH_FOR)  # its clock is ahead, so it counts for longer
    now[0] += 2 * wire.FRESH_FOR
    with pytest.raises(wire.Rejected, match="came before"):
        nonces.spend("n" * 32, 1000.0 + wire.FRESH_FOR)


def test_an_error_inside_says_nothing_of_what_it_handled(
    broker: server.Broker, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(asked: Asked) -> dict[str, str]:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(minting, "hand_out", fail)
    assert say(path, sealed()) == b""
    assert SECRET not in caplog.text and "RuntimeError" in caplog.text


# ---- where it stands


def test_a_short_key_does_not_start(path: Path) -> None:
    with pytest.raises(server.CannotListen, match="32 characters"):
        server.Broker(path, key="short", peers=[0])


def test_two_brokers_do_not_share_a_socket(broker: server.Broker, path: Path) -> None:
    with pytest.raises(server.CannotListen, match="already"):
        server.Broker(path, key=KEY, peers=[0])


def test_a_socket_that_nobody_listens_at_is_taken_over(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with serving(server.Broker(path, key=KEY, peers=[0])):
        assert path.is_socket()
    assert not path.exists()


def test_a_file_is_not_overwritten(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(server.CannotListen):
        server.Broker(path, key=KEY, peers=[0])
    assert path.read_text() == "precious"


def test_it_does_not_stand_where_anybody_could_put_another(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(server.CannotListen, match="Anybody"):
        server.Broker(folder / "broker", key=KEY, peers=[0])
    folder.chmod(0o700)


def test_the_command_says_what_it_misses(settings: Any, path: Path) -> None:
    settings.BROKER_KEY = ""
    with pytest.raises(CommandError, match="BROKER_KEY"):
        call_command("broker", stdout=io.StringIO())
    settings.BROKER_SOCKET = ""
    with pytest.raises(CommandError, match="BROKER_SOCKET"):
        call_command("broker", stdout=io.StringIO())


def test_what_libraries_write_at_debug_is_not_written(broker: server.Broker) -> None:
    assert all(not logging.getLogger(name).isEnabledFor(logging.INFO) for name in server.TALKATIVE)


# ---- asking


def ask(grant: Grant, **fields: Any) -> client.Session:
    values = {
        "by": grant.identity.user,  # type: ignore[union-attr]
        "kind": Minting.Kind.CLI,
        "step_up": {"method": "totp", "at": timezone.now().isoformat()},
        "origin": {"address": "192.0.2.7"},
    }
    return client.ask(grant, **{**values, **fields})


@pytest.mark.django_db(transaction=True)
def test_web_and_broker_together(broker: server.Broker) -> None:
    system = System()
    grant = system.active()
    session = ask(grant)
    assert (session.access_key_id, session.secret_access_key, session.console_url) == ("ASIAEXAMPLE", SECRET, "")
    assert ask(grant, kind=Minting.Kind.CONSOLE).console_url == URL
    assert Minting.objects.count() == 2
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    with pytest.raises(client.Refused, match="not active"):
        ask(grant)
    with pytest.raises(client.Refused, match="no such grant"):
        ask(grant, by=system.bob.identity.user)  # type: ignore[union-attr]


def test_without_a_broker_the_page_says_what_to_do(grant: Grant, path: Path, settings: Any) -> None:
    with pytest.raises(client.NoBroker, match="does not answer"):
        ask(grant)
    settings.BROKER_KEY = ""
    with pytest.raises(client.NoBroker, match="BROKER_KEY"):
        ask(grant)


def test_a_broker_with_another_key_is_not_believed(grant: Grant, path: Path, believed: list[Asked]) -> None:
    with serving(server.Broker(path, key="z" * 32, peers=[os.geteuid()])), pytest.raises(client.NoBroker):
        ask(grant)
    assert believed == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\n",
        wire.seal({"nonce": "old", "problem": "", "session": {}}, KEY, wire.ANSWER),
        wire.seal({"nonce": "old", "problem": "", "session": {}}, "z" * 32, wire.ANSWER),
        b"x" * (wire.MOST_ANSWERED + 10),
    ],
)
def test_an_impostor_at_the_socket_hands_out_nothing(grant: Grant, path: Path, answer: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def impostor() -> None:
        line, _ = listener.accept()
        with line:
            line.recv(wire.MOST_ASKED)
            line.sendall(answer)

    thread = threading.Thread(target=impostor, daemon=True)
    thread.start()
    with pytest.raises(client.NoBroker):
        ask(grant)
    thread.join()
    listener.close()

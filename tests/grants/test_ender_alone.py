"""The separate ender as a process, and without the database: it lives on, goes by the ledger, and shows that it lives."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.core.management import call_command
from django.db import DataError, InterfaceError, InternalError, OperationalError, ProgrammingError
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from apps.audit.models import AuditEvent
from apps.connectors.errors import Denied
from apps.connectors.fake_world import raises
from apps.core.locks import Taken, exclusive
from apps.grants import ledger, services
from apps.grants.management.commands.ender import Command
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import ender as module
from apps.grants.provisioning.ender import Ender, Report, overdue_of
from tests.grants.system import System

LATE = timedelta(hours=1, minutes=3)  # after a grant of an hour should have ended


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker) -> Callable[[], Any]:
    """Inside, the database does not answer; who asks it all the same fails the test."""

    @contextmanager
    def gone() -> Iterator[None]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise psycopg.OperationalError("connection refused")

        with monkeypatch.context() as patch:
            patch.setattr(module, "_overdue", refuse)
            patch.setattr("apps.core.locks.psycopg.connect", refuse)
            django_db_blocker.block()
            try:
                yield
            finally:
                django_db_blocker.restore()

    return gone


def overdue(system: System, clock: Any) -> Grant:
    """An hour's grant that nobody ended."""
    grant = system.active()
    clock.shift(LATE)
    return grant


# Many


@pytest.mark.parametrize("has_database", [True, False])
def test_every_one_has_its_turn_however_many_do_not_move(
    system: System,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    no_database: Callable[[], Any],
    has_database: bool,
) -> None:
    """Workers are dead, so nothing that was ended leaves the front; and two cannot be ended at once."""
    monkeypatch.setattr(module, "BATCH", 2)
    for name in ("zoe", "yan", "xia", "will", "vera"):
        system.active(who=system.person(name))
    ledger.write(path, timezone.now())
    clock.shift(LATE)
    system.world.script("close", *(raises(Denied("No right.")) for _ in range(2)))
    ender = Ender(path)
    with contextlib.nullcontext() if has_database else no_database():
        rounds = [ender.round() for _ in range(4)]
        clock.shift(timedelta(seconds=11))
        rounds.append(ender.round())
    assert [len(one.ended) for one in rounds] == [0, 2, 1, 0, 2]
    assert [len(one.unproven) for one in rounds] == [2, 2, 2, 2, 0]
    assert {one.overdue for one in rounds} == {5}
    assert not system.world.assignments


# Without the database


def test_without_a_database_the_ledger_tells_what_is_overdue(
    system: System, clock: Any, path: Path, no_database: Callable[[], Any]
) -> None:
    over, still = system.active(), system.active(who=system.bob, duration=timedelta(hours=3))
    ledger.write(path, timezone.now())
    clock.shift(LATE)
    ender = Ender(path)
    with no_database():
        report = ender.round()
    assert (report.source, report.ended) == ("ledger", [over.number])
    assert set(system.world.assignments) == {("bob", system.read.external_id)}
    still.refresh_from_db()
    assert still.state == State.ACTIVE


def test_what_it_did_meanwhile_is_told_when_the_database_is_back(
    system: System, clock: Any, path: Path, no_database: Callable[[], Any]
) -> None:
    overdue_one = system.active()
    ledger.write(path, timezone.now())
    clock.shift(LATE)
    ender = Ender(path)
    with no_database():
        ender.round()
    assert not AuditEvent.objects.filter(event="grants.grant.ended_by_ender").exists()
    ender.round()
    assert AuditEvent.objects.get(event="grants.grant.ended_by_ender").subject == f"grants.grant:{overdue_one.pk}"
    ender.round()
    assert AuditEvent.objects.filter(event="grants.grant.ended_by_ender").count() == 1


def test_a_database_that_dies_while_it_tells_is_told_later(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = overdue(system, clock)
    ender = Ender()

    def die(*_: Any, **__: Any) -> Any:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(module.audit, "record", die)
        assert ender.round().ended == [grant.number]
    ender.round()
    assert AuditEvent.objects.filter(event="grants.grant.ended_by_ender").count() == 1


def test_without_database_and_ledger_it_says_so_and_lives_on(
    system: System, path: Path, no_database: Callable[[], Any]
) -> None:
    with no_database():
        assert Ender(path).round().source == "nothing"
        assert Ender(None).round().source == "nothing"


def test_a_ledger_that_nobody_wrote_yet_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A fresh portal has none for its first minute. One that is there and cannot be read is an error."""
    for path, level in ((tmp_path / "ledger.jsonl", "WARNING"), (tmp_path, "ERROR")):
        caplog.clear()
        assert Ender(path).round_without_database().source == "nothing"
        assert [record.levelname for record in caplog.records] == [level]


@pytest.mark.parametrize("error", [ProgrammingError, DataError, InternalError, OperationalError, InterfaceError])
def test_whatever_is_wrong_with_the_database_the_ledger_is_read(
    system: System, clock: Any, path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A table or a right is missing, or somebody holds the table: a database that was restored by half, or is stuck."""
    grant = system.active()
    ledger.write(path, timezone.now())
    clock.shift(LATE)

    def fail(*_: Any) -> Any:
        raise error("not now")

    monkeypatch.setattr(module, "_overdue", fail)
    report = run("--ledger", str(path))
    assert (report["source"], report["ended"]) == ("ledger", [grant.number])


def test_a_damaged_ledger_counts_as_far_as_it_can_be_read(
    system: System, clock: Any, path: Path, no_database: Callable[[], Any]
) -> None:
    grant = system.active()
    ledger.write(path, timezone.now())
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    clock.shift(LATE)
    with no_database():
        assert Ender(path).round().ended == [grant.number]


def test_both_sources_call_the_same_grants_overdue(system: System, clock: Any, path: Path) -> None:
    system.active()
    stuck = system.active(who=system.bob)
    services.end(stuck, by=stuck.requested_by, reason=EndReason.DONE)
    for _ in range(9):
        ledger.write(path, timezone.now())
        by_rows = set(Grant.objects.overrun(timezone.now()).values_list("reference", flat=True))
        by_ledger = {entry.reference for entry in overdue_of(ledger.read(path).entries, timezone.now())}
        assert by_rows == by_ledger
        clock.shift(timedelta(minutes=8))
    assert len(by_rows) == 2


def test_in_the_ledger_too_another_grant_keeps_what_it_needs(
    system: System, clock: Any, path: Path, no_database: Callable[[], Any]
) -> None:
    system.active()
    system.active(duration=timedelta(hours=3))
    ledger.write(path, timezone.now())
    clock.shift(LATE)
    with no_database():
        assert Ender(path).round().overdue == 0
    assert system.can_use()


# The process


def run(*args: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("ender", "--once", *args, stdout=out)
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


def test_the_command_does_a_round_and_leaves_a_sign_of_life(system: System, clock: Any, tmp_path: Path) -> None:
    grant = overdue(system, clock)
    health = tmp_path / "health"
    assert run("--health", str(health))["ended"] == [grant.number]
    assert json.loads(health.read_text())["source"] == "database"


def test_only_one_works_at_a_time(system: System, clock: Any) -> None:
    overdue(system, clock)
    with exclusive("ender"):
        assert run()["source"] == "standby"
    assert system.world.assignments


def test_the_command_goes_on_without_a_database(
    system: System, clock: Any, path: Path, no_database: Callable[[], Any]
) -> None:
    grant = system.active()
    ledger.write(path, timezone.now())
    clock.shift(LATE)
    with no_database():
        report = run("--ledger", str(path))
    assert (report["source"], report["ended"]) == ("ledger", [grant.number])


def test_a_round_that_fails_stops_no_later_one(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Ender, "round", fail)
    assert run()["source"] == "failed"


class Enough(Exception):
    pass


@pytest.mark.parametrize(
    ("sources", "is_healthy"),
    [
        (["database"], True),
        (["ledger"], True),
        (["database", "standby", "failed"], True),
        (["database", *["standby"] * 40], False),
        (["database", *["failed"] * 40], False),
        (["nothing"], False),
        (["standby"], False),
    ],
)
def test_only_rounds_that_looked_are_a_sign_of_life(
    sources: list[str],
    is_healthy: bool,
    clock: Any,
    tmp_path: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what the compose file asks."""
    rounds = iter(sources)
    monkeypatch.setattr(Command, "one_round", lambda *_: Report(next(rounds)))

    def sleep(seconds: float) -> None:
        clock.shift(timedelta(seconds=seconds))
        if not rounds.__length_hint__():
            raise Enough

    monkeypatch.setattr("time.sleep", sleep)
    health = tmp_path / "ender"
    with pytest.raises(Enough):
        call_command("ender", "--health", str(health))
    composed = yaml.safe_load((settings.BASE_DIR / "docker-compose.yml").read_text())["services"]["ender"]
    check = composed["healthcheck"]["test"][-1].replace("/tmp/ender", str(health))
    with contextlib.nullcontext() if is_healthy else pytest.raises((AssertionError, TypeError)):
        exec(check, {})


def test_a_lock_that_was_lost_is_no_database_that_was_lost() -> None:
    assert not issubclass(Taken, psycopg.OperationalError)

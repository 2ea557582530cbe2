"""The separate ender: what workers should have ended is ended, with the database or without; nothing else is touched."""

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
from apps.connectors import registry
from apps.connectors.errors import Denied
from apps.connectors.fake_world import fails_late, lies, pending, raises, throttled
from apps.core.locks import Taken, exclusive
from apps.grants import ledger, provisioning, services
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


def overdue(system: System, clock: Any, **fields: Any) -> Grant:
    """An hour's grant that nobody ended."""
    grant = system.active(**fields)
    clock.shift(LATE)
    assert system.world.assignments
    return grant


# What it ends


def test_what_is_past_its_end_is_ended(system: System, clock: Any) -> None:
    grant = overdue(system, clock)
    report = Ender().round()
    assert (report.source, report.overdue, report.ended) == ("database", 1, [grant.number])
    assert not system.world.assignments


def test_what_is_not_over_is_left_alone(system: System, clock: Any) -> None:
    system.active()
    clock.shift(timedelta(minutes=59))
    assert Ender().round().overdue == 0
    clock.shift(timedelta(minutes=2))  # the workers have two minutes
    assert Ender().round().overdue == 0
    assert system.world.assignments


def test_a_removal_that_is_stuck_is_carried_out(system: System, clock: Any) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    assert Ender().round().overdue == 0
    clock.shift(Grant.REVOKE_SLO)
    assert Ender().round().ended == [grant.number]
    assert not system.world.assignments


def test_what_was_claimed_and_left_by_its_worker_is_ended(system: System, clock: Any) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(state=State.PROVISIONING, active_at=None, ends_at=None)
    clock.shift(timedelta(hours=2))
    assert Ender().round().ended == [grant.number]


def test_it_changes_no_state_and_the_workers_settle_it(system: System, clock: Any) -> None:
    grant = overdue(system, clock)
    before = Grant.objects.filter(pk=grant.pk).values().get()
    Ender().round()
    assert Grant.objects.filter(pk=grant.pk).values().get() == before
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


def test_it_tells_what_it_did_under_its_own_name(system: System, clock: Any) -> None:
    grant = overdue(system, clock)
    Ender().round()
    event = AuditEvent.objects.get(event="grants.grant.ended_by_ender")
    assert (event.actor_name, event.subject) == ("the ender", f"grants.grant:{grant.pk}")
    assert "does not hold" in event.data["proof"]["what"]


def test_what_is_gone_already_is_not_told_as_its_work(system: System, clock: Any) -> None:
    overdue(system, clock)
    system.world.assignments.clear()
    report = Ender().round()
    assert (report.overdue, report.ended) == (1, [])
    assert not AuditEvent.objects.filter(event="grants.grant.ended_by_ender").exists()
    assert not system.world.calls_of("close")


def test_it_writes_no_guard_and_opens_nothing(system: System, clock: Any) -> None:
    overdue(system, clock)
    guards = {account: dict(lines) for account, lines in system.world.guards.items()}
    system.world.calls.clear()
    Ender().round()
    assert {call.operation for call in system.world.calls} <= {"look", "close", "status"}
    assert system.world.guards == guards


def test_dated_policies_are_left_to_their_dates() -> None:
    assert registry.ender("aws", "iam_timeboxed_policy", {}) is None
    provisioners = {key for key in registry.PROVISIONERS if key[1] != "iam_timeboxed_policy"}
    assert provisioners == set(registry.ENDERS)


# What it leaves


def test_what_another_grant_needs_stays(system: System, clock: Any) -> None:
    overdue(system, clock)
    longer = system.issue()
    provisioning.provision(longer.pk)
    assert Ender().round().overdue == 0
    assert system.can_use()


def test_a_row_without_a_warrant_keeps_nothing(system: System, clock: Any) -> None:
    first = overdue(system, clock)
    longer = system.issue()
    provisioning.provision(longer.pk)
    longer.warrant.delete()
    assert Ender().round().ended == [first.number]
    assert not system.world.assignments


def test_one_that_is_over_itself_keeps_nothing(system: System, clock: Any) -> None:
    first, _ = system.active(), system.active()
    clock.shift(LATE)
    assert Ender().round().ended == [first.number]
    assert not system.world.assignments


# Faults


@pytest.mark.parametrize("fault", [throttled, lies, lambda: fails_late("no"), lambda: raises(Denied("No right."))])
def test_a_fault_is_tried_again_later_and_stops_nobody_else(
    system: System, clock: Any, fault: Callable[[], Any]
) -> None:
    first, second = system.active(), system.active(who=system.bob)
    clock.shift(LATE)
    system.world.script("close", fault())
    ender = Ender()
    report = ender.round()
    assert (set(report.unproven), report.ended) == ({first.number}, [second.number])
    closes = len(system.world.calls_of("close"))
    assert set(ender.round().unproven) == {first.number}  # not asked again at once
    assert len(system.world.calls_of("close")) == closes
    clock.shift(timedelta(seconds=11))
    assert ender.round().ended == [first.number]
    assert not system.world.assignments


def test_waiting_grows_and_has_a_limit(system: System, clock: Any) -> None:
    grant = overdue(system, clock)
    ender = Ender()
    for _ in range(12):
        system.world.script("close", raises(Denied("No right.")))
        ender.round()
        clock.shift(timedelta(minutes=5))
    assert ender.round().ended == [grant.number]


def test_a_removal_under_way_is_waited_for(system: System, clock: Any) -> None:
    grant = overdue(system, clock)
    system.world.script("close", pending(3))
    assert Ender().round().ended == [grant.number]


def test_what_comes_back_is_ended_again(system: System, clock: Any) -> None:
    grant = overdue(system, clock)
    ender = Ender()
    ender.round()
    system.world.assign("alice", system.read.external_id)
    assert ender.round().ended == []  # it looked a moment ago
    clock.shift(timedelta(minutes=10))
    assert ender.round().ended == [grant.number]


def test_a_worker_that_holds_the_lock_for_ever_does_not_save_it(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = overdue(system, clock)
    monkeypatch.setattr(module, "LOCK_WAIT_MS", 50)
    key = registry.provisioner("fake", "idc_assignment", system.connection.config).lock_key(
        system.world.target("alice", system.read.external_id)
    )
    with exclusive("object", key):
        assert Ender().round().ended == [grant.number]
    assert not system.world.assignments


def test_killed_in_the_middle_the_next_one_goes_on(system: System, clock: Any) -> None:
    class Killed(BaseException):
        pass

    def kill(when: str, call: Any) -> None:
        if (when, call.operation) == ("before", "close"):
            raise Killed

    grant = overdue(system, clock)
    system.world.hook = kill
    with pytest.raises(Killed):
        Ender().round()
    system.world.hook = None
    assert Ender().round().ended == [grant.number]


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


def test_who_has_been_over_longest_goes_first(system: System, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    late = system.active(duration=timedelta(minutes=90))
    early = system.active(who=system.bob)
    clock.shift(timedelta(hours=2))
    ender = Ender()
    assert [ender.round().ended, ender.round().ended] == [[early.number], [late.number]]


def test_what_another_keeps_takes_up_no_place(system: System, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    overdue(system, clock)
    provisioning.provision(system.issue().pk)  # keeps it
    clock.shift(timedelta(minutes=1))
    other = system.active(who=system.bob, duration=timedelta(minutes=5))
    clock.shift(timedelta(minutes=8))
    ender = Ender()
    assert [ender.round().ended, ender.round().ended] == [[], [other.number]]
    assert ender.round().overdue == 1


def test_a_round_comes_to_an_end_and_the_next_goes_on(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_FOR", -1)
    first, second = system.active(), system.active(who=system.bob)
    clock.shift(LATE)
    ender = Ender()
    assert [ender.round().ended, ender.round().ended] == [[first.number], [second.number]]


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

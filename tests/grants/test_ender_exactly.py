"""The separate ender to the second: what is overdue, how often a fault is tried again, how long is waited, what is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine

from apps.audit.models import AuditEvent
from apps.connectors import budget
from apps.connectors import fake_world as fake
from apps.connectors.errors import Denied
from apps.core.locks import Lost, Taken, exclusive
from apps.grants import ledger, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import ender as module
from apps.grants.provisioning.ender import Ender, overdue_of
from apps.inventory.models import Entitlement, Principal
from tests.grants.lines import WORLD, entry, small_world
from tests.grants.system import START, System

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LATE = START + HOUR + timedelta(minutes=2)  # when the workers should have ended an hour's grant


@pytest.fixture
def now(sleeps: list[float]) -> Iterator[Any]:
    with time_machine.travel(LATE, tick=False) as traveller:
        yield traveller


@pytest.fixture
def world(now: Any) -> Iterator[fake.World]:
    with small_world() as made:
        yield made


@pytest.fixture
def ender(world: fake.World, monkeypatch: pytest.MonkeyPatch) -> Ender:
    """One that has nothing but a ledger, of what everybody holds in the small world."""

    def read(path: Path, *, accept_damage: bool) -> ledger.Ledger:
        assert (path, accept_damage) == (Path("ledger"), True)
        return ledger.Ledger(START, tuple(LINES))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("It asked for a lock in a database that is gone.")

    monkeypatch.setattr(module.ledger, "read", read)
    monkeypatch.setattr(module, "exclusive", refuse)
    LINES.clear()
    return Ender(Path("ledger"))


LINES: list[ledger.Entry] = []


# ---- what is overdue


@pytest.mark.parametrize(
    ("is_overdue", "fields"),
    [
        (True, {}),
        (False, {"not_after": START + HOUR + SECOND}),
        (True, {"not_after": START + 9 * HOUR, "ends_at": START + HOUR}),
        (True, {"state": "provisioning"}),
        (True, {"state": "revoking"}),
        (False, {"state": "pending"}),
        (False, {"state": "revoked"}),
        (False, {"not_after": None}),
        (False, {"provisioner": "", "remover": "permission_set"}),
        (True, {"state": "revoking", "not_after": None, "revoking_at": LATE - Grant.REVOKE_SLO}),
        (False, {"state": "revoking", "not_after": None, "revoking_at": LATE - Grant.REVOKE_SLO + SECOND}),
        (False, {"state": "revoking", "not_after": None}),
        (False, {"not_after": None, "revoking_at": START}),
    ],
)
def test_overdue_is_what_is_two_minutes_past_its_end_or_five_in_being_ended(
    world: fake.World, is_overdue: bool, fields: dict[str, Any]
) -> None:
    line = entry(**fields)
    assert overdue_of(iter([line]), LATE) == ([line] if is_overdue else [])


@pytest.mark.parametrize(
    ("is_kept", "fields"),
    [
        (True, {}),
        (True, {"state": "provisioning"}),
        (False, {"state": "pending"}),
        (False, {"state": "revoking"}),
        (False, {"not_after": START + HOUR}),
        (False, {"is_alone": True}),
        (False, {"connection": "Other"}),
        (False, {"who": "bob"}),
    ],
)
def test_what_is_overdue_is_kept_by_a_live_line_for_the_same(
    world: fake.World, is_kept: bool, fields: dict[str, Any]
) -> None:
    line, other = entry(), entry(**{"not_after": START + 9 * HOUR, **fields})
    assert (line in overdue_of([line, other], LATE)) is not is_kept


def test_what_has_an_object_of_its_own_is_kept_by_nobody(world: fake.World) -> None:
    line, other = entry(is_alone=True), entry(not_after=START + 9 * HOUR)
    assert overdue_of([other, line], LATE) == [line]


# ---- whose turn it is


def test_what_is_over_longest_is_ended_first(ender: Ender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    LINES.append(entry())
    LINES.append(entry("bob", state="revoking", not_after=START + 9 * HOUR, revoking_at=START + 50 * 60 * SECOND))
    assert [ender.round_without_database().ended for _ in range(3)] == [["G-bob"], ["G-alice"], []]


def test_who_waits_longest_is_tried_again_first(ender: Ender, now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    LINES.extend([entry(), entry("bob", not_after=START + 59 * 60 * SECOND)])
    fake.world(WORLD).script("close", *[fake.raises(Denied("No right."))] * 3)
    tried = []
    for seconds in (1, 9, 50):
        tried.append(next(who for who, why in ender.round_without_database().unproven.items() if why == "No right."))
        now.shift(seconds * SECOND)
    assert tried == ["G-bob", "G-alice", "G-bob"]
    assert [ender.round_without_database().ended for _ in range(2)] == [["G-alice"], ["G-bob"]]


def test_who_was_never_looked_at_goes_before_who_was(ender: Ender, now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    LINES.extend([entry(), entry("bob", not_after=START + 59 * 60 * SECOND)])
    fake.world(WORLD).script("close", fake.raises(Denied("No right.")))
    assert list(ender.round_without_database().unproven) == ["G-bob"]
    now.shift(10 * SECOND)
    assert ender.round_without_database().ended == ["G-alice"]


def test_a_fault_is_tried_again_after_ten_seconds_then_twice_as_long_and_never_more_than_five_minutes(
    ender: Ender, world: fake.World, now: Any
) -> None:
    LINES.append(entry())
    world.script("close", *[fake.raises(Denied("No right."))] * 8)
    for seconds in (10, 20, 40, 80, 160, 300, 300, 300):
        assert ender.round_without_database().unproven == {"G-alice": "No right."}
        now.shift((seconds - 1) * SECOND)
        calls = len(world.calls)
        assert ender.round_without_database().unproven == {"G-alice": "tried a moment ago"}
        assert len(world.calls) == calls
        now.shift(SECOND)
    report = ender.round_without_database()
    assert (report.source, report.overdue, report.ended, report.unproven) == ("ledger", 1, ["G-alice"], {})


def test_what_was_ended_is_looked_at_again_after_ten_minutes_with_its_faults_forgotten(
    ender: Ender, world: fake.World, now: Any
) -> None:
    LINES.append(entry())
    world.script("close", fake.raises(Denied("No right.")))
    ender.round_without_database()
    now.shift(10 * SECOND)
    assert ender.round_without_database().ended == ["G-alice"]
    calls = len(world.calls)
    now.shift(timedelta(minutes=10) - SECOND)
    report = ender.round_without_database()
    assert (report.overdue, report.ended, report.unproven, len(world.calls)) == (1, [], {}, calls)
    LINES[:] = [entry()]  # it came back
    world.script("close", fake.raises(Denied("No right.")))
    now.shift(SECOND)
    assert ender.round_without_database().unproven == {"G-alice": "No right."}
    now.shift(10 * SECOND)
    assert ender.round_without_database().ended == ["G-alice"]


def test_what_is_gone_already_is_not_asked_to_be_removed(ender: Ender, world: fake.World) -> None:
    LINES.append(entry())
    world.assignments.clear()
    report = ender.round_without_database()
    assert (report.overdue, report.ended) == (1, [])
    assert [call.operation for call in world.calls] == ["look"]


def test_what_only_its_dates_end_is_left_to_them(ender: Ender, world: fake.World) -> None:
    LINES.append(entry("robot", "logs", provisioner="iam_timeboxed_policy"))
    report = ender.round_without_database()
    assert (report.ended, report.unproven, world.calls) == ([], {}, [])


def test_a_round_takes_two_minutes_at_most(ender: Ender, world: fake.World, monkeypatch: pytest.MonkeyPatch) -> None:
    LINES.extend(entry(who) for who in ("alice", "bob"))
    passed = iter([0, 120.5, 200, 201])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(passed)))
    assert ender.round_without_database().ended == ["G-alice"]
    assert ender.round_without_database().ended == ["G-bob"]


def test_its_calls_count_as_revoking_before_the_budget(ender: Ender, world: fake.World) -> None:
    purposes: set[str] = set()
    world.hook = lambda *_: purposes.add(budget.current())
    LINES.append(entry())
    ender.round_without_database()
    assert purposes == {"revoke"}


# ---- a removal


def test_a_removal_under_way_is_looked_at_for_fifteen_seconds(
    ender: Ender, world: fake.World, sleeps: list[float]
) -> None:
    LINES.append(entry())
    world.script("close", fake.pending(2))
    assert ender.round_without_database().ended == ["G-alice"]
    assert sleeps == [1, 2, 4]
    assert {call.detail["reference"] for call in world.calls_of("status")} == {"close:1"}


def test_a_removal_that_takes_longer_is_not_proven(ender: Ender, world: fake.World, sleeps: list[float]) -> None:
    LINES.append(entry())
    world.script("close", fake.pending(99))
    assert ender.round_without_database().unproven == {"G-alice": "alice holds Read"}
    assert sleeps == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (fake.fails_late("AWS had enough."), "alice holds Read AWS had enough."),
        (fake.raises(Denied("")), "Denied"),  # it had no words
    ],
)
def test_a_removal_that_failed_says_why(ender: Ender, world: fake.World, fault: Any, why: str) -> None:
    LINES.append(entry())
    world.script("close", fault)
    assert ender.round_without_database().unproven == {"G-alice": why}


# ---- with the database


def run_late(*fields: dict[str, Any]) -> None:
    """Nobody ended these grants, in the order of their keys, and this is where they stand."""
    for grant, values in zip(Grant.objects.order_by("pk"), fields, strict=True):
        Grant.objects.filter(pk=grant.pk).update(**values)


def test_by_the_database_too_what_is_over_longest_is_ended_first(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    grants = [system.active(who=system.person(name)) for name in ("zoe", "yan", "xia", "will")]
    late, over = START + 9 * HOUR, START + HOUR
    clock.move_to(START + 2 * HOUR)
    run_late(
        {"ends_at": over + 60 * SECOND, "not_after": over + 50 * SECOND},
        {"ends_at": over + 30 * SECOND, "not_after": over + 60 * SECOND},
        {
            "state": State.REVOKING,
            "end_reason": "done",
            "revoking_at": over + 20 * SECOND,
            "ends_at": late,
            "not_after": late,
        },
        {"state": State.PROVISIONING, "active_at": None, "ends_at": None, "not_after": over + 10 * SECOND},
    )
    ender = Ender()
    assert [ender.round().ended for _ in range(5)] == [*([one.number] for one in reversed(grants)), []]


def test_a_batch_of_rows_is_one_query(system: System, django_assert_num_queries: Any) -> None:
    """Also of those whose account is their holder's."""
    references = [grant.reference for grant in (system.active(), system.active(who=system.bob))]
    Entitlement.objects.update(resource=None)
    Principal.objects.update(resource=system.account)
    with django_assert_num_queries(1):
        entries = [ledger.entry_of(grant) for grant in module._rows(references)]
    assert {one.reference for one in entries} == set(references)


def test_what_another_keeps_is_looked_at_again_after_ten_minutes(system: System, clock: Any) -> None:
    first = system.active()
    second = system.active(duration=2 * HOUR)
    ender = Ender()
    clock.move_to(START + 2 * HOUR)
    assert (ender.round().overdue, system.can_use()) == (0, False)
    assert first.number not in ender.round().ended
    services.end(second, by=second.requested_by, reason=EndReason.DONE)
    clock.shift(timedelta(minutes=10) - SECOND)
    assert first.number not in ender.round().ended
    clock.shift(SECOND)
    system.world.assign("alice", system.read.external_id)
    assert ender.round().ended == [first.number]


def test_what_it_tells_names_the_holder_and_holds_the_proof(system: System, clock: Any) -> None:
    grant = system.active()
    clock.move_to(LATE)
    Ender().round()
    event = AuditEvent.objects.get(event="grants.grant.ended_by_ender")
    assert {f"inventory.identity:{grant.identity_id}", f"inventory.entitlement:{grant.entitlement_id}"} <= set(
        event.refs
    )
    assert (event.data["proof"]["what"], event.data["proof"]["read_at"]) == (
        "alice does not hold Read",
        LATE.isoformat(),
    )


def test_what_the_database_forgot_keeps_nothing_else_untold(system: System, clock: Any, tmp_path: Path) -> None:
    forgotten, known = system.active(), system.active(who=system.bob)
    ledger.write(tmp_path / "ledger", START)
    clock.move_to(LATE)
    ender = Ender(tmp_path / "ledger")
    assert ender.round_without_database().ended == [forgotten.number, known.number]
    Grant.objects.filter(pk=forgotten.pk).update(reference="another")
    ender.round()
    assert AuditEvent.objects.get(event="grants.grant.ended_by_ender").subject == f"grants.grant:{known.pk}"


def test_it_removes_under_the_lock_of_the_object_and_gives_it_back(system: System, clock: Any) -> None:
    grant = system.active()
    clock.move_to(LATE)
    target = system.world.target("alice", system.read.external_id)
    key = ("object", module.registry.ender("fake", "idc_assignment", grant.connection.config).lock_key(target))  # type: ignore[union-attr]
    asked = []

    def check(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "close"):
            asked.append(call)
            with pytest.raises(Taken), exclusive(*key, wait_ms=1):
                pass

    system.world.hook = check
    system.world.script("close", fake.raises(Denied("No right.")))
    assert Ender().round().unproven == {grant.number: "No right."}
    with exclusive(*key, wait_ms=1):
        assert len(asked) == 1


def test_a_lock_that_did_not_last_takes_nothing_back(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def lost(*key: str, wait_ms: int) -> Iterator[None]:
        assert wait_ms == 5000
        yield
        raise Lost(f"The lock on {key} did not last")

    grant = system.active()
    clock.move_to(LATE)
    monkeypatch.setattr(module, "exclusive", lost)
    assert Ender().round().ended == [grant.number]

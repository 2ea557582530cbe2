"""The separate ender: what workers should have ended is ended, with the database or without; nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.connectors import registry
from apps.connectors.errors import Denied
from apps.connectors.fake_world import fails_late, lies, pending, raises, throttled
from apps.core.locks import exclusive
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import ender as module
from apps.grants.provisioning.ender import Ender
from tests.grants.system import System

LATE = timedelta(hours=1, minutes=3)  # after a grant of an hour should have ended


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

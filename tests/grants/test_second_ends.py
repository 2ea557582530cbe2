"""A schedule that AWS would not end a live grant with is found, told, and written again by itself: never later than the
grant's warrant allows, and without touching what denies it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.connectors import fake_world as fake
from apps.connectors.fake_world import Line
from apps.grants import narrowing, provisioning, reconciling, services
from apps.grants.models import Drift, EndReason, Grant, Reconciliation, State
from apps.grants.services import drift as deciding
from apps.grants.services import narrowing as trusting
from tests.grants.system import ACCOUNT, System
from tests.grants.test_drift import QUARTER, carry_out, compare, compared, known_administrator, only  # noqa: F401
from tests.grants.test_narrowing import restore

Kind = Drift.Kind
MINUTES, HOURS = timedelta(minutes=5), timedelta(hours=2)


def schedule(system: System, name: str = "alice") -> Line | None:
    """When AWS's scheduler takes Read away from somebody."""
    pair = (name, system.read.external_id)
    return system.world.second_ends["|".join(pair)].get(pair)


def move(system: System, by: timedelta | None, name: str = "alice") -> None:
    """Somebody moves that schedule; None deletes it."""
    pair, line = (name, system.read.external_id), schedule(system, name)
    assert line
    system.world.second_ends["|".join(pair)] = {} if by is None else {pair: Line(line.not_after + by, True, False)}


@pytest.fixture
def grant(compared: System, clock) -> Grant:  # noqa: F811
    """Alice holds Read for two hours, since a while."""
    grant = compared.active(duration=HOURS)
    clock.shift(MINUTES)
    grant.refresh_from_db()
    return grant


# ---- what differs


@pytest.mark.parametrize("by", [None, timedelta(seconds=1), timedelta(days=9)], ids=["gone", "a second", "days"])
def test_a_schedule_that_comes_too_late_or_never_is_told_and_written_again(
    compared: System,  # noqa: F811
    grant: Grant,
    clock,
    by: timedelta | None,
) -> None:
    move(compared, by)
    run = compare(compared)
    found = only(Kind.UNSCHEDULED)
    assert (run.state, run.found, run.repairs) == (Reconciliation.State.SETTLED, 1, 1)
    assert (found.grant, found.principal, found.entitlement) == (grant, grant.principal, grant.entitlement)
    assert grant.number in found.what and f"from {grant.identity} at" in found.what
    assert found.evidence["differences"] and found.evidence["proof"]["read_at"]
    assert not found.is_critical, "the guard denies it all the same"
    carry_out(compared)
    line = schedule(compared)
    assert line and line.not_after == grant.ends_at
    found.refresh_from_db()
    assert found.repaired_at and found.is_open
    clock.shift(QUARTER)
    assert compare(compared).found == 0
    found.refresh_from_db()
    assert not found.is_open


def test_a_schedule_that_comes_earlier_only_narrows_and_is_left(compared: System, grant: Grant) -> None:  # noqa: F811
    move(compared, -MINUTES)
    before = schedule(compared)
    assert compare(compared).found == 0
    carry_out(compared)
    assert schedule(compared) == before


def test_a_comparison_looks_at_the_schedules_of_its_own_connection(compared: System, clock) -> None:  # noqa: F811
    other = System()
    other.active(duration=HOURS)
    clock.shift(MINUTES)
    move(other, None)
    compare(compared)
    assert not Drift.objects.filter(kind=Kind.UNSCHEDULED).exists()
    assert reconciling.compare(other.connection.pk).found == 1


@pytest.mark.parametrize("hours", [(4, 2), (2, 4)])
def test_the_schedule_belongs_to_the_longest_of_the_grants_that_share_it(
    compared: System,  # noqa: F811
    clock,
    hours: tuple[int, int],
) -> None:
    grants = [compared.active(duration=timedelta(hours=some)) for some in hours]
    shorter, longer = sorted(grants, key=lambda grant: grant.duration)
    clock.shift(MINUTES)
    assert compare(compared).found == 0
    services.end(longer, by=compared.alice.identity.user, reason=EndReason.DONE)
    for _ in range(2):  # it ends, then it is cleared
        compared.run_clock()
        clock.shift(MINUTES)
    assert compare(compared).found == 0
    move(compared, HOURS)
    compare(compared)
    assert only(Kind.UNSCHEDULED).grant == shorter
    carry_out(compared)
    shorter.refresh_from_db()
    assert schedule(compared).not_after == shorter.ends_at


def test_a_row_that_says_more_than_its_warrant_schedules_nothing(compared: System, grant: Grant) -> None:  # noqa: F811
    move(compared, None)
    compare(compared)
    later = grant.ends_at + timedelta(days=9)
    Grant.objects.filter(pk=grant.pk).update(duration=timedelta(days=9), ends_at=later, not_after=later)
    compare(compared)
    assert not Drift.objects.open().filter(kind=Kind.UNSCHEDULED).exists(), "nothing of it shall be open"
    carry_out(compared)
    assert schedule(compared) is None
    assert not compared.world.calls_of("write_second_end")


def test_what_is_found_and_has_no_object_breaks_no_comparison(compared: System) -> None:  # noqa: F811
    """An owner has weeks to take it away."""
    held = compared.holds(compared.bob, compared.admin)
    grant = services.remove_standing(held, by=compared.bob.identity.user, reason="Not needed any more.")
    for state in (State.REVOKING, State.ACTIVE):
        Grant.objects.filter(pk=grant.pk).update(state=state)
        assert compare(compared).state == Reconciliation.State.SETTLED


# ---- what is not claimed


def test_where_a_schedule_cannot_be_read_nothing_is_claimed_closed_or_written(
    compared: System,  # noqa: F811
    grant: Grant,
    clock,
) -> None:
    move(compared, None)
    compare(compared)
    known = only(Kind.UNSCHEDULED)
    Drift.objects.filter(pk=known.pk).update(decided_at=None)
    clock.shift(QUARTER)
    compared.world.script("examine_second_end", fake.throttled())
    run = compare(compared)
    assert run.state == Reconciliation.State.INCOMPLETE
    assert run.problems == [f"{grant.number}: The fake system asks us to slow down."]
    assert run.found == 0
    known.refresh_from_db()
    assert known.is_open and known.decided_at is None


def test_one_that_cannot_be_read_keeps_no_other_from_being_told(compared: System, grant: Grant, clock) -> None:  # noqa: F811
    compared.active(compared.bob, duration=HOURS)
    clock.shift(MINUTES)
    move(compared, None, "bob")
    compared.world.script("examine_second_end", fake.throttled())
    run = compare(compared)
    assert run.state == Reconciliation.State.INCOMPLETE
    assert only(Kind.UNSCHEDULED).principal == compared.bob
    assert only(Kind.UNSCHEDULED).decided_at is None, "nothing is written after an incomplete comparison"


def test_a_stale_read_is_read_once_more(compared: System, grant: Grant) -> None:  # noqa: F811
    compared.world.script("examine_second_end", fake.stale())
    move(compared, timedelta())  # what was before is nothing
    compared.world._before.pop(("second end", f"alice|{compared.read.external_id}"))
    assert compare(compared).found == 0
    assert len(compared.world.calls_of("examine_second_end")) == 2


def test_an_end_that_is_being_moved_right_now_is_no_difference(compared: System, clock) -> None:  # noqa: F811
    grant = compared.issue()
    compared.world.script("enforce", fake.fine(), fake.lost_request())  # the narrowing is lost
    provisioning.provision(grant.pk)
    clock.shift(MINUTES)
    assert compare(compared).found == 0
    compared.run_clock()
    clock.shift(MINUTES)
    assert compare(compared).found == 0


def test_what_ends_while_it_is_looked_at_is_no_difference(compared: System, grant: Grant) -> None:  # noqa: F811
    move(compared, None)

    def ends(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "examine_second_end"):
            compared.world.hook = None
            services.end(grant, by=compared.alice.identity.user, reason=EndReason.DONE)

    compared.world.hook = ends
    assert compare(compared).found == 0


# ---- what is written


def test_a_repair_writes_that_schedule_and_nothing_else(compared: System, grant: Grant, clock) -> None:  # noqa: F811
    """The guard denies Alice earlier than was decided, and Bob's schedule comes earlier: both are left as they are."""
    compared.active(compared.bob, duration=HOURS)
    clock.shift(MINUTES)
    pair = ("alice", compared.read.external_id)
    compared.world.guards[ACCOUNT][pair] = Line(timezone.now(), True, False)
    move(compared, None)
    move(compared, -MINUTES, "bob")
    guards, bobs = {**compared.world.guards[ACCOUNT]}, schedule(compared, "bob")
    compared.world.calls.clear()
    compare(compared)
    carry_out(compared)
    assert schedule(compared).not_after == grant.ends_at
    assert compared.world.guards[ACCOUNT] == guards
    assert schedule(compared, "bob") == bobs
    assert not compared.world.calls_of("enforce", "open", "close")


def test_a_guard_that_is_gone_keeps_no_schedule_from_being_written(compared: System, grant: Grant) -> None:  # noqa: F811
    move(compared, None)
    compared.world.unguarded_accounts.add(ACCOUNT)
    compare(compared)
    carry_out(compared)
    assert schedule(compared).not_after == grant.ends_at
    assert only(Kind.TAMPERED).is_critical and not only(Kind.TAMPERED).repaired_at


def test_nothing_is_scheduled_for_what_ended_before_the_repair(compared: System, grant: Grant) -> None:  # noqa: F811
    move(compared, None)
    compare(compared)
    services.end(grant, by=compared.alice.identity.user, reason=EndReason.DONE)
    carry_out(compared)
    assert schedule(compared) is None
    assert only(Kind.UNSCHEDULED).repaired_at
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


class Killed(BaseException):
    """The process died here."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["examine_second_end", "write_second_end"])
def test_killed_at_any_step_of_the_repair_the_next_one_converges(
    compared: System,  # noqa: F811
    grant: Grant,
    clock,
    when: str,
    operation: str,
) -> None:
    move(compared, HOURS)

    def dies(moment: str, call: fake.Call) -> None:
        if (moment, call.operation) == (when, operation):
            raise Killed

    def a_round() -> None:
        compare(compared)
        for row in Drift.objects.unwritten(timezone.now()):
            reconciling.repair(row.pk)

    compared.world.hook = dies
    with pytest.raises(Killed):
        a_round()
    compared.world.hook = None
    clock.shift(QUARTER)
    compare(compared)
    carry_out(compared)
    assert schedule(compared).not_after == grant.ends_at
    clock.shift(QUARTER)
    compare(compared)
    assert not Drift.objects.open().exists()


@pytest.mark.parametrize("fault", [fake.lost_request(), fake.lost_response(), fake.lies(), fake.stale()])
def test_a_repair_that_is_not_read_back_is_tried_again(
    compared: System,  # noqa: F811
    grant: Grant,
    clock,
    fault: fake.Fault,
) -> None:
    move(compared, HOURS)
    compare(compared)
    compared.world.script("write_second_end", fault)
    carry_out(compared)
    found = only(Kind.UNSCHEDULED)
    assert found.problem and not found.repaired_at
    clock.shift(timedelta(minutes=2))
    carry_out(compared)
    found.refresh_from_db()
    assert found.repaired_at and not found.problem
    assert schedule(compared).not_after == grant.ends_at


# ---- the brake, and a database that may have forgotten


def test_many_schedules_that_are_gone_at_once_wait_for_two_people(compared: System, grant: Grant, clock) -> None:  # noqa: F811
    for name in ("carol", "dave"):
        compared.active(compared.person(name), duration=HOURS)
    clock.shift(MINUTES)
    for name in ("alice", "carol", "dave"):
        move(compared, None, name)
    run = compare(compared)
    assert (run.state, run.repairs) == (Reconciliation.State.HELD, 3)
    carry_out(compared)
    assert schedule(compared) is None
    erin, frank = (known_administrator(compared, name) for name in ("Erin", "Frank"))
    deciding.propose_release(run, by=erin)
    deciding.release(run, by=frank)
    carry_out(compared)
    assert all(schedule(compared, name) for name in ("alice", "carol", "dave"))


def test_after_a_restore_the_rows_say_when_it_ends_and_the_guard_keeps_what_it_denies(
    compared: System,  # noqa: F811
    grant: Grant,
    clock,
) -> None:
    """In AWS the guard denies Alice already: that is no reason to take the assignment away, and is kept."""
    pair = ("alice", compared.read.external_id)
    compared.world.guards[ACCOUNT][pair] = denied = Line(grant.created_at, True, False)
    trusting.notice()
    restore()
    compare(compared)
    clock.shift(MINUTES)
    compare(compared)
    assert narrowing.reason()
    assert not Drift.objects.filter(kind=Kind.UNSCHEDULED).exists()
    move(compared, HOURS)
    compare(compared)
    carry_out(compared)
    assert schedule(compared).not_after == grant.ends_at
    assert compared.world.guards[ACCOUNT][pair] == denied

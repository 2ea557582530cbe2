"""Emergency stops and the ender with the database rights of their own processes: enough, and no more."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db import transaction
from django.db.utils import ProgrammingError
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.grants import provisioning
from apps.grants.models import Drift, Exodus, Grant, Reconciliation, Scope, State, Stop, StopWrite, Warrant
from apps.grants.provisioning.ender import Ender
from apps.grants.services import stops
from tests.factories.users import UserFactory
from tests.grants.lifting import FOUND, known, signed
from tests.grants.signing import give_key
from tests.grants.system import System
from tests.security.conftest import Acting

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
WHY = "Alice's laptop was stolen."


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        act()


def test_web_and_worker_can_stop_everything_between_them(acting: Acting, system: System) -> None:
    erin, frank = known(UserFactory(administrator=True)), known(UserFactory(administrator=True))
    grant = system.active()
    with acting("web"):
        stop = stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=PASSKEY)
    [row] = stop.writes.all()
    with acting("worker"):
        provisioning.write_stop(row.pk)
        provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    keys = {user: give_key(user) for user in (erin, frank)}
    with acting("web"):
        stops.propose_lift(stop, by=erin, reason=FOUND, signed=signed(stop, erin, keys[erin]))
        stops.lift(stop, by=frank, signed=signed(stop, frank, keys[frank]))
    with acting("worker"):
        provisioning.lift_stop(stop.pk)
    StopWrite.objects.update(next_try_at=timezone.now())
    with acting("worker"):
        provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.cleared_at is not None


def test_the_shell_of_a_worker_stops_everything_while_the_web_is_down(acting: Acting, system: System) -> None:
    erin, grant = UserFactory(administrator=True), system.active()
    with acting("worker"):
        call_command("revoke_all", "--yes", "--by", erin.email, "--reason", WHY, stdout=io.StringIO())
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


def test_a_web_process_cannot_say_that_a_stop_was_read_back_or_make_one_vanish(acting: Acting, system: System) -> None:
    system.active()
    stop = stops.order(scope=Scope.ALL, reason=WHY, by=UserFactory(administrator=True), step_up=PASSKEY)
    with acting("web"):
        refused(lambda: StopWrite.objects.update(read_at=timezone.now()))
        refused(lambda: StopWrite.objects.all()._raw_delete("default"))
        refused(lambda: Stop.objects.filter(pk=stop.pk)._raw_delete("default"))
        refused(lambda: Stop.objects.filter(pk=stop.pk).update(scope="account"))
        refused(lambda: Stop.objects.filter(pk=stop.pk).update(lifted_at=timezone.now()))


def test_the_ender_can_do_its_work_and_lift_nothing(acting: Acting, system: System) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(ends_at=timezone.now() - timedelta(minutes=3))
    stop = stops.order(
        scope=Scope.PERSON, subject=system.bob.identity, reason=WHY, by=UserFactory(administrator=True), step_up=PASSKEY
    )
    with acting("ender"):
        assert Ender().round().ended == [grant.number]
        refused(lambda: Stop.objects.filter(pk=stop.pk).update(lifted_at=timezone.now()))
        refused(lambda: StopWrite.objects.update(read_at=timezone.now()))
    assert AuditEvent.objects.get(event="grants.grant.ended_by_ender").actor_name == "the ender"
    assert not system.world.assignments


def test_a_stolen_worker_keeps_the_ender_from_nothing_that_its_warrant_does_not_allow(
    acting: Acting, system: System
) -> None:
    gone, later = system.active(), system.active(who=system.bob)
    now = timezone.now()
    far = now + timedelta(days=300)
    with acting("worker"):
        Grant.objects.filter(pk=gone.pk).update(
            state=State.REVOKED, end_reason="done", revoked_at=now, receipt=[{"what": "It is gone, honestly."}]
        )
        Grant.objects.filter(pk=later.pk).update(ends_at=far, not_after=far, claimed_at=far)
        refused(lambda: Warrant.objects.filter(grant=later).update(made_at=far))
        refused(lambda: Warrant.objects.filter(grant=gone)._raw_delete("default"))
    with time_machine.travel(now + timedelta(hours=3), tick=False), acting("ender"):
        assert set(Ender().round().ended) == {gone.number, later.number}


NEVER = datetime(2999, 1, 1, tzinfo=UTC)


def test_a_web_process_cannot_hold_back_the_write_of_a_stop(acting: Acting, system: System) -> None:
    system.active()
    stop = stops.order(scope=Scope.ALL, reason=WHY, by=UserFactory(administrator=True), step_up=PASSKEY)
    with acting("web"):
        StopWrite.objects.update(next_try_at=NEVER, problem_count=2**31 - 1)
    [row] = stop.writes.all()
    assert row.problem_count == 0
    with acting("worker"):
        provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.read_at is not None


def test_a_web_process_adds_no_write_that_was_done_already(acting: Acting, system: System) -> None:
    stop = stops.order(scope=Scope.ALL, reason=WHY, by=UserFactory(administrator=True), step_up=PASSKEY)
    with acting("web"), pytest.raises(ProgrammingError, match="not written yet"), transaction.atomic():
        StopWrite.objects.create(stop=stop, connection=system.connection, shared_key="x", read_at=timezone.now())


def test_a_web_process_keeps_no_difference_from_being_repaired_for_ever(acting: Acting, system: System) -> None:
    now = timezone.now()
    run = Reconciliation.objects.create(connection=system.connection, database="here", next_at=now, state="settled")
    drift = Drift.objects.create(
        connection=system.connection, kind="rogue", key="x", what="x", first_seen_at=now, seen_at=now, seen_in=run
    )
    erin = UserFactory(administrator=True)
    with acting("web"):
        Drift.objects.update(next_try_at=NEVER, accepted_until=NEVER, accepted_by=erin, accepted_reason="x")
        with pytest.raises(ProgrammingError, match="read in AWS"), transaction.atomic():
            Drift.objects.update(repaired_at=now)
    drift.refresh_from_db()
    assert drift.next_try_at <= timezone.now()
    assert drift.accepted_until < now + timedelta(days=92)


def test_a_web_process_puts_no_brake_on(acting: Acting, system: System) -> None:
    now = timezone.now()
    run = Reconciliation.objects.create(connection=system.connection, database="here", next_at=now)
    exodus = Exodus.objects.create(connection=system.connection, people_before=1, state="over")
    with acting("web"):
        for row in (run, exodus):
            with pytest.raises(ProgrammingError, match="let go"), transaction.atomic():
                type(row)._default_manager.update(state="held")

"""Emergency stops and the ender with the database rights of their own processes: enough, and no more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.utils import ProgrammingError
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.grants import provisioning
from apps.grants.models import Grant, Scope, State, Stop, StopWrite
from apps.grants.provisioning.ender import Ender
from apps.grants.services import stops
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.security.conftest import Acting

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
WHY = "Alice's laptop was stolen."


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        act()


def test_web_and_worker_can_stop_everything_between_them(acting: Acting, system: System) -> None:
    erin, frank = UserFactory(administrator=True), UserFactory(administrator=True)
    grant = system.active()
    with acting("web"):
        stop = stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=PASSKEY)
    [row] = stop.writes.all()
    with acting("worker"):
        provisioning.write_stop(row.pk)
        provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    with acting("web"):
        stops.propose_lift(stop, by=erin, reason="The laptop was found.")
        stops.lift(stop, by=frank, step_up=PASSKEY)
    StopWrite.objects.update(next_try_at=timezone.now())
    with acting("worker"):
        provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.cleared_at is not None


def test_a_web_process_cannot_say_that_a_stop_was_read_back_or_make_one_vanish(acting: Acting, system: System) -> None:
    system.active()
    stop = stops.order(scope=Scope.ALL, reason=WHY, by=UserFactory(administrator=True), step_up=PASSKEY)
    with acting("web"):
        refused(lambda: StopWrite.objects.update(read_at=timezone.now()))
        refused(lambda: StopWrite.objects.all()._raw_delete("default"))
        refused(lambda: Stop.objects.filter(pk=stop.pk)._raw_delete("default"))
        refused(lambda: Stop.objects.filter(pk=stop.pk).update(scope="account"))


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

"""A row that names an object in AWS which is not its own: nothing is written for it, and administrators are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.audit.models import AuditEvent, ref
from apps.connectors.fake_world import world
from apps.grants import periodic, provisioning, reconciling, services
from apps.grants.models import EndReason, Grant, Scope, State, Stop, StopWrite
from apps.grants.services import stops
from apps.grants.windows import find_shared, windows_of, writer_for
from apps.inventory.models import Connection
from tests.factories.inventory import ConnectionFactory, ResourceFactory, SyncRunFactory
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, System, make_due
from tests.grants.test_extending import extended
from tests.security.conftest import Acting

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
TOLD = "grants.stop.object_refused"
OTHER = "a key that nobody shares"
SECOND = timedelta(seconds=1)


def forge(system: System, *, lifted: bool = False, **fields: Any) -> StopWrite:
    """What the web process may insert: a stop, lifted already or not, and an object to write it into."""
    erin, frank, now = UserFactory(), UserFactory(), timezone.now()
    said = {"lifted_at": now, "lifted_by": erin, "lift_proposed_by": frank} if lifted else {}
    ours = {"connection": system.connection, "account": system.account, "provisioner": "idc_assignment"}
    values = {**ours, "shared_key": OTHER, **fields}
    stop = Stop.objects.create(
        scope="person", identity=system.bob.identity, reason="Nothing at all.", ordered_by=erin, digest="", **said
    )
    return StopWrite.objects.create(stop=stop, **values)


@pytest.mark.parametrize("lifted", [False, True])
def test_a_forged_row_takes_no_end_out_of_a_guard(acting: Acting, system: System, lifted: bool) -> None:
    grant = system.active()
    guard = dict(system.world.guards[ACCOUNT])
    with nullcontext() if lifted else acting("web"):  # the database takes no stop from it that is lifted already
        row = forge(system, lifted=lifted)
    with acting("worker"):
        for _ in range(2):
            provisioning.write_stop(row.pk)
            StopWrite.objects.update(next_try_at=timezone.now())
    assert system.world.guards[ACCOUNT] == guard
    assert grant.ends_at and not system.can_use(at=grant.ends_at + SECOND)
    row.refresh_from_db()
    assert (row.read_at, row.cleared_at) == (None, None)
    assert "not the object" in row.problem
    told = AuditEvent.objects.get(event=TOLD)  # once, though it is tried for ever
    assert (told.subject, told.data["object"]) == (f"grants.stop:{row.stop_id}", OTHER)
    assert "Nothing was written" in told.data["problem"]


def test_it_is_told_again_the_next_day(system: System) -> None:
    system.active()
    row = forge(system)
    provisioning.write_stop(row.pk)
    with time_machine.travel(timezone.now() + timedelta(hours=23), tick=False):
        make_due()
        provisioning.write_stop(row.pk)
    assert AuditEvent.objects.filter(event=TOLD).count() == 1
    with time_machine.travel(timezone.now() + timedelta(hours=25), tick=False):
        make_due()
        provisioning.write_stop(row.pk)
    assert AuditEvent.objects.filter(event=TOLD).count() == 2


def test_the_web_process_silences_no_alarm(acting: Acting, system: System) -> None:
    """It is told once a day, by what is in the log; and the web process may write that it was told."""
    system.active()
    with acting("web"):
        row = forge(system)
        said = {
            "actor_kind": "worker",
            "actor_name": "a worker",
            "subject": "grants.stop:0",
            "written_as": "gatehouse_worker",
        }
        AuditEvent.objects.create(event=TOLD, refs=[ref(row.stop)], **said)
    with acting("worker"):
        provisioning.write_stop(row.pk)
    told = AuditEvent.objects.get(event=TOLD, subject=ref(row.stop))
    assert told.written_as == "gatehouse_worker"
    assert AuditEvent.objects.get(event=TOLD, subject="grants.stop:0").written_as == "gatehouse_web"


def test_a_forged_row_undoes_no_stop(acting: Acting, system: System) -> None:
    system.active()
    stop = stops.order(scope=Scope.ALL, reason="An incident.", by=UserFactory(administrator=True), step_up=PASSKEY)
    with acting("worker"):
        provisioning.write_stop(stop.writes.get().pk)
    with acting("web"):
        forge(system)
    with acting("worker"):
        periodic.carry_out()
    assert ("*", "*") in system.world.guards[ACCOUNT]


def test_a_row_of_a_forged_connection_says_nothing_in_a_guard(acting: Acting, system: System) -> None:
    """The guard would be written to wherever that connection points."""
    grant = system.active()
    with acting("web"):
        forged = Connection.objects.create(name="aaa", kind="aws")
    forge(system, connection=forged, shared_key=grant.shared_key)
    assert len(windows_of(grant.shared_key)) == 1
    Grant.objects.filter(pk=grant.pk).update(shared_key="")
    assert find_shared(grant.shared_key) is None


def test_a_row_about_an_account_of_another_connection_keeps_no_comparison_from_its_end(system: System) -> None:
    SyncRunFactory(connection=system.connection)
    elsewhere = ResourceFactory(connection=ConnectionFactory(), external_id="444455556666")
    row = forge(system, account=elsewhere)
    StopWrite.objects.filter(pk=row.pk).update(shared_key=writer_for(row).shared_key(row.targets()[0]))
    assert reconciling.compare(system.connection.pk).problems == []


def test_a_row_about_another_account_says_nothing_in_a_guard_and_keeps_nobody_from_writing_it(system: System) -> None:
    grant = system.active()
    other = ResourceFactory(connection=system.connection, external_id="444455556666")
    row = forge(system, account=other, shared_key=grant.shared_key)
    assert [window.target.account_id for window in windows_of(grant.shared_key)] == [ACCOUNT]
    provisioning.write_stop(row.pk)
    assert AuditEvent.objects.filter(event=TOLD).exists()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deny(grant.shared_key)
    grant.refresh_from_db()
    assert grant.denied_at


def test_a_row_about_another_account_does_not_stand_for_the_object_that_it_names(system: System) -> None:
    """What is read by it would be another guard, and what stands in the right one would be lost."""
    grant = system.active()
    forge(system, account=ResourceFactory(connection=system.connection), shared_key=grant.shared_key)
    Grant.objects.update(cleared_at=timezone.now())
    assert find_shared(grant.shared_key) is None
    stop = stops.order(scope=Scope.ALL, reason="An incident.", by=UserFactory(administrator=True), step_up=PASSKEY)
    shared = find_shared(grant.shared_key)
    assert shared and shared.row == stop.writes.get()


@pytest.mark.parametrize("name", ["group_membership", "nonsense"])
def test_a_row_whose_object_somebody_else_writes_is_refused(system: System, name: str) -> None:
    grant = system.active()
    system.world.calls.clear()
    provisioning.write_stop(forge(system, provisioner=name, shared_key=grant.shared_key).pk)
    assert AuditEvent.objects.get(event=TOLD).data["object"] == grant.shared_key
    assert not system.world.calls


def _narrow(grant: Grant) -> None:
    Grant.objects.update(narrowed_at=None)
    provisioning.narrow(grant.pk)


def _extend(grant: Grant) -> None:
    provisioning.extend(extended(grant).pk)


def _deny(grant: Grant) -> None:
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deny(OTHER)


def _end(grant: Grant) -> None:
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)


def _clear(grant: Grant) -> None:
    world(grant.connection.name).assignments.clear()
    Grant.objects.update(state=State.REVOKED, revoked_at=timezone.now(), receipt=[{"what": "x"}], end_reason="done")
    provisioning.clear(grant.pk)


@pytest.mark.parametrize("step", [_narrow, _extend, _deny, _end, _clear])
def test_no_step_writes_what_a_grant_names_wrongly(system: System, step: Callable[[Grant], None]) -> None:
    grant = system.active()
    guard = dict(system.world.guards[ACCOUNT])
    Grant.objects.update(shared_key=OTHER)
    grant.refresh_from_db()
    make_due()
    step(grant)
    assert system.world.guards[ACCOUNT] == guard
    assert AuditEvent.objects.get(event="grants.grant.object_refused").subject == f"grants.grant:{grant.pk}"


def test_nothing_but_the_one_helper_writes_a_shared_object_from_rows() -> None:
    grants = Path(services.__file__).parents[1]
    calling = {path.name for path in grants.rglob("*.py") if re.search(r"\.enforce\(", path.read_text())}
    assert calling == {"enforcing.py", "offline.py"}  # that one has a ledger, and no rows

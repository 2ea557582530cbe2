"""What the clock decides, and `manage.py sweep`, which does all of it without Celery."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent, ref
from apps.connectors import fake_world as fake
from apps.connectors.errors import Refused
from apps.grants import periodic, provisioning, services
from apps.grants.models import EndReason, Grant, Scope, State, StopWrite
from apps.grants.services import stops
from apps.inventory.models import Entitlement
from tests.conftest import Enqueued
from tests.factories.users import UserFactory
from tests.grants.signing import draft, give_key, signed_by
from tests.grants.system import ACCOUNT, YES, System, make_due
from tests.grants.test_stops import PASSKEY


def boom() -> None:
    raise RuntimeError("boom")


def test_a_step_that_fails_keeps_no_other_from_its_turn(
    system: System, clock, enqueued: Enqueued, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = system.active()
    clock.shift(timedelta(hours=1))
    monkeypatch.setattr(periodic, "DECISIONS", (boom, periodic.expire, boom))
    with pytest.raises(RuntimeError, match="boom"):
        periodic.sweep()
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    assert "apps.grants.tasks.deprovision" in enqueued.names


def test_what_the_clock_ends_is_in_the_story_of_its_holder(system: System, clock) -> None:
    grant = system.active()
    clock.shift(timedelta(hours=1))
    periodic.expire()
    for row in (system.alice.identity, system.read):
        events = AuditEvent.objects.about(ref(row)).filter(event="grants.grant.revoking")
        assert events.get().subject == ref(grant)


def test_ending_many_takes_as_many_queries_as_ending_one(system: System, clock) -> None:
    def expire(count: int) -> int:
        grants = [system.issue(what=system.permission_set(f"Set{count}x{n}", "read")) for n in range(count)]
        now = timezone.now()
        facts = {"state": State.ACTIVE, "active_at": now, "not_after": now, "ends_at": now, "claimed_at": now}
        Grant.objects.filter(pk__in=[grant.pk for grant in grants]).update(**facts)
        with CaptureQueriesContext(connection) as seen:
            periodic.expire()
        assert Grant.objects.filter(state=State.REVOKING, pk__in=[grant.pk for grant in grants]).count() == count
        return len(seen)

    assert expire(1) == expire(8)


def test_leavers_lose_their_grants(system: System) -> None:
    grant, waiting = system.active(), system.issue(what=system.permission_set("Other", "read"))
    system.alice.identity.ended_at = timezone.now()
    system.alice.identity.save()
    periodic.end_of_leavers()
    for row in (grant, waiting):
        row.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.LEAVER)
    assert (waiting.state, waiting.end_reason) == (State.CANCELLED, EndReason.LEAVER)


def test_whoever_is_shut_out_of_the_portal_loses_their_grants_and_nobody_else(system: System) -> None:
    grant, other = system.active(system.alice), system.active(system.bob)
    user = system.alice.identity.user
    user.is_active = False
    user.save()
    periodic.end_of_leavers()
    for row in (grant, other):
        row.refresh_from_db()
    assert (grant.state, grant.end_note) == (State.REVOKING, "Their way into the portal was closed.")
    assert other.state == State.ACTIVE


def test_what_an_owner_removes_by_hand_is_overdue_after_its_date(system: System) -> None:
    grant = services.remove_standing(
        system.holds(system.alice, system.admin), by=system.bob.identity.user, reason="Not needed."
    )
    now = timezone.now()
    Grant.objects.filter(pk=grant.pk).update(remover=Grant.BY_OWNER, due_at=now + timedelta(days=14))
    for days, is_overdue in ((0, False), (13, False), (14, True)):
        at = now + timedelta(days=days, hours=1)
        assert Grant.objects.overdue(at).exists() == is_overdue, days


def test_the_sweep_command_carries_out_all_that_is_due(system: System, clock, capsys) -> None:
    old, waiting = system.active(), system.issue(system.bob, duration=timedelta(hours=4))
    clock.shift(timedelta(hours=1))
    call_command("sweep")
    for row in (old, waiting):
        row.refresh_from_db()
    assert (old.state, waiting.state) == (State.REVOKED, State.ACTIVE)
    assert waiting.narrowed_at
    clock.shift(timedelta(hours=1, minutes=1))
    call_command("sweep")
    assert {person for person, _ in system.world.guards[ACCOUNT]} == {"bob"}
    assert "1 grants are unfinished." in capsys.readouterr().out


def test_the_sweep_command_writes_emergency_stops(system: System, clock) -> None:
    """Also in an account where nothing is left to end, which no removal would write."""
    done = system.active()
    services.end(done, by=done.requested_by, reason=EndReason.DONE)
    system.run_clock()
    administrator = UserFactory(administrator=True)
    stops.order(scope=Scope.ALL, reason="Somebody is inside.", by=administrator, step_up=PASSKEY)
    call_command("sweep")
    [row] = StopWrite.objects.all()
    assert row.read_at


def test_the_sweep_command_carries_out_extensions(system: System, clock) -> None:
    grant = system.active()
    before = grant.ends_at
    services.extend(grant, longer=timedelta(hours=1), by=grant.requested_by, authority=YES)
    clock.shift(timedelta(minutes=2))  # whose wake-up call got lost
    call_command("sweep")
    grant.refresh_from_db()
    assert grant.ends_at == before + timedelta(hours=1)


def test_the_sweep_command_takes_away_before_it_opens(system: System, clock) -> None:
    over = system.active()
    services.end(over, by=over.requested_by, reason=EndReason.DONE)
    system.issue(system.bob)
    system.world.calls.clear()
    call_command("sweep")
    done = [call.operation for call in system.world.calls if call.operation in ("close", "open")]
    assert done == ["close", "open"]


def test_one_step_that_breaks_stops_no_other_in_the_sweep_command(
    system: System, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, fine = system.active(system.alice), system.active(system.bob)
    clock.shift(timedelta(hours=1))
    real = provisioning.deprovision

    def deprovision(pk: int) -> None:
        if pk == broken.pk:
            boom()
        real(pk)

    monkeypatch.setattr(provisioning, "deprovision", deprovision)
    with pytest.raises(RuntimeError, match="boom"):
        call_command("sweep")
    fine.refresh_from_db()
    assert fine.state == State.REVOKED


def test_the_sweep_command_prints_what_is_overdue(system: System, clock, capsys) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    clock.shift(Grant.REVOKE_SLO)
    make_due()
    system.world.script("close", fake.raises(Refused("The remover may not delete assignments.")))
    call_command("sweep")
    assert f"{grant.number} is overdue since 2026-11-22 09:00 UTC: The remover may not" in capsys.readouterr().err


def test_privileged_access_that_no_passkey_signed_is_ended(system: System, clock) -> None:
    """Approved before passkeys signed, or read as privileged only since."""
    grant, other = system.active(), system.active(system.bob)
    Entitlement.objects.filter(pk=system.read.pk).update(privilege="privileged")
    periodic.sweep()
    for row in (grant, other):
        row.refresh_from_db()
        assert (row.state, row.end_reason) == (State.REVOKING, EndReason.UNWARRANTED)
    system.run_clock()
    assert not system.can_use()


def test_privileged_access_that_a_passkey_signed_stays(system: System, clock) -> None:
    bob = system.bob.identity.user
    authority = signed_by(bob, give_key(bob), draft(system.alice, system.admin, ticket_ref="INC-1"))
    grant = system.active(what=system.admin, authority=authority, ticket_ref="INC-1")
    periodic.sweep()
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE

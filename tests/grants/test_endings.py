"""Endings that do not get through, or not to the end: what is reported as removed is gone, and every grant gets there."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors.errors import Denied, Gone
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.core.locks import Taken
from apps.grants import periodic, provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import enforcing
from apps.inventory.models import Connection
from tests.grants.system import ACCOUNT, START, System, make_due


def ended(system: System) -> Grant:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    return grant


def deprovision(grant: Grant) -> None:
    make_due()
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()


def clear(grant: Grant) -> None:
    make_due()
    provisioning.clear(grant.pk)
    grant.refresh_from_db()


def test_sessions_are_counted_from_the_removal_however_long_it_took(system: System, clock) -> None:
    grant = ended(system)
    system.world.script("close", fake.raises(Denied("PortalProvisioner may not delete assignments.")))
    deprovision(grant)
    clock.shift(timedelta(hours=3))
    deprovision(grant)
    assert grant.sessions_until == START + timedelta(hours=4)
    clear(grant)
    assert system.world.guards[ACCOUNT]
    clock.shift(timedelta(hours=1))
    clear(grant)
    assert not system.world.guards[ACCOUNT]


def test_what_comes_back_is_removed_again_and_denied_until_it_is_gone(system: System, clock) -> None:
    grant = ended(system)
    deprovision(grant)
    system.world.assign("alice", system.read.external_id)  # AWS carries out what it was asked long ago
    clock.shift(timedelta(hours=1))
    for _ in range(2):
        system.world.script("close", fake.throttled())
        clear(grant)
        assert grant.cleared_at is None
        assert not system.can_use()
    assert AuditEvent.objects.filter(event="grants.grant.came_back").count() == 1
    clear(grant)
    clear(grant)
    assert grant.cleared_at
    assert not system.world.assignments
    assert not system.world.guards[ACCOUNT]
    system.active()  # no removal is under way any more that the same access would have to wait for


def test_what_came_back_is_not_taken_for_opened_while_it_is_removed_again(system: System, clock) -> None:
    grant = ended(system)
    deprovision(grant)
    system.world.assign("alice", system.read.external_id)
    clock.shift(timedelta(hours=1))
    system.world.script("close", fake.pending(polls=9))
    clear(grant)
    again = system.issue()
    system.world.calls.clear()
    provisioning.provision(again.pk)
    assert not system.world.calls_of("open")
    for _ in range(9):
        clear(grant)
    make_due()
    provisioning.provision(again.pk)
    again.refresh_from_db()
    assert again.state == State.ACTIVE
    assert system.can_use()


def test_what_came_back_is_left_alone_when_another_grant_opened_it(system: System, clock) -> None:
    grant = ended(system)
    deprovision(grant)
    clock.shift(timedelta(hours=1))
    system.active()
    clear(grant)
    assert grant.cleared_at
    assert system.can_use()


def test_what_came_back_is_left_alone_when_it_was_made_standing(system: System, clock) -> None:
    grant = ended(system)
    deprovision(grant)
    clock.shift(timedelta(hours=1))
    system.holds(system.alice, system.read)
    clear(grant)
    assert grant.cleared_at
    assert system.can_use()


def test_a_permission_set_that_was_deleted_keeps_no_removal_waiting(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = ended(system)

    def gone(*_: object) -> timedelta:
        raise Gone("AWS found no permission set of that name.")

    monkeypatch.setattr(FakeProvisioner, "session_for", gone)
    deprovision(grant)
    assert grant.state == State.REVOKED
    assert grant.sessions_until == START + timedelta(hours=1)


def test_where_no_deny_can_ever_be_written_it_is_done_when_the_last_session_ended(system: System, clock) -> None:
    grant = ended(system)
    for hours in (0, 0, 1):
        clock.shift(timedelta(hours=hours))
        system.world.script("enforce", fake.raises(Denied("The account is closed.")))
        assert grant.state != State.REVOKED
        deprovision(grant)
    assert grant.state == State.REVOKED
    assert not system.world.assignments
    assert "No Deny could be written" in grant.proofs[-1][0]
    assert grant.denied_at is None


def test_access_that_is_still_there_later_starts_the_counting_of_sessions_again(system: System, clock) -> None:
    grant = ended(system)
    system.world.script("enforce", fake.raises(Denied("The account is closed.")))
    deprovision(grant)
    system.world.assign("alice", system.read.external_id)
    clock.shift(timedelta(hours=1))
    system.world.script("enforce", fake.raises(Denied("The account is closed.")))
    system.world.script("close", fake.lies())
    deprovision(grant)
    assert (grant.state, grant.sessions_until) == (State.REVOKING, None)


def test_a_guard_that_somebody_else_is_writing_does_not_keep_the_removal_waiting(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant, real = ended(system), enforcing.exclusive

    def busy(*key: str):
        if key[0] == "shared":
            raise Taken("the guard is being changed by another process")
        return real(*key)

    monkeypatch.setattr(enforcing, "exclusive", busy)
    deprovision(grant)
    assert not system.world.assignments
    assert grant.state == State.REVOKING


def test_the_page_says_why_the_deny_failed_rather_than_what_followed_from_it(system: System) -> None:
    grant = ended(system)
    system.world.script("enforce", fake.raises(Denied("PortalProvisioner may not write policies.")))
    system.world.script("close", fake.throttled())
    deprovision(grant)
    assert grant.problem == "PortalProvisioner may not write policies."


# ---- grants that nothing else would end


def test_what_nobody_began_in_its_time_is_cancelled(system: System, clock) -> None:
    grant = system.issue(duration=timedelta(hours=1))
    clock.shift(Grant.ALLOWANCE + timedelta(minutes=59))
    periodic.expire()
    grant.refresh_from_db()
    assert grant.state == State.PENDING
    clock.shift(timedelta(minutes=1))
    provisioning.provision(grant.pk)  # a task that comes late
    periodic.expire()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.CANCELLED, EndReason.EXPIRED)
    provisioning.provision(grant.pk)
    assert not system.world.calls


@pytest.mark.parametrize("wrong", [{"ends_at": None}, {"ends_at": START + timedelta(days=9)}])
def test_no_row_outlives_the_end_that_aws_enforces(system: System, clock, wrong: dict) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(**wrong)
    clock.shift(timedelta(hours=1))
    periodic.expire()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.EXPIRED)


def test_it_ends_at_its_time_also_when_aws_would_end_it_later(system: System, clock) -> None:
    system.world.script("enforce", fake.fine(), fake.throttled())  # the end, then narrowing it
    grant = system.active(duration=timedelta(hours=1))
    assert grant.not_after > grant.ends_at
    clock.shift(timedelta(hours=1))
    periodic.expire()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.EXPIRED)


def test_one_that_was_never_confirmed_ends_at_the_end_written_first(system: System, clock) -> None:
    grant = system.issue(duration=timedelta(hours=1))
    system.world.script("open", fake.lies())
    provisioning.provision(grant.pk)
    clock.shift(Grant.ALLOWANCE + timedelta(hours=1))
    system.run_clock()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKED, EndReason.EXPIRED)


def test_a_system_that_was_paused_meanwhile_is_not_written(system: System) -> None:
    grant = system.issue()
    Connection.objects.update(paused_at=timezone.now())
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert "may only look" in grant.end_note
    assert not system.world.calls


def test_a_paused_system_is_still_narrowed(system: System) -> None:
    grant = ended(system)
    Connection.objects.update(paused_at=timezone.now())
    deprovision(grant)
    assert grant.state == State.REVOKED


@pytest.mark.parametrize("step", ["narrow", "clear"])
def test_tidying_up_that_does_not_get_through_is_tried_again_in_a_while(system: System, clock, step: str) -> None:
    if step == "narrow":
        system.world.script("enforce", fake.fine(), fake.throttled())  # the end, then narrowing it
        grant = system.active()
        due = Grant.objects.unnarrowed
    else:
        grant = ended(system)
        deprovision(grant)
        clock.shift(timedelta(hours=1))
        make_due()
        system.world.script("look", fake.throttled())
        provisioning.clear(grant.pk)
        due = Grant.objects.uncleared
    assert not due(timezone.now())
    clock.shift(timedelta(minutes=1))
    assert due(timezone.now()).get() == grant
    system.run_clock(1)
    assert not due(timezone.now() + timedelta(days=1))

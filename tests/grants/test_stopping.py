"""What a worker writes into AWS for an emergency stop, and what it writes down of that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors.errors import Denied, Gone
from apps.grants import narrowing, provisioning, services
from apps.grants.models import Grant, Scope, State, Stop, StopWrite
from apps.grants.services import stops
from apps.users.models import User
from tests.factories.users import UserFactory
from tests.grants import lifting
from tests.grants.system import ACCOUNT, START, System
from tests.grants.test_provisioning import robot

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
SECOND = timedelta(seconds=1)
GUARD = f"The guard of account {ACCOUNT} holds 1 lines"


@pytest.fixture
def erin(db: None) -> User:
    return UserFactory(name="Erin", administrator=True)


def order(erin: User, scope: Scope = Scope.ALL, **fields: Any) -> Stop:
    return stops.order(scope=scope, reason="A laptop was stolen.", by=erin, step_up=PASSKEY, **fields)


def lift(stop: Stop, erin: User) -> None:
    lifting.lift(stop, erin, UserFactory(name="Frank", administrator=True))


def write(stop: Stop) -> StopWrite:
    """The one object of this stop, written when it is due."""
    StopWrite.objects.update(next_try_at=timezone.now())
    [row] = stop.writes.all()
    provisioning.write_stop(row.pk)
    return stop.writes.get()


def told(event: str) -> dict[str, Any]:
    found = AuditEvent.objects.get(event=event)
    assert found.actor_name == "a worker"
    return found.data


@pytest.mark.parametrize("scope", [Scope.ALL, Scope.PERSON])
def test_a_grant_that_shares_nothing_yet_throws_no_switch_of_the_organization(
    system: System, erin: User, scope: Scope
) -> None:
    """A write that names no object is the organization's policy, which denies everybody."""
    system.issue()
    assert Grant.objects.filter(shared_key="").exists()
    order(erin, scope, **({"subject": system.alice.identity} if scope == Scope.PERSON else {}))
    assert not StopWrite.objects.filter(shared_key="").exists()


def test_what_was_read_back_is_kept_with_the_stop_and_told(system: System, erin: User, clock: Any) -> None:
    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    clock.shift(5 * SECOND)
    row = write(stop)
    at = START + 5 * SECOND
    assert (row.written_at, row.read_at, row.cleared_at, row.proof) == (at, at, None, GUARD)
    data = told("grants.stop.written")
    assert data == {"object": row.shared_key, "proof": GUARD, "read_at": at.isoformat()}
    assert AuditEvent.objects.get(event="grants.stop.written").subject == f"grants.stop:{stop.pk}"


def test_what_was_lifted_is_kept_as_cleared_and_told(system: System, erin: User, clock: Any) -> None:
    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    write(stop)
    lift(stop, erin)
    clock.shift(5 * SECOND)
    row = write(stop)
    at = START + 5 * SECOND
    assert (row.read_at, row.cleared_at, row.proof) == (START, at, f"The guard of account {ACCOUNT} holds 0 lines")
    assert told("grants.stop.cleared")["object"] == row.shared_key


def test_the_organizations_policy_is_told_by_name(system: System, erin: User) -> None:
    stop = order(erin, attach_policy=True)
    row = stop.writes.get(shared_key="")
    provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.read_at == START
    assert told("grants.stop.written") == {
        "object": "organization",
        "proof": row.proof,
        "read_at": START.isoformat(),
    }


def test_what_is_written_already_is_not_written_again(system: System, erin: User) -> None:
    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    write(stop)
    system.world.calls.clear()
    write(stop)
    assert system.world.calls == []


def test_what_is_not_due_is_left_to_whoever_works_at_it(system: System, erin: User) -> None:
    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    StopWrite.objects.update(next_try_at=START + SECOND)
    provisioning.write_stop(stop.writes.get().pk)
    assert system.world.calls == []


def test_a_worker_that_died_is_replaced_after_a_minute(system: System, erin: User, clock: Any) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    system.world.hook = kill
    with pytest.raises(Killed):
        write(stop)
    system.world.hook = None
    row = stop.writes.get()
    assert (row.written_at, row.next_try_at, row.read_at) == (START, START + 60 * SECOND, None)


def test_trouble_is_tried_again_less_and_less_often_and_forgotten_when_it_is_over(
    system: System, erin: User, clock: Any
) -> None:
    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    waits = []
    for count in range(1, 8):
        system.world.script("enforce", fake.raises(Denied("No right. " + "x" * 1200)))
        row = write(stop)
        assert (row.problem_count, len(row.problem), row.problem[:9]) == (count, 1000, "No right.")
        waits.append((row.next_try_at - timezone.now()).total_seconds())
    assert waits == [3, 6, 12, 24, 48, 60, 60]
    row = write(stop)
    assert (row.read_at, row.problem, row.problem_count) == (START, "", 0)


def test_a_long_proof_is_cut(system: System, erin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    system.world.script("enforce", fake.raises(Gone("There is no such role. " + "x" * 1200)))
    row = write(order(erin, Scope.ACCOUNT, subject=system.account))
    assert len(row.proof) == 1000


def test_an_object_that_was_deleted_has_nothing_left_to_deny(system: System, erin: User) -> None:
    system.world.script("enforce", fake.raises(Gone("The role of alice was deleted.")))
    row = write(order(erin, Scope.ACCOUNT, subject=system.account))
    assert (row.read_at, row.proof) == (START, "The role of alice was deleted.")


def test_a_doubted_database_holds_no_stop_back(system: System, erin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = order(erin, Scope.ACCOUNT, subject=system.account)
    monkeypatch.setattr(narrowing, "reason", lambda: "The database was restored.")
    assert write(stop).read_at


def test_grants_that_end_with_it_are_denied_from_then_on(system: System, erin: User, clock: Any) -> None:
    grant = system.active()
    stop = order(erin)
    clock.shift(5 * SECOND)
    write(stop)
    grant.refresh_from_db()
    assert (grant.state, grant.denied_at) == (State.REVOKING, START + 5 * SECOND)


# ---- an object that cannot name more than grants do


@pytest.fixture
def logs(system: System) -> Grant:
    """A machine of Alice's with a dated policy."""
    principal, dated = robot(system, [])
    principal.identity.owner = system.alice.identity
    principal.identity.save()
    bob = str(system.bob.identity.user_id)  # type: ignore[union-attr]
    grant = services.issue(
        identity=principal.identity,
        principal=principal,
        entitlement=dated,
        provisioner="iam_timeboxed_policy",
        duration=timedelta(hours=1),
        reason="Reading logs.",
        by=system.alice.identity.user,  # type: ignore[union-attr]
        authority=services.Authority({"tier": "approval", "cap_seconds": 3600}, ({"user": bob, "name": "Bob"},)),
    )
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE, grant.problem
    return grant


def test_a_policy_is_written_in_the_name_of_a_grant_in_it(system: System, erin: User, logs: Grant) -> None:
    system.active()
    row = write(order(erin, Scope.ENTITLEMENT, subject=logs.entitlement))
    assert row.shared_key == logs.shared_key
    assert row.proof == "The policy of robot holds 0 lines"
    assert not system.can_use(logs.principal, logs.entitlement)


def test_an_object_that_no_grant_is_known_in_is_done(system: System, erin: User, logs: Grant) -> None:
    stop = order(erin, Scope.ENTITLEMENT, subject=logs.entitlement)
    Grant.objects.filter(pk=logs.pk).update(shared_key="")
    system.active()
    row = write(stop)
    assert (row.read_at, row.proof) == (START, "No grant is known in this object any more.")


# Lifting


@pytest.fixture
def frank(db: None) -> User:
    return UserFactory(name="Frank", administrator=True)


def test_a_lifted_stop_says_who_and_when_and_is_written_out_at_once(
    system: System, erin: User, frank: User, clock: Any
) -> None:
    stop, other = (order(erin, Scope.ACCOUNT, subject=system.account) for _ in range(2))
    lifting.propose(stop, erin)
    lifting.second(stop, frank)
    late = {"next_try_at": START + timedelta(days=1), "problem": "AWS was down.", "problem_count": 7}
    StopWrite.objects.update(**late)
    clock.shift(5 * SECOND)
    Stop.objects.filter(pk=stop.pk).update(lift_problem="Not signed.")
    provisioning.lift_stop(stop.pk)
    stop.refresh_from_db()
    assert (stop.lifted_at, stop.lifted_by, stop.lift_problem) == (START + 5 * SECOND, frank, "")
    due = set(stop.writes.values_list("next_try_at", "problem", "problem_count"))
    assert due == {(START + 5 * SECOND, "", 0)}
    assert set(other.writes.values_list("problem", flat=True)) == {"AWS was down."}
    data = told("grants.stop.lifted")
    assert data == {"proposed_by": "Erin", "lifted_by": "Frank", "reason": lifting.FOUND}
    assert AuditEvent.objects.get(event="grants.stop.lifted").subject == f"grants.stop:{stop.pk}"


def test_a_lift_that_is_not_signed_has_to_be_said_anew(system: System, erin: User, frank: User) -> None:
    stop, other = order(erin), order(erin, Scope.ACCOUNT, subject=system.account)
    for one in (stop, other):
        lifting.propose(one, erin)
    lifting.second(stop, frank)
    Stop.objects.filter(pk=stop.pk).update(lift_consent={"expires": "never", "assertion": {}})
    provisioning.lift_stop(stop.pk)
    stop.refresh_from_db()
    other.refresh_from_db()
    assert stop.is_in_force and stop.lift_problem == "What was signed cannot be read."
    said = (stop.lift_proposed_at, stop.lift_proposed_by, stop.lift_asked_at, stop.lift_asked_by)
    assert said == (None, None, None, None)
    assert (stop.lift_proposal, stop.lift_consent) == ({}, {})
    data = told("grants.stop.lift_refused")
    assert data == {"proposed_by": "Erin", "asked_by": "Frank", "problem": stop.lift_problem}
    assert AuditEvent.objects.get(event="grants.stop.lift_refused").subject == f"grants.stop:{stop.pk}"
    assert other.lift_proposed_by == erin


def test_only_the_stop_that_was_asked_about_is_lifted(system: System, erin: User, frank: User) -> None:
    stop, other = order(erin), order(erin, Scope.ACCOUNT, subject=system.account)
    for one in (stop, other):
        lifting.propose(one, erin)
        lifting.second(one, frank)
    provisioning.lift_stop(other.pk)
    assert list(Stop.objects.in_force()) == [stop]

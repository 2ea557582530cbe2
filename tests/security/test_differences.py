"""What people say of differences, with the web process's own role: enough for accepting and for letting go, and no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.grants import reconciling, services
from apps.grants.models import Drift, EndReason, Grant, Reconciliation, State
from apps.grants.services import drift as drifts
from apps.users.models import User
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db

WHY = "It may stay for now."


def administrator(system: System, name: str) -> User:
    user = UserFactory(name=name, administrator=True)
    PrincipalFactory(connection=system.connection, external_id=name, name=name, identity__user=user)
    return user


def found(system: System, kind: str = "tampered", **rows: Any) -> Drift:
    """A critical difference about a grant of Alice, which the last comparison saw and nobody has decided about."""
    now = timezone.now()
    grant = rows.pop("grant", None) or system.active()
    run = Reconciliation.objects.create(
        connection=system.connection, database="here", next_at=now, finished_at=now, state="settled"
    )
    facts = {
        "connection": system.connection,
        "kind": kind,
        "key": kind,
        "is_critical": True,
        "is_repairable": True,
        "grant": grant,
        "shared_key": grant.shared_key,
        "principal": grant.principal,
        "entitlement": grant.entitlement,
        "what": "It differs.",
        "first_seen_at": now,
        "seen_at": now,
    }
    return Drift.objects.create(**{**facts, "seen_in": run, **rows})


def held(system: System, kind: str = "tampered", **rows: Any) -> tuple[Reconciliation, Drift]:
    """The same, held by the brake."""
    drift = found(system, kind, **rows)
    Reconciliation.objects.filter(pk=drift.seen_in_id).update(state="held")
    Drift.objects.filter(pk=drift.pk).update(held_in=drift.seen_in)
    return Reconciliation.objects.get(pk=drift.seen_in_id), Drift.objects.get(pk=drift.pk)


def let_go(acting: Acting, system: System, run: Reconciliation) -> None:
    erin, frank = administrator(system, "Erin"), administrator(system, "Frank")
    with acting("web"):
        drifts.propose_release(run, by=erin)
        drifts.release(run, by=frank)


def refused(drift: Drift, **said: Any) -> str:
    with pytest.raises(DatabaseError) as error, transaction.atomic():
        Drift.objects.filter(pk=drift.pk).update(**said)
    return str(error.value)


# Enough for the work


def test_two_administrators_let_go_what_the_brake_holds(acting: Acting, system: System) -> None:
    """Access opens again after a restore only then."""
    run, drift = held(system)
    system.active(who=system.bob)  # so that the object is shared, and its repair is a write
    let_go(acting, system, run)
    with acting("worker"):
        reconciling.repair(drift.pk)
    drift.refresh_from_db()
    run.refresh_from_db()
    assert run.state == "settled"
    assert (drift.accepted_until, drift.removal, drift.held_in) == (None, None, None)
    assert drift.repaired_at is not None


@pytest.mark.parametrize(("kind", "reason"), [("missing", EndReason.GONE), ("rogue", EndReason.DRIFT)])
def test_what_is_let_go_ends_what_it_is_about(acting: Acting, system: System, kind: str, reason: str) -> None:
    rows = {}
    if kind == "rogue":
        rows = {"assignment": system.holds(system.bob, system.admin), "principal": system.bob}
        rows |= {"entitlement": system.admin}
    run, drift = held(system, kind, **rows)
    let_go(acting, system, run)
    drift.refresh_from_db()
    assert drift.removal is not None
    assert (drift.removal.state, drift.removal.end_reason) == (State.REVOKING, reason)
    assert drift.decided_at is not None
    assert drift.held_in is None


def test_what_is_let_go_and_cannot_be_decided_says_why(acting: Acting, system: System) -> None:
    gone = system.holds(system.bob, system.admin)
    rows = {"assignment": gone, "principal": system.bob, "entitlement": system.admin}
    run, drift = held(system, "rogue", **rows)
    type(gone).objects.filter(pk=gone.pk).update(period=(timezone.now() - timedelta(days=1), timezone.now()))
    let_go(acting, system, run)
    drift.refresh_from_db()
    assert "no longer shows" in drift.problem
    assert (drift.decided_at, drift.held_in) == (None, None)


@pytest.mark.parametrize("kind", ["tampered", "unintended"])
def test_what_is_accepted_is_left_alone(acting: Acting, system: System, kind: str) -> None:
    drift = found(system, kind, repaired_at=timezone.now())  # and differs again
    erin, until = UserFactory(administrator=True), timezone.now() + timedelta(days=3)
    with acting("web"):
        drifts.accept(drift, by=erin, until=until, reason=WHY)
    drift.refresh_from_db()
    assert drift.accepted_until == until
    assert drift.decided_at is None
    assert not Drift.objects.unwritten(timezone.now()).exists()


# And no more


def test_no_ending_of_something_else_puts_a_repair_off(acting: Acting, system: System) -> None:
    """One that never comes to its end, like an owner's task, would put it off for ever."""
    drift = found(system)
    other = system.active(who=system.bob)
    services.end(other, by=other.requested_by, reason=EndReason.DONE)
    with acting("web"):
        assert "Two people" in refused(drift, removal=other)
        assert "Two people" in refused(drift, removal=drift.grant, decided_at=timezone.now())
    assert Drift.objects.to_repair(drift.seen_in, timezone.now()).exists()


@pytest.mark.parametrize("rows", [{}, {"principal": None}], ids=["about a pair", "about an object"])
def test_what_is_let_go_is_repaired_by_its_own_ending(acting: Acting, system: System, rows: dict[str, Any]) -> None:
    run, drift = held(system, **rows)
    others = [system.active(who=system.bob), system.active(what=system.permission_set("Other", "read"))]
    released = {"proposed_by": UserFactory(), "released_by": UserFactory(), "released_at": timezone.now()}
    later = timezone.now() + timedelta(days=9)
    with acting("web"):
        assert "Two people" in refused(drift, removal=drift.grant, held_in=None)
        Reconciliation.objects.filter(pk=run.pk).update(state="settled", **released)
        for other in others:
            assert "something else" in refused(drift, removal=other, held_in=None)
        assert "Two people" in refused(drift, removal=drift.grant)  # still held: it could say so again and again
        Drift.objects.filter(pk=drift.pk).update(removal=drift.grant, held_in=None, decided_at=later)
        assert "Two people" in refused(drift, decided_at=later)
    drift.refresh_from_db()
    assert drift.decided_at and drift.decided_at < later


@pytest.mark.parametrize("said", [{"state": "settled"}, {"released_by": "somebody"}], ids=str)
def test_what_is_over_by_itself_or_only_signed_lets_nothing_go(
    acting: Acting, system: System, said: dict[str, Any]
) -> None:
    run, drift = held(system)
    if "released_by" in said:
        said = {"proposed_by": UserFactory(), "released_by": UserFactory(), "released_at": timezone.now()}
    Reconciliation.objects.filter(pk=run.pk).update(**said)
    with acting("web"):
        assert "Two people" in refused(drift, removal=drift.grant, held_in=None)


def test_the_web_process_lets_go_what_is_held_by_two_people_only(acting: Acting, system: System) -> None:
    run, _ = held(system)
    row = Reconciliation.objects.filter(pk=run.pk)
    signed = {"proposed_by": UserFactory(), "released_by": UserFactory(), "released_at": timezone.now()}
    less = [{"state": "settled", **signed, name: None} for name in signed]
    with acting("web"):
        for said in ({"state": "settled"}, {"state": "incomplete", **signed}, *less):
            with pytest.raises(DatabaseError, match="Two people"), transaction.atomic():
                row.update(**said)
        row.update(state="settled", **signed)


def test_a_web_process_holds_no_difference(acting: Acting, system: System) -> None:
    """What is held is told to nobody again, and the ender leaves it to people."""
    drift = found(system)
    with acting("web"):
        assert "put the brake on" in refused(drift, held_in=drift.seen_in)


def test_what_was_said_to_be_decided_and_is_no_write_breaks_no_worker(system: System) -> None:
    drift = found(system, "unintended", decided_at=timezone.now())
    assert not Drift.objects.unwritten(timezone.now()).exists()
    reconciling.repair(drift.pk)
    assert Grant.objects.get().state == State.ACTIVE

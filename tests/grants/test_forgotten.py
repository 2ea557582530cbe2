"""What AWS denies of things that the database has forgotten stays: while it is doubted, and as long as a session can live
after that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors.fake_world import Line
from apps.grants import narrowing, provisioning, reconciling, services
from apps.grants.models import Drift, EndReason, Grant, Scope, State, Stop, StopWrite
from apps.grants.provisioning.enforcing import enforce
from apps.grants.services import stops
from apps.grants.windows import shared_of, windows_of
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, START, System, make_due
from tests.grants.test_drift import known_administrator
from tests.grants.test_narrowing import MINUTE, compare, forget, is_narrowing, lived, restore  # noqa: F401
from tests.grants.test_stops import PASSKEY

HOUR = timedelta(hours=1)


def test_of_an_object_in_which_no_row_says_anything_all_is_kept_meanwhile(lived: System) -> None:  # noqa: F811
    grant = lived.active()
    Grant.objects.update(cleared_at=START)
    restore()
    [kept] = windows_of(grant.shared_key)
    assert (kept.target.principal_external_id, kept.not_after) == ("alice", grant.ends_at)


def test_no_object_is_emptied_meanwhile(lived: System) -> None:  # noqa: F811
    """Not even by a write to which no row and no reading gave anything to say."""
    grant = lived.active()
    guard = dict(lived.world.guards[ACCOUNT])
    restore()
    with pytest.raises(narrowing.OnlyNarrowing):
        enforce(shared_of(grant), [])
    assert lived.world.guards[ACCOUNT] == guard


def test_a_stop_of_somebody_whom_no_guard_can_name_leaves_guards_alone(lived: System, clock) -> None:  # noqa: F811
    """The only grant that these rows know in the guard is long over. Another was opened after the dump."""
    known, forgotten = lived.active(lived.bob), lived.active()
    ends_at = forgotten.ends_at
    Grant.objects.filter(pk=known.pk).update(cleared_at=START)
    forget(forgotten)
    restore()
    carl = PrincipalFactory(connection=lived.connection, kind="iam_user", external_id="carl", name="carl")
    erin = known_administrator(lived, "Erin")
    stop = stops.order(scope=Scope.PERSON, subject=carl.identity, reason="It was stolen.", by=erin, step_up=PASSKEY)
    assert not stop.writes.exists()
    row = StopWrite.objects.create(  # ordered before that was so
        stop=stop,
        connection=lived.connection,
        account=lived.account,
        provisioner="idc_assignment",
        shared_key=known.shared_key,
    )
    provisioning.write_stop(row.pk)
    assert not lived.can_use(at=ends_at)


def test_a_repair_of_an_object_in_which_nobody_speaks_any_more_writes_nothing(lived: System) -> None:  # noqa: F811
    grant = lived.active()
    guard = dict(lived.world.guards[ACCOUNT])
    run = compare(lived)
    Grant.objects.filter(pk=grant.pk).update(state=State.FAILED, cleared_at=None)
    now = timezone.now()
    drift = Drift.objects.create(
        connection=lived.connection,
        kind="tampered",
        key="x",
        what="x",
        shared_key=grant.shared_key,
        first_seen_at=now,
        seen_at=now,
        seen_in=run,
        decided_at=now,
    )
    reconciling.repair(drift.pk)
    assert lived.world.guards[ACCOUNT] == guard
    drift.refresh_from_db()
    assert drift.repaired_at


def test_what_came_back_goes_again_also_where_nobody_speaks_any_more(lived: System) -> None:  # noqa: F811
    grant = lived.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    lived.run_clock()
    Grant.objects.update(cleared_at=START)
    lived.world.guards[ACCOUNT].clear()
    lived.world.assign("alice", lived.read.external_id)
    run = compare(lived)
    restore()
    now = timezone.now()
    drift = Drift.objects.create(
        connection=lived.connection,
        kind="resurrected",
        key="x",
        what="x",
        grant=grant,
        first_seen_at=now,
        seen_at=now,
        seen_in=run,
        decided_at=now,
    )
    reconciling.repair(drift.pk)
    assert not lived.world.assignments
    assert not lived.world.guards[ACCOUNT]["alice", lived.read.external_id].is_open


# ---- trusted again


@pytest.fixture
def trusted(lived: System, clock: Any) -> System:  # noqa: F811
    """Restored from a dump that was older than Bob's grant, which was ended early; compared, and trusted again."""
    forgotten = lived.active(lived.bob)
    services.end(forgotten, by=lived.bob.identity.user, reason=EndReason.REVOKED)
    lived.run_clock()
    forget(Grant.objects.get())
    restore()
    for _ in range(3):
        clock.shift(MINUTE)
        compare(lived)
    assert not is_narrowing()
    return lived


def denied(system: System) -> set[str]:
    return {person for person, _ in system.world.guards[ACCOUNT]}


def test_a_session_of_what_was_forgotten_stays_denied_as_long_as_it_can_live(trusted: System, clock: Any) -> None:
    trusted.active()
    assert trusted.can_use()
    assert denied(trusted) == {"alice", "bob"}
    clock.shift(HOUR)
    trusted.active(trusted.person("dave"))
    assert "bob" not in denied(trusted)


def test_what_is_given_again_is_not_denied_for_what_was_forgotten(trusted: System) -> None:
    trusted.active(trusted.bob)
    assert trusted.can_use(trusted.bob)


def test_nothing_leaves_an_object_before(trusted: System, clock: Any) -> None:
    grant = trusted.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    trusted.run_clock()
    Grant.objects.update(sessions_until=timezone.now())
    make_due()
    provisioning.clear(grant.pk)
    assert Grant.objects.get().cleared_at is None
    clock.shift(HOUR)
    make_due()
    provisioning.clear(grant.pk)
    assert Grant.objects.get().cleared_at
    assert denied(trusted) == set()


def test_aws_is_not_even_asked_before(trusted: System, clock: Any) -> None:
    """Thousands may wait for it, each tried once a minute, and their looks would go before what opens."""
    grant = trusted.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    trusted.run_clock()
    Grant.objects.update(sessions_until=timezone.now())
    make_due()
    trusted.world.calls.clear()
    provisioning.clear(grant.pk)
    assert not trusted.world.calls


def test_a_lifted_stop_stays_in_aws_as_long(trusted: System, clock: Any) -> None:
    erin, frank = UserFactory(administrator=True), UserFactory()
    stop = stops.order(scope=Scope.ACCOUNT, subject=trusted.account, reason="An incident.", by=erin, step_up=PASSKEY)
    [row] = stop.writes.all()
    provisioning.write_stop(row.pk)
    Stop.objects.update(lifted_at=timezone.now(), lifted_by=erin, lift_proposed_by=frank)
    for waits, is_cleared in ((timedelta(0), False), (HOUR, True)):
        clock.shift(waits)
        StopWrite.objects.update(next_try_at=timezone.now())
        provisioning.write_stop(row.pk)
        row.refresh_from_db()
        assert bool(row.cleared_at) == is_cleared
        assert ("*" in denied(trusted)) != is_cleared


def test_what_stands_in_an_object_of_which_only_a_lifted_stop_is_known_stays_as_long(trusted: System) -> None:
    erin, frank = UserFactory(administrator=True), UserFactory()
    stop = stops.order(scope=Scope.ACCOUNT, subject=trusted.account, reason="An incident.", by=erin, step_up=PASSKEY)
    Stop.objects.update(lifted_at=timezone.now(), lifted_by=erin, lift_proposed_by=frank)
    assert not Grant.objects.exists()
    [kept] = windows_of(stop.writes.get().shared_key)
    assert kept.target.principal_external_id == "bob"


@pytest.mark.parametrize(
    ("who", "what", "opens"),
    [("*", "*", False), ("alice", "*", False), ("*", "read", False), ("*", "admin", True), ("bob", "*", True)],
)
def test_what_a_forgotten_stop_denies_opens_when_that_may_go(
    trusted: System, clock: Any, who: str, what: str, opens: bool
) -> None:
    name = what if what == "*" else getattr(trusted, what).external_id
    trusted.world.guards[ACCOUNT][who, name] = Line(START, False, False)
    grant = trusted.issue()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state == State.ACTIVE) == opens
    assert (who, name) in trusted.world.guards[ACCOUNT]
    if not opens:
        assert "no Deny is taken back" in grant.problem


def test_a_database_that_nobody_ever_doubted_keeps_nothing(lived: System) -> None:  # noqa: F811
    lived.world.guards.setdefault(ACCOUNT, {})["bob", lived.read.external_id] = Line(START, False, False)
    lived.active()
    assert denied(lived) == {"alice"}
    assert not narrowing.is_watchful()

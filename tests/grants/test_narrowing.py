"""After a restore the database may have forgotten what was opened: everything only narrows until AWS was compared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.grants import narrowing, periodic, provisioning, reconciling, services
from apps.grants.models import Drift, EndReason, Extension, Grant, Home, Reconciliation, Scope, State
from apps.grants.models.homes import name_here
from apps.grants.services import drift as deciding
from apps.grants.services import narrowing as trusting
from apps.grants.services import stops
from apps.inventory.models import Assignment, Connection
from tests.factories.inventory import ConnectionFactory, PrincipalFactory, SyncRunFactory
from tests.grants.system import ACCOUNT, START, YES, System, make_due
from tests.grants.test_drift import guard_only, hold, known_administrator
from tests.grants.test_stops import PASSKEY

MINUTE = timedelta(minutes=2)


@pytest.fixture
def lived(system: System) -> System:
    """A system whose database is known, and was compared."""
    SyncRunFactory(connection=system.connection)
    guard_only(system, "read", "admin")
    trusting.notice()
    return system


def restore() -> None:
    """The rows come to life in another database: every name that was known is of the one before."""
    for home in Home.objects.all():
        Home.objects.filter(pk=home.pk).update(name=f"before/{home.pk}/{home.name}"[:100])
    Reconciliation.objects.update(database="before")
    trusting.notice()


def forget(grant: Grant) -> None:
    """The dump was older than this grant, and than what its read-back showed."""
    Assignment.objects.filter(principal=grant.principal, entitlement=grant.entitlement).delete()
    grant.delete()


def compare(system: System, *, is_read: bool = True) -> Reconciliation:
    """One comparison after a sync of everything, its decision, and what that asks workers for."""
    if is_read:
        SyncRunFactory(connection=system.connection, finished_at=timezone.now())
    run = deciding.decide(reconciling.compare(system.connection.pk))
    for row in Drift.objects.unwritten(timezone.now()):
        reconciling.repair(row.pk)
    system.run_clock()
    trusting.trust()
    return run


def is_narrowing() -> bool:
    return bool(narrowing.reason())


# ---- knowing the database


def test_the_first_database_is_trusted_and_stays_so(system: System) -> None:
    assert not is_narrowing()
    home = trusting.notice()
    assert home.trusted_at and not is_narrowing()
    assert trusting.notice() == home
    assert AuditEvent.objects.filter(event__startswith="grants.home.").count() == 1


def test_an_ordinary_database_role_can_tell_which_database_it_is(db: None) -> None:
    name = name_here()
    with connection.cursor() as sql:
        sql.execute("CREATE ROLE nobody_special NOLOGIN")
        sql.execute("SET LOCAL ROLE nobody_special")
        try:
            assert name_here() == name
        finally:
            sql.execute("RESET ROLE")


def test_a_table_that_was_loaded_anew_is_another_database(db: None) -> None:
    """pg_restore --clean into the same database makes every table anew."""
    before = name_here()
    with connection.cursor() as sql:
        sql.execute("ALTER TABLE grants_home RENAME TO grants_home_before")
        sql.execute("CREATE TABLE grants_home (LIKE grants_home_before INCLUDING ALL)")
    assert name_here() != before


def test_another_database_is_doubted_and_told(lived: System) -> None:
    restore()
    assert is_narrowing()
    assert AuditEvent.objects.filter(event="grants.home.changed").count() == 1
    trusting.notice()
    assert AuditEvent.objects.filter(event="grants.home.changed").count() == 1


# ---- what waits, and what goes on


def test_nothing_is_issued_or_extended_after_a_restore_and_the_message_says_why(lived: System) -> None:
    grant = lived.active()
    restore()
    with pytest.raises(services.NotPossible, match="restored"):
        lived.issue(lived.bob)
    with pytest.raises(services.NotPossible, match="restored"):
        services.extend(grant, longer=timedelta(hours=1), by=lived.alice.identity.user, authority=YES)


def test_what_was_decided_before_waits_and_opens_nothing(lived: System) -> None:
    grant = lived.issue()
    restore()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PENDING
    assert "restored" in grant.problem
    assert not lived.world.calls_of("open", "enforce")


def test_an_opening_that_was_under_way_is_not_finished(lived: System) -> None:
    grant = lived.issue()
    lived.world.script("open", fake.lost_request())
    provisioning.provision(grant.pk)
    restore()
    make_due()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING
    assert len(lived.world.calls_of("open")) == 1


def test_an_extension_that_was_decided_before_moves_nothing(lived: System) -> None:
    grant = lived.active()
    extension = services.extend(grant, longer=timedelta(hours=1), by=lived.alice.identity.user, authority=YES)
    restore()
    provisioning.extend(extension.pk)
    assert Extension.objects.unsettled().filter(pk=extension.pk).exists()
    assert not lived.can_use(at=START + timedelta(hours=1))


def test_access_goes_on_ending(lived: System, clock) -> None:
    grant, other = lived.active(), lived.active(lived.bob)
    restore()
    services.end(other, by=lived.bob.identity.user, reason=EndReason.DONE)
    clock.shift(timedelta(hours=1))
    lived.run_clock()
    for row in (grant, other):
        row.refresh_from_db()
        assert row.state == State.REVOKED
    assert not lived.world.assignments


def test_ending_takes_back_no_deny_of_what_was_forgotten(lived: System, clock) -> None:
    """Bob's grant is younger than the dump. Ending Alice's writes the guard they share."""
    mine, forgotten = lived.active(), lived.active(lived.bob)
    ends_at = forgotten.ends_at
    forget(forgotten)
    restore()
    services.end(mine, by=lived.alice.identity.user, reason=EndReason.DONE)
    lived.run_clock()
    assert not lived.can_use(lived.alice)
    assert not lived.can_use(lived.bob, at=ends_at)


def test_a_stop_takes_back_no_deny_of_what_was_forgotten(lived: System) -> None:
    """No row of a grant is left in the guard; the stop alone says whose object it is."""
    forgotten = lived.active(lived.bob)
    line = ("bob", lived.read.external_id), lived.world.guards[ACCOUNT]["bob", lived.read.external_id]
    forget(forgotten)
    restore()
    erin = known_administrator(lived, "Erin")
    stop = stops.order(scope=Scope.ACCOUNT, subject=lived.account, reason="It was stolen.", by=erin, step_up=PASSKEY)
    for row in stop.writes.all():
        provisioning.write_stop(row.pk)
    guard = lived.world.guards[ACCOUNT]
    assert line in guard.items()
    assert ("*", "*") in guard


def test_an_end_that_was_earlier_than_the_dump_knows_stays_earlier(lived: System, clock) -> None:
    """In the dump Alice's grant is active until ten; in AWS it was ended since."""
    ended, other = lived.active(duration=timedelta(hours=4)), lived.active(lived.bob)
    lived.world.guards[ACCOUNT]["alice", lived.read.external_id] = fake.Line(START, False, False)
    restore()
    services.end(other, by=lived.bob.identity.user, reason=EndReason.DONE)
    lived.run_clock()
    ended.refresh_from_db()
    assert ended.state == State.ACTIVE
    assert not lived.can_use(lived.alice)


def test_a_dated_policy_gives_nothing_again_that_ended_since_the_dump(
    lived: System, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = PrincipalFactory(connection=lived.connection, external_id="batch", name="batch", kind="iam_role")
    lived.world.add_principal("iam_role", "batch", account_id=ACCOUNT)
    ended, other = lived.active(), lived.active(what=lived.permission_set("Other", "read"))
    key = f"fake:{lived.world.name}:policy:batch"
    Grant.objects.update(principal=batch, provisioner="iam_timeboxed_policy", shared_key=key)
    monkeypatch.setattr("apps.grants.warrants.check", lambda grant: None)  # they were made for Alice
    line = fake.Line(START + timedelta(hours=1), True, False)
    lived.world.policies["batch"] = {("batch", other.entitlement.external_id): line}
    restore()
    services.end(other, by=lived.alice.identity.user, reason=EndReason.DONE)
    lived.run_clock()
    other.refresh_from_db()
    assert other.state == State.REVOKED
    assert lived.world.policies["batch"] == {}
    assert ended.entitlement != other.entitlement


def test_nothing_leaves_a_guard_while_it_may_know_more_than_we_do(lived: System, clock) -> None:
    grant = lived.active()
    services.end(grant, by=lived.alice.identity.user, reason=EndReason.DONE)
    lived.run_clock()
    restore()
    clock.shift(timedelta(hours=3))
    lived.run_clock()
    grant.refresh_from_db()
    assert grant.cleared_at is None
    assert ("alice", lived.read.external_id) in lived.world.guards[ACCOUNT]


# ---- until when


def test_two_comparisons_that_find_nothing_lift_it(lived: System, clock) -> None:
    lived.active()
    restore()
    clock.shift(MINUTE)
    assert compare(lived).only_reports
    assert is_narrowing()
    clock.shift(MINUTE)
    compare(lived)
    assert not is_narrowing()
    assert AuditEvent.objects.filter(event="grants.home.trusted").count() == 1
    lived.active(lived.bob)


def test_comparisons_follow_each_other_quickly_meanwhile(lived: System) -> None:
    restore()
    run = compare(lived)
    assert run.next_at - run.started_at == timedelta(minutes=1)


def test_what_was_forgotten_is_taken_away_before_anything_opens(lived: System, clock) -> None:
    forgotten = lived.active(lived.bob)
    forget(forgotten)
    assignment = hold(lived)
    restore()
    clock.shift(MINUTE)
    compare(lived)
    assert assignment.is_open and is_narrowing()
    clock.shift(MINUTE)
    assert compare(lived).repairs == 1
    assert is_narrowing()
    assert not lived.world.assignments
    clock.shift(MINUTE)
    compare(lived)
    assert not is_narrowing()


def test_a_comparison_by_an_inventory_that_is_older_lifts_nothing(lived: System, clock) -> None:
    """The dump's inventory does not know what was opened since, so its comparison sees no stranger."""
    clock.shift(MINUTE)
    restore()
    for _ in range(3):
        clock.shift(MINUTE)
        compare(lived, is_read=False)
    assert is_narrowing()
    compare(lived)
    clock.shift(MINUTE)
    compare(lived)
    assert not is_narrowing()


def test_an_incomplete_comparison_lifts_nothing(lived: System, clock) -> None:
    lived.active()
    restore()
    compare(lived)
    clock.shift(MINUTE)
    lived.world.script("examine", fake.throttled())
    compare(lived)
    assert is_narrowing()


def compare_other(other: Connection, clock) -> None:
    SyncRunFactory(connection=other, finished_at=timezone.now())
    for _ in range(2):
        assert is_narrowing()
        deciding.decide(reconciling.compare(other.pk))
        clock.shift(MINUTE)
        trusting.trust()


def test_every_connection_that_may_be_written_is_waited_for(lived: System, clock) -> None:
    other = ConnectionFactory(writable=True)
    ConnectionFactory()  # only looked at: nothing can open there
    restore()
    for _ in range(2):
        compare(lived)
        clock.shift(MINUTE)
    compare_other(other, clock)
    assert not is_narrowing()


def test_a_connection_that_is_paused_for_good_keeps_nothing_closed_until_it_is_resumed(lived: System, clock) -> None:
    """Pausing is how one moves to another connection, so nobody may ever compare it again."""
    other = ConnectionFactory(writable=True, paused_at=timezone.now())
    clock.shift(MINUTE)
    restore()
    for _ in range(2):
        assert is_narrowing()
        compare(lived)
        clock.shift(MINUTE)
    assert not is_narrowing()
    clock.shift(timedelta(hours=2))
    assert not narrowing.is_watchful()
    Connection.objects.filter(pk=other.pk).update(paused_at=None)
    assert is_narrowing()
    assert not trusting.trust()
    told = AuditEvent.objects.filter(event="grants.home.doubted").get()
    assert "resumed" in told.data["reason"]
    deciding.decide(reconciling.compare(other.pk))
    clock.shift(MINUTE)
    deciding.decide(reconciling.compare(other.pk))  # by what was read before the doubt
    assert not trusting.trust()
    SyncRunFactory(connection=other, finished_at=timezone.now())
    clock.shift(MINUTE)
    deciding.decide(reconciling.compare(other.pk))
    assert trusting.trust() and not is_narrowing() and narrowing.is_watchful()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"only_reports": True},
        {"repairs": 1},
        {"problems": ["AWS did not answer."]},
        {"state": "held"},
        {"database": "before"},
        {"read": (-MINUTE, -MINUTE)},
        {"read": (MINUTE * 0, MINUTE)},
    ],
    ids=["as it should be", "first", "to take away", "incomplete", "held", "elsewhere", "read before", "read after"],
)
def test_a_resumed_connection_was_compared_when_nothing_was_left_to_take_away(
    lived: System, wrong: dict[str, Any]
) -> None:
    restore()
    now = timezone.now()
    Home.objects.here().update(trusted_at=now)
    other = ConnectionFactory(writable=True)
    for one in (lived.connection, other):
        Connection.objects.filter(pk=one.pk).update(created_at=now - MINUTE)
        said = dict(wrong) if one == other else {}
        began, ended = said.pop("read", (MINUTE * 0, MINUTE * 0))
        SyncRunFactory(connection=one, started_at=now + began, finished_at=now + ended)
        values = {"state": "settled", "database": name_here(), "next_at": now, **said}
        Reconciliation.objects.create(connection=one, started_at=now, finished_at=now, **values)
    assert is_narrowing() == bool(wrong)


def test_a_connection_that_is_new_since_the_doubt_has_nothing_that_was_forgotten(lived: System, clock) -> None:
    restore()
    for _ in range(2):
        compare(lived)
        clock.shift(MINUTE)
    new = ConnectionFactory(writable=True)
    assert not is_narrowing()
    Connection.objects.filter(pk=new.pk).update(created_at=timezone.now() - timedelta(days=1))
    assert is_narrowing()  # and by no date that the web process may write


def test_where_the_brake_bites_two_people_let_it_go_first(lived: System, clock) -> None:
    for name in ("carol", "dave", "mallory"):
        setattr(lived, name, lived.person(name))
        hold(lived, name)
    restore()
    run = compare(lived)
    assert run.state == Reconciliation.State.HELD
    for _ in range(2):
        clock.shift(MINUTE)
        compare(lived)
        assert is_narrowing()
    deciding.propose_release(run, by=known_administrator(lived, "Erin"))
    deciding.release(run, by=known_administrator(lived, "Frank"))
    lived.run_clock()
    assert not lived.world.assignments
    clock.shift(MINUTE)
    compare(lived)
    assert not is_narrowing()


def test_a_person_can_doubt_the_database_by_a_command(lived: System, clock, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("narrow_only", "We copied the files of the old server.")
    assert is_narrowing()
    assert "Nothing opens" in capsys.readouterr().out
    for _ in range(2):
        clock.shift(MINUTE)
        compare(lived)
    assert not is_narrowing()


def test_the_command_does_it_without_celery(lived: System, clock, capsys: pytest.CaptureFixture[str]) -> None:
    lived.active()
    restore()
    for opens in (False, True):
        clock.shift(MINUTE)
        SyncRunFactory(connection=lived.connection, finished_at=timezone.now())
        call_command("reconcile", lived.connection.name)
        said = capsys.readouterr().out
        assert "Done, 0 differences" in said
        assert ("Access may open." in said) == opens
    with pytest.raises(CommandError, match="No baselined"):
        call_command("reconcile", "nowhere")


def test_the_clock_does_all_of_it(lived: System, clock) -> None:
    lived.active()
    restore()
    SyncRunFactory(connection=lived.connection, finished_at=timezone.now())
    for _ in range(3):
        periodic.reconcile()
        reconciling.compare(lived.connection.pk)
        clock.shift(MINUTE)
    periodic.reconcile()
    assert not is_narrowing()

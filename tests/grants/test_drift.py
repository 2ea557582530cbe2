"""What differs between grants and AWS is found, told, and repaired by taking access away, never by giving any."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent, ref
from apps.connectors import fake_world as fake
from apps.connectors.fake_world import Line
from apps.grants import periodic, provisioning, reconciling, services
from apps.grants.models import Drift, EndReason, Grant, Reconciliation, State
from apps.grants.reconciling.comparing import Comparison
from apps.grants.reconciling.strangers import compare_strangers
from apps.grants.services import brake
from apps.grants.services import drift as deciding
from apps.inventory.models import Assignment
from apps.users.models import User
from tests.conftest import Enqueued
from tests.factories.inventory import (
    AssignmentFactory,
    EntitlementFactory,
    IdentityFactory,
    PrincipalFactory,
    SyncRunFactory,
)
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, System, make_due

Kind = Drift.Kind
QUARTER = timedelta(minutes=20)


@pytest.fixture
def compared(system: System, clock) -> System:
    """The system after its first comparison, which only reports."""
    SyncRunFactory(connection=system.connection)
    compare(system)
    clock.shift(QUARTER)
    return system


def compare(system: System) -> Reconciliation:
    """One comparison, and the decision about it."""
    run = reconciling.compare(system.connection.pk)
    return deciding.decide(run)


def carry_out(system: System) -> None:
    """What the decision asked workers for."""
    for row in Drift.objects.unwritten(timezone.now()):
        reconciling.repair(row.pk)
    system.run_clock()


def tamper(system: System, name: str = "alice", until: timedelta = timedelta(days=3650)) -> None:
    """Somebody moves a person's line in the guard far into the future."""
    for pair, line in system.world.guards[ACCOUNT].items():
        if pair[0] == name:
            system.world.guards[ACCOUNT][pair] = Line(timezone.now() + until, True, line.holds_standing)


def guard_only(system: System, *names: str) -> None:
    for name in names:
        entitlement = getattr(system, name)
        entitlement.attributes = {**entitlement.attributes, "has_guard": True}
        entitlement.save()


def hold(system: System, who: str = "bob", what: str = "read") -> Assignment:
    """Somebody gives it outside Gatehouse, and a sync sees it."""
    principal, entitlement = getattr(system, who), getattr(system, what)
    assignment = system.holds(principal, entitlement)
    assignment.is_standing = False
    assignment.save()
    return assignment


def only(kind: Drift.Kind) -> Drift:
    return Drift.objects.open().with_names().get(kind=kind)


# ---- nothing differs


def test_where_aws_shows_what_grants_say_nothing_is_found(compared: System, clock) -> None:
    compared.active()
    compared.active(compared.bob)
    clock.shift(timedelta(minutes=5))
    run = compare(compared)
    assert (run.state, run.found) == (Reconciliation.State.SETTLED, 0)
    assert run.looked_at == 5, "one guard; and for each grant its schedule and its assignment"
    assert run.held_count == 2


def test_one_event_tells_of_a_comparison_and_what_it_saw(compared: System, clock) -> None:
    compared.active()
    clock.shift(timedelta(minutes=5))
    tamper(compared)
    run = compare(compared)
    event = AuditEvent.objects.about(ref(run)).get()
    assert event.event == "grants.reconciliation.settled"
    assert event.data["new_critical"] == 1
    assert event.data["critical"] == ["What ends grants there was weakened: Identity Center assignment in production."]


# ---- tampered


def test_a_weakened_guard_is_critical_and_written_again(
    compared: System, clock, enqueued: Enqueued, django_capture_on_commit_callbacks
) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared)
    with django_capture_on_commit_callbacks(execute=True):
        compare(compared)
    found = only(Kind.TAMPERED)
    assert found.is_critical
    assert found.evidence["differences"] == ["It does not end Read of alice in time."]
    assert found.evidence["proof"]["read_at"]
    assert (found.grant, found.entitlement) == (grant, grant.entitlement)
    assert "apps.grants.tasks.repair" in enqueued.names
    carry_out(compared)
    assert not compared.can_use(at=grant.ends_at)
    found.refresh_from_db()
    assert found.repaired_at and found.is_open
    clock.shift(QUARTER)
    compare(compared)
    found.refresh_from_db()
    assert not found.is_open


def test_a_guard_that_is_weakened_again_is_written_again_and_stays_one_difference(compared: System, clock) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    for _ in range(2):
        clock.shift(timedelta(minutes=5))
        tamper(compared)
        compare(compared)
        carry_out(compared)
        assert not compared.can_use(at=grant.ends_at)
    assert Drift.objects.count() == 1
    events = AuditEvent.objects.about(ref(Drift.objects.get())).values_list("event", flat=True)
    assert sorted(events) == ["grants.drift.repair_decided"] * 2 + ["grants.drift.repaired"] * 2


def test_a_repair_that_does_not_get_through_is_tried_again(compared: System, clock) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared)
    compare(compared)
    compared.world.script("enforce", fake.lost_request())
    carry_out(compared)
    found = only(Kind.TAMPERED)
    assert "No answer" in found.problem and not found.repaired_at
    clock.shift(timedelta(minutes=2))
    carry_out(compared)
    found.refresh_from_db()
    assert found.repaired_at and not found.problem
    assert not compared.can_use(at=grant.ends_at)


def test_a_guard_that_only_denies_more_is_told_and_left_to_people(compared: System, clock) -> None:
    compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared, until=timedelta(minutes=-1))
    compare(compared)
    found = only(Kind.TAMPERED)
    assert not found.is_critical and not found.is_repairable
    assert "says more than was decided" in found.what
    assert found.decided_at is None
    assert not compared.can_use()


def test_a_line_that_is_being_moved_right_now_is_no_difference(compared: System, clock) -> None:
    """Between ACTIVE and its narrowing, and between the decision to end and the Deny."""
    grant = compared.issue()
    compared.world.script("enforce", fake.fine(), fake.lost_request())  # the narrowing is lost
    provisioning.provision(grant.pk)
    clock.shift(timedelta(minutes=2))
    compare(compared)
    assert not Drift.objects.exists()
    other = compared.active(compared.bob)
    clock.shift(timedelta(minutes=2))
    services.end(other, by=compared.bob.identity.user, reason=EndReason.DONE)
    compare(compared)
    assert not Drift.objects.exists()


def test_a_stale_read_of_a_guard_is_read_once_more(compared: System, clock) -> None:
    compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    compared.world.script("examine", fake.stale())
    compare(compared)
    assert not Drift.objects.exists()
    assert len(compared.world.calls_of("examine")) == 2


def test_a_dated_policy_that_gives_more_is_written_again(compared: System, clock) -> None:
    batch = PrincipalFactory(connection=compared.connection, external_id="batch", name="batch", kind="iam_role")
    compared.world.add_principal("iam_role", "batch", account_id=ACCOUNT)
    grant = compared.active()
    Grant.objects.filter(pk=grant.pk).update(
        principal=batch, provisioner="iam_timeboxed_policy", shared_key=f"fake:{compared.world.name}:policy:batch"
    )
    compared.world.policies["batch"]["batch", "other"] = Line(timezone.now() + QUARTER, True, False)
    clock.shift(timedelta(minutes=5))
    compare(compared)
    assert only(Kind.TAMPERED).is_critical


def test_a_repair_gives_nothing_again_that_somebody_took_away(
    compared: System, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two grants share a dated policy: one line was moved into the future, the other one taken out."""
    batch = PrincipalFactory(connection=compared.connection, external_id="batch", name="batch", kind="iam_role")
    compared.world.add_principal("iam_role", "batch", account_id=ACCOUNT)
    key = f"fake:{compared.world.name}:policy:batch"
    compared.active()
    compared.active(what=compared.permission_set("Other", "read"))
    Grant.objects.update(principal=batch, provisioner="iam_timeboxed_policy", shared_key=key)
    Assignment.objects.all().delete()
    monkeypatch.setattr("apps.grants.warrants.check", lambda grant: None)  # they were made for Alice
    kept, gone = Grant.objects.order_by("pk").with_names()
    line = Line(timezone.now() + timedelta(days=9), True, False)
    compared.world.policies["batch"] = {("batch", kept.entitlement.external_id): line}
    clock.shift(timedelta(minutes=5))
    run = reconciling.compare(compared.connection.pk)
    Drift.objects.filter(kind=Kind.MISSING).delete()  # judged by the repair alone
    deciding.decide(run)
    for row in Drift.objects.unwritten(timezone.now()):
        reconciling.repair(row.pk)
    assert ("batch", gone.entitlement.external_id) not in compared.world.policies["batch"]
    assert compared.world.policies["batch"]["batch", kept.entitlement.external_id].not_after == kept.ends_at


def test_what_a_grant_has_for_itself_is_not_mended_but_ended(
    compared: System, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared)
    run = reconciling.compare(compared.connection.pk)
    monkeypatch.setattr(Grant, "is_alone_in_aws", True)
    deciding.decide(run)
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.DRIFT)
    assert only(Kind.TAMPERED).removal == grant


# ---- missing


def test_access_that_is_not_in_aws_ends_and_is_never_opened_again_by_itself(compared: System, clock) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    compared.world.unassign("alice", compared.read.external_id)
    clock.shift(timedelta(minutes=5))
    compare(compared)
    found = only(Kind.MISSING)
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason, found.removal) == (State.REVOKING, EndReason.GONE, grant)
    opened = len(compared.world.calls_of("open"))
    carry_out(compared)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert len(compared.world.calls_of("open")) == opened
    assert not compared.can_use()


def test_one_stale_read_ends_nothing(compared: System, clock) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    compared.world.script("look", fake.stale())
    compare(compared)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert not Drift.objects.exists()


def test_a_grant_that_ends_while_it_is_looked_for_is_not_missing(compared: System, clock) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    compared.world.unassign("alice", compared.read.external_id)

    def ends(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "look"):
            compared.world.hook = None
            services.end(grant, by=compared.alice.identity.user, reason=EndReason.DONE)

    compared.world.hook = ends
    compare(compared)
    assert not Drift.objects.exists()


# ---- resurrected and rogue


def test_access_that_came_back_is_removed_again(compared: System, clock) -> None:
    grant = compared.active()
    services.end(grant, by=compared.alice.identity.user, reason=EndReason.DONE)
    compared.run_clock()
    compared.world.assign("alice", compared.read.external_id)
    clock.shift(timedelta(minutes=5))
    compare(compared)
    found = only(Kind.RESURRECTED)
    assert found.is_critical and found.grant == grant
    assert (found.removal.origin, found.removal.end_reason) == (Grant.Origin.FOUND, EndReason.DRIFT)
    carry_out(compared)
    found.removal.refresh_from_db()
    assert found.removal.state == State.REVOKED
    assert ("alice", compared.read.external_id) not in compared.world.assignments


def test_what_a_newer_grant_gave_back_has_not_come_back(compared: System, clock) -> None:
    first = compared.active()
    services.end(first, by=compared.alice.identity.user, reason=EndReason.DONE)
    compared.run_clock()
    compared.active()
    clock.shift(timedelta(minutes=5))
    assert compare(compared).found == 0


def test_access_that_came_back_long_after_is_known_by_the_grant_it_once_had(compared: System, clock) -> None:
    grant = compared.active()
    clock.shift(timedelta(hours=2))
    make_due()
    compared.run_clock()
    clock.shift(timedelta(days=30))
    compared.run_clock()
    SyncRunFactory(connection=compared.connection)
    hold(compared, "alice")
    compare(compared)
    assert only(Kind.RESURRECTED).grant_id == grant.pk


def test_an_assignment_of_a_guarded_permission_set_that_nobody_granted_is_rogue_and_goes(
    compared: System, clock
) -> None:
    guard_only(compared, "read")
    hold(compared)
    compare(compared)
    found = only(Kind.ROGUE)
    assert found.is_critical and found.removal.state == State.REVOKING
    events = AuditEvent.objects.about(ref(found))
    assert [event.event for event in events] == ["grants.grant.removal_decided"]
    assert events[0].actor_name == "the clock"
    carry_out(compared)
    assert ("bob", compared.read.external_id) not in compared.world.assignments
    clock.shift(QUARTER)
    compare(compared)
    assert not Drift.objects.open().exists()


def test_what_nobody_decided_elsewhere_is_unintended_and_stays(compared: System) -> None:
    hold(compared, "bob", "admin")
    compare(compared)
    found = only(Kind.UNINTENDED)
    assert (found.removal, found.decided_at, found.is_repairable) == (None, None, False)
    assert ("bob", compared.admin.external_id) in compared.world.assignments


def test_what_stands_since_the_baseline_is_no_difference(compared: System) -> None:
    guard_only(compared, "read")
    compared.holds(compared.bob, compared.read)
    compare(compared)
    assert not Drift.objects.exists()


def test_before_the_baseline_nothing_is_strange(compared: System) -> None:
    type(compared.connection).objects.filter(pk=compared.connection.pk).update(
        baselined_at=None, write_approved_at=None, write_approved_by=None
    )
    hold(compared, "bob", "admin")
    compare(compared)
    assert not Drift.objects.exists()


def test_what_the_inventory_shows_and_aws_no_longer_does_is_not_rogue(compared: System) -> None:
    guard_only(compared, "read")
    hold(compared)
    compared.world.unassign("bob", compared.read.external_id)
    compare(compared)
    assert not Drift.objects.exists()


@pytest.mark.parametrize("moment", ["enforce", "open", "look"])
def test_a_grant_that_is_being_opened_right_now_is_never_rogue(compared: System, clock, moment: str) -> None:
    """A comparison at every moment of an opening, also after a sync has seen the assignment."""
    guard_only(compared, "read")
    compare(compared)
    grant = compared.issue(compared.bob)

    def compares(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", moment):
            compared.world.hook = None
            Assignment.objects.filter(principal=compared.bob).delete()
            hold(compared)
            compare(compared)

    compared.world.hook = compares
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert not Drift.objects.exists()


def test_a_grant_decided_while_its_assignment_was_looked_at_explains_it(compared: System, clock) -> None:
    guard_only(compared, "read")
    assignment = hold(compared)

    def is_granted(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "look"):
            compared.world.hook = None
            Assignment.objects.filter(pk=assignment.pk).update(is_standing=True)

    compared.world.hook = is_granted
    compare(compared)
    assert not Drift.objects.exists()


def test_nothing_is_removed_where_gatehouse_may_only_look(compared: System) -> None:
    guard_only(compared, "read")
    hold(compared)
    type(compared.connection).objects.filter(pk=compared.connection.pk).update(
        write_approved_at=None, write_approved_by=None
    )
    compare(compared)
    found = only(Kind.ROGUE)
    assert found.is_critical and found.removal is None
    assert not found.is_repairable
    assert ("bob", compared.read.external_id) in compared.world.assignments


def test_a_role_under_our_path_that_no_grant_made_is_told_and_left_to_people(compared: System) -> None:
    PrincipalFactory(
        connection=compared.connection,
        kind="iam_role",
        name="jit-mallory",
        external_id=f"arn:aws:iam::{ACCOUNT}:role/jit/jit-mallory",
        attributes={"path": "/jit/"},
    )
    tier = PrincipalFactory(
        connection=compared.connection,
        kind="iam_role",
        name="JitReadOnly",
        external_id=f"arn:aws:iam::{ACCOUNT}:role/jit/tier/JitReadOnly",
        attributes={"path": "/jit/tier/"},
    )
    AssignmentFactory(  # a tier role keeps its guard when nobody is let in
        connection=compared.connection,
        principal=tier,
        entitlement__kind="iam_inline_policy",
        entitlement__name="jit-guard",
        entitlement__is_ours=True,
        is_standing=False,
    )
    compare(compared)
    found = only(Kind.ROGUE)
    assert "jit-mallory" in found.what
    assert found.is_critical and not found.is_repairable


@pytest.mark.parametrize(
    ("kind", "path", "name"),
    [
        ("idc_user", "", "gatehouse-jit"),  # its grant wrote a guard and no such policy
        ("iam_user", "/jit/", "gatehouse-jit"),
        ("iam_role", "/jit/tier/", "gatehouse-jit"),
        ("iam_role", "/jitter/", "jit-guard"),
    ],
)
def test_a_policy_that_only_looks_like_ours_is_told_whatever_else_its_holder_was_granted(
    compared: System, kind: str, path: str, name: str
) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    assert grant.shared_key
    holder = grant.principal
    type(holder).objects.filter(pk=holder.pk).update(kind=kind, attributes={"path": path})
    policy = EntitlementFactory(
        connection=compared.connection, resource=compared.account, kind="iam_inline_policy", name=name, is_ours=True
    )
    AssignmentFactory(connection=compared.connection, principal=holder, entitlement=policy, is_standing=False)
    strangers = Comparison(compare(compared))
    compare_strangers(strangers)
    [found] = strangers.findings.values()
    assert (found.kind, found.is_critical) == (Kind.ROGUE, True)
    assert "has a dated policy of ours, and no grant made it" in found.what


# ---- incomplete


@pytest.mark.parametrize("operation", ["examine", "examine_second_end", "look"])
def test_an_incomplete_comparison_repairs_nothing_and_closes_nothing(compared: System, clock, operation: str) -> None:
    compared.active(duration=timedelta(hours=2))
    guard_only(compared, "read")
    hold(compared)
    tamper(compared)
    old = Drift.objects.create(
        connection=compared.connection,
        kind=Kind.UNINTENDED,
        key="0" * 64,
        what="Seen before.",
        first_seen_at=timezone.now(),
        seen_at=timezone.now(),
        seen_in=compared.connection.reconciliations.first(),
    )
    clock.shift(timedelta(minutes=5))
    compared.world.script(operation, fake.throttled())
    run = compare(compared)
    assert run.state == Reconciliation.State.INCOMPLETE
    assert "slow down" in run.problems[0]
    old.refresh_from_db()
    assert old.is_open
    assert Drift.objects.count() > 1  # what it saw is told
    assert not Drift.objects.exclude(decided_at=None).exists()
    assert ("bob", compared.read.external_id) in compared.world.assignments


def test_a_comparison_that_breaks_off_repairs_nothing(compared: System, clock) -> None:
    compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared)

    def breaks(when: str, call: fake.Call) -> None:
        if call.operation == "look":
            raise RuntimeError("killed")

    compared.world.hook = breaks
    with pytest.raises(RuntimeError):
        reconciling.compare(compared.connection.pk)
    compared.world.hook = None
    periodic.decide_found()
    assert compared.connection.reconciliations.first().state == Reconciliation.State.INCOMPLETE
    assert only(Kind.TAMPERED).decided_at is None


def test_a_comparison_whose_process_died_is_given_up(compared: System, clock) -> None:
    run = Reconciliation.objects.create(
        connection=compared.connection, database="x", next_at=timezone.now(), started_at=timezone.now()
    )
    with pytest.raises(reconciling.CannotCompare):
        reconciling.compare(compared.connection.pk)
    clock.shift(Reconciliation.SILENT_FOR + timedelta(seconds=1))
    assert compare(compared).state == Reconciliation.State.SETTLED
    assert not Reconciliation.objects.filter(pk=run.pk).exists()


def test_a_paused_connection_is_not_compared(compared: System) -> None:
    type(compared.connection).objects.filter(pk=compared.connection.pk).update(paused_at=timezone.now())
    with pytest.raises(reconciling.CannotCompare):
        reconciling.compare(compared.connection.pk)


# ---- the first one, and the brake


def test_the_first_comparison_of_a_connection_only_reports(system: System, clock) -> None:
    SyncRunFactory(connection=system.connection)
    guard_only(system, "read")
    hold(system)
    run = compare(system)
    assert run.only_reports and run.repairs == 1
    assert only(Kind.ROGUE).removal is None
    clock.shift(QUARTER)
    compare(system)
    assert only(Kind.ROGUE).removal is not None


@pytest.mark.parametrize(
    ("repairs", "of", "stops"),
    [(1, 0, False), (2, 2, False), (3, 10, False), (4, 10, True), (3, 9, True), (10, 1000, False), (11, 1000, True)],
)
def test_the_brake_bites_above_a_number_and_above_a_share(repairs: int, of: int, stops: bool) -> None:
    assert brake.bites(repairs, of, most=10, percent=30) == stops


@pytest.fixture
def braked(compared: System, clock) -> Reconciliation:
    """Three strangers at once, with one grant: the brake bites."""
    guard_only(compared, "read")
    for name in ("carol", "dave", "mallory"):
        setattr(compared, name, compared.person(name))
        hold(compared, name)
    run = compare(compared)
    assert run.state == Reconciliation.State.HELD
    return run


def known_administrator(system: System, name: str, **fields: str) -> User:
    user = UserFactory(name=name, administrator=True)
    IdentityFactory(connection=system.connection, user=user, name=name, **fields)
    return user


def test_a_comparison_that_would_repair_suspiciously_much_repairs_nothing(
    compared: System, braked: Reconciliation, clock
) -> None:
    assert braked.repairs == 3
    assert not Drift.objects.exclude(decided_at=None).exists()
    assert Drift.objects.filter(held_in=braked).count() == 3
    assert AuditEvent.objects.about(ref(braked)).get().event == "grants.reconciliation.held"
    clock.shift(QUARTER)
    again = compare(compared)  # and no later one, while it waits
    assert again.state == Reconciliation.State.SETTLED
    assert not Drift.objects.exclude(decided_at=None).exists()
    assert compared.connection.reconciliations.held().get() == braked


def test_two_administrators_let_it_go(compared: System, braked: Reconciliation) -> None:
    erin, frank = (known_administrator(compared, name) for name in ("Erin", "Frank"))
    deciding.propose_release(braked, by=erin)
    run = deciding.release(braked, by=frank)
    assert (run.state, run.proposed_by, run.released_by) == (Reconciliation.State.SETTLED, erin, frank)
    told = AuditEvent.objects.get(event="grants.reconciliation.released")
    assert (told.actor_id, told.data["repairs"]) == (str(frank.pk), 3)
    carry_out(compared)
    assert not any((name, compared.read.external_id) in compared.world.assignments for name in ("carol", "dave"))


def test_only_what_was_held_is_let_go(compared: System, braked: Reconciliation, clock) -> None:
    compared.person("late")
    compared.late = compared.person("later")
    hold(compared, "late")
    clock.shift(QUARTER)
    compare(compared)
    deciding.propose_release(braked, by=known_administrator(compared, "Erin"))
    deciding.release(braked, by=known_administrator(compared, "Frank"))
    assert Drift.objects.exclude(decided_at=None).count() == 3


def test_what_aws_no_longer_shows_is_not_repaired_when_it_is_let_go(
    compared: System, braked: Reconciliation, clock
) -> None:
    compared.world.unassign("carol", compared.read.external_id)
    clock.shift(QUARTER)
    compare(compared)
    deciding.propose_release(braked, by=known_administrator(compared, "Erin"))
    deciding.release(braked, by=known_administrator(compared, "Frank"))
    assert Drift.objects.exclude(decided_at=None).count() == 2


def test_one_person_does_not_let_it_go_by_any_login(compared: System, braked: Reconciliation) -> None:
    erin = known_administrator(compared, "Erin", email="erin@example.com")
    other_login = known_administrator(compared, "E. Example", email="ERIN@example.com")
    unknown = UserFactory(name="Somebody", administrator=True)
    with pytest.raises(services.NotPossible, match="Say so first"):
        deciding.release(braked, by=erin)
    with pytest.raises(services.NotPossible, match="known people"):
        deciding.propose_release(braked, by=unknown)
    deciding.propose_release(braked, by=erin)
    for user in (erin, other_login):
        with pytest.raises(services.NotPossible, match="Another person"):
            deciding.release(braked, by=user)
    with pytest.raises(services.NotPossible, match="known people"):
        deciding.release(braked, by=unknown)
    assert not Drift.objects.exclude(decided_at=None).exists()


def test_only_administrators_let_it_go(compared: System, braked: Reconciliation) -> None:
    with pytest.raises(services.NotPossible):
        deciding.propose_release(braked, by=compared.alice.identity.user)


def test_the_database_itself_keeps_one_person_from_letting_it_go(braked: Reconciliation) -> None:
    erin = UserFactory()
    now = timezone.now()
    for fields in (
        {"proposed_by": erin, "released_by": erin, "released_at": now},
        {"released_by": erin, "released_at": now},
        {"proposed_by": erin, "released_at": now},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Reconciliation.objects.filter(pk=braked.pk).update(**fields)


# ---- accepted


def test_what_is_accepted_is_not_repaired_until_that_day(compared: System, clock) -> None:
    guard_only(compared, "read")
    hold(compared)
    erin = known_administrator(compared, "Erin")
    type(compared.connection).objects.filter(pk=compared.connection.pk).update(paused_at=timezone.now())
    type(compared.connection).objects.filter(pk=compared.connection.pk).update(paused_at=None)
    run = reconciling.compare(compared.connection.pk)
    found = only(Kind.ROGUE)
    deciding.accept(found, by=erin, until=timezone.now() + timedelta(days=1), reason="A migration until tomorrow.")
    deciding.decide(run)
    assert only(Kind.ROGUE).removal is None
    clock.shift(timedelta(days=1, minutes=1))
    compare(compared)
    assert only(Kind.ROGUE).removal is not None


@pytest.mark.parametrize(
    ("days", "reason", "says"), [(1, " ", "why"), (0, "Known.", "next 90"), (91, "Known.", "next 90")]
)
def test_accepting_takes_a_reason_and_a_near_day(compared: System, days: int, reason: str, says: str) -> None:
    hold(compared, "bob", "admin")
    compare(compared)
    with pytest.raises(services.NotPossible, match=says):
        deciding.accept(
            only(Kind.UNINTENDED),
            by=known_administrator(compared, "Erin"),
            until=timezone.now() + timedelta(days=days),
            reason=reason,
        )


def test_the_database_itself_keeps_anything_from_being_accepted_by_nobody(compared: System) -> None:
    hold(compared, "bob", "admin")
    compare(compared)
    with pytest.raises(IntegrityError), transaction.atomic():
        Drift.objects.update(accepted_until=timezone.now())


# ---- the clock


def test_the_clock_compares_each_connection_when_its_time_has_come(system: System, clock, enqueued: Enqueued) -> None:
    periodic.reconcile()
    assert enqueued.names == ["apps.grants.tasks.compare"]
    enqueued.run()
    periodic.reconcile()
    run = system.connection.reconciliations.get()
    assert run.state == Reconciliation.State.SETTLED
    waits = run.next_at - run.started_at
    assert timedelta(minutes=15) <= waits <= timedelta(minutes=18)
    assert not enqueued.names
    clock.shift(waits)
    periodic.reconcile()
    assert enqueued.names == ["apps.grants.tasks.compare"]


def test_a_decision_is_made_once(compared: System, clock) -> None:
    guard_only(compared, "read")
    hold(compared)
    run = reconciling.compare(compared.connection.pk)
    for _ in range(2):
        deciding.decide(run)
    assert Grant.objects.filter(origin=Grant.Origin.FOUND).count() == 1
    assert AuditEvent.objects.about(ref(run)).count() == 1

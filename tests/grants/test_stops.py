"""Emergency stops: everything in a scope ends, one write for each shared object bites first, nothing opens there, and only
two administrators lift it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from apps.audit.models import AuditEvent
from apps.connectors.fake_world import Call, lost_response, stale, throttled
from apps.grants import narrowing, periodic, provisioning, services
from apps.grants.models import EndReason, Grant, Scope, State, Stop, StopWrite
from apps.grants.services import stops
from apps.grants.windows import windows_of
from apps.inventory.models import Assignment, Entitlement, Principal, Responsibility
from apps.users.models import User
from tests.conftest import Enqueued
from tests.factories.inventory import AssignmentFactory, EntitlementFactory, PrincipalFactory, ResourceFactory
from tests.factories.users import UserFactory
from tests.grants.lifting import known, lift, propose, second, signed
from tests.grants.signing import give_key
from tests.grants.system import ACCOUNT, System

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
WHY = "Alice's laptop was stolen."
OTHER = "444455556666"


@pytest.fixture
def erin(system: System) -> User:
    return known(UserFactory(name="Erin", administrator=True))


@pytest.fixture
def frank(system: System) -> User:
    return known(UserFactory(name="Frank", administrator=True))


def stop_all(erin: User, **fields: Any) -> Stop:
    return stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=PASSKEY, **fields)


def stop_alice(system: System, erin: User) -> Stop:
    return stops.order(scope=Scope.PERSON, subject=system.alice.identity, reason=WHY, by=erin, step_up=PASSKEY)


def write_all(stop: Stop) -> None:
    for row in stop.writes.all():
        provisioning.write_stop(row.pk)


def other_account(system: System, external_id: str = OTHER) -> Entitlement:
    """A permission set in another account."""
    system.world.add_account(external_id)
    there = ResourceFactory(connection=system.connection, external_id=external_id, name="sandbox")
    record = system.world.add_permission_set("Sand", external_id)
    return EntitlementFactory(
        connection=system.connection,
        resource=there,
        external_id=record.external_id,
        name="Sand",
        privilege="read",
        session_for=timedelta(hours=1),
    )


# Scope


def test_a_stop_of_a_person_ends_theirs_and_nobody_elses(system: System, erin: User) -> None:
    hers, his = system.active(), system.active(who=system.bob)
    stop = stop_alice(system, erin)
    hers.refresh_from_db()
    his.refresh_from_db()
    assert (hers.state, hers.end_reason, his.state) == (State.REVOKING, EndReason.EMERGENCY, State.ACTIVE)
    assert stop.count == 1


def test_a_stop_of_a_person_ends_what_they_asked_for_a_machine(system: System, erin: User) -> None:
    grant = system.issue(who=system.bob, requester=system.alice.identity.user)  # type: ignore[union-attr]
    stop_alice(system, erin)
    grant.refresh_from_db()
    assert grant.state == State.CANCELLED


def test_a_stop_of_an_entitlement_ends_it_for_everybody(system: System, erin: User) -> None:
    read, admin = system.active(), system.issue(who=system.bob, what=system.permission_set("Other", "read"))
    stops.order(scope=Scope.ENTITLEMENT, subject=system.read, reason=WHY, by=erin, step_up=PASSKEY)
    read.refresh_from_db()
    admin.refresh_from_db()
    assert (read.state, admin.state) == (State.REVOKING, State.PENDING)


def test_a_stop_of_an_account_leaves_other_accounts(system: System, erin: User) -> None:
    here, there = system.active(), system.active(what=other_account(system))
    stops.order(scope=Scope.ACCOUNT, subject=system.account, reason=WHY, by=erin, step_up=PASSKEY)
    here.refresh_from_db()
    there.refresh_from_db()
    assert (here.state, there.state) == (State.REVOKING, State.ACTIVE)


def test_a_membership_counts_with_what_its_group_holds(system: System, erin: User) -> None:
    group = PrincipalFactory(connection=system.connection, kind="idc_group", external_id="devs", identity=None)
    membership = EntitlementFactory(
        connection=system.connection, resource=None, kind="idc_group", external_id="membership:devs", group=group
    )
    system.world.assign("devs", system.read.external_id)
    Assignment.objects.create(
        connection=system.connection,
        principal=group,
        entitlement=system.read,
        period=DateTimeTZRange(timezone.now() - timedelta(days=1), None),
    )
    wanted = Grant(identity=system.alice.identity, principal=system.alice, entitlement=membership)
    for fields in (
        {"scope": "account", "account": system.account},
        {"scope": "entitlement", "entitlement": system.read},
    ):
        stop = Stop.objects.create(reason=WHY, ordered_by=erin, **fields)
        assert Stop.objects.against(wanted).filter(pk=stop.pk).exists()
        wanted_row = Grant.objects.create(
            connection=system.connection,
            identity=system.alice.identity,
            principal=system.alice,
            entitlement=membership,
            origin="request",
            provisioner="idc_assignment",
            duration=timedelta(hours=1),
            reason="x",
        )
        assert Grant.objects.filter(stop.covers(), pk=wanted_row.pk).exists()


@pytest.mark.parametrize("scope", ["person", "entitlement", "account", "all"])
def test_all_sides_of_the_scope_agree(system: System, erin: User, scope: str) -> None:
    grants = [system.issue(), system.issue(who=system.bob), system.issue(what=other_account(system))]
    group = PrincipalFactory(connection=system.connection, kind="idc_group", external_id="devs", identity=None)
    membership = EntitlementFactory(
        connection=system.connection, resource=None, kind="idc_group", external_id="membership:devs", group=group
    )
    AssignmentFactory(principal=group, entitlement=system.read)
    grants.append(grant_of(system, system.bob, membership))
    grants.append(grant_of(system, system.bob, other_account(system, "555566667777"), by=system.alice.identity.user))
    subjects = {"person": {"identity": system.alice.identity}, "entitlement": {"entitlement": system.read}}
    subjects["account"] = {"account": system.account}
    stop = Stop.objects.create(scope=scope, reason=WHY, ordered_by=erin, **subjects.get(scope, {}))
    covered = set(Grant.objects.filter(stop.covers()).values_list("pk", flat=True))
    assert covered == {grant.pk for grant in grants if stop in Stop.objects.against(grant)}
    among_others = Stop.objects.in_force()
    assert not Grant.objects.filter(among_others.exclude(pk=stop.pk).covering()).exists()
    somebody = PrincipalFactory(connection=system.connection).identity
    Stop.objects.create(scope="person", identity=somebody, reason=WHY, ordered_by=erin)
    assert covered == set(Grant.objects.filter(among_others.covering()).values_list("pk", flat=True))
    assert covered


def grant_of(system: System, who: Principal, what: Entitlement, by: User | None = None) -> Grant:
    return Grant.objects.create(
        connection=system.connection,
        identity=who.identity,
        principal=who,
        entitlement=what,
        origin="request",
        provisioner="idc_assignment",
        duration=timedelta(hours=1),
        reason="x",
        requested_by=by,
    )


def test_what_is_done_about_stops_does_not_grow_with_them(
    system: System, erin: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """Whoever may order stops may order thousands, and no end may come later for them."""
    key, somebody = system.active().shared_key, PrincipalFactory(connection=system.connection).identity
    for many in (1, 20):
        Stop.objects.bulk_create(
            Stop(scope="person", identity=somebody, reason=WHY, ordered_by=erin, digest="") for _ in range(many)
        )
        with django_assert_num_queries(8):
            windows_of(key)
        with django_assert_num_queries(1):
            periodic.end_stopped()


def test_what_failed_least_is_written_first(system: System, erin: User) -> None:
    system.active()
    first, second = (stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=PASSKEY) for _ in range(2))
    first.writes.update(problem_count=3)
    assert list(periodic._stops(timezone.now())) == [second.writes.get().pk, first.writes.get().pk]


def test_a_scope_names_exactly_its_subject(system: System, erin: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Stop.objects.create(scope="person", account=system.account, reason=WHY, ordered_by=erin)
    with pytest.raises(IntegrityError), transaction.atomic():
        Stop.objects.create(scope="all", account=system.account, reason=WHY, ordered_by=erin)
    with pytest.raises(services.NotPossible, match="whose"):
        stops.order(scope=Scope.PERSON, subject=system.account, reason=WHY, by=erin, step_up=PASSKEY)


# Deciding


def test_one_event_says_how_many_and_which(system: System, erin: User) -> None:
    system.active()
    system.active(who=system.bob)
    stop = stop_all(erin)
    [event] = AuditEvent.objects.filter(event="grants.stop.ordered")
    assert event.data["count"] == 2
    assert event.data["digest"] == stop.digest
    assert len(stop.digest) == 64
    assert AuditEvent.objects.filter(event="grants.grant.revoking", data__reason="emergency").count() == 2


@pytest.mark.parametrize("step_up", [{}, {"method": "totp"}])
def test_a_stop_takes_a_passkey(system: System, erin: User, step_up: dict[str, Any]) -> None:
    with pytest.raises(services.NotPossible, match="passkey"):
        stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=step_up)
    assert not Stop.objects.exists()


def test_a_stop_takes_a_reason(system: System, erin: User) -> None:
    with pytest.raises(services.NotPossible, match="why"):
        stops.order(scope=Scope.ALL, reason="  x ", by=erin, step_up=PASSKEY)


def test_what_it_would_do_is_counted_before(system: System) -> None:
    system.active()
    system.active(who=system.bob)
    system.holds(system.alice, system.admin)
    foreseen = stops.foresee(scope=Scope.ALL)
    assert (foreseen.grants, foreseen.people, foreseen.accounts, foreseen.undenied, foreseen.standing) == (
        2,
        2,
        1,
        0,
        1,
    )
    assert foreseen.survives == (("Identity Center assignment", "Nothing."),)


# Nothing opens in it


def test_nothing_is_issued_in_its_scope(system: System, erin: User) -> None:
    stop_alice(system, erin)
    with pytest.raises(services.NotPossible, match="emergency stop"):
        system.issue()
    system.issue(who=system.bob)


def test_the_refusal_does_not_tell_why(system: System, erin: User) -> None:
    assert WHY not in stop_alice(system, erin).refusal


def test_nothing_is_asked_for_on_behalf_of_others_by_somebody_stopped(system: System, erin: User) -> None:
    stop_alice(system, erin)
    with pytest.raises(services.NotPossible, match="emergency stop"):
        system.issue(who=system.bob, requester=system.alice.identity.user)  # type: ignore[union-attr]


def test_a_worker_opens_nothing_that_was_issued_past_a_stop(system: System, erin: User) -> None:
    """The race: a grant commits that the stop's own look at the table did not see yet."""
    grant = system.issue()
    Stop.objects.create(scope="all", reason=WHY, ordered_by=erin)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert not system.world.calls_of("open")


def test_a_worker_that_began_before_the_stop_opens_nothing_after_it(system: System, erin: User) -> None:
    grant = system.issue()

    def stop_now(when: str, call: Call) -> None:
        if (when, call.operation) == ("after", "enforce") and not Stop.objects.exists():
            write_all(stop_all(erin))

    system.world.hook = stop_now
    provisioning.provision(grant.pk)
    system.world.hook = None
    assert not system.can_use()
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state in (State.REVOKING, State.REVOKED)
    assert not system.world.calls_of("open")


def test_what_a_race_let_through_is_ended_by_the_clock(system: System, erin: User) -> None:
    grant = system.active()
    Stop.objects.create(scope="all", reason=WHY, ordered_by=erin)
    periodic.sweep()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.EMERGENCY)


def test_an_extension_is_refused_in_its_scope(system: System, erin: User) -> None:
    grant = system.active()
    Stop.objects.create(scope="all", reason=WHY, ordered_by=erin)
    with pytest.raises(services.NotPossible, match="emergency stop"):
        services.extend(
            grant,
            longer=timedelta(minutes=30),
            by=system.alice.identity.user,  # type: ignore[union-attr]
            authority=services.Authority({"tier": "auto", "cap_seconds": 8 * 3600, "rule": "read-anywhere"}),
        )


# It bites with one write


def test_it_bites_with_one_write_for_an_account_before_any_removal(
    system: System, erin: User, enqueued: Enqueued, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    system.active()
    system.active(who=system.bob)
    before = len(system.world.calls_of("enforce"))
    with django_capture_on_commit_callbacks(execute=True):
        stop_all(erin)
    names = [name.rpartition(".")[2] for name in enqueued.names if "deprovision" in name or "write_stop" in name]
    assert names == ["write_stop", "deprovision", "deprovision"]
    _, args, _ = next(call for call in enqueued.calls if call[0].endswith("write_stop"))
    provisioning.write_stop(*args)
    assert len(system.world.calls_of("enforce")) - before == 1
    assert not system.world.calls_of("close")
    assert not system.can_use()
    assert not system.can_use(who=system.bob)
    assert Grant.objects.undenied().count() == 0


def test_a_guard_also_denies_what_no_row_names(system: System, erin: User) -> None:
    system.active()
    mallory = system.person("mallory")
    system.world.assign("mallory", system.admin.external_id)  # given behind our back
    assert system.can_use(mallory, system.admin)
    write_all(stop_all(erin))
    assert not system.can_use(mallory, system.admin)


def test_a_person_is_denied_what_no_row_names_and_others_are_not(system: System, erin: User) -> None:
    system.active(who=system.bob)
    system.world.assign("alice", system.admin.external_id)
    write_all(stop_alice(system, erin))
    assert not system.can_use(system.alice, system.admin)
    assert system.can_use(system.bob)


def test_an_entitlement_is_denied_to_whom_no_row_names(system: System, erin: User) -> None:
    system.world.assign("bob", system.read.external_id)
    write_all(stops.order(scope=Scope.ENTITLEMENT, subject=system.read, reason=WHY, by=erin, step_up=PASSKEY))
    assert not system.can_use(system.bob)


def test_an_account_where_nothing_was_ever_opened_is_denied_too(system: System, erin: User) -> None:
    system.world.assign("bob", system.read.external_id)
    stop = stops.order(scope=Scope.ACCOUNT, subject=system.account, reason=WHY, by=erin, step_up=PASSKEY)
    assert stop.writes.count() == 1
    write_all(stop)
    assert not system.can_use(system.bob)


def test_whoever_writes_the_guard_next_says_the_stop_too(system: System, erin: User) -> None:
    other = system.active(who=system.bob)
    system.world.assign("alice", system.admin.external_id)
    write_all(stop_alice(system, erin))
    services.end(other, by=erin, reason=EndReason.REVOKED)
    provisioning.deprovision(other.pk)
    assert not system.can_use(system.alice, system.admin)


@pytest.mark.parametrize("fault", [throttled, lost_response, stale])
def test_what_was_not_read_back_is_shown_and_tried_again(system: System, erin: User, fault: Callable[[], Any]) -> None:
    system.active()
    stop = stop_all(erin)
    [row] = stop.writes.all()
    system.world.script("enforce", fault())
    provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.read_at is None
    assert row.problem
    assert StopWrite.objects.unread().count() == 1
    StopWrite.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
    provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.read_at is not None
    assert row.problem == ""


def test_a_dead_worker_delays_a_write_and_loses_none(system: System, erin: User, enqueued: Enqueued) -> None:
    class Killed(BaseException):
        pass

    def kill(when: str, call: Call) -> None:
        if (when, call.operation) == ("before", "enforce"):
            raise Killed

    system.active()
    [row] = stop_all(erin).writes.all()
    system.world.hook = kill
    with pytest.raises(Killed):
        provisioning.write_stop(row.pk)
    system.world.hook = None
    assert not StopWrite.objects.due(timezone.now()).exists()
    assert StopWrite.objects.due(timezone.now() + timedelta(minutes=2)).get() == row
    StopWrite.objects.update(next_try_at=timezone.now())
    enqueued.calls.clear()
    periodic.wake_workers()
    assert enqueued.calls[0][0].endswith("write_stop")


def test_a_second_worker_does_not_write_at_the_same_time(system: System, erin: User) -> None:
    system.active()
    [row] = stop_all(erin).writes.all()
    before = len(system.world.calls_of("enforce"))
    provisioning.write_stop(row.pk)
    provisioning.write_stop(row.pk)
    assert len(system.world.calls_of("enforce")) - before == 1


def test_everything_is_gone_after_the_clean_up(system: System, erin: User) -> None:
    grants = [system.active(), system.active(who=system.bob), system.active(what=other_account(system))]
    stop = stop_all(erin)
    assert stop.writes.count() == 2
    write_all(stop)
    system.run_clock()
    states = set(Grant.objects.filter(pk__in=[grant.pk for grant in grants]).values_list("state", flat=True))
    assert states == {State.REVOKED}


def test_a_race_between_stop_and_approval_opens_nothing(system: System, erin: User) -> None:
    """Issue commits right after the stop looked at the table and before it committed itself."""
    first = system.active(who=system.bob)
    late: list[Grant] = []

    original = stops.end_many

    def end_many(*args: Any, **fields: Any) -> Any:
        done = original(*args, **fields)
        Stop.objects.update(lifted_at=timezone.now(), lifted_by=erin, lift_proposed_by=UserFactory())
        late.append(system.issue())
        Stop.objects.update(lifted_at=None, lifted_by=None, lift_proposed_by=None)
        return done

    stops.end_many = end_many  # type: ignore[assignment]
    try:
        stop_all(erin)
    finally:
        stops.end_many = original
    provisioning.provision(late[0].pk)
    assert not system.can_use()
    first.refresh_from_db()
    assert first.state == State.REVOKING


# The organization's policy


def test_everything_can_use_the_one_switch_of_the_organization(system: System, erin: User) -> None:
    system.holds(system.bob, system.admin)
    stop = stop_all(erin, attach_policy=True)
    write_all(stop)
    assert system.world.is_stopped
    assert not system.can_use(system.bob, system.admin)
    [row] = [row for row in stop.writes.all() if row.is_organization]
    assert row.read_at is not None


def test_only_a_person_takes_the_switch_back(system: System, erin: User, frank: User) -> None:
    stop = stop_all(erin, attach_policy=True)
    write_all(stop)
    lift(stop, erin, frank)
    write_all(stop)
    [row] = [row for row in stop.writes.all() if row.is_organization]
    assert row.cleared_at is None
    assert "person" in row.problem
    assert system.world.is_stopped
    system.world.is_stopped = False
    StopWrite.objects.update(next_try_at=timezone.now())
    write_all(stop)
    row.refresh_from_db()
    assert row.cleared_at is not None


# Lifting


def test_lifting_takes_two_different_administrators(system: System, erin: User, frank: User) -> None:
    stop, erins, franks = stop_alice(system, erin), give_key(erin), give_key(frank)
    with pytest.raises(services.NotPossible, match="Propose"):
        stops.lift(stop, by=frank, signed=signed(stop, frank, franks))
    stops.propose_lift(stop, by=erin, reason="The laptop was found.", signed=signed(stop, erin, erins))
    with pytest.raises(services.NotPossible, match="yourself"):
        stops.lift(stop, by=erin, signed=signed(stop, erin, erins))
    with pytest.raises(services.NotPossible, match="already"):
        stops.propose_lift(stop, by=frank, reason="The laptop was found.", signed=signed(stop, frank, franks))
    stops.lift(stop, by=frank, signed=signed(stop, frank, franks))
    assert Stop.objects.in_force().count() == 1  # no worker looked yet
    provisioning.lift_stop(stop.pk)
    stop.refresh_from_db()
    assert (stop.lift_proposed_by, stop.lifted_by) == (erin, frank)
    names = (
        AuditEvent.objects.filter(event__startswith="grants.stop.lift").order_by("pk").values_list("event", flat=True)
    )
    assert list(names) == ["grants.stop.lift_proposed", "grants.stop.lift_signed", "grants.stop.lifted"]
    provisioning.lift_stop(stop.pk)
    assert AuditEvent.objects.filter(event="grants.stop.lifted").count() == 1


def test_the_clock_has_a_lost_lifting_done(system: System, erin: User, frank: User, enqueued: Enqueued) -> None:
    stop = stop_alice(system, erin)
    propose(stop, erin)
    second(stop, frank)
    enqueued.calls.clear()
    periodic.wake_workers()
    assert ("apps.grants.tasks.lift_stop", (stop.pk,)) in [(name, tuple(args)) for name, args, *_ in enqueued.calls]


def test_nothing_is_lifted_before_all_that_it_ends_was_ended(system: System, erin: User, frank: User) -> None:
    """A grant whose row was held while it was ordered, say: it would come to life again."""
    stop = stop_alice(system, erin)
    grant = system.active(who=system.bob)
    Grant.objects.filter(pk=grant.pk).update(identity=system.alice.identity)
    assert lift(stop, erin, frank).is_in_force
    assert not stop.lift_problem
    periodic.end_stopped()
    provisioning.lift_stop(stop.pk)
    assert not Stop.objects.in_force().exists()


def test_whoever_has_no_passkey_is_told_what_it_takes(system: System, erin: User) -> None:
    with pytest.raises(services.NotPossible, match="Add one in your settings"):
        stops.propose_lift(stop_alice(system, erin), by=erin, reason="The laptop was found.", signed={})


@pytest.mark.parametrize("late", [timedelta(seconds=-1), timedelta(hours=24, minutes=1)], ids=["over", "too far ahead"])
def test_a_signature_is_for_a_day(system: System, erin: User, late: timedelta) -> None:
    stop, key = stop_alice(system, erin), give_key(erin)
    old = signed(stop, erin, key, expires=timezone.now() + late)
    with pytest.raises(services.NotPossible, match="another time"):
        stops.propose_lift(stop, by=erin, reason="The laptop was found.", signed=old)


def test_a_proposal_that_nobody_seconded_in_a_day_is_made_anew(
    system: System, erin: User, frank: User, clock: Any
) -> None:
    stop = stop_alice(system, erin)
    propose(stop, erin)
    clock.shift(timedelta(hours=24))
    stop.refresh_from_db()
    assert not stop.is_lift_proposed
    with pytest.raises(services.NotPossible, match="Propose"):
        second(stop, frank)
    propose(stop, frank)
    assert lift_of(stop, erin)


def lift_of(stop: Stop, other: User) -> bool:
    second(stop, other)
    provisioning.lift_stop(stop.pk)
    return not Stop.objects.in_force().exists()


def test_what_was_signed_for_another_stop_lifts_nothing(system: System, erin: User, frank: User) -> None:
    stop, drill, key = stop_alice(system, erin), stop_alice(system, erin), give_key(erin)
    with pytest.raises(services.NotPossible, match="something else"):
        stops.propose_lift(stop, by=erin, reason="The laptop was found.", signed=signed(drill, erin, key))


def test_whoever_administers_only_since_today_lifts_nothing(system: System, erin: User) -> None:
    stop, key = stop_alice(system, erin), give_key(erin)
    Responsibility.objects.update(counts_from=timezone.now() + timedelta(hours=1))
    with pytest.raises(services.NotPossible, match="long enough"):
        stops.propose_lift(stop, by=erin, reason="The laptop was found.", signed=signed(stop, erin, key))


def test_the_database_refuses_one_person_lifting_alone(system: System, erin: User) -> None:
    stop = stop_alice(system, erin)
    now = timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        Stop.objects.filter(pk=stop.pk).update(lifted_at=now, lifted_by=erin, lift_proposed_by=erin)
    with pytest.raises(IntegrityError), transaction.atomic():
        Stop.objects.filter(pk=stop.pk).update(lifted_at=now, lifted_by=erin)
    with pytest.raises(IntegrityError), transaction.atomic():
        Stop.objects.filter(pk=stop.pk).update(lifted_at=now)


def test_nobody_lifts_a_stop_of_their_own_access(system: System, erin: User) -> None:
    stop = stop_alice(system, erin)
    alice: User = system.alice.identity.user  # type: ignore[union-attr]
    with pytest.raises(services.NotPossible, match="about you"):
        stops.propose_lift(stop, by=alice, reason="I am fine again.", signed={})


def test_lifting_lifts_nothing_that_was_ended(system: System, erin: User, frank: User) -> None:
    grant = system.active()
    system.world.assign("alice", system.admin.external_id)  # no row names this
    stop = stop_alice(system, erin)
    write_all(stop)
    lift(stop, erin, frank)
    write_all(stop)
    assert StopWrite.objects.unsettled().count() == 0
    assert not system.can_use()
    assert system.can_use(system.alice, system.admin)  # the stop's own Deny is gone
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    system.run_clock()
    assert not system.can_use()
    system.issue(what=system.permission_set("Next", "read"))


def test_a_doubted_database_takes_no_stop_out_of_aws(
    system: System, erin: User, frank: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = stops.order(scope=Scope.ACCOUNT, subject=system.account, reason=WHY, by=erin, step_up=PASSKEY)
    write_all(stop)
    lift(stop, erin, frank)
    with monkeypatch.context() as patch:
        patch.setattr(narrowing, "reason", lambda: "The database was restored.")
        write_all(stop)
    assert system.world.guards[ACCOUNT]
    StopWrite.objects.update(next_try_at=timezone.now())
    write_all(stop)
    assert not system.world.guards[ACCOUNT]


def test_a_write_under_way_while_it_is_lifted_is_written_again(system: System, erin: User, frank: User) -> None:
    system.active()
    stop = stop_all(erin)
    [row] = stop.writes.all()

    def lift_now(when: str, call: Call) -> None:
        if (when, call.operation) == ("after", "enforce") and Stop.objects.in_force().exists():
            lift(stop, erin, frank)

    system.world.hook = lift_now
    provisioning.write_stop(row.pk)
    system.world.hook = None
    row.refresh_from_db()
    assert row.cleared_at is None
    assert row in StopWrite.objects.unsettled()
    StopWrite.objects.update(next_try_at=timezone.now())
    provisioning.write_stop(row.pk)
    row.refresh_from_db()
    assert row.cleared_at is not None
    assert ("*", "*") not in system.world.guards[ACCOUNT]

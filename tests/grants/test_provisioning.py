"""From the decision to ACTIVE and from the end to REVOKED, with a system that does not always do as it is told."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors.base import Proof, Target, Window
from apps.connectors.errors import Denied, Refused
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State, Warrant
from apps.grants.windows import windows_of
from apps.inventory.models import Assignment
from tests.factories.inventory import AssignmentFactory, EntitlementFactory, PrincipalFactory
from tests.grants.system import START, System, make_due


def test_access_opens_only_after_its_end_was_read_back(system: System) -> None:
    system.active()
    order = [call.operation for call in system.world.calls_of("enforce", "open", "look")]
    assert order == ["enforce", "open", "look", "enforce"]
    opened_with = system.world.calls_of("enforce")[0].detail["windows"][0]
    assert opened_with.not_after == START + Grant.ALLOWANCE + timedelta(hours=1)


def test_after_the_read_back_the_end_is_narrowed_to_what_was_asked(system: System) -> None:
    grant = system.active(duration=timedelta(hours=1))
    assert grant.ends_at == START + timedelta(hours=1)
    assert system.can_use(at=START + timedelta(minutes=59, seconds=59))
    assert not system.can_use(at=START + timedelta(hours=1))
    assert not system.can_use(at=START + timedelta(days=365))
    grant.refresh_from_db()
    assert grant.not_after == grant.ends_at
    assert grant.narrowed_at


def test_it_never_lasts_beyond_the_end_that_was_written_first(system: System, clock) -> None:
    grant = system.issue(duration=timedelta(hours=1))

    def slow(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "look"):
            clock.shift(timedelta(minutes=30))

    system.world.hook = slow
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert grant.ends_at == START + Grant.ALLOWANCE + timedelta(hours=1)


def test_it_does_not_become_active_after_its_time(system: System, clock) -> None:
    grant = system.issue(duration=timedelta(hours=1))

    def late(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "look"):
            clock.shift(Grant.ALLOWANCE + timedelta(hours=1))

    system.world.hook = late
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING


def test_the_access_ends_in_the_system_even_when_nothing_of_the_portal_runs(system: System, clock) -> None:
    system.active()
    clock.shift(timedelta(hours=1))
    assert not system.can_use()


def test_an_end_that_cannot_be_written_keeps_access_closed(system: System) -> None:
    grant = system.issue()
    system.world.script("enforce", fake.lost_request())
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING
    assert not system.world.calls_of("open")
    assert "No answer" in grant.problem


def test_it_is_not_active_before_the_system_shows_it(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.lies())
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING
    assert (grant.ticket["verb"], grant.ticket["state"]) == ("open", "asked"), "so that it is opened again"
    make_due()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert system.can_use()


def test_a_slow_change_is_left_to_the_clock_and_then_settled(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.pending(polls=9))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING
    assert grant.ticket["state"] == "pending"
    make_due()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert len(system.world.calls_of("open")) == 1


def test_a_change_the_system_fails_late_is_taken_back_and_says_why(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.fails_late("the permission set is broken"))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    assert "the permission set is broken" in grant.end_note
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKED, EndReason.FAILED)
    assert not system.can_use()


def test_a_limit_found_before_anything_was_opened_fails_the_grant(system: System) -> None:
    grant = system.issue()
    system.world.unguarded_accounts.add("111122223333")
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert "no guard policy" in grant.end_note
    assert not system.can_use()


def test_a_lost_answer_is_read_back_not_repeated_blindly(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.lost_response())
    provisioning.provision(grant.pk)
    make_due()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE


def test_it_ends_by_the_clock_and_keeps_a_receipt(system: System, clock) -> None:
    grant = system.active()
    clock.shift(timedelta(hours=1))
    system.run_clock()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKED, EndReason.EXPIRED)
    assert ("alice", grant.entitlement.external_id) not in system.world.assignments
    assert grant.proofs[-1][0] == "alice does not hold Read"
    assert grant.sessions_until == grant.revoking_at + timedelta(hours=1)


def test_it_is_denied_before_it_is_removed(system: System) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.world.calls.clear()
    provisioning.deprovision(grant.pk)
    assert [call.operation for call in system.world.calls_of("enforce", "close", "look")] == [
        "enforce",
        "close",
        "look",
    ]
    grant.refresh_from_db()
    assert grant.denied_at


@pytest.mark.parametrize(
    "fault", [fake.throttled(), fake.busy(), fake.lost_request(), fake.lost_response(), fake.lies(), fake.pending(99)]
)
def test_a_removal_that_did_not_get_through_is_never_reported_done_and_never_given_up(system: System, fault) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.world.script("close", fault)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    for _ in range(40):
        make_due()
        provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert ("alice", grant.entitlement.external_id) not in system.world.assignments


def test_a_refused_removal_stays_open_and_overdue(system: System, clock) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    for _ in range(5):
        system.world.script("close", fake.raises(Denied("PortalProvisioner may not delete assignments.")))
        make_due()
        provisioning.deprovision(grant.pk)
    clock.shift(Grant.REVOKE_SLO)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    assert grant.is_overdue
    assert "may not delete" in grant.problem
    assert Grant.objects.overdue(timezone.now()).get() == grant


def test_a_deny_that_cannot_be_written_does_not_keep_the_removal_waiting(system: System) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.world.script("enforce", fake.throttled())
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert ("alice", grant.entitlement.external_id) not in system.world.assignments
    assert grant.state == State.REVOKING  # live sessions are not cut yet, so it is not reported as done
    make_due()
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


def test_overlapping_grants_do_not_end_each_other(system: System, clock) -> None:
    first = system.active(duration=timedelta(hours=1))
    clock.shift(timedelta(minutes=30))
    second = system.active(duration=timedelta(hours=2))
    assert system.can_use(at=second.ends_at - timedelta(seconds=1))
    clock.shift(timedelta(minutes=30))
    system.run_clock()
    first.refresh_from_db()
    assert first.state == State.REVOKED
    assert second.number in first.proofs[-1][0]
    assert system.can_use()
    assert system.can_use(at=second.ends_at - timedelta(seconds=1))
    assert not system.can_use(at=second.ends_at)
    clock.move_to(second.ends_at)
    system.run_clock()
    second.refresh_from_db()
    assert second.state == State.REVOKED
    assert ("alice", system.read.external_id) not in system.world.assignments


def test_one_persons_end_leaves_the_other_alone(system: System) -> None:
    grant, other = system.active(system.alice), system.active(system.bob)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    assert not system.can_use(system.alice)
    assert set(system.world.assignments) == {("bob", system.read.external_id)}
    assert system.can_use(system.bob)
    other.refresh_from_db()
    assert other.state == State.ACTIVE


def test_one_permission_set_ends_without_the_other(system: System) -> None:
    other = system.permission_set("Logs", "read")
    grant = system.active()
    system.active(what=other, duration=timedelta(hours=2))
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert set(system.world.assignments) == {("alice", other.external_id)}
    lines = system.world.guards["111122223333"]
    assert {what: line.is_open for (_, what), line in lines.items()} == {
        system.read.external_id: False,
        other.external_id: True,
    }
    assert not system.can_use()
    assert system.can_use(what=other, at=START + timedelta(minutes=119))


def test_what_ended_stays_denied_when_others_write_the_guard_until_it_is_cleared(system: System, clock) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    system.active(system.bob, duration=timedelta(hours=4))
    assert {person for person, _ in system.world.guards["111122223333"]} == {"alice", "bob"}
    clock.shift(timedelta(hours=1))
    make_due()
    provisioning.clear(grant.pk)
    system.active(system.bob, what=system.permission_set("Logs", "read"))
    assert {person for person, _ in system.world.guards["111122223333"]} == {"bob"}


def test_the_inventory_hears_what_was_read_back(system: System, clock) -> None:
    grant = system.active()
    held = Assignment.objects.get(principal=system.alice, entitlement=system.read)
    assert held.is_open
    assert not held.is_standing
    clock.shift(timedelta(minutes=10))
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    held.refresh_from_db()
    assert (held.period.lower, held.period.upper) == (START, START + timedelta(minutes=10))


def test_what_was_made_standing_meanwhile_is_not_opened_with_an_end(system: System) -> None:
    grant = system.issue()
    system.holds(system.alice, system.read)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert "already holds Read for good" in grant.end_note
    assert system.can_use()


def test_an_ended_grant_leaves_the_shared_guard_after_its_last_session(system: System, clock) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.run_clock()
    assert system.world.guards["111122223333"]
    clock.shift(timedelta(hours=1, minutes=1))
    system.run_clock()
    assert not system.world.guards["111122223333"]


def test_a_second_worker_does_nothing_while_the_first_has_its_turn(system: System) -> None:
    grant = system.issue()

    def meanwhile(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "open"):
            system.world.hook = None
            provisioning.provision(grant.pk)

    system.world.hook = meanwhile
    provisioning.provision(grant.pk)
    assert len(system.world.calls_of("open")) == 1


def test_a_worker_whose_turn_was_taken_over_settles_nothing(system: System) -> None:
    grant = system.issue()

    def overtaken(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "look"):
            Grant.objects.filter(pk=grant.pk).update(attempt=99)

    system.world.hook = overtaken
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING


def test_a_late_or_repeated_task_does_nothing(system: System) -> None:
    grant = system.active()
    system.world.calls.clear()
    provisioning.provision(grant.pk)
    provisioning.deprovision(grant.pk)
    provisioning.narrow(grant.pk)
    assert system.world.calls == []


def test_an_end_during_provisioning_wins(system: System) -> None:
    grant = system.issue()

    def cancelled(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "open"):
            services.end(grant, by=grant.requested_by, reason=EndReason.DONE)

    system.world.hook = cancelled
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert not system.can_use()


def test_no_warrant_no_access(system: System) -> None:
    grant = system.issue()
    Warrant.objects.filter(grant=grant).delete()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert not system.world.calls
    assert AuditEvent.objects.filter(event="grants.grant.warrant_refused").exists()


@pytest.mark.parametrize("forgery", [{"duration": timedelta(hours=7)}, {"entitlement": "admin"}, {"principal": "bob"}])
def test_a_row_changed_after_it_was_warranted_opens_nothing(system: System, forgery: dict) -> None:
    grant = system.issue()
    names = {"admin": system.admin, "bob": system.bob}
    Grant.objects.filter(pk=grant.pk).update(**{key: names.get(value, value) for key, value in forgery.items()})
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert not system.world.assignments


def test_a_forged_active_row_never_gets_into_the_shared_object_as_open(system: System) -> None:
    real = system.active(system.alice)
    forged = system.issue(system.bob)
    Warrant.objects.filter(grant=forged).delete()
    later = START + timedelta(hours=5)
    Grant.objects.filter(pk=forged.pk).update(
        state=State.ACTIVE,
        active_at=START,
        ends_at=later,
        not_after=later,
        claimed_at=START,
        shared_key=real.shared_key,
    )
    windows = {window.target.principal_name: window.is_open for window in windows_of(real.shared_key)}
    assert windows == {"alice": True, "bob": False}


def test_a_verdict_in_a_row_is_not_believed(system: System) -> None:
    write = system.permission_set("Operator", "write")  # the rules want somebody's approval for this
    grant = system.issue(what=write)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert not system.world.calls


def test_a_holder_deleted_in_the_system_ends_honestly(system: System) -> None:
    grant = system.active()
    system.world.delete_principal("alice")
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


def test_a_holder_deleted_during_a_request_fails_with_a_sentence(system: System) -> None:
    grant = system.issue()
    system.world.delete_principal("alice")
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state in (State.FAILED, State.REVOKING)
    assert grant.end_note
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state in (State.FAILED, State.REVOKED)


def test_the_whole_story_is_told_in_order(system: System, clock) -> None:
    grant = system.active()
    clock.shift(timedelta(hours=1))
    system.run_clock()
    events = AuditEvent.objects.about(f"grants.grant:{grant.pk}").order_by("pk").values_list("event", flat=True)
    assert list(events) == [
        "grants.grant.issued",
        "grants.grant.claimed",
        "grants.grant.end_written",
        "grants.grant.active",
        "grants.grant.revoking",
        "grants.grant.denied",
        "grants.grant.revoked",
    ]


def test_refusals_tell_what_to_do(system: System) -> None:
    system.world.script(
        "check", fake.raises(Refused("The guard of this account is full. End another grant in it first."))
    )
    grant = system.issue()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.end_note == "The guard of this account is full. End another grant in it first."


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_round_a_call(clock) -> None:
    system = System()
    open_in: list[str] = []

    def watch(when: str, call: fake.Call) -> None:
        if connection.in_atomic_block:
            open_in.append(call.operation)

    system.world.hook = watch
    with transaction.atomic():
        grant = system.issue()
    provisioning.provision(grant.pk)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert open_in == []


def robot(system: System, documents: list):
    """An IAM user with these standing policies, and a dated policy that can be given to it."""
    system.world.add_principal("iam_user", "robot", account_id="111122223333")
    principal = PrincipalFactory(
        connection=system.connection, iam_user=True, external_id="robot", name="robot", resource=system.account
    )
    dated = EntitlementFactory(
        connection=system.connection,
        resource=system.account,
        kind="dated_policy",
        external_id="gatehouse:read-logs",
        attributes={"statements": [{"actions": ["logs:GetLogEvents"], "resources": ["*"]}]},
    )
    system.world.add_entitlement("dated_policy", dated.external_id, account_id="111122223333")
    if documents:
        policy = EntitlementFactory(
            connection=system.connection,
            resource=system.account,
            kind="iam_policy",
            documents=[{"name": "p", "document": document} for document in documents],
        )
        AssignmentFactory(connection=system.connection, principal=principal, entitlement=policy, is_standing=True)
    return principal, dated


@pytest.mark.parametrize(("documents", "left_out"), [([], False), ([{"Statement": []}], True)])
def test_the_deny_is_left_out_and_said_so_where_it_would_cut_standing_rights(
    system: System, documents: list, left_out: bool
) -> None:
    principal, dated = robot(system, documents)
    alice = system.alice.identity
    principal.identity.owner = alice
    principal.identity.save()
    bob = str(system.bob.identity.user_id)
    two = services.Authority({"tier": "approval", "cap_seconds": 3600}, ({"user": bob, "name": "Bob"},))
    grant = services.issue(
        identity=principal.identity,
        principal=principal,
        entitlement=dated,
        provisioner="iam_timeboxed_policy",
        duration=timedelta(hours=1),
        reason="Reading logs.",
        by=alice.user,
        authority=two,
    )
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE, grant.problem
    assert grant.deny_left_out is left_out
    assert not system.can_use(principal, dated, at=START + timedelta(hours=2))


# ---- an object that was made for one grant alone


def test_what_aws_called_the_grants_own_object_is_kept_and_told_with_every_later_call(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, told = FakeProvisioner.enforce, []

    def enforce(self: FakeProvisioner, target: Target, windows: Sequence[Window]) -> Proof:
        told.append((target.made_as, [window.target.made_as for window in windows]))
        return replace(real(self, target, windows), made_as=f"AROA{len(told)}")

    monkeypatch.setattr(FakeProvisioner, "enforce", enforce)
    grant = system.active()
    assert grant.made_as == "AROA1"
    assert told[0] == ("", [""])
    assert told[1:] == [("AROA1", ["AROA1"])], "narrowing knows it"
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert told[2] == ("AROA1", ["AROA1"])
    assert grant.made_as == "AROA1", "one that was made again never takes its place"

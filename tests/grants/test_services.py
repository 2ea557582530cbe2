"""What the services decide, and what they refuse."""

from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.core.lifecycle import Conflict, IllegalMove, move
from apps.grants import periodic, permissions, provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.inventory.models import Assignment, Connection, Identity
from tests.factories.inventory import AssignmentFactory, EntitlementFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.system import YES, System


def refusal(system: System, **fields: object) -> str:
    with pytest.raises(services.NotPossible) as refused, transaction.atomic():
        system.issue(**fields)  # type: ignore[arg-type]
    assert not Grant.objects.exists()
    return str(refused.value)


def test_an_observe_only_connection_gives_nothing(system: System) -> None:
    Connection.objects.update(write_approved_at=None, write_approved_by=None)
    system.read.connection.refresh_from_db()
    assert "may only look" in refusal(system)


def test_what_is_held_standing_is_refused_with_the_path(system: System) -> None:
    system.holds(system.alice, system.read)
    assert "already held directly" in refusal(system)


def test_what_is_held_through_a_group_is_refused_with_the_group(system: System) -> None:
    membership = EntitlementFactory(connection=system.connection, membership=True, group__name="engineers")
    AssignmentFactory(connection=system.connection, principal=system.alice, entitlement=membership)
    AssignmentFactory(connection=system.connection, principal=membership.group, entitlement=system.read)
    assert "already held through engineers" in refusal(system)


def test_what_is_being_removed_is_held_until_it_is_gone(system: System) -> None:
    services.remove_standing(
        system.holds(system.alice, system.read), by=system.bob.identity.user, reason="Ask instead."
    )
    with pytest.raises(services.NotPossible, match="already held directly"), transaction.atomic():
        system.issue()


def test_a_grants_own_assignment_seen_by_a_sync_does_not_count_as_standing(system: System) -> None:
    system.active(duration=timedelta(minutes=30))
    assert Assignment.objects.open().filter(principal=system.alice, entitlement=system.read, is_standing=False).exists()
    assert system.issue().state == State.PENDING


def test_what_is_gone_cannot_be_asked_for(system: System) -> None:
    system.read.ended_at = timezone.now()
    system.read.save()
    assert "no longer there" in refusal(system)


def test_privileged_access_is_not_given_by_a_provisioner_that_is_too_weak(system: System) -> None:
    two = services.Authority({"tier": "approval", "cap_seconds": 3600}, ({"user": "999", "name": "Bob"},))
    text = refusal(system, what=system.admin, provisioner="iam_timeboxed_policy", authority=two)
    assert "cannot be ended safely" in text


@pytest.mark.parametrize("tier", ["auto", "self"])
def test_privileged_access_always_needs_another_person(system: System, tier: str) -> None:
    authority = services.Authority({"tier": tier, "cap_seconds": 3600})
    assert "another person's approval" in refusal(system, what=system.admin, authority=authority)


def test_an_unknown_privilege_counts_as_privileged(system: System) -> None:
    odd = system.permission_set("Odd", "unknown")
    assert "another person's approval" in refusal(system, what=odd)


def test_the_requesters_own_approval_is_none(system: System) -> None:
    own = {"user": str(system.alice.identity.user_id), "name": "Alice"}  # type: ignore[union-attr]
    authority = services.Authority({"tier": "approval", "cap_seconds": 3600}, (own,))
    assert "Nobody but the requester" in refusal(system, authority=authority)


def test_longer_than_the_rules_cap_is_refused(system: System) -> None:
    authority = services.Authority({"tier": "auto", "cap_seconds": 1800})
    assert "not allow it for so long" in refusal(system, authority=authority)


def test_a_pending_grant_is_cancelled_without_asking_the_system(system: System) -> None:
    grant = services.end(system.issue(), by=system.alice.identity.user, reason=EndReason.DONE)  # type: ignore[union-attr]
    assert grant.state == State.CANCELLED
    assert system.world.calls == []


def test_ending_twice_changes_nothing(system: System) -> None:
    grant = system.active()
    first = services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    again = services.end(grant, by=grant.requested_by, reason=EndReason.REVOKED)
    assert (first.pk, again.end_reason) == (again.pk, EndReason.DONE)


@pytest.mark.parametrize("start", list(State))
@pytest.mark.parametrize("to", list(State))
def test_every_move_that_is_not_in_the_table_is_refused(system: System, start: State, to: State) -> None:
    grant = system.issue()
    now = timezone.now()
    facts = {"not_after": now, "active_at": now, "revoked_at": now, "receipt": [{"what": "seen"}], "end_reason": "done"}
    Grant.objects.filter(pk=grant.pk).update(state=start, **facts)
    grant.refresh_from_db()
    if to in Grant.MOVES.get(start, ()):
        assert move(grant, to, by=grant.requested_by, event="grants.grant.tested").state == to
    else:
        with pytest.raises(IllegalMove):
            move(grant, to, by=grant.requested_by, event="grants.grant.tested")


def test_the_loser_of_a_race_is_told(system: System) -> None:
    grant = system.issue()
    stale = Grant.objects.get(pk=grant.pk)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    with pytest.raises(Conflict, match="cancelled now"):
        move(stale, State.PROVISIONING, by=grant.requested_by, event="grants.grant.claimed", not_after=timezone.now())


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "active", "active_at": None, "not_after": timezone.now()},
        {"state": "revoked", "receipt": [], "revoked_at": timezone.now(), "end_reason": "done"},
        {"state": "provisioning", "not_after": None},
        {"state": "revoking", "not_after": timezone.now(), "end_reason": ""},
        {"duration": timedelta(0)},
    ],
)
def test_the_database_refuses_a_grant_that_cannot_be_true(system: System, wrong: dict) -> None:
    grant = system.issue()
    with pytest.raises(IntegrityError), transaction.atomic():
        Grant.objects.filter(pk=grant.pk).update(**wrong)


# ---- who may see and end them


def test_lists_and_pages_show_the_same_grants_to_the_same_people(system: System) -> None:
    users = {name: UserFactory(name=name) for name in ("manager", "owner", "account", "task", "asked", "left", "none")}
    people = {name: PrincipalFactory(identity__user=user).identity for name, user in users.items()}
    dan, erin = UserFactory(auditor=True), UserFactory(administrator=True)
    grant = system.issue()
    system.alice.identity.manager = people["manager"]
    system.alice.identity.save()
    system.read.owner, system.account.owner = people["owner"], people["account"]
    system.read.save()
    system.account.save()
    Grant.objects.update(task_owner=people["task"], requested_by=users["asked"])
    sees = {*users.values(), system.alice.identity.user, dan, erin} - {users["left"], users["none"]}
    ends = sees - {users["manager"], dan}
    for gone in ((), ("manager", "owner", "account", "task")):
        Identity.objects.filter(pk__in=[people[name].pk for name in gone]).update(ended_at=timezone.now())
        left = {users[name] for name in gone}
        grant = Grant.objects.with_names().get(pk=grant.pk)
        for user in [*users.values(), system.alice.identity.user, system.bob.identity.user, dan, erin]:
            assert permissions.can_see(user, grant) == (user in sees - left), user
            assert Grant.objects.visible_to(user).exists() == (user in sees - left), user
            assert permissions.can_end(user, grant) == (user in ends - left), user


def test_a_removal_that_was_decided_cannot_be_ended_by_hand(system: System) -> None:
    grant = services.remove_standing(
        system.holds(system.alice, system.admin), by=system.bob.identity.user, reason="Not needed any more."
    )
    for user in (system.bob.identity.user, system.alice.identity.user, UserFactory(administrator=True)):
        assert not permissions.can_end(user, grant)


# ---- standing access that somebody decided about


def test_removing_standing_access_takes_it_away_and_reads_it_back(system: System) -> None:
    assignment = system.holds(system.alice, system.admin)
    grant = services.remove_standing(assignment, by=system.bob.identity.user, reason="Not needed any more.")  # type: ignore[union-attr]
    assert (grant.origin, grant.state) == (Grant.Origin.FOUND, State.REVOKING)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert not system.can_use(what=system.admin)


def test_removing_twice_is_one_removal(system: System) -> None:
    assignment = system.holds(system.alice, system.admin)
    first = services.remove_standing(assignment, by=system.bob.identity.user, reason="Once.")  # type: ignore[union-attr]
    assert services.remove_standing(assignment, by=system.bob.identity.user, reason="Twice.") == first  # type: ignore[union-attr]


def test_a_group_that_scim_owns_becomes_an_owners_task_until_a_scan_shows_it_gone(system: System) -> None:
    owner = PrincipalFactory(connection=system.connection).identity
    membership = EntitlementFactory(
        connection=system.connection, membership=True, group__is_externally_owned=True, group__owner=owner
    )
    held = AssignmentFactory(connection=system.connection, principal=system.alice, entitlement=membership)
    grant = services.remove_standing(held, by=system.bob.identity.user, reason="Left the team.")  # type: ignore[union-attr]
    assert grant.is_owner_task
    assert grant.task_owner == owner
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    assert not system.world.calls
    held.period = type(held.period)(held.period.lower, timezone.now() + timedelta(seconds=1))
    held.save()
    periodic.settle_gone()
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert "no longer shows" in grant.receipt[0]["what"]


def test_a_grant_whose_access_a_scan_shows_gone_is_ended_with_a_read_back_of_its_own(system: System) -> None:
    grant = system.active()
    seen = Assignment.objects.open().get(principal=system.alice, entitlement=system.read)
    periodic.settle_gone()
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    Assignment.objects.filter(pk=seen.pk).update(
        period=type(seen.period)(seen.period.lower, timezone.now() + timedelta(minutes=1))
    )
    system.run_clock()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKED, EndReason.GONE)
    assert not system.can_use()


def close(assignment: Assignment, at: datetime) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(period=type(assignment.period)(assignment.period.lower, at))


@pytest.mark.parametrize("is_there_again", [True, False])
def test_what_a_scan_saw_gone_before_the_grant_or_sees_again_ends_nothing(system: System, is_there_again: bool) -> None:
    grant = system.active()
    seen = Assignment.objects.open().get(principal=system.alice, entitlement=system.read)
    if is_there_again:
        close(seen, timezone.now() + timedelta(minutes=1))
        again = type(seen.period)(timezone.now() + timedelta(minutes=2), None)
        Assignment.objects.create(
            connection=system.connection, principal=system.alice, entitlement=system.read, period=again
        )
    else:
        start = seen.period.lower - timedelta(hours=1)
        Assignment.objects.filter(pk=seen.pk).update(period=type(seen.period)(start, start + timedelta(minutes=1)))
    periodic.settle_gone()
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE


def test_what_a_scan_shows_gone_is_not_removed(system: System) -> None:
    assignment = system.holds(system.alice, system.admin)
    close(assignment, timezone.now())
    with pytest.raises(services.NotPossible, match="no longer shows this"):
        services.remove_standing(assignment, by=system.bob.identity.user, reason="Gone already.")


def test_what_aws_made_for_itself_is_an_owners_task(system: System) -> None:
    assignment = system.holds(system.alice, system.admin)
    system.alice.is_reserved = True
    system.alice.save()
    assert services.remove_standing(assignment, by=system.bob.identity.user, reason="Not ours.").is_owner_task


def test_standing_access_of_an_observe_only_connection_is_not_touched(system: System) -> None:
    assignment = system.holds(system.alice, system.admin)
    Connection.objects.update(write_approved_at=None, write_approved_by=None)
    with pytest.raises(services.NotPossible, match="may only look"):
        services.remove_standing(assignment, by=system.bob.identity.user, reason="x")  # type: ignore[union-attr]


def test_what_was_lately_removed_may_be_asked_for_before_the_next_sync(system: System) -> None:
    assignment = system.holds(system.alice, system.read)
    grant = services.remove_standing(assignment, by=system.bob.identity.user, reason="Ask instead.")  # type: ignore[union-attr]
    provisioning.deprovision(grant.pk)
    assert system.issue(authority=YES).state == State.PENDING

"""What leavers held all the time is taken away, what they owned is handed over; and neither before two people say that
so many really left."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.grants import periodic
from apps.grants.models import EndReason, Exodus, Grant, Leaving, State
from apps.grants.services import NotPossible, leaving
from apps.inventory.forms import LoginForm
from apps.inventory.models import Assignment, Correlation, Identity, Principal
from apps.inventory.services import logins
from apps.users.models import User
from tests.factories.inventory import EntitlementFactory, IdentityFactory, PrincipalFactory
from tests.grants.system import System
from tests.grants.test_drift import known_administrator

SETTLED = Leaving.SETTLE


@pytest.fixture
def people(system: System) -> list[Principal]:
    """Thirty people of whom nobody looks, beside Alice and Bob."""
    return [PrincipalFactory(connection=system.connection) for _ in range(30)]


def leave(*whos: Principal) -> None:
    Identity.objects.filter(pk__in=[who.identity_id for who in whos]).update(ended_at=timezone.now())
    periodic.follow_people()


def come_back(*whos: Principal) -> None:
    Identity.objects.filter(pk__in=[who.identity_id for who in whos]).update(ended_at=None)
    periodic.follow_people()


def settle(clock: time_machine.Traveller, after: timedelta = SETTLED) -> None:
    clock.shift(after)
    periodic.follow_people()


def removals() -> list[Grant]:
    return list(Grant.objects.filter(origin="found").order_by("pk"))


def test_what_a_leaver_held_all_the_time_goes_and_is_read_back(system: System, people: object, clock) -> None:
    system.holds(system.alice, system.admin)
    leave(system.alice)
    assert not removals()
    settle(clock)
    [grant] = removals()
    assert (grant.state, grant.end_reason, grant.requested_by) == (State.REVOKING, EndReason.LEAVER, None)
    system.run_clock()
    assert not system.can_use(what=system.admin)
    row = Leaving.objects.get()
    assert row.passed_at and row.gone_at is None, "the inventory still shows it"
    Assignment.objects.update(period=(timezone.now() - timedelta(days=1), timezone.now()))
    settle(clock)
    row.refresh_from_db()
    assert row.gone_at
    assert len(removals()) == 1


def test_what_a_leaver_gets_after_all_was_gone_goes_too(system: System, people: object, clock) -> None:
    leave(system.alice)
    settle(clock)
    Leaving.objects.update(passed_at=timezone.now(), gone_at=timezone.now())
    settle(clock, leaving.GONE_AGAIN)
    assert Leaving.objects.get().gone_at and not removals()
    system.holds(system.alice, system.read)
    settle(clock, leaving.GONE_AGAIN)
    assert len(removals()) == 1 and Leaving.objects.get().gone_at is None


def test_nothing_goes_for_good_before_it_settled(system: System, people: object, clock) -> None:
    """A feed that breaks for a moment costs sessions and timed access, and no more."""
    system.holds(system.alice, system.admin)
    leave(system.alice)
    settle(clock, SETTLED - timedelta(seconds=1))
    come_back(system.alice)
    settle(clock, timedelta(hours=1))
    assert not removals() and system.can_use(what=system.admin)


def test_what_only_its_owner_can_remove_is_their_task_with_a_date(system: System, people: object, clock) -> None:
    membership = EntitlementFactory(
        connection=system.connection, membership=True, group__is_externally_owned=True, owner=system.bob.identity
    )
    Assignment.objects.create(
        connection=system.connection, principal=system.alice, entitlement=membership,
        period=(timezone.now() - timedelta(days=9), None), is_standing=True,
    )  # fmt: skip
    leave(system.alice)
    settle(clock)
    [task] = removals()
    assert task.is_owner_task and task.task_owner == system.bob.identity
    assert task.due_at == timezone.now() + timedelta(days=14)


def test_where_gatehouse_may_only_look_it_says_so_and_tries_again(system: System, people: object, clock) -> None:
    system.holds(system.alice, system.admin)
    approver = system.connection.write_approved_by
    type(system.connection).objects.update(write_approved_at=None, write_approved_by=None)
    leave(system.alice)
    settle(clock)
    row = Leaving.objects.get()
    assert not removals() and "may only look" in row.problem
    type(system.connection).objects.update(write_approved_at=timezone.now(), write_approved_by=approver)
    settle(clock)
    assert len(removals()) == 1


def test_what_a_leaver_owned_goes_to_their_manager_and_a_machine_to_its_successor(
    system: System, people: list[Principal], clock
) -> None:
    carol, dave = people[0].identity, people[1].identity
    Identity.objects.filter(pk=system.bob.identity_id).update(manager=carol)
    robot, heir = (
        IdentityFactory(connection=system.connection, machine=True, owner=system.bob.identity, successor=successor)
        for successor in (None, dave)
    )
    task = Grant.objects.create(
        connection=system.connection, identity=system.alice.identity, principal=system.alice, entitlement=system.admin,
        assignment=system.holds(system.alice, system.admin), origin="found", remover=Grant.BY_OWNER, state=State.REVOKING,
        end_reason=EndReason.REVIEW, task_owner=system.bob.identity, reason="A review.",
    )  # fmt: skip
    leave(system.bob)
    settle(clock)
    for row in (system.account, robot, heir, task):
        row.refresh_from_db()
    assert system.account.owner == carol and system.account.owner_source.startswith("passed on by")
    assert (robot.owner, heir.owner, task.task_owner) == (carol, dave, carol)
    event = AuditEvent.objects.get(event="inventory.identity.handed_over")
    assert event.data["counts"] == {"accounts": 1, "machines": 1, "machines with a successor": 1}
    assert Leaving.objects.get().passes_to == carol


# ---- the brake -------------------------------------------------------------------------------------------------------


def many(system: System, people: list[Principal], count: int = 11) -> list[Principal]:
    """They leave, and each holds something."""
    some = people[:count]
    for who in some:
        Assignment.objects.create(
            connection=system.connection, principal=who, entitlement=system.read,
            period=(timezone.now() - timedelta(days=9), None), is_standing=True,
        )  # fmt: skip
    leave(*some)
    return some


def two(system: System) -> tuple[User, User]:
    return known_administrator(system, "Erin"), known_administrator(system, "Frank")


def test_a_broken_feed_takes_nothing_away_for_good(system: System, people: list[Principal], clock) -> None:
    many(system, people)
    settle(clock)
    assert not removals()
    held = Exodus.objects.get()
    assert held.state == Exodus.State.HELD and held.leavings.count() == 11
    assert AuditEvent.objects.get(event="grants.exodus.held").data == {"leavers": 11, "people": held.people_before}
    settle(clock, timedelta(days=2))
    assert not removals(), "it waits for people, not for time"


def test_a_share_of_a_small_connection_is_suspicious_too(system: System, people: list[Principal], clock) -> None:
    many(system, people, 4)
    settle(clock)
    assert Exodus.objects.get().leavings.count() == 4


def test_a_feed_that_breaks_slowly_is_stopped_as_well(system: System, people: list[Principal], clock) -> None:
    """One by one, each long after the one before."""
    for who in people[:12]:
        Assignment.objects.create(
            connection=system.connection, principal=who, entitlement=system.read,
            period=(timezone.now() - timedelta(days=9), None), is_standing=True,
        )  # fmt: skip
    for who in people[:12]:
        leave(who)
        settle(clock)
    assert len(removals()) < 4
    assert Exodus.objects.get().leavings.count() > 8


def test_two_people_let_it_go_and_exactly_that(system: System, people: list[Principal], clock) -> None:
    some = many(system, people)
    settle(clock)
    held = Exodus.objects.get()
    erin, frank = two(system)
    with pytest.raises(NotPossible, match="Nobody has said"):
        leaving.release(held, by=frank)
    leaving.propose_release(held, by=erin)
    with pytest.raises(NotPossible, match="Another person"):
        leaving.release(held, by=erin)
    come_back(some[0])
    late = people[20]
    leave(late)
    leaving.release(held, by=frank)
    periodic.follow_people()
    assert {grant.principal for grant in removals()} == set(some[1:])
    with pytest.raises(NotPossible, match="held any more"):
        leaving.release(held, by=frank)


def test_who_leaves_after_the_first_of_two_looked_waits_for_a_look_of_their_own(
    system: System, people: list[Principal], clock
) -> None:
    many(system, people)
    settle(clock)
    held = Exodus.objects.get()
    leaving.propose_release(held, by=two(system)[0])
    system.holds(system.alice, system.admin)
    leave(system.alice)
    settle(clock)
    assert Leaving.objects.get(identity=system.alice.identity).exodus is None
    assert not removals() and held.leavings.count() == 11


def test_when_all_of_them_come_back_nothing_is_held(system: System, people: list[Principal], clock) -> None:
    some = many(system, people)
    settle(clock)
    come_back(*some)
    periodic.follow_people()
    assert Exodus.objects.get().state == Exodus.State.OVER and not removals()


def test_who_said_so_first_and_left_did_not_say_so(system: System, people: list[Principal], clock) -> None:
    """Otherwise nobody could ever be the second."""
    many(system, people)
    settle(clock)
    held = Exodus.objects.get()
    erin, frank = two(system)
    leaving.propose_release(held, by=erin)
    Identity.objects.filter(user=erin).update(ended_at=timezone.now())
    periodic.follow_people()
    held.refresh_from_db()
    assert held.proposed_by is None
    leaving.propose_release(held, by=frank)


def test_whoever_has_nothing_to_lose_does_not_count(system: System, people: list[Principal], clock) -> None:
    """A directory that lists everybody who ever worked there."""
    leave(*people[:20])
    settle(clock)
    assert not Exodus.objects.exists()
    assert Leaving.objects.filter(passed_at=None).count() == 0


def test_from_whoever_is_back_nothing_is_taken_before_the_clock_noted_it(
    system: System, people: object, clock, monkeypatch
) -> None:
    """And one return that cannot be noted keeps none of the others from being noted."""
    system.holds(system.alice, system.admin)
    leave(system.alice, system.bob)
    real, alice = leaving.note_return, Leaving.objects.get(identity=system.alice.identity)

    def note(row: Leaving, *, by: object) -> Leaving:
        if row.pk == alice.pk:
            raise RuntimeError("it cannot be noted")
        return real(row, by=by)

    Identity.objects.update(ended_at=None)
    monkeypatch.setattr(leaving, "note_return", note)
    clock.shift(SETTLED)
    with pytest.raises(RuntimeError):
        periodic.follow_people()
    alice.refresh_from_db()
    assert (alice.returned_at, alice.passed_at, removals()) == (None, None, [])
    assert not Leaving.objects.open().exclude(pk=alice.pk).exists()
    Leaving.objects.filter(pk=alice.pk).update(passed_at=timezone.now())
    leaving.take(alice)
    assert not removals()


def test_a_login_that_is_theirs_by_its_name_alone_is_not_touched(system: System, people: object, clock) -> None:
    """Whoever runs an account chooses the names in it, and could so have a machine taken apart."""
    robot = PrincipalFactory(
        connection=system.connection,
        iam_user=True,
        name="alice",
        resource=system.account,
        identity=system.alice.identity,
    )
    Correlation.objects.create(principal=robot, decision=Correlation.Choice.PERSON, person=system.alice.identity)
    Assignment.objects.create(
        connection=system.connection, principal=robot, entitlement=system.read,
        period=(timezone.now() - timedelta(days=9), None), is_standing=True,
    )  # fmt: skip
    leave(system.alice)
    settle(clock)
    assert not removals() and "by its name alone" in Leaving.objects.get().problem
    form = LoginForm({"choice": "person", "person": system.alice.identity.email}, principal=robot)
    assert form.is_valid(), form.errors
    logins.say_whose(robot, form.cleaned_data["whose"], by=known_administrator(system, "Erin"))
    settle(clock)
    assert len(removals()) == 1
    other, frank = PrincipalFactory(connection=system.connection, iam_user=True), known_administrator(system, "Frank")
    with pytest.raises(logins.NotPossible, match="not a person who is here"):
        logins.say_whose(other, form.cleaned_data["whose"], by=frank)

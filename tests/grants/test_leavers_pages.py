"""The pages about who left: whoever answers for them looks, administrators decide, two of them let the brake go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.grants.models import Exodus, Leaving
from apps.grants.periodic import follow_people
from apps.inventory.models import Assignment, Identity, Principal
from apps.notifications.notes import TELLERS
from apps.users.models import User
from tests.factories.inventory import PrincipalFactory, SyncRunFactory
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.grants.test_drift import known_administrator
from tests.grants.test_leaving_brake import leave, many, settle


@pytest.fixture
def people(system: System) -> list[Principal]:
    SyncRunFactory(connection=system.connection)
    return [PrincipalFactory(connection=system.connection, identity__name=f"Pat {n}") for n in range(30)]


@pytest.fixture
def erin(system: System) -> User:
    return known_administrator(system, "Erin")


def page(user: User, name: str = "leavers:every", *args: object, **query: str) -> str:
    client = Client()
    client.force_login(user)
    return client.get(reverse(name, args=args), query).content.decode()


def post(user: User, name: str, *args: object) -> int:
    client = Client()
    client.force_login(user)
    return client.post(reverse(name, args=args)).status_code


def test_the_list_says_what_ended_and_what_is_still_there(system: System, people: object, erin: User, clock) -> None:
    system.active()
    system.holds(system.alice, system.admin)
    leave(system.alice)
    said = page(erin)
    assert "Settling" in said and "1 grant, 1 portal sign-in" in said and "still there" in said
    settle(clock)
    assert "Being removed" in page(erin)
    system.run_clock()
    Assignment.objects.filter(entitlement=system.admin).update(
        period=(timezone.now() - timedelta(days=1), timezone.now())
    )
    settle(clock)
    assert "Nothing left" in page(erin)
    detail = page(erin, "leavers:detail", Leaving.objects.get().pk)
    assert "Removed and checked" in detail and "grants.leaving.noticed" in detail


def test_what_cannot_be_removed_yet_says_why(system: System, people: object, erin: User, clock) -> None:
    system.holds(system.alice, system.admin)
    type(system.connection).objects.update(write_approved_at=None, write_approved_by=None)
    leave(system.alice)
    settle(clock)
    for said in (page(erin), page(erin, "leavers:detail", Leaving.objects.get().pk)):
        assert "Not removed yet" in said and "may only look" in said


def test_a_manager_sees_their_own_and_nobody_elses(system: System, people: list[Principal], clock) -> None:
    carol = people[0].identity
    carol.user = UserFactory(name="Carol")
    carol.save()
    Identity.objects.filter(pk=system.alice.identity_id).update(manager=carol)
    leave(system.alice, system.bob)
    said = page(carol.user)
    assert system.alice.identity.name in said and system.bob.identity.name not in said
    theirs = Leaving.objects.get(identity=system.bob.identity)
    client = Client()
    client.force_login(carol.user)
    assert client.get(reverse("leavers:detail", args=[theirs.pk])).status_code == 404


def test_whoever_took_over_looks_no_more_once_they_are_back(system: System, people: list[Principal], clock) -> None:
    """What somebody who is here holds is nobody's to look at because they were away once."""
    carol, boss = people[0].identity, people[1].identity
    carol.user, boss.user = UserFactory(name="Carol"), UserFactory(name="Boss")
    carol.save()
    boss.save()
    Identity.objects.filter(pk=system.alice.identity_id).update(manager=carol)
    leave(system.alice)
    Identity.objects.filter(pk=system.alice.identity_id).update(ended_at=None, manager=boss)
    follow_people()
    held = system.holds(system.alice, system.admin)
    row = Leaving.objects.get()
    assert row.passes_to == carol
    client = Client()
    client.force_login(carol.user)
    assert client.get(reverse("leavers:every")).status_code == 404
    said = page(boss.user, "leavers:detail", row.pk)
    assert "came back" in said and str(held.entitlement) not in said


def test_two_administrators_let_the_brake_go(system: System, people: list[Principal], erin: User, clock) -> None:
    many(system, people)
    settle(clock)
    held = Exodus.objects.get()
    frank, dan = known_administrator(system, "Frank"), UserFactory(auditor=True)
    assert "They left" in page(erin) and "Two administrators" in page(dan)
    assert post(dan, "leavers:propose_release", held.pk) == 404
    assert post(erin, "leavers:propose_release", held.pk) == 302
    assert post(erin, "leavers:release", held.pk) == 302
    held.refresh_from_db()
    assert held.state == Exodus.State.HELD, "one person is not two"
    assert "Let it go" in page(frank) and "Let it go" not in page(erin)
    post(frank, "leavers:release", held.pk)
    held.refresh_from_db()
    assert held.state == Exodus.State.RELEASED
    assert "Waits for two" not in page(erin)


def test_the_list_costs_the_same_for_few_and_for_many(
    system: System, people: list[Principal], erin: User, clock
) -> None:
    def queries() -> int:
        page(erin)
        with CaptureQueriesContext(connection) as seen:
            page(erin)
        return len(seen)

    leave(people[0])
    few = queries()
    many(system, people[1:], 9)
    assert queries() == few


def test_it_can_be_searched_and_narrowed(system: System, people: list[Principal], erin: User) -> None:
    leave(people[3], people[4])
    assert people[4].identity.name not in page(erin, q=people[3].identity.name)
    assert "Nobody else has left" in page(erin, show="back")


def test_whoever_stands_in_is_told_and_administrators_about_the_brake(
    system: System, people: list[Principal], erin: User, clock
) -> None:
    carol = people[0].identity
    carol.user = UserFactory(name="Carol")
    carol.save()
    Identity.objects.filter(pk=system.bob.identity_id).update(manager=carol)
    leave(system.bob)
    settle(clock)
    many(system, people[1:])
    settle(clock)

    def told(event: str) -> list[tuple[str, str]]:
        [found] = AuditEvent.objects.filter(event=event).order_by("pk")[:1]
        return [(str(note.to), note.title) for note in TELLERS[event](found)]

    assert told("grants.leaving.noticed") == [("Carol", f"{system.bob.identity} has left")]
    assert told("grants.leaving.passed_on") == [("Carol", f"You answer for what {system.bob.identity} answered for")]
    held = dict(told("grants.exodus.held"))
    assert "nothing was removed for good" in held["Erin"] and "Carol" not in held

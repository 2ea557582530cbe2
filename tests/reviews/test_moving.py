"""Somebody came to another team: whoever answers for them now is asked about what they brought along, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.inventory.models import Connection, Identity, Principal
from apps.reviews import periodic
from apps.reviews.models import Campaign, Move, Placement, ReviewItem
from apps.reviews.services import items, movers
from tests.factories.inventory import ConnectionFactory, IdentityFactory, SyncRunFactory
from tests.reviews.conftest import Company

OUTCOME = Move.Outcome


def look(company: Company, after: timedelta = Move.SETTLE) -> None:
    """The clock looks, and looks again when what it saw has settled."""
    periodic.follow_movers()
    with time_machine.travel(timezone.now() + after, tick=False):
        periodic.follow_movers()


def to_department(who: Principal, department: str) -> None:
    Identity.objects.filter(pk=who.identity_id).update(department=department)


@pytest.fixture
def moved(company: Company) -> Company:
    """Alice, who holds something, came from Carol to Frank."""
    company.stands(company.alice, company.admin)
    company.stands(company.alice, company.read)
    company.stands(company.bob, company.admin)
    periodic.follow_movers()
    assert not Move.objects.exists()
    company.managed_by(company.alice, company.frank)
    return company


def test_the_new_manager_is_asked_about_all_that_a_mover_holds_and_about_nobody_else(moved: Company) -> None:
    look(moved)
    campaign = Campaign.objects.get()
    assert (campaign.kind, campaign.state, campaign.drafted_by) == ("move", "running", None)
    items = ReviewItem.objects.filter(campaign=campaign)
    assert {item.identity_id for item in items} == {moved.alice.identity_id} and len(items) == 2
    assert {item.reviewer for item in items} == {moved.frank_user}
    assert campaign.due_at > timezone.now() + timedelta(days=13)
    assert Move.objects.get().outcome == OUTCOME.REVIEW
    assert AuditEvent.objects.filter(event="reviews.campaign.launched", actor_kind="clock").count() == 1


def test_nobody_is_asked_twice_about_one_move(moved: Company) -> None:
    look(moved)
    look(moved)
    assert Campaign.objects.count() == 1 and Move.objects.count() == 1


def test_nobody_is_asked_before_it_was_seen_whole(moved: Company) -> None:
    look(moved, after=Move.SETTLE - timedelta(seconds=1))
    assert not Campaign.objects.exists()


def test_another_department_is_a_move_too(company: Company) -> None:
    company.stands(company.alice, company.read)
    periodic.follow_movers()
    to_department(company.alice, "Treasury")
    look(company)
    assert "from Engineering to Treasury" in Campaign.objects.get().name
    assert ReviewItem.objects.get().reviewer == company.carol_user


def test_who_joins_or_gets_a_first_manager_has_not_moved(company: Company) -> None:
    company.managed_by(company.alice, None)
    to_department(company.alice, "")
    periodic.follow_movers()
    company.managed_by(company.alice, company.carol)
    to_department(company.alice, "Treasury")
    look(company)
    assert not Move.objects.exists() and Placement.objects.get(identity=company.alice.identity).department == "Treasury"


def test_a_directory_that_falls_silent_moves_nobody(moved: Company) -> None:
    moved.managed_by(moved.alice, None)
    to_department(moved.alice, "")
    look(moved)
    moved.managed_by(moved.alice, moved.carol)
    to_department(moved.alice, "Engineering")
    look(moved)
    assert not Move.objects.exists()


def test_a_team_whose_manager_left_did_not_move(moved: Company) -> None:
    Identity.objects.filter(pk=moved.carol.identity_id).update(ended_at=timezone.now())
    look(moved)
    assert not Move.objects.exists()


def test_a_second_move_before_anybody_was_asked_supersedes_the_first(moved: Company) -> None:
    periodic.follow_movers()
    moved.managed_by(moved.alice, moved.erin)
    look(moved)
    assert sorted(Move.objects.values_list("outcome", flat=True)) == [OUTCOME.REVIEW, OUTCOME.SUPERSEDED]
    assert {item.reviewer for item in ReviewItem.objects.all()} == {moved.erin_user}


def test_a_second_move_passes_what_is_not_signed_for_to_the_next_manager(moved: Company) -> None:
    look(moved)
    rows = ReviewItem.objects.filter(entitlement=moved.read)
    items.decide_many(rows, campaign=Campaign.objects.get(), choice="keep", by=moved.frank_user)
    moved.managed_by(moved.alice, moved.erin)
    look(moved)
    assert Campaign.objects.count() == 1
    assert {(item.reviewer, item.choice) for item in ReviewItem.objects.all()} == {(moved.erin_user, "undecided")}
    assert Move.objects.order_by("pk").last().outcome == OUTCOME.PASSED  # type: ignore[union-attr]


def test_nobody_certifies_their_own_move(moved: Company) -> None:
    """Erin, the only administrator, moves below somebody who cannot sign in: nobody independent is left."""
    moved.stands(moved.erin, moved.admin)
    moved.managed_by(moved.erin, moved.carol)
    periodic.follow_movers()
    moved.managed_by(moved.erin, moved.alice)
    Identity.objects.filter(pk=moved.alice.identity_id).update(user=None)
    look(moved)
    assert not ReviewItem.objects.filter(identity=moved.erin.identity).exists()
    assert "No administrator" in Move.objects.get(identity=moved.erin.identity).problem


def test_who_holds_nothing_or_left_meanwhile_costs_nobody_time(company: Company) -> None:
    periodic.follow_movers()
    for who in (company.alice, company.bob):
        company.managed_by(who, company.frank)
    periodic.follow_movers()
    Identity.objects.filter(pk=company.bob.identity_id).update(ended_at=timezone.now())
    look(company)
    outcomes = dict(Move.objects.values_list("identity__external_id", "outcome"))
    assert outcomes == {"alice": OUTCOME.NOTHING, "bob": OUTCOME.LEFT}
    assert not Campaign.objects.exists()


def test_an_incomplete_inventory_keeps_the_question_until_it_is_complete(moved: Company) -> None:
    stale = SyncRunFactory(connection=moved.connection, state="incomplete", started_at=timezone.now())
    look(moved)
    assert not Campaign.objects.exists() and "could lack somebody" in Move.objects.get().problem
    stale.delete()
    look(moved, after=2 * Move.SETTLE)
    assert Campaign.objects.get().is_running


def test_a_reorganisation_is_proposed_to_administrators_one_review_for_each_manager(moved: Company, settings) -> None:
    settings.MOVERS_MOST = 1
    moved.managed_by(moved.bob, moved.erin)
    look(moved)
    drafts = Campaign.objects.order_by("pk")
    assert {(draft.state, draft.kind) for draft in drafts} == {("draft", "move")} and len(drafts) == 2
    assert not ReviewItem.objects.exists()
    event = AuditEvent.objects.get(event="reviews.move.many_proposed")
    assert event.data["movers"] == 2 and sorted(event.data["campaigns"]) == [draft.pk for draft in drafts]
    look(moved)
    assert Campaign.objects.count() == 2


def test_a_reorganisation_without_anybody_to_stand_in_says_so_and_stops_no_other(
    moved: Company, settings, monkeypatch
) -> None:
    settings.MOVERS_MOST = 0
    other = IdentityFactory(connection=ConnectionFactory(), department="Payments")
    movers.follow()
    Identity.objects.filter(pk=other.pk).update(department="Treasury")

    def nobody(people: list[Identity]) -> None:
        if people[0].connection_id == moved.connection.pk:
            raise items.NotAllowed("Nobody could stand in.")
        raise RuntimeError("it fails")

    monkeypatch.setattr(movers, "_fallback", nobody)
    Connection.objects.filter(pk=moved.connection.pk).update(name="zz")
    with pytest.raises(RuntimeError):
        look(moved)
    assert Move.objects.get(identity=moved.alice.identity).problem == "Nobody could stand in."


def test_people_who_moved_today_count_when_more_follow(moved: Company, settings) -> None:
    settings.MOVERS_MOST = 1
    look(moved)
    moved.managed_by(moved.bob, moved.frank)
    look(moved)
    assert Campaign.objects.get(people=[moved.bob.identity_id]).is_draft


def test_following_costs_the_same_for_one_and_for_many(company: Company) -> None:
    periodic.follow_movers()

    def queries(count: int) -> int:
        people = [IdentityFactory(connection=company.connection, manager=company.carol.identity) for _ in range(count)]
        movers.follow()
        Identity.objects.filter(pk__in=[one.pk for one in people]).update(department="Treasury")
        with CaptureQueriesContext(connection) as seen:
            assert movers.follow() == count
        return len(seen)

    assert queries(1) == queries(20)

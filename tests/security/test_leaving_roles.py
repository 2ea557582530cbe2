"""Following who leaves and moves, as the worker's role in the database; and what that role still may not do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.access.models import AccessRequest
from apps.grants import periodic
from apps.grants.models import EndReason, Exodus, Grant, Leaving
from apps.inventory.models import Identity
from apps.reviews import periodic as reviews
from apps.reviews.models import Campaign, Move, ReviewItem
from apps.users.models import User
from tests.people import People
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(db: None, monkeypatch: pytest.MonkeyPatch) -> People:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return People()


def leave(user: User) -> None:
    Identity.objects.filter(user=user).update(ended_at=timezone.now())


def later() -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    Leaving.objects.update(noticed_at=long_ago)
    Move.objects.update(noticed_at=long_ago)


def test_a_worker_can_do_all_that_a_leaving_takes(people: People, acting: Acting) -> None:
    boss = people.person("boss").identity
    Identity.objects.filter(user=people.users["carol"]).update(manager=boss)
    leave(people.users["carol"])
    with acting("worker"):
        periodic.follow_people()
    later()
    with acting("worker"):
        periodic.follow_people()
    assert ReviewItem.objects.get().reviewer == boss.user
    assert boss.user_id in people.request.approvers.values_list("user_id", flat=True)
    leave(people.users["alice"])
    with acting("worker"):
        periodic.follow_people()
    later()
    with acting("worker"):
        periodic.follow_people()
    assert AccessRequest.objects.get().state == "withdrawn"
    assert {grant.end_reason for grant in Grant.objects.all()} == {EndReason.LEAVER}
    assert Grant.objects.filter(origin="found").exists()
    assert not User.objects.filter(name__in=["Alice", "Carol"], is_active=True).exists()


def test_a_worker_can_ask_about_a_mover(people: People, acting: Acting) -> None:
    Identity.objects.filter(user=people.users["bob"]).update(user=people.users["erin"])
    with acting("worker"):
        reviews.follow_movers()
        Identity.objects.filter(user=people.users["alice"]).update(department="Treasury")
        reviews.follow_movers()
    later()
    with acting("worker"):
        reviews.follow_movers()
    assert Move.objects.get().outcome == Move.Outcome.REVIEW
    assert Campaign.objects.filter(kind="move", state="running").count() == 1


def test_a_worker_decides_no_review(people: People, acting: Acting) -> None:
    decided = {
        "choice": "keep",
        "reason": "I say so.",
        "decided_by": people.users["erin"],
        "decided_at": timezone.now(),
    }
    with acting("worker"), pytest.raises(DatabaseError, match="People decide"), transaction.atomic():
        ReviewItem.objects.update(**decided)


def test_the_web_process_notices_a_leaver_but_does_not_invent_an_exodus(people: People, acting: Acting) -> None:
    leave(people.users["alice"])
    with acting("web"):
        periodic.notice_leavers()
        assert Leaving.objects.filter(identity__user=people.users["alice"]).exists()
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            Leaving.objects.update(gone_at=timezone.now())
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            Exodus.objects.create(connection=people.connection, people_before=1)

"""Following who leaves and moves, as the worker's role in the database; and what that role still may not do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.access.models import AccessRequest
from apps.grants import periodic
from apps.grants.models import EndReason, Exodus, Grant, Leaving
from apps.grants.services import leaving as leavers
from apps.inventory.models import Identity
from apps.reviews import periodic as reviews
from apps.reviews.models import Campaign, Move, ReviewItem
from apps.users.models import PortalRole, User
from tests.factories.users import UserFactory
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


# What the web process says of leavers, and what is not its word


FAR = timedelta(days=9000)


def forged(people: People, **said: Any) -> Leaving:
    identity = Identity.objects.get(user=people.users["alice"])
    return Leaving.objects.create(identity=identity, left_at=timezone.now(), user=people.users["alice"], **said)


@pytest.mark.parametrize("said", [["passed_at"], ["gone_at"], ["returned_at"], []], ids=str)
def test_the_web_process_calls_no_leaver_dealt_with(people: People, acting: Acting, said: list[str]) -> None:
    """The clock deals with whom nobody noticed: a row that says more would keep their sign-in and what they hold."""
    leave(people.users["alice"])
    with acting("web"), pytest.raises(DatabaseError, match=r"begun|shut out first"), transaction.atomic():
        forged(people, **dict.fromkeys(said, timezone.now()))


@pytest.mark.parametrize("said", ["passed_at", "gone_at", "returned_at", "exodus"])
def test_nor_one_who_is_shut_out_already(people: People, acting: Acting, said: str) -> None:
    leave(people.users["alice"])
    User.objects.filter(pk=people.users["alice"].pk).update(is_active=False)
    exodus = Exodus.objects.create(connection=people.connection, people_before=9)
    with acting("web"), pytest.raises(DatabaseError, match="begun"), transaction.atomic():
        forged(people, **{said: exodus if said == "exodus" else timezone.now()})


def test_a_leaver_whom_the_web_process_noticed_is_dealt_with_in_time(people: People, acting: Acting) -> None:
    leave(people.users["alice"])
    before = timezone.now()
    with acting("web"):
        User.objects.filter(pk=people.users["alice"].pk).update(is_active=False)
        row = forged(people, noticed_at=before + FAR, next_try_at=before + FAR)
    row.refresh_from_db()
    assert before - timedelta(minutes=1) < min(row.noticed_at, row.next_try_at)
    assert max(row.noticed_at, row.next_try_at) <= timezone.now()


def test_a_login_that_becomes_a_leavers_later_is_shut_out(people: People, acting: Acting) -> None:
    """As when the web unlinks it, says that they left, and links it again."""
    alice = people.users["alice"]
    leave(alice)
    theirs = Identity.objects.filter(user=alice)
    with acting("web"):
        [pk] = theirs.values_list("pk", flat=True)
        theirs.update(user=None)
        Leaving.objects.create(identity_id=pk, left_at=timezone.now())
        Identity.objects.filter(pk=pk).update(user=alice)
    with acting("worker"):
        periodic.follow_people()
    alice.refresh_from_db()
    assert not alice.is_active
    assert Leaving.objects.get(identity__user=alice).user == alice
    assert AccessRequest.objects.get().state == "withdrawn"
    assert {grant.end_reason for grant in Grant.objects.all()} <= {"", EndReason.LEAVER}
    User.objects.filter(pk=alice.pk).update(is_active=True)  # by an administrator, who knows why
    with acting("worker"):
        periodic.follow_people()
    assert User.objects.get(pk=alice.pk).is_active


def test_two_people_let_an_exodus_go_in_the_web_process(people: People, acting: Acting) -> None:
    exodus = Exodus.objects.create(connection=people.connection, people_before=9)
    first, second = (people.person(name) for name in ("first", "second"))
    for one in (first, second):
        PortalRole.objects.create(user=one.identity.user, role="administrator", source="a test")
    with acting("web"):
        leavers.propose_release(exodus, by=first.identity.user)
        leavers.release(exodus, by=second.identity.user)
    exodus.refresh_from_db()
    assert exodus.state == Exodus.State.RELEASED


def test_the_web_process_calls_no_exodus_over(people: People, acting: Acting) -> None:
    """Who is in it would be neither held nor dealt with, for good."""
    now, names = timezone.now(), [UserFactory(), UserFactory()]
    exodus = Exodus.objects.create(connection=people.connection, people_before=9)
    row = Exodus.objects.filter(pk=exodus.pk)
    signed = {"proposed_by": names[0], "released_by": names[1], "released_at": now}
    with acting("web"):
        for said in ({"state": "over"}, {"state": "over", **signed}, {"state": "settled", **signed}):
            with pytest.raises(DatabaseError, match="Two people"), transaction.atomic():
                row.update(**said)
        row.update(state="released", **signed)
        with pytest.raises(DatabaseError, match="Only what is held"), transaction.atomic():
            row.update(released_at=now - timedelta(days=9))

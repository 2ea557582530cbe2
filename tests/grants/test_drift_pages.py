"""The pages about drift: overseers look, administrators decide, and two of them let the brake go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.grants.models import Drift, Home, Reconciliation, State
from apps.grants.services import narrowing as trusting
from apps.users.models import User
from tests.factories.inventory import SyncRunFactory
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.grants.test_drift import QUARTER, compare, guard_only, hold, known_administrator, only, tamper


@pytest.fixture
def compared(system: System, clock) -> System:
    SyncRunFactory(connection=system.connection)
    compare(system)
    clock.shift(QUARTER)
    guard_only(system, "read")
    return system


@pytest.fixture
def erin(compared: System) -> User:
    return known_administrator(compared, "Erin")


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(user: User, name: str = "drift:every", *args: object, **query: str) -> str:
    return sign_in(user).get(reverse(name, args=args), query).content.decode()


def test_where_nothing_differs_the_page_says_so_and_when_it_was_compared(compared: System, erin: User) -> None:
    said = page(erin)
    assert "AWS shows what was decided" in said
    assert compared.connection.name in said and "Complete" in said
    assert "compared with AWS every 15 min." in said


def test_it_says_how_often_this_deployment_compares(compared: System, erin: User, settings) -> None:
    settings.RECONCILE_EVERY_MINUTES = 120
    assert "compared with AWS every 2 h." in page(erin)


def test_each_difference_is_told_with_its_evidence_and_what_was_done(compared: System, erin: User, clock) -> None:
    compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared)
    compare(compared)
    said = page(erin)
    assert "What ends grants there was weakened" in said and "Tampered" in said and "Being put right" in said
    found = only(Drift.Kind.TAMPERED)
    detail = page(erin, "drift:detail", found.pk)
    assert "It does not end Read of alice in time." in detail
    assert "grants.drift.repair_decided" in detail


def test_what_is_missing_can_only_be_asked_for_again(compared: System, erin: User, clock) -> None:
    compared.active(duration=timedelta(hours=2))
    compared.world.unassign("alice", compared.read.external_id)
    clock.shift(timedelta(minutes=5))
    compare(compared)
    detail = page(erin, "drift:detail", only(Drift.Kind.MISSING).pk)
    assert f"{reverse('access:catalogue')}?q=Read" in detail


def test_a_schedule_that_is_gone_is_told_by_its_own_name_and_by_whose_it_is(
    compared: System, erin: User, clock
) -> None:
    grant = compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    compared.world.second_ends.clear()
    compare(compared)
    said = page(erin, kind="unscheduled")
    assert f"at the end of {grant.number}" in said and "Being put right" in said
    detail = page(erin, "drift:detail", only(Drift.Kind.UNSCHEDULED).pk)
    assert "Unscheduled" in detail and grant.get_absolute_url() in detail
    assert "Denies more" not in said + detail


def test_hostile_names_are_only_text(compared: System, erin: User) -> None:
    compared.bob.name = "<script>alert(1)</script>"
    compared.bob.save()
    compared.bob.identity.name = "<b>bob</b>"
    compared.bob.identity.save()
    hold(compared)
    compare(compared)
    for said in (page(erin), page(erin, "drift:detail", only(Drift.Kind.ROGUE).pk)):
        assert "<b>bob" not in said and "<script>alert" not in said


def test_the_list_is_filtered_and_takes_as_many_queries_for_many(compared: System, erin: User) -> None:
    client = sign_in(erin)

    def count() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(reverse("drift:every")).status_code == 200
        return len(seen)

    hold(compared, "bob", "admin")
    compare(compared)
    few = count()
    for number in range(8):
        setattr(compared, f"extra{number}", compared.permission_set(f"Extra{number}", "read"))
        hold(compared, "bob", f"extra{number}")
    compare(compared)
    assert Drift.objects.open().count() == 9
    assert count() == few
    assert "Extra3" in page(erin, kind="unintended")
    assert "Extra3" not in page(erin, kind="rogue")
    assert "Extra3" not in page(erin, show="closed")


def test_accepting_takes_a_reason_and_is_shown(compared: System, erin: User) -> None:
    hold(compared, "bob", "admin")
    compare(compared)
    found = only(Drift.Kind.UNINTENDED)
    client, url = sign_in(erin), reverse("drift:accept", args=[found.pk])
    assert client.post(url, {"days": "7", "reason": ""}).status_code == 422
    assert client.post(url, {"days": "400", "reason": "Known."}).status_code == 422
    assert client.post(url, {"days": "7", "reason": "Moves next week."}).status_code == 302
    found.refresh_from_db()
    assert found.accepted_until == timezone.now() + timedelta(days=7)
    assert "Moves next week." in page(erin)


def test_auditors_look_and_decide_nothing(compared: System, erin: User) -> None:
    dan = UserFactory(name="Dan", auditor=True)
    hold(compared, "bob", "admin")
    compare(compared)
    found = only(Drift.Kind.UNINTENDED)
    assert "Let it stay" not in page(dan, "drift:detail", found.pk)
    assert sign_in(dan).post(reverse("drift:accept", args=[found.pk]), {"days": "7", "reason": "x"}).status_code == 404


@pytest.fixture
def braked(compared: System) -> Reconciliation:
    for name in ("carol", "dave", "mallory"):
        setattr(compared, name, compared.person(name))
        hold(compared, name)
    return compare(compared)


def test_two_administrators_let_the_brake_go_on_the_page(compared: System, braked: Reconciliation, erin: User) -> None:
    frank = known_administrator(compared, "Frank")
    assert "It is real" in page(erin) and "Nothing was changed" in page(erin)
    sign_in(erin).post(reverse("drift:propose_release", args=[braked.pk]))
    assert "Let it go" not in page(erin)
    assert sign_in(erin).post(reverse("drift:release", args=[braked.pk])).status_code == 302
    braked.refresh_from_db()
    assert braked.state == Reconciliation.State.HELD
    assert "Let it go" in page(frank)
    sign_in(frank).post(reverse("drift:release", args=[braked.pk]))
    assert {row.removal.state for row in Drift.objects.with_names() if row.removal} == {State.REVOKING}
    assert Drift.objects.exclude(removal=None).count() == 3


def test_an_unknown_administrator_is_told_that_known_people_decide(braked: Reconciliation) -> None:
    somebody = UserFactory(name="Somebody", administrator=True)
    said = page(somebody)
    assert "It is real" not in said and "known people decide" in said


def test_while_nothing_opens_administrators_see_why_on_every_page(compared: System, erin: User) -> None:
    trusting.notice()
    assert "Nothing opens now" not in page(erin, "grants:mine")
    trusting.doubt(by=erin, reason="We copied the files.")
    assert "Nothing opens now" in page(erin, "grants:mine")
    assert "We copied the files." in page(erin)
    assert "Nothing opens now" not in page(compared.alice.identity.user, "grants:mine")
    assert Home.objects.get().trusted_at is None

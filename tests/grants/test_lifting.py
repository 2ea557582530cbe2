"""Who may lift a stop: two people, by whichever logins, and neither of them whom it is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.core.refusals import NotPossible
from apps.grants import lifting, permissions, provisioning
from apps.grants.models import Scope, Stop
from apps.grants.services import stops
from apps.grants.signatures import NotSigned
from apps.inventory.models import Identity
from apps.users import assertions
from apps.users.models import User
from tests.conftest import Enqueued
from tests.factories.users import UserFactory
from tests.grants.lifting import FOUND, known, lift, propose, second, signed
from tests.grants.signing import give_key
from tests.grants.system import System

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}


@pytest.fixture
def erin(system: System) -> User:
    return known(UserFactory(name="Erin", administrator=True))


@pytest.fixture
def stop(system: System, erin: User) -> Stop:
    return stops.order(
        scope=Scope.PERSON, subject=system.alice.identity, reason="An incident.", by=erin, step_up=PASSKEY
    )


def again(name: str, email: str) -> User:
    return UserFactory(name=name, email=email, administrator=True)


def test_one_person_with_two_logins_is_one(stop: Stop, erin: User) -> None:
    other = known(again("Erin again", "erin+2@example.com"))
    Identity.objects.filter(user=other).update(email=erin.email.upper())
    propose(stop, erin)
    assert not permissions.can_lift_after(other, Stop.objects.get())
    with pytest.raises(NotPossible, match="Another person"):
        stops.lift(stop, by=other, signed=signed(stop, other, give_key(other)))


@pytest.mark.parametrize("what", ["the login", "the person"])
def test_nobody_lifts_a_stop_about_themselves_by_another_login(
    system: System, stop: Stop, erin: User, what: str
) -> None:
    alice = system.alice.identity
    assert alice
    assert alice.user
    address = alice.user.email if what == "the login" else alice.email
    other = known(again("Alice again", "again@example.com"))
    Identity.objects.filter(user=other).update(email=address.upper())
    assert not permissions.can_lift(other, stop)
    with pytest.raises(NotPossible, match="about you"):
        propose(stop, other)
    Stop.objects.update(lift_proposed_by=erin, lift_proposal=signed(stop, erin, give_key(erin)))
    Stop.objects.update(lift_asked_by=other, lift_consent=signed(stop, other, give_key(other)))
    with pytest.raises(NotSigned, match="whom it is about"):
        lifting.require_both(Stop.objects.get(), at=timezone.now())


def test_nor_by_a_login_that_has_the_address_and_is_linked_to_somebody_else(system: System, stop: Stop) -> None:
    assert system.alice.identity
    other = known(again("Frank", system.alice.identity.email.upper()))
    Identity.objects.filter(user=other).update(email="frank@example.com")
    assert not permissions.can_lift(other, stop)


def test_of_somebody_who_is_linked_to_nobody_we_do_not_know_who_they_are(stop: Stop, erin: User) -> None:
    other = again("Frank", "frank@example.com")
    assert not permissions.can_lift(other, stop)
    with pytest.raises(NotPossible, match="linked"):
        stops.propose_lift(stop, by=other, reason=FOUND, signed={})
    propose(stop, erin)
    Stop.objects.update(lift_asked_by=other, lift_consent=signed(stop, other, give_key(other)))
    Stop.objects.update(lift_asked_at=timezone.now())
    provisioning.lift_stop(stop.pk)
    stop.refresh_from_db()
    assert stop.is_in_force
    assert "not known to be two people" in stop.lift_problem


def test_two_people_lift_it(stop: Stop, erin: User) -> None:
    frank = known(again("Frank", "frank@example.com"))
    assert permissions.can_lift(erin, stop)
    assert not permissions.can_lift_after(erin, propose(stop, erin))
    assert permissions.can_lift_after(frank, Stop.objects.get())
    Stop.objects.update(lift_proposed_by=None, lift_proposal={})
    assert not lift(stop, erin, frank).is_in_force
    said = AuditEvent.objects.get(event="grants.stop.lift_signed")
    assert (said.actor_id, said.subject) == (str(frank.pk), f"grants.stop:{stop.pk}")
    keys = Authenticator.objects.filter(user=frank)
    assert said.data == {"proposed_by": str(erin), "reason": FOUND, "authenticator": keys.get().pk}


def test_a_worker_is_woken_when_the_second_signed(
    stop: Stop, erin: User, enqueued: Enqueued, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    propose(stop, erin)
    with django_capture_on_commit_callbacks(execute=True):
        second(stop, again("Frank", "frank@example.com"))
    assert enqueued.calls == [("apps.grants.tasks.lift_stop", (stop.pk,), {})]


def test_the_second_signs_too(stop: Stop, erin: User) -> None:
    frank = known(again("Frank", "frank@example.com"))
    propose(stop, erin)
    with pytest.raises(NotPossible, match="signed with a passkey"):
        stops.lift(stop, by=frank, signed={})
    with pytest.raises(NotPossible, match="passkey was not accepted"):
        stops.lift(stop, by=frank, signed=signed(stop, erin, give_key(frank)))
    assert Stop.objects.get().lift_asked_at is None


def test_a_worker_whose_clock_is_behind_takes_what_a_page_had_signed(stop: Stop, erin: User, clock: Any) -> None:
    key = give_key(erin)
    asked = lifting.ask(stop, erin)
    assert asked.passkey == assertions.options(erin, lifting.challenge(stop, erin, expires=asked.expires))
    said = signed(stop, erin, key, expires=datetime.fromisoformat(asked.expires))
    clock.shift(timedelta(seconds=-50))
    assert lifting.require(stop, erin, said, at=timezone.now())

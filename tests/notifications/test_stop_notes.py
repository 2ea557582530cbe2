"""Administrators hear of emergency stops and of the ender's work; whom a stop is about hears nothing of why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.grants import provisioning
from apps.grants.models import Scope, Stop
from apps.grants.provisioning.ender import Ender
from apps.grants.services import stops
from apps.inventory.models import Identity
from apps.notifications.models import Notification
from apps.users.models import PortalRole, User
from tests.factories.users import PortalRoleFactory, UserFactory
from tests.grants.conftest import clock, system  # noqa: F401  fixtures
from tests.grants.lifting import known, propose, second
from tests.grants.system import System
from tests.notifications import conftest as inbox

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
WHY = "The laptop was stolen at the airport."


@pytest.fixture
def erin(system: System) -> User:  # noqa: F811
    return known(UserFactory(name="Erin", administrator=True))


@pytest.fixture
def frank(system: System) -> User:  # noqa: F811
    return known(UserFactory(name="Frank", administrator=True))


@pytest.fixture
def alice(system: System) -> User:  # noqa: F811
    identity: Identity = system.alice.identity  # type: ignore[assignment]
    assert identity.user is not None
    return identity.user


def titles(user: User) -> list[str]:
    """What this user has been told by now."""
    inbox.told()
    return list(Notification.objects.filter(recipient=user).order_by("pk").values_list("title", flat=True))


def stop(system: System, erin: User) -> Any:  # noqa: F811
    return stops.order(scope=Scope.PERSON, subject=system.alice.identity, reason=WHY, by=erin, step_up=PASSKEY)


def test_every_administrator_hears_of_a_stop_also_who_ordered_it(system: System, erin: User, frank: User) -> None:  # noqa: F811
    system.active()
    stop(system, erin)
    for user in (erin, frank):
        assert any("stopped access" in title for title in titles(user))


def test_whoever_it_is_about_is_not_told_why(system: System, erin: User, alice: User) -> None:  # noqa: F811
    PortalRoleFactory(user=alice, role=PortalRole.Role.ADMINISTRATOR)
    grant = system.active()
    stop(system, erin)
    assert titles(erin)
    told = Notification.objects.filter(recipient=alice)
    assert not [note for note in told if WHY in f"{note.title} {note.text}" or "stopped access" in note.title]
    grant.refresh_from_db()
    assert WHY not in grant.end_note


def test_a_second_administrator_is_asked_to_lift_it(system: System, erin: User, frank: User) -> None:  # noqa: F811
    row = stop(system, erin)
    propose(row, erin)
    assert any("proposes to lift" in title for title in titles(frank))
    second(row, frank)
    provisioning.lift_stop(row.pk)
    assert any("Frank lifted" in title for title in titles(erin))


def test_administrators_hear_of_a_lifting_that_nobody_signed(system: System, erin: User, frank: User) -> None:  # noqa: F811
    row = stop(system, erin)
    Stop.objects.filter(pk=row.pk).update(lift_proposed_by=erin, lift_asked_by=frank, lift_asked_at=timezone.now())
    provisioning.lift_stop(row.pk)
    assert any("signatures do not hold" in title for title in titles(erin))
    assert Stop.objects.in_force().exists()


def test_administrators_hear_of_a_write_that_names_a_wrong_object(system: System, erin: User) -> None:  # noqa: F811
    system.active()
    row = stop(system, erin)
    row.writes.update(shared_key="a key that nobody shares")
    provisioning.write_stop(row.writes.get().pk)
    assert f"{row} names a wrong object in AWS" in titles(erin)


def test_administrators_hear_that_the_ender_had_to_work(
    system: System,  # noqa: F811
    clock: Any,  # noqa: F811
    erin: User,
) -> None:
    system.active()
    clock.shift(timedelta(hours=2))
    Ender().round()
    assert any("The ender had to take" in title for title in titles(erin))

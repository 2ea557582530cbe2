"""The numbers beside the places of the navigation."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from apps.core import badges
from apps.core.badges import NOW, USER
from apps.core.navigation import Place
from apps.users.models import PortalRole, User

pytestmark = pytest.mark.django_db


def place(name: str, **fields: object) -> Place:
    return Place(label=name, icon="key", url_name=name, **fields)  # type: ignore[arg-type]


@pytest.fixture
def alice() -> User:
    return User.objects.create(email="alice@example.com")


@pytest.fixture
def erin() -> User:
    erin = User.objects.create(email="erin@example.com")
    for role in PortalRole.Role.values:
        PortalRole.objects.create(user=erin, role=role)
    return erin


ROLES = place("roles", waiting=lambda: PortalRole.objects.filter(user=USER))
ONLY_WITH_ROLES = place(
    "only", waiting=lambda: User.objects.exclude(pk=USER), only_with=lambda: PortalRole.objects.filter(user=USER)
)
JOINED = place("joined", waiting=lambda: User.objects.filter(joined_at__lte=NOW).exclude(pk=USER))
PLAIN = place("plain")


def test_all_numbers_are_asked_in_one_statement(
    alice: User, erin: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        assert badges.count([ROLES, PLAIN, JOINED], erin.pk) == {ROLES: 2, PLAIN: 0, JOINED: 1}


def test_the_next_person_gets_numbers_of_their_own(alice: User, erin: User) -> None:
    assert badges.count([ROLES, JOINED], erin.pk)[ROLES] == 2
    assert badges.count([ROLES, JOINED], alice.pk)[ROLES] == 0


def test_a_place_that_needs_something_in_it_is_left_out_without(alice: User, erin: User) -> None:
    assert badges.count([ONLY_WITH_ROLES, PLAIN], erin.pk) == {ONLY_WITH_ROLES: 1, PLAIN: 0}
    assert badges.count([ONLY_WITH_ROLES, PLAIN], alice.pk) == {PLAIN: 0}


def test_places_keep_their_order(alice: User) -> None:
    assert list(badges.count([PLAIN, JOINED, ROLES], alice.pk)) == [PLAIN, JOINED, ROLES]


def test_now_is_when_the_page_is_asked_for(alice: User, erin: User) -> None:
    User.objects.filter(pk=erin.pk).update(joined_at=timezone.now() + timedelta(days=1))
    assert badges.count([JOINED], alice.pk) == {JOINED: 0}
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        assert badges.count([JOINED], alice.pk) == {JOINED: 1}


def test_places_without_numbers_ask_nothing(alice: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert badges.count([PLAIN], alice.pk) == {PLAIN: 0}

"""Somebody left the company: from that moment on they cannot come in, whoever shut them out."""

from __future__ import annotations

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.users import services
from apps.users.models import User
from tests.factories.users import UserFactory
from tests.security.conftest import _roles, acting  # noqa: F401  fixtures
from tests.users.conftest import make_person, sign_in

pytestmark = pytest.mark.django_db


def signed_in(user: User) -> Client:
    client = Client()
    sign_in(client, user.email)
    assert client.get(reverse("access:home")).status_code == 200
    return client


def test_a_worker_that_shuts_a_leaver_out_ends_every_session_of_theirs(alice: User, acting) -> None:  # noqa: F811
    client, bob = signed_in(alice), signed_in(make_person("Bob"))
    with acting("worker"):
        assert services.shut_out_leavers([alice], by=audit.WORKER)
    assert client.get(reverse("access:home")).status_code == 302
    assert not UserSession.objects.filter(user=alice).exists() and Session.objects.count() == 1
    assert bob.get(reverse("access:home")).status_code == 200


def test_sessions_of_a_leaver_do_not_come_back_with_them(alice: User) -> None:
    client = signed_in(alice)
    services.shut_out_leavers([alice], by=audit.CLOCK)
    services.reactivate_user(user=alice, by=UserFactory(administrator=True))
    assert client.get(reverse("access:home")).status_code == 302


def test_a_worker_lets_nobody_in_again(alice: User, acting) -> None:  # noqa: F811
    services.shut_out_leavers([alice], by=audit.CLOCK)
    with acting("worker"), pytest.raises(DatabaseError, match="let each other in"), transaction.atomic():
        User.objects.filter(pk=alice.pk).update(is_active=True)


def test_the_last_administrator_who_leaves_is_shut_out_too_and_that_is_said_loudly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    erin = UserFactory(name="Erin", administrator=True)
    assert services.shut_out_leavers([erin], by=audit.CLOCK)
    erin.refresh_from_db()
    assert not erin.is_active and not erin.is_administrator
    assert "createsuperuser" in caplog.text
    assert AuditEvent.objects.get(event="users.user.deactivated").data["was_last_administrator"]


def test_many_leavers_are_shut_out_in_as_many_statements_as_one(django_assert_max_num_queries) -> None:
    people = [UserFactory() for _ in range(5)]
    with django_assert_max_num_queries(6):
        assert services.shut_out_leavers(people, by=audit.CLOCK) == people
    assert not User.objects.filter(is_active=True).exists()
    assert AuditEvent.objects.filter(event="users.user.deactivated").count() == 5


def test_who_was_out_already_is_not_shut_out_again(alice: User) -> None:
    assert services.shut_out_leavers([alice], by=audit.CLOCK)
    assert not services.shut_out_leavers([alice], by=audit.CLOCK)
    assert AuditEvent.objects.filter(event="users.user.deactivated").count() == 1

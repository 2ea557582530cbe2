from __future__ import annotations

import pytest
from django.test import Client

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.users.models import User
from tests.factories.users import UserFactory


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dan(db: None) -> User:
    return UserFactory(name="Dan", auditor=True)


@pytest.fixture
def erin(db: None) -> User:
    return UserFactory(name="Erin", administrator=True)


@pytest.fixture
def mallory(db: None) -> User:
    return UserFactory(name="Mallory")


def happened(name: str = "users.user.invited", *, by=audit.CLOCK, about: User | None = None, **fields) -> AuditEvent:
    """An event; `at` and `subject_name` may be given."""
    row = audit.event(name, by=by, subject=about or UserFactory(), data=fields.pop("data", None))
    for field, value in fields.items():
        setattr(row, field, value)
    row.save()
    return row

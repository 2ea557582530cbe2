"""The company of the access tests, and what its people are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from apps.audit.models import AuditEvent
from apps.notifications import consumer
from apps.notifications.models import Delivery, Notification
from apps.users.models import User
from tests.access.conftest import Company
from tests.grants.system import START


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def company(db: None, clock: time_machine.Traveller) -> Company:
    made = Company()
    for principal in (made.alice, made.bob, made.carol):
        principal.identity.name = principal.name.capitalize()
        principal.identity.save()
    return made


def told(*kinds: str) -> dict[str, list[str]]:
    """Who is told what about events of these kinds: name → titles. Reads the log past the horizon, since a test that
    runs inside one transaction never settles."""
    consumer.deal_with(list(AuditEvent.objects.order_by("pk")))
    found: dict[str, list[str]] = {}
    for row in Notification.objects.select_related("recipient").filter(kind__in=kinds).order_by("pk"):
        found.setdefault(row.recipient.name, []).append(row.title)
    return found


def mailed(kind: str) -> set[str]:
    """To whom mails about events of this kind leave."""
    consumer.deal_with(list(AuditEvent.objects.order_by("pk")))
    rows = Delivery.objects.filter(notification__kind=kind)
    return set(rows.values_list("notification__recipient__name", flat=True))


def unread(user: User, kind: str) -> int:
    return Notification.objects.of(user).unread().filter(kind=kind).count()

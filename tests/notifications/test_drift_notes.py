"""Administrators are told what a comparison found, once, and nobody else is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.grants.models import Drift
from apps.grants.services import drift as deciding
from apps.grants.services import narrowing
from tests.factories.inventory import SyncRunFactory
from tests.factories.users import UserFactory
from tests.grants.conftest import clock, system  # noqa: F401  fixtures
from tests.grants.system import System
from tests.grants.test_drift import QUARTER, compare, guard_only, hold, known_administrator, tamper
from tests.notifications import conftest as inbox

SETTLED, HELD = "grants.reconciliation.settled", "grants.reconciliation.held"


KNOWN = {"Erin", "Frank", "Dan", "Alice", "Bob"}  # the connection's own administrators have made-up names


def told(kind: str) -> dict[str, list[str]]:
    return {name: titles for name, titles in inbox.told(kind).items() if name in KNOWN}


@pytest.fixture
def compared(system: System, clock) -> System:  # noqa: F811
    SyncRunFactory(connection=system.connection)
    compare(system)
    clock.shift(QUARTER)
    guard_only(system, "read")
    UserFactory(name="Dan", auditor=True)
    return system


def test_what_is_critical_is_told_to_administrators_once(compared: System, clock) -> None:  # noqa: F811
    known_administrator(compared, "Erin")
    compared.active(duration=timedelta(hours=2))
    clock.shift(timedelta(minutes=5))
    tamper(compared)
    compare(compared)
    assert told(SETTLED) == {"Erin": [f"1 critical difference in {compared.connection.name}"]}
    assert inbox.mailed(SETTLED) & KNOWN == {"Erin"}
    clock.shift(QUARTER)
    compare(compared)
    assert told(SETTLED) == {"Erin": [f"1 critical difference in {compared.connection.name}"]}


def test_what_is_not_critical_is_told_to_nobody(compared: System) -> None:
    known_administrator(compared, "Erin")
    hold(compared, "bob", "admin")
    compare(compared)
    assert Drift.objects.count() == 1
    assert told(SETTLED) == {}


def test_both_administrators_are_asked_when_the_brake_bites_until_it_is_let_go(compared: System) -> None:
    erin, frank = (known_administrator(compared, name) for name in ("Erin", "Frank"))
    for name in ("carol", "dave", "mallory"):
        setattr(compared, name, compared.person(name))
        hold(compared, name)
    run = compare(compared)
    assert set(told(HELD)) == {"Erin", "Frank"}
    deciding.propose_release(run, by=erin)
    assert set(told("grants.reconciliation.release_proposed")) == {"Frank"}
    deciding.release(run, by=frank)
    told(HELD)
    assert [inbox.unread(user, HELD) for user in (erin, frank)] == [0, 0]


def test_a_doubted_database_is_told_also_to_whoever_doubted_it(compared: System) -> None:
    erin = known_administrator(compared, "Erin")
    narrowing.doubt(by=erin, reason="We copied the files.")
    assert told("grants.home.doubted") == {"Erin": ["Gatehouse only takes access away now"]}

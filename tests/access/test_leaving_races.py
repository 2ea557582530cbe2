"""Leaving against saying yes, with real connections: whoever is second waits, and then sees what the first one did."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import time_machine
from django.db import connection, connections, transaction

from apps.access.services import requests
from apps.access.services.offers import NotAllowed
from apps.audit import services as audit
from apps.grants.models import EndReason, Grant, Leaving, State
from apps.grants.services import NotPossible, leaving
from tests.access.conftest import TOTP, Company
from tests.access.test_leaving import approve, asked, gone
from tests.grants.system import START

pytestmark = pytest.mark.django_db(transaction=True)

UNTIL_SOMEBODY_WAITS = """
DO $$ BEGIN
  FOR i IN 1..1000 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database());
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$
"""


@pytest.fixture
def company():
    with time_machine.travel(START, tick=False):
        yield Company()


def first_and_second(first: Callable[[], object], second: Callable[[], object]) -> object:
    """`second` begins while the transaction of `first` is still open, and waits for it. What `second` came to."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(second())
        except Exception as error:
            outcome.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        first()
        thread.start()
        with connection.cursor() as cursor:
            cursor.execute(UNTIL_SOMEBODY_WAITS)
    thread.join(30)
    assert not thread.is_alive()
    return outcome[0]


def test_a_yes_that_comes_while_somebody_leaves_gives_nothing(company: Company) -> None:
    request = asked(company)

    def leave() -> None:
        gone(company.alice)
        leaving.notice(company.alice.identity, by=audit.CLOCK)

    outcome = first_and_second(leave, lambda: approve(request, company.bob_user))
    assert isinstance(outcome, NotPossible | NotAllowed | requests.Conflict), outcome
    assert not Grant.objects.exists()


def test_a_leaving_that_comes_while_somebody_says_yes_ends_what_that_gave(company: Company) -> None:
    request = asked(company)
    outcome = first_and_second(
        lambda: requests.approve(request, by=company.bob_user, place=TOTP),
        lambda: (gone(company.alice), leaving.notice(company.alice.identity, by=audit.CLOCK))[1],
    )
    assert isinstance(outcome, Leaving) and outcome.ended["grants"] == 1
    grant = Grant.objects.get()
    assert (grant.state, grant.end_reason) == (State.CANCELLED, EndReason.LEAVER)

"""What old runs said of each scope is let go of; what is still known by it, or is evidence, stays."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.inventory.models import Connection, Resource, ScopeScan, SyncRun
from apps.inventory.sync import pruning
from apps.reviews.models import Campaign
from tests.factories import inventory as make
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.fixture
def org(settings: Any) -> Connection:
    settings.SCANS_KEPT_DAYS = 30
    return make.ConnectionFactory()


@pytest.fixture
def accounts(org: Connection) -> list[Resource]:
    return make.ResourceFactory.create_batch(2, connection=org)


def days_ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


def run(org: Connection, days: int, **scopes: tuple[Resource | None, str]) -> SyncRun:
    """A run of so many days ago, and what it said of scopes."""
    made = make.SyncRunFactory(connection=org, started_at=days_ago(days), finished_at=days_ago(days))
    for resource, state in scopes.values():
        make.ScopeScanFactory(run=made, resource=resource, state=state, started_at=days_ago(days))
    return made


def left() -> list[tuple[int, int | None]]:
    """What stays: (how many days old, account)."""
    scans = ScopeScan.objects.order_by("started_at", "resource").values_list("started_at", "resource")
    return [((NOW - started_at).days, resource) for started_at, resource in scans]


def test_what_runs_said_longer_ago_than_it_is_kept_for_goes_and_the_runs_stay(
    org: Connection, accounts: list[Resource]
) -> None:
    one, other = accounts
    for days in (90, 60, 29, 1):
        run(org, days, directory=(None, "complete"), one=(one, "complete"), other=(other, "complete"))
    assert pruning.prune(NOW) == 6
    assert {days for days, _ in left()} == {29, 1}
    assert len(left()) == 6
    assert SyncRun.objects.count() == 4
    assert pruning.prune(NOW) == 0


def test_what_is_known_of_an_account_and_as_of_when_stays_however_old(
    org: Connection, accounts: list[Resource]
) -> None:
    one, other = accounts
    run(org, 90, directory=(None, "complete"), one=(one, "complete"), other=(other, "complete"))
    run(org, 80, directory=(None, "complete"), one=(one, "complete"), other=(other, "failed"))
    run(org, 70, directory=(None, "incomplete"), one=(one, "failed"), other=(other, "failed"))
    run(org, 1)
    pruning.prune(NOW)
    assert left() == [(90, other.pk), (80, one.pk), (80, None), (70, one.pk), (70, other.pk), (70, None)]
    assert Resource.objects.get(pk=other.pk).read_at == days_ago(90)


def test_another_connections_directory_is_another_scope(org: Connection) -> None:
    run(org, 90, directory=(None, "complete"))
    run(make.ConnectionFactory(), 1, directory=(None, "complete"))
    run(org, 1)
    assert pruning.prune(NOW) == 0


def test_a_connections_last_run_stays_whole(org: Connection, accounts: list[Resource]) -> None:
    """Nobody has read it since, and its page shows that run."""
    run(org, 90, directory=(None, "complete"), one=(accounts[0], "complete"))
    last = run(org, 80, directory=(None, "complete"), one=(accounts[0], "complete"))
    SyncRun.objects.create(connection=org, started_at=days_ago(1))  # which nobody knows the end of yet
    assert pruning.prune(NOW) == 2
    assert last.scopes.count() == 2


def test_what_a_campaign_was_launched_from_is_evidence_and_stays(org: Connection, accounts: list[Resource]) -> None:
    launched, other = (run(org, days, one=(accounts[0], "complete")) for days in (90, 80))
    run(org, 1, one=(accounts[0], "complete"))
    Campaign.objects.create(
        name="Q4", connection=org, holders=["human"], due_at=NOW, fallback=UserFactory(), run=launched
    )
    assert pruning.prune(NOW) == 1
    assert launched.scopes.exists()
    assert not other.scopes.exists()


def test_more_accounts_cost_no_more_statements(org: Connection) -> None:
    def statements(count: int) -> int:
        accounts = make.ResourceFactory.create_batch(count, connection=org)
        for days in (90, 1):
            run(org, days, **{str(account.pk): (account, "complete") for account in accounts})
        with CaptureQueriesContext(database) as asked:
            assert pruning.prune(NOW) == count
        return len(asked)

    assert statements(1) == statements(20)

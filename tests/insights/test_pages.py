"""The page about our own speed, and the same for Prometheus: closed by default, and without the name of anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.budget import Budget
from apps.connectors.leases import Local, Pool
from apps.grants import services
from apps.grants.models import EndReason, Grant
from tests.factories.users import UserFactory
from tests.grants.system import System

TOKEN = "only-for-this-test"


@pytest.fixture
def counted() -> Iterator[Budget]:
    """A budget whose counts begin at nothing."""
    before = budget.here()
    mine = Budget(own=Local(1))
    budget.use(mine)
    yield mine
    budget.use(before)


@pytest.fixture
def scrape(client: Client, settings: Any, counted: Budget) -> Callable[[], dict[tuple[str, ...], float]]:
    """What Prometheus reads: (name, label values in order) → value."""
    settings.METRICS_TOKEN = TOKEN

    def ask() -> dict[tuple[str, ...], float]:
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        families = text_string_to_metric_families(answer.content.decode())
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in families
            for sample in family.samples
        }

    return ask


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer \xe9"]
)
def test_without_the_token_there_is_no_such_page(client: Client, settings: Any, header: str) -> None:
    settings.METRICS_TOKEN = TOKEN
    assert client.get("/metrics", headers={"Authorization": header}).status_code == 404


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "bearer x"])
def test_where_no_token_is_set_nobody_gets_in(client: Client, settings: Any, header: str) -> None:
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers={"Authorization": header}).status_code == 404


def test_an_administrators_session_is_no_token(client: Client, settings: Any, db: None) -> None:
    settings.METRICS_TOKEN = TOKEN
    client.force_login(UserFactory(administrator=True))
    assert client.get("/metrics").status_code == 404


def test_programs_read_how_fast_and_how_surely(system: System, scrape: Any, counted: Budget) -> None:
    active, late = system.active(system.alice), system.active(system.bob)
    now = timezone.now()
    Grant.objects.filter(pk=active.pk).update(created_at=now - timedelta(seconds=9))
    services.end(late, by=audit.CLOCK, reason=EndReason.LEAVER)
    Grant.objects.filter(pk=late.pk).update(revoking_at=now - timedelta(seconds=400))
    counted.take(Pool("sso-admin", {"revoke": 20}), "1", "revoke")
    counted.pause(Pool("sso-admin", {"revoke": 20}), "1", 1, "sync")
    counted.note_skew("a:1", -3.5)
    counted.note_skew("b:1", 1.0)
    read = scrape()
    assert read["gatehouse_approval_to_access_grants", "all"] == 2
    assert read["gatehouse_approval_to_access_seconds", "idc_assignment", "0.99"] == pytest.approx(9, abs=0.2)
    assert read["gatehouse_oldest_revocation_seconds", "all"] == 400
    assert read["gatehouse_oldest_revocation_seconds", "idc_assignment"] == 400
    assert read["gatehouse_revocations_unproven", "all"] == read["gatehouse_revocations_overdue", "idc_assignment"] == 1
    assert read["gatehouse_grants_live", "all"] == 1
    assert read["gatehouse_grants_due_to_end", "all"] == 1
    assert read["gatehouse_aws_calls_total", "revoke", "sso-admin"] == 1
    assert read["gatehouse_aws_throttles_total", "sync", "sso-admin"] == 1
    assert read["gatehouse_clock_skew_seconds",] == -3.5


def test_where_there_is_nothing_the_alarms_have_something_to_look_at(scrape: Any, db: None) -> None:
    read = scrape()
    assert read["gatehouse_oldest_revocation_seconds", "all"] == 0
    assert read["gatehouse_end_missed_seconds",] == 0
    assert read["gatehouse_revocations_unproven", "all"] == 0


def test_numbers_name_nobody(system: System, client: Client, scrape: Any, settings: Any) -> None:
    system.active(reason="Looking into the Perlman case.")
    scrape()
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).content.decode().lower()
    assert not [word for word in ("alice", "perlman", "read@", "111122223333", "production") if word in text]


def test_one_scrape_is_a_few_queries_whatever_there_is(system: System, scrape: Any) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            scrape()
        return len(seen)

    few = queries()
    for number in range(5):
        system.active(system.person(f"p{number}"))
    assert queries() == few == 4


def test_auditors_see_how_fast_it_is(system: System, client: Client, counted: Budget) -> None:
    late = system.active()
    services.end(late, by=audit.CLOCK, reason=EndReason.LEAVER)
    Grant.objects.filter(pk=late.pk).update(revoking_at=timezone.now() - timedelta(minutes=7))
    counted.take(Pool("sso-admin", {"revoke": 20}), "1", "revoke")
    counted.note_skew("a:1", 41.0)
    client.force_login(UserFactory(auditor=True))
    page = client.get("/insights/?days=30").content.decode()
    assert "Identity Center assignment" in page
    assert "Removals without proof" in page
    assert "7 min" in page
    assert "sso-admin" in page
    assert "A worker&#x27;s clock is wrong" in page or "A worker's clock is wrong" in page


def test_an_empty_page_says_what_will_be_there(client: Client, counted: Budget, db: None) -> None:
    client.force_login(UserFactory(administrator=True))
    page = client.get("/insights/?days=nonsense").content.decode()
    assert page.count("Nothing in these days") == 3
    assert "Nothing is open and nothing is ending" in page
    assert "AWS was not asked for anything yet" in page
    assert "Removals without proof" not in page


def test_everybody_else_finds_no_page(client: Client, db: None) -> None:
    client.force_login(UserFactory())
    assert client.get("/insights/").status_code == 404

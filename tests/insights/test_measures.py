"""What is measured is what happened: from decision to read-back, and what is open now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit import services as audit
from apps.grants import services
from apps.grants.models import EndReason, Grant, State
from apps.insights import measures
from tests.grants.system import System

HOUR = timedelta(hours=1)


def took(system: System, opening: float, denying: float, ending: float, **fields: Any) -> Grant:
    """A grant that went through, in so many seconds each."""
    grant = system.active(system.person(f"p{Grant.objects.count()}"))
    now = timezone.now()
    Grant.objects.filter(pk=grant.pk).update(
        **{
            "created_at": now - HOUR - timedelta(seconds=opening),
            "active_at": now - HOUR,
            "state": State.REVOKED,
            "end_reason": EndReason.DONE,
            "receipt": [{"what": "gone"}],
            "revoking_at": now - timedelta(seconds=ending),
            "denied_at": now - timedelta(seconds=ending - denying),
            "revoked_at": now,
            **fields,
        }
    )
    return grant


def test_half_of_them_were_that_fast(system: System) -> None:
    for seconds in range(1, 101):
        if seconds in (1, 50, 100):
            took(system, opening=seconds, denying=seconds / 10, ending=seconds * 2)
    since = timezone.now() - timedelta(days=7)
    [all_, one] = measures.spread("approval_to_access", since)
    assert (all_.provisioner, all_.number, all_.p50) == ("", 3, 50)
    assert all_.p99 == pytest.approx(99)
    assert (one.provisioner, one.title, one.number) == ("idc_assignment", "Identity Center assignment", 3)
    assert measures.spread("end_to_denied", since)[0].p50 == pytest.approx(5)
    assert measures.spread("end_to_gone", since)[0].p50 == pytest.approx(100)


def test_what_came_to_its_end_before_the_period_does_not_count(system: System) -> None:
    took(system, 1, 1, 1)
    later = timezone.now() + timedelta(seconds=1)
    assert [measures.spread(name, later) for name in measures.STRETCHES] == [[], [], []]


def test_an_end_that_nobody_saw_to_for_an_hour_took_an_hour(system: System) -> None:
    took(system, 1, 1, 1, ends_at=timezone.now() - HOUR)
    since = timezone.now() - timedelta(days=7)
    assert measures.spread("end_to_gone", since)[0].p50 == pytest.approx(3600, abs=2)


def test_what_is_not_through_yet_is_in_no_percentile(system: System) -> None:
    grant = system.active()
    services.end(grant, by=system.alice.identity.user, reason=EndReason.DONE)  # type: ignore[union-attr]
    since = timezone.now() - timedelta(days=7)
    assert measures.spread("end_to_gone", since) == []
    assert [row.number for row in measures.spread("approval_to_access", since)] == [1, 1]


def test_standing_access_that_was_removed_counts_as_that_and_owners_tasks_do_not(system: System) -> None:
    for remover in ("permission_set", Grant.BY_OWNER):
        held = system.holds(system.person(f"held-{remover}"), system.read)
        took(system, 1, 1, 30, origin="found", provisioner="", remover=remover, assignment=held)
    rows = measures.spread("end_to_gone", timezone.now() - timedelta(days=7))
    assert [(row.provisioner, row.number) for row in rows] == [("", 1), (measures.REMOVAL, 1)]
    assert rows[1].title == "Standing access removed"
    assert measures.spread("approval_to_access", timezone.now() - timedelta(days=7)) == []


def test_what_is_overdue_and_for_how_long(system: System) -> None:
    late, new = system.active(system.alice), system.active(system.bob)
    now = timezone.now()
    for grant, ago in ((late, 400), (new, 20)):
        services.end(grant, by=audit.CLOCK, reason=EndReason.LEAVER)
        Grant.objects.filter(pk=grant.pk).update(revoking_at=now - timedelta(seconds=ago))
    [row] = measures.standing(now)
    assert (row.ending, row.overdue, row.unproven, row.to_end, row.live) == (2, 1, 1, 2, 0)
    assert measures.age(row.oldest_ending_at, now) == timedelta(seconds=400)
    assert measures.age(None, now) == timedelta()


def test_an_owners_task_is_overdue_by_its_own_date_and_never_unproven(system: System) -> None:
    held = system.holds(system.alice, system.read)
    now = timezone.now()
    Grant.objects.create(
        connection=system.connection,
        principal=system.alice,
        entitlement=system.read,
        assignment=held,
        origin="found",
        remover=Grant.BY_OWNER,
        state=State.REVOKING,
        end_reason=EndReason.REVIEW,
        revoking_at=now - timedelta(days=9),
        due_at=now - timedelta(days=1),
        reason="x",
    )
    [row] = measures.standing(now)
    assert (row.provisioner, row.ending, row.overdue, row.unproven) == (measures.REMOVAL, 1, 1, 0)
    assert row.oldest_ending_at is None


def test_a_clock_that_does_not_run_is_seen(system: System) -> None:
    grant = system.active()
    assert grant.not_after
    later = grant.not_after + timedelta(minutes=3)
    [row] = measures.standing(later)
    assert measures.age(row.oldest_end_missed_at, later) == timedelta(minutes=3)
    [row] = measures.standing(grant.not_after - timedelta(seconds=1))
    assert row.oldest_end_missed_at is None


def test_grants_that_wait_for_a_worker_are_counted(system: System) -> None:
    system.issue()
    [row] = measures.standing(timezone.now() + timedelta(seconds=1))
    assert (row.to_open, row.to_end, row.live) == (1, 0, 1)


def test_the_number_of_queries_does_not_grow(system: System) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            for name in measures.STRETCHES:
                measures.spread(name, timezone.now() - timedelta(days=7))
            measures.standing(timezone.now())
        return len(seen)

    took(system, 1, 1, 1)
    few = queries()
    for _ in range(5):
        took(system, 1, 1, 1)
        system.issue(system.person(f"more{Grant.objects.count()}"))
    assert queries() == few == 4

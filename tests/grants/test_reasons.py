"""Which grant explains an assignment, also one that ended."""

from __future__ import annotations

from datetime import timedelta

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from apps.grants import reasons
from apps.grants.models import Grant
from apps.inventory.models import Assignment
from tests.grants.system import System


def test_what_ended_is_explained_by_the_grant_that_was_open_then_and_by_no_other(db: None) -> None:
    system, now = System(), timezone.now()
    grant = system.issue()

    def held(since: int, until: int | None) -> Assignment:
        """From so many hours ago until so many hours ago."""
        end = None if until is None else now - timedelta(hours=until)
        return Assignment.objects.create(
            connection=system.connection,
            principal=grant.principal,
            entitlement=grant.entitlement,
            period=DateTimeTZRange(now - timedelta(hours=since), end),
        )

    before, during, still = held(90, 80), held(50, 40), held(2, None)
    Grant.objects.filter(pk=grant.pk).update(claimed_at=now - timedelta(hours=51), not_after=now + timedelta(hours=1))
    found = reasons.explain([before, during, still])
    assert {pk: reason.url for pk, reason in found.items()} == dict.fromkeys(
        (during.pk, still.pk), grant.get_absolute_url()
    )
    assert found[during.pk].word == "JIT, ended"
    assert not found[during.pk].is_timed

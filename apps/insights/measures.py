"""What is measured, in PostgreSQL: one statement each, whatever the number of grants. Nothing here names a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Min, Q

from apps.connectors import registry
from apps.grants.models import Grant, State

REMOVAL = "removal"  # stands for a provisioner where standing access was taken away


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in seconds, over those that got through: half of them at most `p50`, and so on."""

    provisioner: str  # empty: all of them
    number: int
    p50: float
    p95: float
    p99: float

    @property
    def title(self) -> str:
        """How people know it."""
        return title_of(self.provisioner)


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand now with the grants of one provisioner."""

    provisioner: str
    live: int
    to_open: int  # a worker should take the next step towards access, and has not
    to_end: int
    ending: int
    overdue: int  # should be gone by now, owners' tasks included
    unproven: int  # should be gone by now, and we were to see to it
    oldest_ending_at: datetime | None  # when the removal was decided that is open longest, owners' tasks left out
    oldest_end_missed_at: datetime | None  # since when the clock should have ended one that it has not

    @property
    def title(self) -> str:
        """How people know it."""
        return title_of(self.provisioner)


def title_of(provisioner: str) -> str:
    """A provisioner's name for people."""
    if not provisioner:
        return "All"
    return "Standing access removed" if provisioner == REMOVAL else registry.TITLES.get(provisioner, provisioner)


# Since when it should have been over, also while no clock ran to say so.
_OVER = "least(ends_at, revoking_at)"
# From a decision to what AWS showed. Each is (from, to, which grants).
STRETCHES = {
    "approval_to_access": ("created_at", "active_at", "origin <> 'found' AND active_at IS NOT NULL"),
    "end_to_denied": (_OVER, "denied_at", "denied_at IS NOT NULL AND revoking_at IS NOT NULL"),
    "end_to_gone": (_OVER, "revoked_at", "state = 'revoked' AND remover <> 'owner' AND revoking_at IS NOT NULL"),
}


def spread(stretch: str, since: datetime) -> list[Spread]:
    """How long a stretch took for those that came to its end after `since`: all of them first, then each provisioner.

    What never got through is in no percentile; `standing` counts it. A beginning may be -infinity, by which nothing can be
    reckoned: whoever decides that a grant ends may say so.
    """
    begin, end, which = STRETCHES[stretch]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT GROUPING(kind), kind, count(*), percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY took)
            FROM (
                SELECT CASE WHEN origin = 'found' THEN %s ELSE provisioner END AS kind,
                       greatest(0, extract(epoch FROM {end} - greatest({begin}, 'epoch')))::float8 AS took
                FROM grants_grant WHERE {end} >= %s AND {which}
            ) AS measured
            GROUP BY GROUPING SETS ((), (kind)) HAVING count(*) > 0 ORDER BY 1 DESC, 2
            """,  # noqa: S608  the words come from the table above
            [REMOVAL, since],
        )
        return [Spread("" if is_all else kind, number, *took) for is_all, kind, number, took in cursor.fetchall()]


def standing(now: datetime) -> list[Standing]:
    """How things stand now, by provisioner; one row at least."""
    mine = ~Q(remover=Grant.BY_OWNER)
    ending, overdue = Q(state=State.REVOKING), _among(Grant.objects.overdue(now))
    due, missed = _among(Grant.objects.due(now)), _among(Grant.objects.expired(now))
    rows: Any = (
        Grant.objects.unfinished()
        .order_by()
        .values("provisioner")
        .annotate(
            live=Count("pk", filter=~ending),
            to_open=Count("pk", filter=due & ~ending),
            to_end=Count("pk", filter=due & ending),
            ending=Count("pk", filter=ending),
            overdue=Count("pk", filter=overdue),
            unproven=Count("pk", filter=overdue & mine),
            oldest_ending_at=Min("revoking_at", filter=ending & mine),
            oldest_end_missed_at=Min("not_after", filter=missed & ~Q(state=State.PENDING)),
        )
        .order_by("provisioner")
    )
    return [Standing(**{**row, "provisioner": row["provisioner"] or REMOVAL}) for row in rows]


def _among(grants: Any) -> Q:
    return Q(pk__in=grants.order_by().values("pk"))


def age(at: datetime | None, now: datetime) -> timedelta:
    """How long ago it was; nothing where there is none."""
    return max(now - at, timedelta()) if at else timedelta()


def oldest(instants: Any) -> datetime | None:
    """The first of those that are there."""
    return min((at for at in instants if at is not None), default=None)

"""Who held what on a given day, and what changed between two.

A day is a whole day in UTC, and something was held on it when it was held at any moment of it, so that access for an hour
shows. A membership counts with what its group held during it. Periods say when Gatehouse saw something, so each answer
comes with when Gatehouse looked.

One statement an answer. It reads the assignments in (principal, entitlement) or (entitlement, principal); both indexes
carry the period and the key, so that no row costs a visit to the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection as database
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import Max, Min, Q
from django.utils import timezone

from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Path, Resource

BEGAN, ENDED, STAYED = "began", "ended", "stayed"
SIZE = 50

Subject = Identity | Entitlement | Resource

# The one subject's part of the two branches: what is held directly, and what is held through a group.
_MINE: dict[type[Subject], tuple[str, str]] = {
    Identity: (
        "a.principal_id IN (SELECT id FROM inventory_principal WHERE identity_id = %(subject)s)",
        "m.principal_id IN (SELECT id FROM inventory_principal WHERE identity_id = %(subject)s)",
    ),
    Entitlement: ("a.entitlement_id = %(subject)s", "g.entitlement_id = %(subject)s"),
    Resource: (
        "a.entitlement_id IN (SELECT id FROM inventory_entitlement WHERE resource_id = %(subject)s)",
        "g.entitlement_id IN (SELECT id FROM inventory_entitlement WHERE resource_id = %(subject)s)",
    ),
}
_ORDER: dict[type[Subject], str] = {
    Identity: "(SELECT e.name FROM inventory_entitlement e WHERE e.id = entitlement_id), entitlement_id",
    Entitlement: "principal_id",
    Resource: "entitlement_id, principal_id",
}
# A group's own row is left out where its members are told; a group nobody can be a member of stands for itself.
_HELD = """
    SELECT a.id AS assignment_id, NULL::bigint AS via_id, a.principal_id, a.entitlement_id, a.period AS during
    FROM inventory_assignment a
    WHERE {direct} AND {a_on} AND NOT EXISTS (SELECT FROM inventory_entitlement x WHERE x.group_id = a.principal_id)
    UNION ALL
    SELECT g.id, m.id, m.principal_id, g.entitlement_id, g.period * m.period
    FROM inventory_assignment g
    JOIN inventory_entitlement x ON x.group_id = g.principal_id
    JOIN inventory_assignment m ON m.entitlement_id = x.id
    WHERE {brought} AND {g_on} AND {m_on} AND {both_on}
"""
_LIST = """
    WITH held AS MATERIALIZED ({held})
    SELECT ARRAY[assignment_id, coalesce(via_id, 0)] AS path, lower(during), upper(during), (SELECT count(*) FROM held)
    FROM held ORDER BY {order}, path OFFSET %(start)s LIMIT %(limit)s
"""
# Somebody who held the same by another path on the other day held it on both.
_COMPARE = """
    WITH held AS ({held}), pairs AS MATERIALIZED (
        SELECT principal_id, entitlement_id, min(ARRAY[assignment_id, coalesce(via_id, 0)]) AS path,
               min(lower(during)) AS since, CASE WHEN NOT bool_or(upper_inf(during)) THEN max(upper(during)) END AS until,
               CASE WHEN NOT bool_or(during && %(day0)s) THEN 'began'
                    WHEN bool_or(during && %(day1)s) THEN 'stayed' ELSE 'ended' END AS change
        FROM held GROUP BY principal_id, entitlement_id
    )
    SELECT path, since, until, counts
    FROM (SELECT ARRAY[count(*) FILTER (WHERE change = 'began'), count(*) FILTER (WHERE change = 'ended'),
                       count(*) FILTER (WHERE change = 'stayed')] AS counts FROM pairs) numbers
    LEFT JOIN LATERAL (
        SELECT * FROM pairs WHERE change = %(change)s ORDER BY {order}, path OFFSET %(start)s LIMIT %(limit)s
    ) shown ON true
    ORDER BY {order}, path
"""
_RECORDS = """
    SELECT i.name, coalesce(nullif(i.email, ''), ''), p.name, p.kind, e.name, e.kind, r.name, r.external_id, e.privilege,
           x.name, lower(h.during), upper(h.during), a.is_standing AND coalesce(m.is_standing, true)
    FROM ({held}) h
    JOIN inventory_assignment a ON a.id = h.assignment_id
    JOIN inventory_principal p ON p.id = h.principal_id
    JOIN inventory_entitlement e ON e.id = h.entitlement_id
    LEFT JOIN inventory_identity i ON i.id = p.identity_id
    LEFT JOIN inventory_resource r ON r.id = e.resource_id
    LEFT JOIN inventory_assignment m ON m.id = h.via_id
    LEFT JOIN inventory_entitlement x ON x.id = m.entitlement_id
    ORDER BY h.assignment_id, h.via_id
"""
COLUMNS = (
    "day", "who", "email", "login", "login_kind", "what", "what_kind", "account", "account_id", "privilege", "through",
    "seen_from", "seen_until", "standing", "complete_reading",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Day:
    """A whole day in UTC."""

    date: date

    @property
    def start(self) -> datetime:
        return datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return self.start + timedelta(days=1)

    @property
    def span(self) -> DateTimeTZRange:
        return DateTimeTZRange(self.start, self.end)

    @property
    def is_today(self) -> bool:
        return self.date == today()


def today() -> date:
    return timezone.now().astimezone(UTC).date()


@dataclass(frozen=True)
class Held:
    """One path by which something was held, from when until when Gatehouse saw it; None: it is still held."""

    path: Path
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class Found:
    """Some of the rows, and how many there are of each sort."""

    rows: list[Held]
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Looked:
    """The complete readings of a connection around a day. What came and went between two of them is not known."""

    first: datetime | None
    before: datetime | None
    after: datetime | None

    def had_begun(self, day: Day) -> bool:
        """Gatehouse had read everything once by the end of that day."""
        return self.first is not None and self.first < day.end


def held(subject: Subject, day: Day, *, start: int = 0, size: int = SIZE) -> Found:
    """What this person or machine held on that day; who held this entitlement, or anything in this account."""
    found = _ask(_LIST, subject, [day], start=start, limit=size)
    return Found(_paths(found), {"held": found[0][3] if found else 0})


def compared(subject: Subject, before: Day, after: Day, *, change: str, start: int = 0, size: int = SIZE) -> Found:
    """How many pairs of holder and entitlement began, ended and stayed between the two days, and those of one sort."""
    found = _ask(_COMPARE, subject, [before, after], start=start, limit=size, change=change)
    return Found(_paths(found), dict(zip((BEGAN, ENDED, STAYED), found[0][3], strict=True)))


def records(subject: Subject, day: Day, *, read_at: datetime | None) -> Iterator[dict[str, Any]]:
    """All of `held` as flat rows, in constant memory, each with the reading that it rests on."""
    statement, params = _statement(_RECORDS, subject, [day])
    with database.chunked_cursor() as cursor:
        cursor.execute(statement, params)
        while rows := cursor.fetchmany(2000):
            for row in rows:
                yield dict(zip(COLUMNS, (day.date.isoformat(), *row, read_at), strict=True))


def looked(connection: Connection, day: Day) -> Looked:
    """When `connection` was completely read around a day."""
    runs = connection.runs.complete().order_by()
    found = runs.aggregate(
        first=Min("started_at"),
        before=Max("started_at", filter=Q(started_at__lt=day.end)),
        after=Min("started_at", filter=Q(started_at__gte=day.end)),
    )
    return Looked(**found)


def _ask(template: str, subject: Subject, days: Sequence[Day], **params: object) -> list[tuple[Any, ...]]:
    statement, common = _statement(template, subject, days)
    with database.cursor() as cursor:
        cursor.execute(statement, common | params)
        return cursor.fetchall()


def _statement(template: str, subject: Subject, days: Sequence[Day]) -> tuple[str, dict[str, Any]]:
    def on(period: str) -> str:
        return "(" + " OR ".join(f"{period} && %(day{number})s" for number in range(len(days))) + ")"

    direct, brought = _MINE[type(subject)]
    rows = _HELD.format(
        direct=direct,
        brought=brought,
        a_on=on("a.period"),
        g_on=on("g.period"),
        m_on=on("m.period"),
        both_on=on("(g.period * m.period)"),
    )
    statement = template.format(held=rows, order=_ORDER[type(subject)])
    return statement, {"subject": subject.pk} | {f"day{number}": day.span for number, day in enumerate(days)}


def _paths(found: Sequence[tuple[Any, ...]]) -> list[Held]:
    """The rows with everything a page prints: one more query, whatever their number."""
    shown = [(path, since, until) for path, since, until, _ in found if path]
    rows = Assignment.objects.with_names().in_bulk({pk for path, _, _ in shown for pk in path if pk})
    return [Held(Path(rows[path[0]], rows.get(path[1])), since, until) for path, since, until in shown]

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
_FLAGS = {BEGAN: 2, ENDED: 1, STAYED: 3}  # on which of two days: the later, the earlier, both
SIZE = 50

Subject = Identity | Entitlement | Resource

# The one subject's rows: what is held directly, by which rows of a group with its memberships, or the other way round.
_MINE: dict[type[Subject], str] = {
    Identity: "principal_id IN (SELECT id FROM inventory_principal WHERE identity_id = %(subject)s)",
    Entitlement: "entitlement_id = %(subject)s",
    Resource: "entitlement_id IN (SELECT id FROM inventory_entitlement WHERE resource_id = %(subject)s)",
}
_ORDER: dict[type[Subject], str] = {
    Identity: "(SELECT e.name FROM inventory_entitlement e WHERE e.id = entitlement_id), entitlement_id",
    Entitlement: "principal_id",
    Resource: "entitlement_id, principal_id",
}
# On which of the days a row was held is worked out once for each row, one bit a day: OFFSET 0 keeps the planner from doing
# it wherever it is asked for.
_ROWS = """SELECT a.id, a.principal_id, a.entitlement_id, a.period, {flags} AS flags
           FROM inventory_assignment a WHERE {which} OFFSET 0"""
_WITH_GROUP = """SELECT a.id, a.principal_id, a.entitlement_id, a.period, x.id AS membership, x.group_id, {flags} AS flags
                 FROM inventory_assignment a JOIN inventory_entitlement x ON {joined} WHERE {which} OFFSET 0"""
# A group's own row is left out where its members are told; a group nobody can be a member of stands for itself. Periods
# that overlap two by two have a moment in common, so that no intersection is worked out to choose the rows.
_HELD = """
    SELECT a.id AS assignment_id, NULL::bigint AS via_id, a.principal_id, a.entitlement_id, a.flags
    FROM ({mine}) a
    WHERE a.flags <> 0 AND NOT EXISTS (SELECT FROM inventory_entitlement x WHERE x.group_id = a.principal_id)
    UNION ALL
    SELECT g.id, m.id, m.principal_id, g.entitlement_id, g.flags & m.flags
    FROM ({first}) {first_name} CROSS JOIN LATERAL ({then}) {then_name}
    WHERE g.flags & m.flags <> 0 AND g.period && m.period
"""
_LIST = """
    WITH held AS MATERIALIZED ({held}), shown AS MATERIALIZED (
        SELECT * FROM held ORDER BY {order}, assignment_id, via_id NULLS FIRST OFFSET %(start)s LIMIT %(limit)s
    )
    SELECT assignment_id, via_id, lower({during}), upper({during}), (SELECT count(*) FROM held)
    FROM shown h
    JOIN inventory_assignment a ON a.id = h.assignment_id
    LEFT JOIN inventory_assignment m ON m.id = h.via_id
    ORDER BY {h_order}, assignment_id, via_id NULLS FIRST
"""
# Somebody who held the same by another path on the other day held it on both. Only the pairs that are shown are asked by
# which paths and since when. OFFSET 0: one look into the index for each row, whatever the planner expects of it.
_COMPARE = """
    WITH pairs AS MATERIALIZED (
        SELECT principal_id, entitlement_id, bit_or(flags) AS flags
        FROM ({held}) held GROUP BY principal_id, entitlement_id
    ), shown AS MATERIALIZED (
        SELECT * FROM pairs WHERE flags = %(flags)s ORDER BY {order}, principal_id OFFSET %(start)s LIMIT %(limit)s
    ), memberships AS MATERIALIZED (
        SELECT m.id, m.principal_id, m.period, x.group_id
        FROM (SELECT DISTINCT principal_id FROM shown) who
        JOIN inventory_assignment m ON m.principal_id = who.principal_id
        JOIN inventory_entitlement x ON x.id = m.entitlement_id AND x.group_id IS NOT NULL
    ), paths AS (
        SELECT s.principal_id, s.entitlement_id, a.id AS assignment_id, 0 AS via_id, a.period AS during
        FROM shown s CROSS JOIN LATERAL (
            SELECT * FROM inventory_assignment a
            WHERE a.principal_id = s.principal_id AND a.entitlement_id = s.entitlement_id AND {a_on} OFFSET 0
        ) a WHERE NOT EXISTS (SELECT FROM inventory_entitlement x WHERE x.group_id = a.principal_id)
        UNION ALL
        SELECT s.principal_id, s.entitlement_id, g.id, m.id, g.period * m.period
        FROM shown s JOIN memberships m ON m.principal_id = s.principal_id CROSS JOIN LATERAL (
            SELECT * FROM inventory_assignment g
            WHERE g.principal_id = m.group_id AND g.entitlement_id = s.entitlement_id AND {both_on} OFFSET 0
        ) g
    ), told AS MATERIALIZED (
        SELECT principal_id, entitlement_id, min(ARRAY[assignment_id, via_id]) AS path, min(lower(during)) AS since,
               CASE WHEN NOT bool_or(upper_inf(during)) THEN max(upper(during)) END AS until
        FROM paths GROUP BY principal_id, entitlement_id
    )
    SELECT path[1], path[2], since, until, counts
    FROM (SELECT ARRAY[count(*) FILTER (WHERE flags = 2), count(*) FILTER (WHERE flags = 1),
                       count(*) FILTER (WHERE flags = 3)] AS counts FROM pairs) numbers
    LEFT JOIN told ON true
    ORDER BY {order}, principal_id
"""
_RECORDS = """
    SELECT i.name, coalesce(nullif(i.email, ''), ''), p.name, p.kind, e.name, e.kind, r.name, r.external_id, e.privilege,
           x.name, lower({during}), upper({during}), a.is_standing AND coalesce(m.is_standing, true)
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
    return Found(_paths(found), {"held": found[0][4] if found else 0})


def compared(subject: Subject, before: Day, after: Day, *, change: str, start: int = 0, size: int = SIZE) -> Found:
    """How many pairs of holder and entitlement began, ended and stayed between the two days, and those of one sort."""
    found = _ask(_COMPARE, subject, [before, after], start=start, limit=size, flags=_FLAGS[change])
    return Found(_paths(found), dict(zip((BEGAN, ENDED, STAYED), found[0][4], strict=True)))


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
    on = [f"%(day{number})s" for number in range(len(days))]
    mine, order = _MINE[type(subject)], _ORDER[type(subject)]
    flags = " + ".join(f"(a.period && {day})::int * {2**number}" for number, day in enumerate(on))
    joined, then = (
        ("x.id = a.entitlement_id AND x.group_id IS NOT NULL", "a.principal_id = m.group_id")
        if isinstance(subject, Identity)
        else ("x.group_id = a.principal_id", "a.entitlement_id = g.membership")
    )
    names = ("m", "g") if isinstance(subject, Identity) else ("g", "m")
    statement = template.format(
        held=_HELD.format(
            mine=_ROWS.format(flags=flags, which=mine),
            first=_WITH_GROUP.format(flags=flags, which=mine, joined=joined),
            first_name=names[0],
            then=_ROWS.format(flags=flags, which=then),
            then_name=names[1],
        ),
        during="(a.period * coalesce(m.period, a.period))",
        a_on=f"({' OR '.join(f'a.period && {day}' for day in on)})",
        both_on=f"g.period && m.period AND ({' OR '.join(f'g.period && {day} AND m.period && {day}' for day in on)})",
        order=order,
        h_order=order.replace("entitlement_id", "h.entitlement_id").replace("principal_id", "h.principal_id"),
    )
    return statement, {"subject": subject.pk} | {f"day{number}": day.span for number, day in enumerate(days)}


def _paths(found: Sequence[tuple[Any, ...]]) -> list[Held]:
    """The rows with everything a page prints: one more query, whatever their number."""
    shown = [(pk, via, since, until) for pk, via, since, until, _ in found if pk]
    rows = Assignment.objects.with_names().in_bulk({key for pk, via, *_ in shown for key in (pk, via) if key})
    return [Held(Path(rows[pk], rows[via] if via else None), since, until) for pk, via, since, until in shown]

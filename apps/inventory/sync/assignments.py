"""Writing who holds what: the pairs of a scope are collected in a table, and the difference to the open rows is found in
one statement, however many pairs there are. Where there is none, nothing else is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connection as database
from django.db.models import F, Func, QuerySet
from django.db.models.expressions import Value
from django.db.models.fields import DateTimeField
from django.db.models.functions import Greatest

from apps.connectors.base import AssignmentRecord
from apps.inventory.models import Assignment, Connection
from apps.inventory.models.access import AssignmentQuerySet
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync import staging
from apps.inventory.sync.upserts import Changes, batched

MINIMUM_DROP = 3  # fewer rows than this are never suspicious: small accounts would trip at every change

# Each pair that was read once, beside what is open; and how many name somebody or something that is not there.
_COMPARE = """
    WITH found AS MATERIALIZED (
        SELECT p.id AS principal_id, e.id AS entitlement_id, r.attributes
        FROM sync_read r
        LEFT JOIN {each} (
            SELECT id, external_id FROM inventory_principal
            WHERE connection_id = %s {principal}
        ) p ON p.external_id = r.principal
        LEFT JOIN {each} (
            SELECT id, external_id FROM inventory_entitlement
            WHERE connection_id = %s {entitlement}
        ) e ON e.external_id = r.entitlement
    ), pair AS (
        SELECT DISTINCT ON (principal_id, entitlement_id) * FROM found
        WHERE principal_id IS NOT NULL AND entitlement_id IS NOT NULL
        ORDER BY principal_id, entitlement_id, attributes
    ), scope AS ({scope}), open AS (
        SELECT a.id, a.principal_id, a.entitlement_id, a.attributes
        FROM inventory_assignment a JOIN scope ON scope.id = a.entitlement_id
        WHERE upper_inf(a.period)
    ), different AS (
        INSERT INTO sync_difference
        SELECT o.id, s.principal_id, s.entitlement_id, s.attributes
        FROM open o FULL JOIN pair s ON s.principal_id = o.principal_id AND s.entitlement_id = o.entitlement_id
        WHERE o.id IS NULL OR s.principal_id IS NULL OR o.attributes IS DISTINCT FROM s.attributes
        RETURNING assignment_id, principal_id
    )
    SELECT (SELECT count(*) FROM found WHERE principal_id IS NULL OR entitlement_id IS NULL),
           count(*) FILTER (WHERE assignment_id IS NULL),
           count(*) FILTER (WHERE principal_id IS NULL),
           count(*) FILTER (WHERE assignment_id IS NOT NULL AND principal_id IS NOT NULL)
    FROM different
"""
# One look into an index for each, whatever the planner believes; where nearly all is named, it may read all of it.
_EACH = {
    "each": "LATERAL",
    "principal": "AND external_id = r.principal LIMIT 1",
    "entitlement": "AND external_id = r.entitlement LIMIT 1",
}
_ALL = dict.fromkeys(_EACH, "")
_OPEN = """
    WITH scope AS ({scope})
    SELECT e.resource_id, count(*)
    FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE e.id IN (SELECT id FROM scope) AND upper_inf(a.period) AND NOT e.is_ours
    GROUP BY 1
"""
_GONE = """
    SELECT a.id, e.resource_id, e.is_ours
    FROM sync_difference d JOIN inventory_assignment a ON a.id = d.assignment_id
    JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE d.principal_id IS NULL AND lower(a.period) <= %(read_from)s
"""
_BEGIN = """
    INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
    SELECT %(connection)s, s.principal_id, s.entitlement_id, tstzrange(%(at)s, NULL), false, s.attributes
    FROM sync_difference s
    WHERE s.assignment_id IS NULL AND NOT EXISTS (
        SELECT FROM inventory_assignment a
        WHERE a.principal_id = s.principal_id AND a.entitlement_id = s.entitlement_id
          AND (upper_inf(a.period) OR upper(a.period) > %(read_from)s))
    ORDER BY s.principal_id, s.entitlement_id -- all is looked up before the first is written, and not among them
    ON CONFLICT DO NOTHING -- a read-back of a grant was faster
"""
_CHANGE = """
    UPDATE inventory_assignment a SET attributes = d.attributes
    FROM sync_difference d
    WHERE a.id = d.assignment_id AND d.principal_id IS NOT NULL AND upper_inf(a.period)
"""


@dataclass(frozen=True)
class Gone:
    """Open assignments that a scan no longer shows, and whether so many at once are suspicious."""

    pks: list[int]
    is_suspicious: bool


NOTHING_GONE = Gone([], is_suspicious=False)


def stage(records: Iterable[AssignmentRecord], *, without: Collection[str] = ()) -> int:
    """Collect what was read, each pair once, but for those that name one of `without`. Returns the sum of their digests."""
    pairs = {(_id(one.principal_external_id), _id(one.entitlement_external_id)): one.attributes for one in records}
    if without:
        pairs = {pair: attributes for pair, attributes in pairs.items() if not any(key in without for key in pair)}
    staging.add("sync_read", ((*pair, as_rows.as_json(attributes)) for pair, attributes in pairs.items()))
    return sum(as_rows.number(f"{principal} {entitlement}") for principal, entitlement in pairs)


def _id(external_id: str) -> str:
    """As it is, or nobody's where it cannot be stored so: without what is wrong with it, it could be somebody else's."""
    return external_id if as_rows.plain(external_id) == external_id else ""


@dataclass(frozen=True)
class Difference:
    """What the collected pairs of a scope say otherwise than its open assignments: how many are new, not there any more,
    and there with other facts. `strangers` name somebody or something that was not read: they cannot be stored, and the
    scan says so. `scope`: its entitlements' ids."""

    scope: QuerySet[Any]
    strangers: int
    new: int
    missing: int
    changed: int

    @classmethod
    def of(cls, connection: Connection, scope: QuerySet[Any], *, is_directory: bool = False) -> Difference:
        statement = partial(_COMPARE.format, **(_ALL if is_directory else _EACH))
        return cls(scope, *_execute(statement, scope, (connection.pk, connection.pk)).pop())

    def gone(self, read_from: datetime, drop_percent: int) -> Gone:
        """What the scan no longer shows. Rows that began after it did are not gone: it could not see them.

        Suspicious: in one account, among the memberships, or in all of the scope, where the accounts are small, more than
        `drop_percent` of the open assignments at once. Gatehouse's own artefacts come and go with its grants and do not
        count.
        """
        if not self.missing:
            return NOTHING_GONE
        with database.cursor() as cursor:
            cursor.execute(_GONE, {"read_from": read_from})
            found = cursor.fetchall()
        lost = Counter(resource for _, resource, is_ours in found if not is_ours)
        if not lost:
            return Gone([pk for pk, _, _ in found], is_suspicious=False)
        open_in = dict(_execute(_OPEN.format, self.scope))
        parts = [(count, open_in[resource]) for resource, count in lost.items()]
        whole = (lost.total(), sum(open_in.values()))
        is_suspicious = any(is_drop(count, of, drop_percent) for count, of in [*parts, whole])
        return Gone([pk for pk, _, _ in found], is_suspicious)

    def begin(self, connection: Connection, read_from: datetime, at: datetime, changes: Changes) -> None:
        """Open a period from `at` for each collected pair that has none, and bring the facts of the others up to date. A
        pair that was closed after the scan began stays closed: the scan is older than that."""
        with database.cursor() as cursor:
            if self.new:
                cursor.execute(_BEGIN, {"connection": connection.pk, "read_from": read_from, "at": at})
                changes.add(Assignment, "added", cursor.rowcount)
            if self.changed:
                cursor.execute(_CHANGE)
                changes.add(Assignment, "changed", cursor.rowcount)


def _execute(statement: Callable[..., str], scope: QuerySet[Any], before: Sequence[Any] = ()) -> list[Any]:
    """The rows that a statement answers for these entitlements; `before` are its parameters before theirs."""
    these, params = scope.query.sql_with_params()
    with database.cursor() as cursor:
        cursor.execute(statement(scope=these), (*before, *params))
        return cursor.fetchall()


def is_drop(lost: int, of: int, percent: int) -> bool:
    """Whether losing so many of so many at once is more likely a broken reading than the truth."""
    return lost >= MINIMUM_DROP and lost * 100 > percent * of


def end(assignments: AssignmentQuerySet, at: datetime) -> int:
    """Close these open periods at `at`, or just after they began where that is later. Returns how many were closed."""
    lower = Func(F("period"), function="lower", output_field=DateTimeField())
    just_after = Func(lower, template="%(expressions)s + interval '1 microsecond'", output_field=DateTimeField())
    upper = Greatest(Value(at), just_after)
    return assignments.open().update(
        period=Func(lower, upper, function="tstzrange", output_field=Assignment._meta.get_field("period"))
    )


def end_all(pks: Iterable[int], at: datetime, changes: Changes) -> None:
    """`end` for many rows."""
    for batch in batched(pks):
        changes.add(Assignment, "ended", end(Assignment.objects.filter(pk__in=batch), at))


def end_of_reborn(principals: Iterable[int], read_from: datetime, changes: Changes) -> None:
    """A principal that was deleted and made again under its old name is somebody else: what the old one held ended, and
    what the new one holds begins anew, and is nothing that a baseline vouched for."""
    for batch in batched(principals):
        changes.add(Assignment, "ended", end(Assignment.objects.filter(principal__in=batch), read_from))

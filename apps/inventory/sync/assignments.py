"""Writing who holds what: the pairs of a scope go into a temporary table, and the difference to the open rows is a
handful of statements, however many pairs there are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
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
from apps.inventory.sync.upserts import Changes, batched

MINIMUM_DROP = 3  # fewer rows than this are never suspicious: small accounts would trip at every change

_STAGE = """
    CREATE TEMP TABLE sync_read (principal text, entitlement text, attributes jsonb) ON COMMIT DROP
"""
_RESOLVE = """
    CREATE TEMP TABLE sync_pair ON COMMIT DROP AS
    SELECT p.id AS principal_id, e.id AS entitlement_id, r.attributes
    FROM sync_read r
    JOIN inventory_principal p ON p.connection_id = %(connection)s AND p.external_id = r.principal
    JOIN inventory_entitlement e ON e.connection_id = %(connection)s AND e.external_id = r.entitlement
"""
_OPEN = """
    SELECT e.resource_id, count(*)
    FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE e.id IN (SELECT id FROM sync_scope) AND upper_inf(a.period) AND NOT e.is_ours
    GROUP BY 1
"""
_GONE = """
    SELECT a.id, e.resource_id, e.is_ours
    FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE e.id IN (SELECT id FROM sync_scope) AND upper_inf(a.period) AND lower(a.period) <= %(read_from)s
      AND NOT EXISTS (
        SELECT FROM sync_pair s WHERE s.principal_id = a.principal_id AND s.entitlement_id = a.entitlement_id)
"""
_BEGIN = """
    INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
    SELECT %(connection)s, s.principal_id, s.entitlement_id, tstzrange(%(at)s, NULL), false, s.attributes
    FROM sync_pair s
    WHERE NOT EXISTS (
        SELECT FROM inventory_assignment a
        WHERE a.principal_id = s.principal_id AND a.entitlement_id = s.entitlement_id
          AND (upper_inf(a.period) OR upper(a.period) > %(read_from)s))
"""
_CHANGE = """
    UPDATE inventory_assignment a SET attributes = s.attributes
    FROM sync_pair s
    WHERE a.principal_id = s.principal_id AND a.entitlement_id = s.entitlement_id
      AND upper_inf(a.period) AND a.attributes IS DISTINCT FROM s.attributes
"""


@dataclass(frozen=True)
class Gone:
    """Open assignments that a scan no longer shows, and whether so many at once are suspicious."""

    pks: list[int]
    is_suspicious: bool


def stage(connection: Connection, records: Iterable[AssignmentRecord], scope: QuerySet[Any]) -> int:
    """Load what was read, and the scope's entitlements (`scope`: their ids). Returns how many pairs name somebody or
    something that was not read: they cannot be stored, and the scan says so."""
    pairs = {(record.principal_external_id, record.entitlement_external_id): record.attributes for record in records}
    with database.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS sync_read, sync_pair, sync_scope")
        cursor.execute(_STAGE)
        with cursor.copy("COPY sync_read FROM STDIN") as copy:
            for (principal, entitlement), attributes in pairs.items():
                copy.write_row((as_rows.plain(principal), as_rows.plain(entitlement), _json(attributes)))
        cursor.execute(_RESOLVE, {"connection": connection.pk})
        statement, params = scope.query.sql_with_params()
        cursor.execute(f"CREATE TEMP TABLE sync_scope ON COMMIT DROP AS {statement}", params)
        cursor.execute("ANALYZE sync_pair, sync_scope")
        cursor.execute("SELECT count(*) FROM sync_pair")
        return len(pairs) - int(cursor.fetchone()[0])


def _json(attributes: Mapping[str, object]) -> str:
    return json.dumps(as_rows.plain(attributes), sort_keys=True)


def gone(read_from: datetime, drop_percent: int) -> Gone:
    """What the staged scan no longer shows. Rows that began after the scan did are not gone: it could not see them.

    Suspicious: in one account, or among the memberships, more than `drop_percent` of the open assignments at once.
    Gatehouse's own artefacts come and go with its grants and do not count.
    """
    with database.cursor() as cursor:
        cursor.execute(_OPEN)
        open_in = dict(cursor.fetchall())
        cursor.execute(_GONE, {"read_from": read_from})
        found = cursor.fetchall()
    lost = Counter(resource for _, resource, is_ours in found if not is_ours)
    is_suspicious = any(is_drop(count, open_in[resource], drop_percent) for resource, count in lost.items())
    return Gone([pk for pk, _, _ in found], is_suspicious)


def is_drop(lost: int, of: int, percent: int) -> bool:
    """Whether losing so many of so many at once is more likely a broken reading than the truth."""
    return lost >= MINIMUM_DROP and lost * 100 > percent * of


def begin(connection: Connection, read_from: datetime, at: datetime, changes: Changes) -> None:
    """Open a period from `at` for each staged pair that has none, and bring the facts of the others up to date. A pair
    that was closed after the scan began stays closed: the scan is older than that."""
    with database.cursor() as cursor:
        cursor.execute(_BEGIN, {"connection": connection.pk, "read_from": read_from, "at": at})
        changes.add(Assignment, "added", cursor.rowcount)
        cursor.execute(_CHANGE)
        changes.add(Assignment, "changed", cursor.rowcount)


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

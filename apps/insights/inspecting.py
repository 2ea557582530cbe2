"""Looking for findings: everything that the detectors show, against what is open, in a handful of statements."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.locks import exclusive
from apps.insights.detectors import CLOSE_AT_ONCE, COLUMNS, DETECTORS, OF_ONE_FACT
from apps.insights.models import Finding, Inspection
from apps.inventory.models import Connection

_NAMES = ", ".join(COLUMNS)
_UPDATED = ("severity", "owner_id", "resource_id", "name", "what", "evidence")
_SEEN = f"""
    CREATE TEMP TABLE insights_seen ON COMMIT DROP AS
    SELECT {_NAMES.replace("name,", "left(name, 256) AS name,").replace("what,", "left(what, 1000) AS what,")}
    FROM ({" UNION ALL ".join(f"({statement})" for statement in DETECTORS)}) found({_NAMES})
"""
_OPEN = f"""
    INSERT INTO insights_finding (connection_id, first_seen_at, {_NAMES})
    SELECT %(connection)s, %(now)s, {_NAMES} FROM insights_seen
    ON CONFLICT (connection_id, kind, key) WHERE closed_at IS NULL DO NOTHING
"""
# What was accepted was this, and no worse: something else under the same name comes back.
_TAKE_BACK = """
    UPDATE insights_finding f SET accepted_until = NULL
    FROM insights_seen s
    WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL AND f.kind = s.kind AND f.key = s.key
      AND f.accepted_until IS NOT NULL AND (s.severity > f.severity OR (
        f.kind = ANY(%(of_one_fact)s) AND (s.what, s.evidence) IS DISTINCT FROM (f.what, f.evidence)))
    RETURNING f.id
"""
_CHANGE = f"""
    UPDATE insights_finding f SET {", ".join(f"{name} = s.{name}" for name in _UPDATED)}
    FROM insights_seen s
    WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL AND f.kind = s.kind AND f.key = s.key
      AND ({", ".join(f"f.{name}" for name in _UPDATED)}) IS DISTINCT FROM ({", ".join(f"s.{name}" for name in _UPDATED)})
"""
# Each place's latest reading, whatever became of it.
_LATEST = """
    CREATE TEMP TABLE insights_latest ON COMMIT DROP AS
    SELECT place.resource_id, scan.state = 'complete' AS is_complete, scan.started_at
    FROM (SELECT id AS resource_id FROM inventory_resource WHERE connection_id = %(connection)s) place
    CROSS JOIN LATERAL (
        SELECT c.state, c.started_at FROM inventory_scopescan c
        WHERE c.resource_id = place.resource_id ORDER BY c.started_at DESC LIMIT 1) scan
    UNION ALL (
        SELECT NULL, c.state = 'complete', c.started_at
        FROM inventory_syncrun r JOIN inventory_scopescan c ON c.run_id = r.id AND c.resource_id IS NULL
        WHERE r.connection_id = %(connection)s ORDER BY r.started_at DESC LIMIT 1)
"""
# What is in an account is read in part with the account and in part with the directory: only if the latest reading of both
# was complete, and younger than `{since}`, do they say what is there and what is gone.
_WAS_READ = """
    EXISTS (SELECT FROM insights_latest l WHERE l.resource_id IS NULL AND l.is_complete AND l.started_at > {since})
    AND (f.resource_id IS NULL OR EXISTS (
        SELECT FROM insights_latest l
        WHERE l.resource_id = f.resource_id AND l.is_complete AND l.started_at > {since}))
"""
_CLOSE = f"""
    UPDATE insights_finding f SET closed_at = %(now)s
    WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL
      AND NOT EXISTS (SELECT FROM insights_seen s WHERE s.kind = f.kind AND s.key = f.key)
      AND (f.kind = ANY(%(at_once)s) OR ({_WAS_READ.format(since="f.first_seen_at")}))
"""
# It was said to be done, and what was read since shows it still.
_REOPEN = f"""
    UPDATE insights_finding f SET resolved_at = NULL, resolved_by_id = NULL, resolved_reason = ''
    FROM insights_seen s
    WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL AND f.kind = s.kind AND f.key = s.key
      AND f.resolved_at IS NOT NULL AND (f.kind = ANY(%(at_once)s) OR ({_WAS_READ.format(since="f.resolved_at")}))
    RETURNING f.id
"""
_MISSING = """
    SELECT count(*) FROM insights_finding f WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL
      AND NOT EXISTS (SELECT FROM insights_seen s WHERE s.kind = f.kind AND s.key = f.key)
"""


@dataclass(frozen=True)
class _Counts:
    found: int
    opened: int
    closed: int
    kept: int
    reopened: list[int]


def inspect(connection: Connection) -> Inspection:
    """Look once. Findings open, change and close in one transaction, with one event if any did.

    Raises `Taken` while another worker looks.
    """
    now = timezone.now()
    with exclusive("inspect", str(connection.pk)), transaction.atomic():
        run = connection.runs.finished().order_by("-pk").first()
        counts = _compare(connection, now)
        row = Inspection.objects.create(
            connection=connection,
            run=run,
            started_at=now,
            finished_at=timezone.now(),
            found=counts.found,
            opened=counts.opened,
            closed=counts.closed,
            kept=counts.kept,
        )
        if counts.opened or counts.closed or counts.reopened:
            _record(connection, row, counts, now)
    return row


def _compare(connection: Connection, now: datetime) -> _Counts:
    values: dict[str, Any] = {
        "connection": connection.pk,
        "now": now,
        "key_age": timedelta(days=settings.STALE_KEY_DAYS),
        "unused": timedelta(days=settings.UNUSED_DAYS),
        "at_once": [kind.value for kind in CLOSE_AT_ONCE],
        "of_one_fact": [kind.value for kind in OF_ONE_FACT],
    }
    with database.cursor() as cursor:

        def run(statement: str) -> int:
            cursor.execute(statement, values)
            return cursor.rowcount

        run("DROP TABLE IF EXISTS insights_seen, insights_latest")
        found = run(_SEEN)
        run(_LATEST)
        run("ANALYZE insights_seen, insights_latest")
        reopened = []
        for statement in (_REOPEN, _TAKE_BACK):
            run(statement)
            reopened += [pk for (pk,) in cursor.fetchall()]
        opened = run(_OPEN)
        run(_CHANGE)
        closed = run(_CLOSE)
        run(_MISSING)
        (kept,) = cursor.fetchone()
    return _Counts(found, opened, closed, kept, reopened)


def _record(connection: Connection, row: Inspection, counts: _Counts, now: datetime) -> None:
    """One event for all, with a digest of which they were."""
    changed = Finding.objects.filter(connection=connection)
    opened = changed.filter(first_seen_at=now).order_by("pk").values_list("pk", flat=True)
    closed = changed.filter(closed_at=now).order_by("pk").values_list("pk", flat=True)
    digest = hashlib.sha256()
    for word, keys in (("opened", opened), ("closed", closed), ("reopened", counts.reopened)):
        for pk in keys.iterator() if hasattr(keys, "iterator") else keys:
            digest.update(f"{word} {pk}\n".encode())
    audit.record(
        "insights.inspection.found",
        by=audit.WORKER,
        subject=row,
        about=[connection],
        data={
            "opened": counts.opened,
            "closed": counts.closed,
            "reopened": len(counts.reopened),
            "digest": digest.hexdigest(),
        },
    )

"""Looking for findings: everything that the detectors show, against what is open, in a handful of statements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

from apps.audit import services as audit
from apps.core.locks import exclusive
from apps.insights.detectors import CLOSE_AT_ONCE, COLUMNS, CONCERNS, DETECTORS, OF_ONE_FACT
from apps.insights.models import Finding, Inspection
from apps.inventory import tracing
from apps.inventory.models import Connection
from apps.inventory.models.concerns import Concern

WEIGHED = (Finding.Kind.STANDING_ADMIN, Finding.Kind.ESCALATION)  # they rest on what policies allow
OF_TRUST = frozenset(kind for kind, _ in CONCERNS.values())  # they rest on whom a trust policy lets in

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
    RETURNING id
"""
# What was accepted was this, and no worse: something else under the same name comes back. A statement that is said now,
# of what was accepted before statements were kept, is nothing else. Somebody made anew under an old name is.
_TAKE_BACK = """
    UPDATE insights_finding f SET accepted_until = NULL
    FROM insights_seen s
    WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL AND f.kind = s.kind AND f.key = s.key
      AND f.accepted_until IS NOT NULL AND (s.severity > f.severity
        OR s.evidence ->> 'unique id' <> f.evidence ->> 'unique id' OR (
        f.kind = ANY(%(of_one_fact)s) AND (s.what, CASE WHEN f.evidence ? 'statement' THEN s.evidence
            ELSE s.evidence - '{policy,statement}'::text[] END - 'unique id')
          IS DISTINCT FROM (f.what, f.evidence - 'unique id')))
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
# It rests on what a policy allows, and that could not be read this time: of one held entitlement, or of all that one
# principal holds; or on whom a machine's trust policy lets in.
_COULD_NOT_BE_READ = r"""
    f.kind = ANY(%(of_trust)s) AND EXISTS (
        SELECT FROM inventory_identity i
        WHERE i.id = f.identity_id AND i.classification = 'unreadable' AND i.ended_at IS NULL)
    OR f.kind = ANY(%(weighed)s) AND (EXISTS (
        SELECT FROM inventory_entitlement e WHERE e.id = f.entitlement_id AND e.privilege = 'unknown'
          AND CASE WHEN f.assignment_id IS NULL  -- each in its own index: a set may have many holders
              THEN EXISTS (SELECT FROM inventory_assignment a WHERE a.entitlement_id = e.id AND upper_inf(a.period))
              ELSE EXISTS (SELECT FROM inventory_assignment a WHERE a.id = f.assignment_id AND upper_inf(a.period)) END
    ) OR EXISTS (
        SELECT FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
        WHERE a.principal_id = substring(f.key FROM '^(?:together|way:principal):(\d+)$')::bigint
          AND upper_inf(a.period) AND e.privilege = 'unknown'))
"""
_CLOSE = f"""
    UPDATE insights_finding f SET closed_at = %(now)s
    WHERE f.connection_id = %(connection)s AND f.closed_at IS NULL
      AND NOT EXISTS (SELECT FROM insights_seen s WHERE s.kind = f.kind AND s.key = f.key)
      AND (f.kind = ANY(%(at_once)s) OR ({_WAS_READ.format(since="f.first_seen_at")}))
      AND NOT ({_COULD_NOT_BE_READ})
    RETURNING f.id
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
class _Found:
    """How many there are, the keys of those that changed by what became of them, and how many are merely not seen."""

    number: int
    changed: Mapping[str, list[int]]  # opened, closed, reopened
    kept: int


def inspect(connection: Connection) -> Inspection:
    """Look once. Findings open, change and close in one transaction, with one event if any did.

    Raises `Taken` while another worker looks, or works out who can become whom: a finding that rests on what is half
    worked out would close, and open anew without what people decided about it.
    """
    now = timezone.now()
    whole = tracing.exclusive(connection, wait_ms=1)
    with exclusive("inspect", str(connection.pk)), whole, transaction.atomic():
        run = connection.runs.finished().order_by("-pk").first()
        found = _compare(connection, now)
        row = Inspection.objects.create(
            connection=connection,
            run=run,
            started_at=now,
            finished_at=timezone.now(),
            found=found.number,
            opened=len(found.changed["opened"]),
            closed=len(found.changed["closed"]),
            kept=found.kept,
        )
        if any(found.changed.values()):
            data = {what: len(keys) for what, keys in found.changed.items()} | {"digest": _digest(found.changed)}
            audit.record("insights.inspection.found", by=audit.WORKER, subject=row, about=[connection], data=data)
    return row


def _compare(connection: Connection, now: datetime) -> _Found:
    values: dict[str, Any] = {
        "connection": connection.pk,
        "now": now,
        "key_age": timedelta(days=settings.STALE_KEY_DAYS),
        "unused": timedelta(days=settings.UNUSED_DAYS),
        "concerns": Jsonb(
            [
                {"word": word, "kind": kind, "severity": severity, "label": Concern(word).label}
                for word, (kind, severity) in CONCERNS.items()
            ]
        ),
        "at_once": [kind.value for kind in CLOSE_AT_ONCE],
        "of_one_fact": [kind.value for kind in OF_ONE_FACT],
        "weighed": [kind.value for kind in WEIGHED],
        "of_trust": [kind.value for kind in OF_TRUST],
    }
    with database.cursor() as cursor:

        def run(statement: str) -> int:
            cursor.execute(statement, values)
            return cursor.rowcount

        def keys(statement: str) -> list[int]:
            run(statement)
            return sorted(pk for (pk,) in cursor.fetchall())

        run("DROP TABLE IF EXISTS insights_seen, insights_latest")
        run(_LATEST)
        run("ANALYZE insights_latest")
        number = run(_SEEN)
        run("ANALYZE insights_seen")
        reopened = keys(_REOPEN) + keys(_TAKE_BACK)
        opened = keys(_OPEN)
        run(_CHANGE)
        closed = keys(_CLOSE)
        [kept] = keys(_MISSING)
    return _Found(number, {"opened": opened, "closed": closed, "reopened": reopened}, kept)


def _digest(changed: Mapping[str, list[int]]) -> str:
    """Which they were, as one word: SHA-256 in hexadecimal."""
    lines = "".join(f"{what} {pk}\n" for what, keys in changed.items() for pk in keys)
    return hashlib.sha256(lines.encode()).hexdigest()

"""Keeping what an audit trail says: one batch of events becomes usage by day, in the transaction that calls `store`.

Each event counts once, whichever files hold it, as long as its hour is remembered (`TrailHour`). Kept of it are counts, the
networks and Regions it came from, and when: never who else was involved or with which parameters.
"""

from __future__ import annotations

import hashlib
import ipaddress
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.db import connection as database

from apps.connectors.trail import Outcome, TrailEvent
from apps.inventory.models import Connection, Creation, TrailHour
from apps.inventory.models.usage import MOST_SOURCES
from apps.inventory.trails import hand_on


@dataclass
class Stored:
    """What became of a batch."""

    new: int = 0
    repeated: int = 0
    of_nobody: int = 0


@dataclass
class _Actor:
    external_id: str
    arn: str
    account_id: str
    first_at: datetime
    last_at: datetime
    is_used: bool = False  # by itself, not by a service on its behalf


@dataclass
class _Count:
    is_mapped: bool
    last_at: datetime
    is_data_event: bool = False
    done: int = 0
    denied: int = 0
    failed: int = 0
    by_services: int = 0
    networks: set[str] = field(default_factory=set)
    regions: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)


def store(connection: Connection, events: Sequence[TrailEvent]) -> Stored:
    """Add these events to what is known, once each, and hand the new ones to whoever else reads them."""
    new = _unseen(connection, events)
    stored = Stored(new=len(new), repeated=len(events) - len(new))
    if new:
        stored.of_nobody = _count(connection, new)
        hand_on(connection, new)
    return stored


def actor_of(event: TrailEvent) -> tuple[str, str]:
    """The unique id and ARN of whose usage an event is: a session's role, not the session. Empty for AWS's services, other
    accounts' principals (their own account's trail says what they did) and whoever has no id."""
    match event.actor_kind:
        case "AssumedRole" | "FederatedUser":
            return event.issuer_id or event.actor_id.partition(":")[0], event.issuer_arn
        case "IAMUser":
            return event.actor_id, event.actor_arn
        case "Root":
            return f"root:{event.actor_account_id or event.account_id}", event.actor_arn
        case "IdentityCenterUser":
            return event.on_behalf_of, ""
    return "", ""


def network_of(address: str) -> str:
    """A /24 or /48 for an address; AWS's own words ("ec2.amazonaws.com") as they are."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))


# ---- each event once


def _hash(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big")


_HOURS = """
    SELECT h.id, h.account_id, h.region, h.hour, h.seen
    FROM inventory_trailhour h
    JOIN unnest(%s::text[], %s::text[], %s::timestamptz[]) AS k(account_id, region, hour)
      ON (h.account_id, h.region, h.hour) = (k.account_id, k.region, k.hour)
    WHERE h.connection_id = %s
"""


def _unseen(connection: Connection, events: Sequence[TrailEvent]) -> list[TrailEvent]:
    """Those of the events that were not stored before; they are remembered from now on."""
    keys = {(e.account_id, e.region, e.at.replace(minute=0, second=0, microsecond=0)) for e in events}
    seen: dict[Any, set[int]] = {key: set() for key in keys}
    accounts, regions, hours = zip(*keys, strict=True) if keys else ((), (), ())
    with database.cursor() as cursor:
        cursor.execute(_HOURS, [list(accounts), list(regions), list(hours), connection.pk])
        for _, account_id, region, hour, packed in cursor.fetchall():
            seen[account_id, region, hour] = set(array("Q", bytes(packed)))
    new, grown = [], set()
    for event in events:
        key = (event.account_id, event.region, event.at.replace(minute=0, second=0, microsecond=0))
        mark = _hash(event.event_id)
        if mark not in seen[key]:
            seen[key].add(mark)
            grown.add(key)
            new.append(event)
    TrailHour.objects.bulk_create(
        [
            TrailHour(
                connection=connection,
                account_id=key[0],
                region=key[1],
                hour=key[2],
                seen=array("Q", seen[key]).tobytes(),
            )
            for key in sorted(grown)
        ],
        update_conflicts=True,
        unique_fields=["connection", "account_id", "region", "hour"],
        update_fields=["seen"],
    )
    return new


# ---- usage


def _count(connection: Connection, events: Iterable[TrailEvent]) -> int:
    actors: dict[str, _Actor] = {}
    counts: dict[tuple[str, date, str], _Count] = {}
    keys: dict[tuple[str, str], datetime] = {}
    made: list[tuple[str, TrailEvent]] = []
    of_nobody = 0
    for event in events:
        external_id, arn = actor_of(event)
        if not external_id:
            of_nobody += 1
            continue
        actor = actors.setdefault(
            external_id, _Actor(external_id, arn, event.actor_account_id or event.account_id, event.at, event.at)
        )
        actor.first_at, actor.last_at = min(actor.first_at, event.at), max(actor.last_at, event.at)
        actor.is_used |= event.is_own
        action = event.action or f"{event.service}:{event.name}"[:200]
        count = counts.setdefault((external_id, event.at.date(), action), _Count(bool(event.action), event.at))
        _add(count, event)
        if event.actor_kind == "IAMUser" and event.is_own and event.access_key_id.startswith("AKIA"):
            key = (external_id, event.access_key_id)
            keys[key] = max(event.at, keys.get(key, event.at))
        if event.made_id and event.outcome is Outcome.DONE:
            made.append((external_id, event))
    if actors:
        ids = _write_actors(connection, actors.values())
        _write_counts(ids, counts)
        _write_creations(connection, ids, made)
        used = [ids[one.external_id] for one in actors.values() if one.is_used]
        _refresh(used, {(ids[external_id], key): at for (external_id, key), at in keys.items()})
    return of_nobody


def _add(count: _Count, event: TrailEvent) -> None:
    count.last_at = max(count.last_at, event.at)
    count.is_data_event |= event.is_data_event
    if event.region:
        count.regions.add(event.region)
    if not event.is_own:
        count.by_services += 1
        count.services.add(event.invoked_by[:64])
        return
    setattr(count, event.outcome, getattr(count, event.outcome) + 1)
    if event.source_address:
        count.networks.add(network_of(event.source_address))


_ACTORS = """
    INSERT INTO inventory_actor (connection_id, external_id, arn, account_id, first_at, last_at)
    SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
    ON CONFLICT (connection_id, external_id) DO UPDATE SET
        arn = CASE WHEN EXCLUDED.arn = '' THEN inventory_actor.arn ELSE EXCLUDED.arn END,
        first_at = LEAST(inventory_actor.first_at, EXCLUDED.first_at),
        last_at = GREATEST(inventory_actor.last_at, EXCLUDED.last_at)
    RETURNING external_id, id
"""


def _write_actors(connection: Connection, actors: Iterable[_Actor]) -> dict[str, int]:
    rows = sorted(actors, key=lambda one: one.external_id)
    columns = (
        [getattr(one, name) for one in rows] for name in ("external_id", "arn", "account_id", "first_at", "last_at")
    )
    with database.cursor() as cursor:
        cursor.execute(_ACTORS, [connection.pk, *columns])
        ids = dict(cursor.fetchall())
    link(connection, list(ids.values()))
    return ids


# A unique id says it surely. An ARN only where the principal has none: one that was made again under its old name is
# somebody else.
_LINK = """
    UPDATE inventory_actor a SET principal_id = p.id
    FROM inventory_principal p
    WHERE a.connection_id = %(connection)s AND a.principal_id IS NULL AND (%(ids)s::bigint[] IS NULL OR a.id = ANY(%(ids)s))
      AND p.connection_id = a.connection_id AND {matches}
"""
_MATCHES = (
    "(p.attributes ->> 'unique_id') = a.external_id",
    "p.external_id = a.arn AND (p.attributes ->> 'unique_id') IS NULL",
    "p.external_id = a.external_id",
)
_UNLINK = """
    UPDATE inventory_actor a SET principal_id = NULL
    FROM inventory_principal p
    WHERE a.connection_id = %s AND p.id = a.principal_id AND a.external_id LIKE 'A%%'
      AND (p.attributes ->> 'unique_id') IS NOT NULL AND (p.attributes ->> 'unique_id') <> a.external_id
"""


def link(connection: Connection, ids: list[int] | None = None) -> None:
    """Let actors know their principals: these, or all that have none. A principal that became another one is let go."""
    with database.cursor() as cursor:
        if ids is None:
            cursor.execute(_UNLINK, [connection.pk])
        for matches in _MATCHES:
            cursor.execute(_LINK.format(matches=matches), {"connection": connection.pk, "ids": ids})


_STAGE = """
    CREATE TEMP TABLE trail_usage (
        actor_id bigint, day date, action text, is_mapped boolean, is_data_event boolean, done integer, denied integer,
        failed integer, by_services integer, last_at timestamptz, networks text[], regions text[], services text[]
    ) ON COMMIT DROP
"""
_COUNTS = ("done", "denied", "failed", "by_services")
_SOURCES = ("networks", "regions", "services")
_LOAD = """
    COPY trail_usage (
        actor_id, day, action, is_mapped, is_data_event, done, denied, failed, by_services, last_at,
        networks, regions, services
    ) FROM STDIN
"""
_ADD = """
    INSERT INTO inventory_usage AS u (
        actor_id, day, action, is_mapped, is_data_event, done, denied, failed, by_services, last_at,
        networks, regions, services
    )
    SELECT actor_id, day, action, is_mapped, is_data_event, done, denied, failed, by_services, last_at, networks, regions,
           services
    FROM trail_usage ORDER BY actor_id, day, action
    ON CONFLICT (actor_id, day, action) DO UPDATE SET
        done = u.done + EXCLUDED.done,
        denied = u.denied + EXCLUDED.denied,
        failed = u.failed + EXCLUDED.failed,
        by_services = u.by_services + EXCLUDED.by_services,
        is_data_event = u.is_data_event OR EXCLUDED.is_data_event,
        last_at = GREATEST(u.last_at, EXCLUDED.last_at),
        networks = ARRAY(SELECT DISTINCT unnest(u.networks || EXCLUDED.networks) ORDER BY 1 LIMIT %(most)s),
        regions = ARRAY(SELECT DISTINCT unnest(u.regions || EXCLUDED.regions) ORDER BY 1 LIMIT %(most)s),
        services = ARRAY(SELECT DISTINCT unnest(u.services || EXCLUDED.services) ORDER BY 1 LIMIT %(most)s)
"""


def _write_counts(ids: dict[str, int], counts: dict[tuple[str, date, str], _Count]) -> None:
    with database.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS trail_usage")
        cursor.execute(_STAGE)
        with cursor.copy(_LOAD) as copy:
            for (external_id, day, action), count in counts.items():
                sources = (sorted(getattr(count, name))[:MOST_SOURCES] for name in _SOURCES)
                numbers = (getattr(count, name) for name in _COUNTS)
                head = (ids[external_id], day, action, count.is_mapped, count.is_data_event)
                copy.write_row((*head, *numbers, count.last_at, *sources))
        cursor.execute(_ADD, {"most": MOST_SOURCES})


def _write_creations(connection: Connection, ids: dict[str, int], made: Iterable[tuple[str, TrailEvent]]) -> None:
    rows = [
        Creation(
            connection=connection,
            made_id=event.made_id,
            made_arn=event.made_arn,
            actor_id=ids[external_id],
            session_name=event.session_name,
            source_identity=event.source_identity,
            at=event.at,
            event_id=event.event_id,
        )
        for external_id, event in made
    ]
    Creation.objects.bulk_create(rows, ignore_conflicts=True)


# ---- last used, sooner than AWS's own reports say it

# Gatehouse's own roles are used by reading: their last use says nothing (sync leaves it empty too).
_PRINCIPALS_USED = """
    UPDATE inventory_principal p SET last_used_at = a.last_at
    FROM inventory_actor a
    WHERE a.id = ANY(%s) AND p.id = a.principal_id AND NOT p.attributes @> '{"is_portal": true}'
      AND (p.last_used_at IS NULL OR p.last_used_at < a.last_at - interval '1 hour')
"""
_KEYS_USED = """
    UPDATE inventory_credential c SET last_used_at = k.at
    FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) AS k(actor_id, key, at)
    JOIN inventory_actor a ON a.id = k.actor_id
    WHERE c.principal_id = a.principal_id AND c.kind = 'access_key' AND c.external_id = k.key
      AND (c.last_used_at IS NULL OR c.last_used_at < k.at - interval '1 hour')
"""


def _refresh(ids: list[int], keys: dict[tuple[int, str], datetime]) -> None:
    with database.cursor() as cursor:
        cursor.execute(_PRINCIPALS_USED, [ids])
        if keys:
            cursor.execute(_KEYS_USED, [[one for one, _ in keys], [key for _, key in keys], list(keys.values())])

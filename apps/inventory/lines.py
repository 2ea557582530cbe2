"""What a line of a list prints of a path, besides what all paths are loaded with, and of an escalation."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection as database

from apps.inventory.chains import AccessPath
from apps.inventory.holdings import Light, as_array

_DETAILS = """
    SELECT a.id, lower(a.period), a.entitlement_id, e.is_sensitive_read
    FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE a.id = ANY(%(keys)s::bigint[])
"""

# Of a role that has one policy, its statement is that policy's, as long as it gives the same reason.
_CAUSES = """
    SELECT 'held', e.id, NULL, e.privilege_statement::text
    FROM inventory_entitlement e WHERE e.id = ANY(%(held)s::bigint[])
    UNION ALL
    SELECT 'role', t.principal_id, coalesce(t.privilege_statement ->> 'policy', alone.name),
           coalesce(t.privilege_statement ->> 'statement', alone.privilege_statement::text)
    FROM inventory_trust t
    LEFT JOIN LATERAL (
        SELECT e.name, e.privilege_statement
        FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
        WHERE a.principal_id = t.principal_id AND upper_inf(a.period) AND e.privilege_reason = t.privilege_reason
        ORDER BY e.id LIMIT 1
    ) alone ON t.weighed = ''
    WHERE t.principal_id = ANY(%(roles)s::bigint[])
"""

# They are chosen before anything beside them is read.
_ESCALATIONS = """
    SELECT coalesce(e.name, p.name), way.reason, way.statement::text, way.is_conditional, way.first_seen_at, r.name
    FROM (
        SELECT * FROM (
            SELECT * FROM inventory_escalation WHERE principal_id = ANY(%(principals)s::bigint[])
            UNION ALL SELECT * FROM inventory_escalation WHERE entitlement_id = ANY(%(sets)s::bigint[])
        ) mine WHERE connection_id = %(connection)s ORDER BY steps, is_conditional, id LIMIT %(most)s
    ) way
    JOIN inventory_resource r ON r.id = way.resource_id
    LEFT JOIN inventory_principal p ON p.id = way.principal_id
    LEFT JOIN inventory_entitlement e ON e.id = way.entitlement_id
    ORDER BY way.steps, way.is_conditional, way.id
"""


class Place(NamedTuple):
    """An account by its name and number."""

    name: str
    external_id: str


class Shown(NamedTuple):
    """A path, since when Gatehouse saw the whole of it, and where. `via_entitlement_id` is the group's, if it comes
    through one."""

    light: Light
    since: datetime
    is_sensitive_read: bool
    via_entitlement_id: int | None

    @property
    def resource(self) -> Place | None:
        """The account it is in; None: the whole organization."""
        number = self.light.account_id
        return Place(self.light.account_name or "", number) if number is not None else None


def details(lights: Sequence[Light]) -> list[Shown]:
    """These paths as a list prints them, in this order. What went away meanwhile is left out. One query."""
    with database.cursor() as cursor:
        cursor.execute(_DETAILS, {"keys": [key for light in lights for key in (light.pk, light.via_id) if key]})
        rows = {pk: (since, entitlement, sensitive) for pk, since, entitlement, sensitive in cursor.fetchall()}
    shown = []
    for light in lights:
        if light.pk not in rows or (light.via_id and light.via_id not in rows):
            continue
        since, _, sensitive = rows[light.pk]
        via_since, via_entitlement, _ = rows[light.via_id] if light.via_id else (since, None, None)
        shown.append(Shown(light, max(since, via_since), sensitive, via_entitlement))
    return shown


class Cause(NamedTuple):
    """The statement that gives a path its privilege, as people write it, and the policy's name where that is known."""

    policy: str
    statement: str


def causes(paths: Sequence[AccessPath]) -> list[Cause | None]:
    """Of each of these paths, in this order, what `reason` rests on; None: nothing is allowed, or it is not known. One
    query."""
    asked = {
        "held": as_array(path.held.entitlement_id for path in paths if path.held and not path.hops),
        "roles": as_array(path.hops[-1].role.pk for path in paths if path.hops),
    }
    with database.cursor() as cursor:
        cursor.execute(_CAUSES, asked)
        found = {
            (what, pk): Cause(policy or "", _indented(statement))
            for what, pk, policy, statement in cursor.fetchall()
            if statement
        }
    return [found.get(_end_of(path)) for path in paths]


def _end_of(path: AccessPath) -> tuple[str, int]:
    if path.hops:
        return "role", path.hops[-1].role.pk
    return "held", path.held.entitlement_id if path.held else 0


def _indented(statement: str) -> str:
    said = json.loads(statement)
    return json.dumps(said, indent=2, ensure_ascii=False) if said else ""


class Climb(NamedTuple):
    """An `Escalation`, by the name of who can take it, as a list prints it. `statement` is JSON; None: there is none."""

    holder: str
    reason: str
    statement: str | None
    is_conditional: bool
    first_seen_at: datetime
    account_name: str

    @property
    def statement_text(self) -> str:
        """The statement as people write it; empty where it cannot be shown."""
        return _indented(self.statement or "null")


def escalations(connection: int, *, principals: Collection[int], sets: Collection[int], most: int) -> list[Climb]:
    """What somebody can make of themselves who is these principals and holds these permission sets: the surest and
    shortest. One query."""
    mine = {"principals": as_array(principals), "sets": as_array(sets)}
    with database.cursor() as cursor:
        cursor.execute(_ESCALATIONS, {**mine, "connection": connection, "most": most})
        return [*map(Climb._make, cursor.fetchall())]

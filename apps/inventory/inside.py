"""The machines inside an account: how many, how many of them nobody answers for, and the heaviest.

One statement that starts from the account's principals and looks up each row by its key (LATERAL … OFFSET 0, `SELECT min`):
joined otherwise, all identities there are would be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection as database

from apps.inventory.models import Identity, Resource
from apps.inventory.models.access import HEAVIEST_FIRST, Privilege

_MACHINES = """
    WITH machines AS MATERIALIZED (
        SELECT i.* FROM (SELECT DISTINCT identity_id AS id FROM inventory_principal WHERE resource_id = %(account)s) inside
        CROSS JOIN LATERAL (
            SELECT i.id, i.name, i.owner_id, i.successor_id FROM inventory_identity i
            WHERE i.id = inside.id AND i.kind = 'machine' AND i.ended_at IS NULL OFFSET 0
        ) i
    ), weighed AS (
        SELECT m.id, m.name, (
            SELECT min(array_position(%(heaviest_first)s::varchar[], e.privilege))
            FROM inventory_principal p
            JOIN inventory_assignment a ON a.principal_id = p.id AND upper_inf(a.period)
            JOIN inventory_entitlement e ON e.id = a.entitlement_id
            WHERE p.identity_id = m.id AND NOT e.is_ours AND NOT a.attributes @> '{"is_ours": true}'
        ) AS weight
        FROM machines m
    )
    SELECT (SELECT count(*) FROM machines), (
        SELECT count(*) FROM machines m WHERE NOT EXISTS (
            SELECT FROM inventory_identity o WHERE o.id IN (m.owner_id, m.successor_id) AND o.ended_at IS NULL
        )
    ), w.id, w.weight
    FROM (SELECT) one
    LEFT JOIN (SELECT * FROM weighed ORDER BY weight, name, id LIMIT %(limit)s) w ON true
    ORDER BY w.weight, w.name, w.id
"""


@dataclass(frozen=True)
class Machine:
    """One of them, with the heaviest privilege that it holds; "" when it holds nothing."""

    identity: Identity
    worst: str


@dataclass(frozen=True)
class Inside:
    heaviest: list[Machine]
    count: int
    unowned: int


def machines_in(account: Resource, *, limit: int) -> Inside:
    """Gatehouse's own artefacts do not count as held. Two queries."""
    asked: dict[str, Any] = {
        "account": account.pk,
        "heaviest_first": [one.value for one in HEAVIEST_FIRST],
        "limit": limit,
    }
    with database.cursor() as cursor:
        cursor.execute(_MACHINES, asked)
        found = cursor.fetchall()
    weights: dict[int, int | None] = {pk: weight for *_, pk, weight in found if pk}
    rows = Identity.objects.select_related("owner", "successor", "correction").in_bulk([*weights])
    heaviest = [Machine(rows[pk], _privilege(weight)) for pk, weight in weights.items() if pk in rows]
    return Inside(heaviest, found[0][0], found[0][1])


def _privilege(weight: int | None) -> str:
    return Privilege(HEAVIEST_FIRST[weight - 1]).value if weight else ""

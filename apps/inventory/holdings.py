"""All that somebody holds now, light enough to count and to sort: one plain row for each path. Some hold thousands; only
what a page prints of some of them is asked for then (`lines`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from django.db import connection as database
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from apps.inventory.models import Identity, Resource
from apps.inventory.models.access import weight_of

_NOW = DateTimeTZRange()

_HELD = """
    WITH mine AS MATERIALIZED (
        SELECT a.id, a.principal_id, a.entitlement_id, a.is_standing, e.name, e.privilege, e.can_escalate, e.is_ours,
               e.group_id, e.kind, e.privilege_reason, e.resource_id
        FROM inventory_principal p
        JOIN inventory_assignment a ON a.principal_id = p.id AND upper_inf(a.period)
        JOIN inventory_entitlement e ON e.id = a.entitlement_id
        WHERE p.identity_id = %(identity)s
    ), held AS (
        SELECT NULL::bigint AS via_id, '' AS via_name, mine.* FROM mine
        UNION ALL
        SELECT m.id, m.name, g.id, g.principal_id, g.entitlement_id, g.is_standing AND m.is_standing,
               e.name, e.privilege, e.can_escalate, e.is_ours, e.group_id, e.kind, e.privilege_reason, e.resource_id
        FROM mine m
        JOIN inventory_assignment g ON g.principal_id = m.group_id AND upper_inf(g.period)
        JOIN inventory_entitlement e ON e.id = g.entitlement_id
    )
    SELECT h.id, h.via_id, h.via_name, h.principal_id, h.entitlement_id, h.is_standing, h.name, h.privilege,
           h.can_escalate, h.is_ours, h.group_id IS NOT NULL, h.kind, h.privilege_reason, h.resource_id, r.name,
           r.external_id
    FROM held h LEFT JOIN (SELECT id, name, external_id FROM inventory_resource OFFSET 0) r ON r.id = h.resource_id
"""
_IN_ORDER = " ORDER BY h.via_id NULLS FIRST, h.name, h.id"  # takes as long as the rest, where there are thousands
_INSIDE = """
    WHERE h.resource_id = %(account)s OR h.kind = 'permission_set' AND h.resource_id = ANY(ARRAY(
        SELECT id FROM inventory_resource WHERE connection_id = %(connection)s AND external_id = ANY(%(others)s)
    ))
"""


# Of ways to the same: the most powerful, the sure, the short; then by name; and none is like another.
Order = tuple[int, bool, int, str, int, int]


class Light(NamedTuple):
    """One path, as `Path` without its models. `pk` is the assignment's; `via_id` the membership's that brings it."""

    pk: int
    via_id: int | None
    via_name: str
    principal_id: int
    entitlement_id: int
    is_standing: bool  # and so is the membership
    name: str
    privilege: str
    can_escalate: bool
    is_ours: bool
    is_membership: bool
    kind: str
    reason: str  # for the privilege
    resource_id: int | None
    account_name: str | None
    account_id: str | None

    @property
    def removable_id(self) -> int:
        return self.via_id or self.pk

    @property
    def order(self) -> Order:
        """The most powerful first. Asked of thousands."""
        return (weight_of(self.privilege), False, 0, self.name.lower(), self.via_id or 0, self.pk)

    @property
    def is_open(self) -> bool:
        return True

    @property
    def period(self) -> DateTimeTZRange:
        """It is held now; since when is not loaded."""
        return _NOW


def light_paths_of(identity: Identity) -> list[Light]:
    """Every path of `Assignment.objects.paths_of`, what is held directly first, by name. One query."""
    return _light(_HELD + _IN_ORDER, identity=identity.pk)


def unsorted_paths_of(identity: Identity) -> list[Light]:
    """The same in any order."""
    return _light(_HELD, identity=identity.pk)


def light_paths_into(identity: Identity, account: Resource, others: Collection[str]) -> list[Light]:
    """Those of them in `account`, and the permission sets among them in the accounts with the numbers `others`."""
    asked = {"account": account.pk, "connection": identity.connection_id, "others": [*others]}
    return _light(_HELD + _INSIDE + _IN_ORDER, identity=identity.pk, **asked)


def _light(query: str, **asked: Any) -> list[Light]:
    with database.cursor() as cursor:
        cursor.execute(query, asked)
        return [*map(Light._make, cursor.fetchall())]


def as_array(keys: Iterable[int]) -> str:
    """Keys as PostgreSQL writes an array of them: psycopg takes long over a list of thousands."""
    return f"{{{','.join(map(str, keys))}}}"

"""What a line of a list prints of a path that somebody holds, besides what all paths are loaded with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection as database

from apps.inventory.holdings import Light

_DETAILS = """
    SELECT a.id, lower(a.period), a.entitlement_id, e.is_sensitive_read
    FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE a.id = ANY(%(keys)s::bigint[])
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

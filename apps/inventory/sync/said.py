"""What people systems (SCIM, the HR file) say about people holds against the directory.

A sync writes what the directory shows; without this it would undo a department, and bring back somebody who left there
but is still listed in AWS. Whoever writes here holds the connection (`hold`), so that a sync in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q

from apps.inventory.models import Connection, Departure, Identity, Principal
from apps.inventory.models.holders import IdentityQuerySet
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.upserts import Known, one_of


def hold(connection: Connection) -> Connection:
    """Nobody else writes about this connection's people until this transaction ends. New rows may still refer to it."""
    return Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)


def overlay(
    connection: Connection, rows: Mapping[str, as_rows.Values], before: Mapping[Any, Known], at: datetime
) -> None:
    """Put what was said over what the directory shows, in `rows` (external id → values of the identity)."""
    these = one_of(Identity.objects.filter(connection=connection), rows)
    jobs = these.exclude(employment=None).values_list("external_id", "employment__title", "employment__department")
    for key, title, department in jobs:
        said = {"title": title, "department": department}
        rows[key].update({name: value for name, value in said.items() if value is not None})
    gone = these.filter(pk__in=Departure.objects.due(at).values("identity"))
    for key in gone.values_list("external_id", flat=True):
        if rows[key]["ended_at"] is None:
            old = before.get(key)
            rows[key]["ended_at"] = (old.ended_at if old else None) or at


def listed(pks: Iterable[int]) -> IdentityQuerySet:
    """Those people whom the directory still shows as somebody who may sign in."""
    user = Principal.objects.present().filter(identity=OuterRef("pk"), kind=Principal.Kind.IDC_USER)
    enabled = Q(attributes__status__isnull=True) | ~Q(attributes__status="disabled")
    return Identity.objects.human().filter(Exists(user.filter(enabled)), pk__in=[*pks])

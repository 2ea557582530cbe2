"""What a read-back showed about one assignment, between two syncs."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from apps.inventory.models import Assignment, Entitlement, Principal
from apps.inventory.sync import assignments


def note(principal: Principal, entitlement: Entitlement, *, is_present: bool, at: datetime) -> None:
    """Keep the inventory true without waiting for the next sync: open the assignment's period, or close it, as a fresh
    read of this one pair showed `at` that instant. A sync that began to read before then does not contradict it.

    Never standing. Writes no event: whoever read it back records what that means.
    """
    rows = Assignment.objects.filter(principal=principal, entitlement=entitlement)
    if not is_present:
        assignments.end(rows, at)
        return
    if rows.open().exists():
        return
    try:
        with transaction.atomic():
            Assignment.objects.create(
                connection_id=entitlement.connection_id,
                principal=principal,
                entitlement=entitlement,
                period=DateTimeTZRange(at, None),
            )
    except IntegrityError:
        return  # a sync was faster

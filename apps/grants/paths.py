"""Other ways to the same place: what a holder has in the account of a grant that the grant's end leaves standing."""

from __future__ import annotations

from apps.grants.models import Grant
from apps.inventory.models import Assignment


def others(grant: Grant) -> list[Assignment] | None:
    """What else the holder has in the same account, by the inventory. None where that question makes no sense."""
    identity, account = grant.identity, grant.entitlement.resource
    if identity is None or account is None:
        return None
    here = [
        path.assignment
        for path in Assignment.objects.paths_of(identity)
        if path.assignment.entitlement.resource_id == account.pk
    ]
    return [row for row in here if row.entitlement_id != grant.entitlement_id and not row.entitlement.is_ours]


def in_words(rows: list[Assignment]) -> list[str]:
    """One line for each: what, and through whom."""
    return [
        f"{row.entitlement.name}, {f'through {row.principal.name}' if row.principal.is_group else 'held directly'}"
        for row in rows
    ]

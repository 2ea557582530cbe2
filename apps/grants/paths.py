"""Other ways to the same place: how a holder gets into the account of a grant that the grant's end leaves standing."""

from __future__ import annotations

from apps.grants.models import Grant
from apps.inventory import paths as ways_in
from apps.inventory.models import Assignment
from apps.inventory.paths import AccessPath

Other = Assignment | AccessPath  # held there, or reached through roles

MOST_SAID = 50  # lines in a receipt; how many more there are is said


def others(grant: Grant) -> list[Other] | None:
    """What else the holder has in the same account, by the inventory, and the roles there that other things of theirs let
    them become. None where that question makes no sense."""
    identity, account = grant.identity, grant.entitlement.resource
    if identity is None or account is None:
        return None
    found = ways_in.find(identity, account)
    here = [path.assignment for path in found.held if path.assignment.entitlement.resource_id == account.pk]
    held = [row for row in here if _is_other(row, grant)]
    chains = [
        path for path in found.paths if path.hops and (path.held is None or _is_other(path.held.assignment, grant))
    ]
    return [*held, *chains]


def in_words(rows: list[Other]) -> list[str]:
    """One line for each: what, and through whom or which roles."""
    said = [row.words if isinstance(row, AccessPath) else _held(row) for row in rows[:MOST_SAID]]
    return said if len(rows) <= MOST_SAID else [*said, f"and {len(rows) - MOST_SAID} more"]


def _held(row: Assignment) -> str:
    return f"{row.entitlement.name}, {f'through {row.principal.name}' if row.principal.is_group else 'held directly'}"


def _is_other(row: Assignment, grant: Grant) -> bool:
    """What the grant itself gives ends with it, and what Gatehouse made is other grants' work."""
    return row.entitlement_id != grant.entitlement_id and not row.entitlement.is_ours

"""Other ways to the same place: how a holder gets into the account of a grant that the grant's end leaves standing."""

from __future__ import annotations

from apps.grants.models import Grant
from apps.inventory import paths as ways_in
from apps.inventory.chains import AccessPath
from apps.inventory.models import Assignment

MOST_SAID = 50  # lines in a receipt; how many more there are is said


def others(grant: Grant) -> list[AccessPath] | None:
    """What else the holder has in the same account, by the inventory, and then the roles there that other things of theirs
    let them become. What the grant itself gives ends with it, and what Gatehouse made is other grants' work; the same
    entitlement through a group stays. None where that question makes no sense."""
    identity, account = grant.identity, grant.entitlement.resource
    if identity is None or account is None:
        return None
    given = Assignment.objects.filter(principal=grant.principal, entitlement=grant.entitlement)
    ended = {*given.values_list("pk", flat=True)}
    remaining = ways_in.find(identity, account).without_held(ended)
    rows = [path for path in remaining.paths if path.held is None or not path.held.is_ours]
    return sorted(rows, key=lambda path: bool(path.hops))


def in_words(rows: list[AccessPath]) -> list[str]:
    """One line for each: what, and through whom or which roles."""
    said = [row.words for row in rows[:MOST_SAID]]
    return said if len(rows) <= MOST_SAID else [*said, f"and {len(rows) - MOST_SAID} more"]

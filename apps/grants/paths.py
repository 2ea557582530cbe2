"""Other ways to the same place: how a holder gets into what a grant leads to, that the grant's end leaves standing."""

from __future__ import annotations

from dataclasses import dataclass

from apps.grants.models import Grant
from apps.inventory import paths as ways_in
from apps.inventory.chains import AccessPath
from apps.inventory.models import Assignment

MOST_SAID = 50  # lines in a receipt; how many more there are is said


@dataclass(frozen=True)
class Left:
    """The ways that remain, the direct ones first. `is_cut`: a bound left some out. `says_where`: they lead to several
    accounts, so each line names its own."""

    paths: list[AccessPath]
    is_cut: bool = False
    says_where: bool = False

    @property
    def said(self) -> list[tuple[AccessPath, str]]:
        """Those that are listed, with one line for each: what, and through whom or which roles."""
        return [
            (path, f"{path.words} in {path.account_name}" if self.says_where else path.words)
            for path in self.paths[:MOST_SAID]
        ]

    @property
    def unsaid(self) -> list[str]:
        """What the list leaves out."""
        more = [f"and {len(self.paths) - MOST_SAID} more"] if len(self.paths) > MOST_SAID else []
        return [*more, "not every way was followed, so more can be left"] if self.is_cut else more

    @property
    def lines(self) -> list[str]:
        return [*(line for _, line in self.said), *self.unsaid]


def others(grant: Grant) -> Left | None:
    """What else the holder has in the same account, by the inventory, and then the roles there that other things of theirs
    let them become; of a membership, in all accounts that its group holds anything in. What the grant itself gives ends
    with it, and what Gatehouse made is other grants' work; the same entitlement through a group stays. None where that
    question makes no sense."""
    identity, account, group = grant.identity, grant.entitlement.resource, grant.entitlement.group
    if identity is None or (account is None and group is None):
        return None
    given = Assignment.objects.filter(principal=grant.principal, entitlement=grant.entitlement)
    ended = {*given.values_list("pk", flat=True)}
    remaining = ways_in.find(identity, account).without_held(ended)
    rows = [path for path in remaining.paths if path.held is None or not path.held.is_ours]
    if account is None:
        brought = Assignment.objects.open().filter(principal=group).values_list("entitlement__resource_id", flat=True)
        accounts = {*brought.distinct()}
        rows = [path for path in rows if path.resource_id in accounts]
    return Left(sorted(rows, key=lambda path: bool(path.hops)), remaining.is_cut, says_where=account is None)

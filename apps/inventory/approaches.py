"""Who could be on a way into one account at all, found backwards from whom its roles let in: most of those that somebody
could become lead nowhere near it. What is found here is too many rather than too few; `paths` decides about each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import connection as database

from apps.connectors.aws.policy.trusts import ANYBODY
from apps.inventory.models import Resource

MOST_READ = 5_000  # trusts, for one step backwards; with more of them anybody could be on the way

_KEYS = """
    SELECT keys, count(*) FROM (
        SELECT t.keys FROM inventory_resource r JOIN inventory_trust t ON t.resource_id = r.id
        WHERE r.connection_id = %(connection)s AND r.external_id = ANY(%(accounts)s)
        UNION ALL
        SELECT t.keys FROM inventory_principal p JOIN inventory_trust t ON t.principal_id = p.id
        WHERE p.connection_id = %(connection)s AND p.external_id = ANY(%(arns)s)
        LIMIT %(most)s
    ) x GROUP BY keys
"""


class Circle(NamedTuple):
    """Whoever could be let in: everybody in these accounts, and who has one of these names, as in `Trust.keys`."""

    accounts: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def has(self, account: str, names: Iterable[str]) -> bool:
        return account in self.accounts or not self.names.isdisjoint(names)

    @property
    def arns(self) -> list[str]:
        return [name for name in self.names if name.startswith("arn:")]

    @property
    def every_account(self) -> frozenset[str]:
        """Those of the names too."""
        return self.accounts | {_account_in(name) for name in self.names}


def leading_to(account: Resource, most: int) -> list[Circle | None]:
    """Who could get into `account` in one step, in two or fewer, up to `most`; None is anybody. One query a step."""
    circles: list[Circle | None] = []
    asked, accounts, arns = Circle(), {account.external_id}, set[str]()
    known = Circle()
    while len(circles) < most:
        keys = _keys(account.connection_id, accounts, arns)
        if keys is None or ANYBODY in keys:
            return [*circles, *[None] * (most - len(circles))]
        asked = Circle(asked.accounts | accounts, asked.names | arns)
        # The name of a session says too little of its role's ARN: everybody in its account could be it.
        named_accounts = {_account_in(key) for key in keys if not key.startswith(("arn:", "sso:"))} - {""}
        known = Circle(known.accounts | named_accounts, known.names | keys)
        circles.append(known)
        accounts = named_accounts - asked.accounts
        arns = {arn for arn in Circle(names=frozenset(keys)).arns if not asked.has(_account_in(arn), [arn])}
    return circles


def _keys(connection: int, accounts: Iterable[str], arns: Iterable[str]) -> frozenset[str] | None:
    """Whom the roles of these accounts, and these roles, let in; None where those are too many to read."""
    asked: dict[str, Any] = {"connection": connection, "accounts": [*accounts], "arns": [*arns], "most": MOST_READ + 1}
    with database.cursor() as cursor:
        cursor.execute(_KEYS, asked)
        rows = cursor.fetchall()
    if sum(count for _, count in rows) > MOST_READ:
        return None
    return frozenset(key for keys, _ in rows for key in keys)


def _account_in(key: str) -> str:
    """The number of the account that a key of a trust is about; empty for a service."""
    if key.isdecimal():
        return key
    parts = key.split(":")
    place = {"arn": 4, "sso": 1, "session": 1}.get(parts[0])
    return parts[place] if place is not None and len(parts) > place else ""

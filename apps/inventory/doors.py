"""The roles that could let somebody in, found by whom their trusts name: a plain row for each, since a search looks at
hundreds and shows a few."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connection as database

from apps.connectors.aws.policy import steps, trusts
from apps.inventory.approaches import Circle
from apps.inventory.callers import Face
from apps.inventory.models.access import HEAVIEST_FIRST

MOST_PATTERNS = 100  # compared in the database; with more, every role is

# A look into the index of keys for every few of them: comparing each row's keys with thousands compares all with all. What
# is found is sorted before the rest of it is read, so that only what is returned is read.
_FIND = """
    WITH asked AS MATERIALIZED (
        SELECT array_agg(key) AS keys, false AS is_account
        FROM json_array_elements_text(%(named)s::json) WITH ORDINALITY x(key, n) GROUP BY n / 16
        UNION ALL
        SELECT array_agg(key), true
        FROM json_array_elements_text(%(accounts)s::json) WITH ORDINALITY x(key, n) GROUP BY n / 16
    ), found AS MATERIALIZED (
        SELECT DISTINCT t.resource_id IS DISTINCT FROM %(first)s::bigint AS is_away,
               array_position(%(weights)s::text[], t.privilege::text) AS weight, t.principal_id, t.resource_id
        FROM asked CROSS JOIN LATERAL (SELECT * FROM inventory_trust t WHERE t.keys && asked.keys OFFSET 0) t
        WHERE (NOT is_account OR {reached}) AND (%(only)s::bigint IS NULL OR t.resource_id = %(only)s::bigint) AND {leads}
    )
    SELECT p.id, p.name, p.external_id, coalesce(p.attributes ->> 'boundary', ''), r.id, r.name, r.external_id, t.keys,
           t.lines::text, t.is_fixed, t.privilege, t.privilege_reason
    FROM (SELECT * FROM found ORDER BY is_away, weight, principal_id) f
    CROSS JOIN LATERAL (
        SELECT * FROM inventory_principal p WHERE p.id = f.principal_id AND p.ended_at IS NULL OFFSET 0
    ) p
    CROSS JOIN LATERAL (
        SELECT * FROM inventory_resource r WHERE r.id = f.resource_id AND r.connection_id = %(connection)s OFFSET 0
    ) r
    JOIN inventory_trust t ON t.principal_id = f.principal_id
    ORDER BY f.is_away, f.weight, f.principal_id
    LIMIT %(most)s
"""
_LEADS = """(
    t.resource_id = %(first)s::bigint OR t.arn = ANY(%(via)s::text[]) OR t.resource_id = ANY(ARRAY(
        SELECT id FROM inventory_resource
        WHERE connection_id = %(connection)s AND external_id = ANY(%(via_accounts)s::text[])
    ))
)"""


class Role(NamedTuple):
    """One role, with its trust and how much it may do."""

    pk: int
    name: str
    arn: str
    boundary: str
    resource_id: int
    account_name: str
    account_id: str
    keys: Sequence[str]
    lines: str
    is_fixed: bool
    privilege: str
    reason: str

    @property
    def face(self) -> Face:
        return Face(self.pk, self.arn, self.resource_id, self.account_id, self.boundary)

    @property
    def target(self) -> steps.Target:
        """As somebody who can be assumed."""
        return steps.Target(self.arn, self.account_id, _lines(self.lines), is_fixed=self.is_fixed)


def letting_in(
    connection: int,
    *,
    named: Iterable[str],
    accounts: Iterable[str],
    patterns: Sequence[str],
    first: int | None,
    only: int | None,
    most: int,
    towards: Circle | None = None,
) -> list[Role]:
    """Roles that trust one of these names, or one of these accounts and have an ARN like one of `patterns`: those in the
    account `first`, then the most powerful; with `only`, in that account alone; with `towards`, those of that circle and of
    the account `first` alone."""
    every = "*" in patterns or len(patterns) > MOST_PATTERNS
    params: dict[str, Any] = {
        "connection": connection,
        "named": json.dumps([*named]),
        "accounts": json.dumps([*accounts]),
        "like": "" if every else f"^({'|'.join(map(_as_regex, patterns))})$",
        "first": first,
        "only": only,
        "weights": [str(weight) for weight in HEAVIEST_FIRST],
        "most": most,
        "via": towards.arns if towards else [],
        "via_accounts": [*towards.accounts] if towards else [],
    }
    narrowed = {"reached": "true" if every else "t.arn ~ %(like)s", "leads": _LEADS if towards else "true"}
    with database.cursor() as cursor:
        cursor.execute(_FIND.format(**narrowed), params)
        return [*map(Role._make, cursor.fetchall())]


@lru_cache(maxsize=2048)
def _lines(stored: str) -> tuple[trusts.Line, ...]:
    return tuple(map(trusts.from_json, json.loads(stored)))


def _as_regex(pattern: str) -> str:
    """A pattern of policies in PostgreSQL's words."""
    return "".join({"*": ".*", "?": "."}.get(letter) or re.sub(r"(\W)", r"\\\1", letter) for letter in pattern)

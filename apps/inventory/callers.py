"""Roles, users and permission sets as the policy language knows them: who calls AWS, and who can be become.

`steps` decides about these alone; here they are put together from rows, many at once, in the same few queries.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from django.db import connection as database

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import steps, trusts
from apps.connectors.aws.policy.knocks import ASSUME, Knock
from apps.inventory.holdings import as_array
from apps.inventory.models import Assignment, Entitlement, Principal, Trust
from apps.inventory.models import Knock as KnockRow
from apps.inventory.models.access import AssignmentQuerySet, Privilege
from apps.inventory.models.holders import CALLERS

Node = tuple[str, int]  # ("set", entitlement) or ("principal", principal)


def as_target(trust: Trust) -> steps.Target:
    """A role or user as somebody who can be become."""
    return steps.Target(
        arn=trust.principal.external_id,
        account_id=trust.resource.external_id,
        lines=tuple(map(trusts.from_json, trust.lines)),
        services=tuple(trust.services),
        is_user=trust.principal.kind == Principal.Kind.IAM_USER,
        is_fixed=trust.is_fixed,
    )


class Face(NamedTuple):
    """A user or role, as far as it is needed to call AWS."""

    pk: int
    arn: str
    resource_id: int | None
    account_id: str
    boundary: str


def face_of(principal: Principal) -> Face:
    """Its `resource` must be loaded."""
    account = principal.resource.external_id if principal.resource else ""
    boundary = principal.attributes.get("boundary") or ""
    return Face(principal.pk, principal.external_id, principal.resource_id, account, boundary)


def faces_of(identity: int) -> dict[Face, str]:
    """The users and roles in accounts that somebody is themselves, with their names. One query."""
    with database.cursor() as cursor:
        cursor.execute(
            """SELECT p.id, p.external_id, r.id, r.external_id, coalesce(p.attributes ->> 'boundary', ''), p.name
               FROM inventory_principal p JOIN inventory_resource r ON r.id = p.resource_id
               WHERE p.identity_id = %s AND p.ended_at IS NULL AND p.kind = ANY(%s)""",
            [identity, [str(kind) for kind in CALLERS]],
        )
        return {Face(*face): name for *face, name in cursor.fetchall()}


# LATERAL and OFFSET 0: looks into indexes, whatever the planner expects of a list of keys.
_SAID = """
    WITH held AS MATERIALIZED (
        SELECT holder, a.entitlement_id
        FROM unnest(%(everybody)s::bigint[]) holder
        CROSS JOIN LATERAL (
            SELECT * FROM inventory_assignment a WHERE a.principal_id = holder AND upper_inf(a.period) OFFSET 0
        ) a
    ), everything AS MATERIALIZED (
        SELECT holder, entitlement_id FROM held
        UNION ALL
        SELECT held.holder, g.entitlement_id
        FROM held
        CROSS JOIN LATERAL (SELECT * FROM inventory_entitlement e WHERE e.id = held.entitlement_id OFFSET 0) e
        CROSS JOIN LATERAL (
            SELECT * FROM inventory_assignment g WHERE g.principal_id = e.group_id AND upper_inf(g.period) OFFSET 0
        ) g
        WHERE held.holder = ANY(%(users)s::bigint[])
    )
    SELECT holder, k.entitlement_id, k.lines::text, k.runs, k.denied_runs
    FROM everything CROSS JOIN LATERAL (
        SELECT * FROM inventory_knock k WHERE k.entitlement_id = everything.entitlement_id OFFSET 0
    ) k
    WHERE k.lines <> '[]' OR k.runs <> '{}' OR k.denied_runs <> '{}'
"""


def of_principals(principals: Collection[Face]) -> dict[Node, steps.Holder]:
    """Users and roles with all that their policies, and those of their groups, say. One query, two with boundaries, and
    none where there is nobody."""
    if not principals:
        return {}
    lines: dict[int, list[Knock]] = defaultdict(list)
    runs: dict[int, set[str]] = defaultdict(set)
    denied: dict[int, set[str]] = defaultdict(set)
    read = cache(json.loads)
    with database.cursor() as cursor:
        everybody, users = ([one.pk for one in some] for some in (principals, filter(_is_user, principals)))
        cursor.execute(_SAID, {"everybody": everybody, "users": users})
        for holder, entitlement, stored, allows, denies in cursor.fetchall():
            lines[holder] += [knocking.from_json(line, entitlement) for line in read(stored)]
            runs[holder] |= {*allows}
            denied[holder] |= {*denies}
    bounds = _boundaries(principals)
    found: dict[Node, steps.Holder] = {}
    for one in principals:
        bound = bounds.get((one.resource_id, one.boundary))
        can_run = runs[one.pk] - denied[one.pk]
        found["principal", one.pk] = steps.Holder(
            caller=trusts.Caller(one.arn, one.account_id),
            knocks=lines[one.pk],
            boundary=bound.knocks if bound else None,
            is_boundary_unread=bool(one.boundary),
            runs=sorted(can_run & bound.runs if bound else can_run),
        )
    return found


def _is_user(one: Face) -> bool:
    """A role is in no group."""
    return ":user/" in one.arn


def held_by(principals: Sequence[int], rows: AssignmentQuerySet, *columns: str) -> Iterator[tuple[Any, ...]]:
    """(holder, *columns) of those open assignments among `rows` that these have, themselves and through groups. Three
    queries at most."""
    yield from rows.filter(principal__in=principals).values_list("principal_id", *columns)
    members = Assignment.objects.open().filter(principal__in=principals, entitlement__group__isnull=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for holder, group in members.values_list("principal_id", "entitlement__group_id"):
        groups[group].append(holder)
    if groups:
        for group, *rest in rows.filter(principal__in=[*groups]).values_list("principal_id", *columns):
            yield from ((holder, *rest) for holder in groups[group])


class _Bound(NamedTuple):
    """What one boundary leaves of becoming somebody else, and of making services run something."""

    knocks: Sequence[Knock]
    runs: frozenset[str]


def _boundaries(principals: Collection[Face]) -> dict[tuple[int | None, str], _Bound]:
    """What the boundaries of these say that could be read, by account and ARN. One query, none where nobody has one."""
    arns = {one.boundary for one in principals if one.boundary}
    if not arns:
        return {}
    rows = KnockRow.objects.filter(
        entitlement__resource__in={one.resource_id for one in principals},
        entitlement__kind=Entitlement.Kind.IAM_POLICY,
        entitlement__ended_at=None,
        entitlement__attributes__policy_arn__in=[*arns],
    )
    read = rows.exclude(entitlement__privilege=Privilege.UNKNOWN)
    found = read.values_list("entitlement__resource_id", "entitlement__attributes__policy_arn", "pk", "lines", "runs")
    return {
        (account, arn): _Bound([knocking.from_json(line, pk) for line in lines], frozenset(runs))
        for account, arn, pk, lines, runs in found
    }


class Said(NamedTuple):
    """What a permission set says about assuming roles. `asks`: the ARNs that it lets its holders try, as patterns."""

    acts_as: str = ""
    knocks: Sequence[Knock] = ()
    boundary: Sequence[Knock] | None = None
    asks: Sequence[str] = ()


NOTHING = Said()


def asking(sets: Iterable[int]) -> list[int]:
    """Those of these permission sets that let their holders try to assume a role. One query, in an index of them alone."""
    with database.cursor() as cursor:
        cursor.execute(
            """SELECT entitlement_id FROM inventory_knock
               WHERE lines @> '[{"e": "Allow", "ways": ["assume"]}]' AND entitlement_id = ANY(%s::bigint[])""",
            [as_array(sets)],
        )
        return [pk for (pk,) in cursor.fetchall()]


def said_by_sets(sets: Iterable[int]) -> dict[int, Said]:
    """Of permission sets by key, those that say anything. One query. What services they could make run something is left
    out, and so is which policy says what, since most say the same, which is read once."""
    with database.cursor() as cursor:
        cursor.execute(
            """SELECT k.* FROM unnest(%s::bigint[]) pk CROSS JOIN LATERAL (
                   SELECT entitlement_id, acts_as, lines::text, boundary::text FROM inventory_knock
                   WHERE entitlement_id = pk AND (lines <> '[]' OR acts_as <> '' OR boundary IS NOT NULL) OFFSET 0
               ) k""",
            [as_array(sets)],
        )
        rows = cursor.fetchall()
    return {pk: _said(*row) for pk, *row in rows}


def _said(acts_as: str, lines: str, boundary: str | None) -> Said:
    knocks, asks = _read(lines)
    return Said(acts_as, knocks, None if boundary is None else _read(boundary)[0], asks)


@lru_cache(maxsize=1024)
def _read(lines: str) -> tuple[tuple[Knock, ...], tuple[str, ...]]:
    knocks = tuple(map(knocking.from_json, json.loads(lines)))
    return knocks, tuple(knocking.asks(knocks, ASSUME))


def as_holder(name: str, account: str, said: Said) -> steps.Holder:
    """Whoever holds the permission set of that name in the account with that number: they act as a role that Identity
    Center made."""
    return steps.Holder(trusts.of_permission_set(name, account, said.acts_as), said.knocks, said.boundary)


def of_set(entitlement: Entitlement, said: KnockRow | None) -> steps.Holder:
    """Whoever holds one permission set. Its `resource` must be loaded."""
    account = entitlement.resource.external_id if entitlement.resource else ""
    caller = trusts.of_permission_set(entitlement.name, account, said.acts_as if said else "")
    if said is None:
        return steps.Holder(caller)
    bounds = None if said.boundary is None else [knocking.from_json(line, entitlement.pk) for line in said.boundary]
    lines = [knocking.from_json(line, entitlement.pk) for line in said.lines]
    return steps.Holder(caller, lines, bounds, runs=said.runs)


class Frontier:
    """Who moves next, found by the names under which a trust could let them in."""

    def __init__(self) -> None:
        self.named: dict[str, list[Node]] = defaultdict(list)
        self.accounts: dict[str, list[Node]] = defaultdict(list)  # of those whose policies let them try
        self.patterns: dict[str, None] = {}  # on what they may
        self.account_of: dict[Node, str] = {}
        self.asking: set[Node] = set()

    def add(self, node: Node, account: str, names: Iterable[str], asks: Iterable[str]) -> None:
        self.account_of[node] = account
        for name in names:
            if name == trusts.ANYBODY or "*" not in name:  # no trust names a part of a name
                self.named[name].append(node)
        if asks:
            self.asking.add(node)
            self.accounts[account].append(node)
            self.patterns |= dict.fromkeys(asks)

    def knocking_at(self, keys: Iterable[str], account: str) -> Iterator[Node]:
        """Those whom a trust with these keys could let in, each once: from another account only who may try."""
        nodes = dict.fromkeys(
            node for key in keys for by in (self.named, self.accounts) if key in by for node in by[key]
        )
        for node in nodes:
            if node in self.asking or self.account_of[node] == account:
                yield node

"""Roles, users and permission sets as the policy language knows them: who calls AWS, and who can be become.

`steps` decides about these alone; here they are put together from rows, many at once, in the same few queries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.models import Q

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import steps, trusts
from apps.connectors.aws.policy.knocks import Knock
from apps.inventory.models import Assignment, Entitlement, Principal, Trust
from apps.inventory.models import Knock as KnockRow
from apps.inventory.models.access import AssignmentQuerySet

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


def of_principals(principals: Sequence[Principal]) -> dict[Node, steps.Holder]:
    """Users and roles with all that their policies, and those of their groups, say. Each `resource` must be loaded."""
    lines: dict[int, list[Knock]] = defaultdict(list)
    runs: dict[int, set[str]] = defaultdict(set)
    said = Assignment.objects.open().filter(
        ~Q(entitlement__knock__lines=[]) | ~Q(entitlement__knock__runs=[]), entitlement__knock__isnull=False
    )
    columns = ("entitlement_id", "entitlement__knock__lines", "entitlement__knock__runs")
    for holder, entitlement, stored, actions in held_by([one.pk for one in principals], said, *columns):
        lines[holder] += [knocking.from_json(line, entitlement) for line in stored]
        runs[holder] |= {*actions}
    bounds = _boundaries(principals)
    found: dict[Node, steps.Holder] = {}
    for one in principals:
        boundary = one.attributes.get("boundary")
        found["principal", one.pk] = steps.Holder(
            caller=trusts.Caller(one.external_id, _account_id(one)),
            knocks=lines[one.pk],
            boundary=bounds.get((one.resource_id, boundary)) if boundary else None,
            is_boundary_unread=bool(boundary),
            runs=sorted(runs[one.pk]),
        )
    return found


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


def _boundaries(principals: Sequence[Principal]) -> dict[tuple[int | None, str], list[Knock]]:
    """What the boundaries of these say, by account and ARN. One query, none where nobody has one."""
    arns = {one.attributes["boundary"] for one in principals if one.attributes.get("boundary")}
    if not arns:
        return {}
    rows = KnockRow.objects.filter(
        entitlement__resource__in={one.resource_id for one in principals},
        entitlement__kind=Entitlement.Kind.IAM_POLICY,
        entitlement__ended_at=None,
        entitlement__attributes__policy_arn__in=[*arns],
    )
    found = rows.values_list("entitlement__resource_id", "entitlement__attributes__policy_arn", "pk", "lines")
    return {(account, arn): [knocking.from_json(line, pk) for line in lines] for account, arn, pk, lines in found}


def of_sets(sets: Mapping[int, tuple[str, str]]) -> dict[Node, steps.Holder]:
    """Permission sets by key, as (name, account), whose holders act as a role that Identity Center made. One query."""
    rows = KnockRow.objects.extra(where=["entitlement_id = ANY(%s)"], params=[[*sets]])
    said = {row.pk: row for row in rows}
    return {("set", pk): _of_set(pk, *one, said.get(pk)) for pk, one in sets.items()}


def of_set(entitlement: Entitlement, said: KnockRow | None) -> steps.Holder:
    """Whoever holds one permission set. Its `resource` must be loaded."""
    account = entitlement.resource.external_id if entitlement.resource else ""
    return _of_set(entitlement.pk, entitlement.name, account, said)


def _of_set(pk: int, name: str, account: str, said: KnockRow | None) -> steps.Holder:
    caller = trusts.of_permission_set(name, account, said.acts_as if said else "")
    if said is None:
        return steps.Holder(caller)
    bounds = None if said.boundary is None else [knocking.from_json(line, pk) for line in said.boundary]
    return steps.Holder(caller, [knocking.from_json(line, pk) for line in said.lines], bounds, runs=said.runs)


def _account_id(principal: Principal) -> str:
    return principal.resource.external_id if principal.resource else ""

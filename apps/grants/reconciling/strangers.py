"""Access that no grant explains, by the facts of the last complete sync."""

from __future__ import annotations

from dataclasses import replace

from django.db.models import Exists, OuterRef, Q

from apps.connectors import budget, registry
from apps.connectors.base import Look
from apps.core.locks import exclusive
from apps.grants.models import LIVE, Drift, Grant, State
from apps.grants.reconciling.comparing import Comparison, Finding
from apps.grants.reconciling.holdings import came_back
from apps.grants.windows import target_for
from apps.inventory.models import Assignment, Connection, Entitlement, Principal
from apps.inventory.models.access import AssignmentQuerySet

# What is held through grants alone: the portal made it for that.
FOR_GRANTS_ONLY = frozenset({Entitlement.Kind.DATED_POLICY, Entitlement.Kind.TIER_ROLE, Entitlement.Kind.NETWORK_RULE})
OUR_PATH, TIER_PATH, OUR_ROLE, TIER_GUARD = "/jit/", "/jit/tier/", "jit-", "jit-guard"


def compare_strangers(comparison: Comparison) -> None:
    """What somebody holds that was neither there at the baseline nor granted, and what stands under `/jit/` without us."""
    connection = comparison.connection
    if connection.baselined_at is None or connection.as_of is None:
        return  # nothing is known to be standing yet, so nothing is known to be strange
    for assignment in unexplained(connection).with_names().iterator(chunk_size=500):
        with comparison.reading(assignment):
            _compare_stranger(comparison, assignment)
    _find_objects(comparison)


def unexplained(connection: Connection) -> AssignmentQuerySet:
    """Open assignments that are neither standing, nor ours, nor explained by a grant that is not over."""
    same = Grant.objects.unfinished().filter(principal=OuterRef("principal"), entitlement=OuterRef("entitlement"))
    rows = Assignment.objects.open().strangers_only().filter(connection=connection, is_standing=False)
    return rows.exclude(Exists(same)).exclude(attributes__contains={"is_reserved": True}).order_by("pk")


def _compare_stranger(comparison: Comparison, assignment: Assignment) -> None:
    before = Grant.objects.filter(
        principal=assignment.principal, entitlement=assignment.entitlement, state=State.REVOKED
    )
    last = before.with_names().order_by("-pk").first()
    if last is None and not _is_for_grants(assignment.entitlement):
        comparison.find(_unintended(assignment))
        return
    look = _look_again(comparison, assignment)
    if look and not look.is_present:
        return  # the inventory is older than that; the next sync says so
    if not unexplained(comparison.connection).filter(pk=assignment.pk).exists():
        return  # decided, or granted, while we looked
    if last and look:
        comparison.find(came_back(comparison, last, look))
    else:
        comparison.find(_rogue(comparison, assignment, look))


def _is_for_grants(entitlement: Entitlement) -> bool:
    """Whether people hold it through grants alone: by its kind, since it references the guard, or since it was granted
    for a time before."""
    return (
        entitlement.kind in FOR_GRANTS_ONLY
        or bool(entitlement.attributes.get("has_guard"))
        or Grant.objects.filter(entitlement=entitlement, origin=Grant.Origin.REQUEST).exists()
    )


def _look_again(comparison: Comparison, assignment: Assignment) -> Look | None:
    """A fresh read under the object's lock, so that a grant that is opening right now has said so; None where nothing
    can read this kind."""
    connection, kind = comparison.connection, assignment.entitlement.kind
    if not registry.has_remover(connection.kind, kind):
        return None
    remover = registry.remover(connection.kind, kind, connection.config)
    target = replace(
        target_for(assignment.principal, assignment.entitlement), assignment_attributes=assignment.attributes
    )
    comparison.looked()
    with exclusive("object", remover.lock_key(target)), budget.purpose("grant"):
        return remover.look(target)


def _unintended(assignment: Assignment) -> Finding:
    return Finding(
        kind=Drift.Kind.UNINTENDED,
        words=(assignment.principal_id, assignment.entitlement_id),
        what=f"{_holder(assignment)} holds {assignment.entitlement}, and nobody decided that here.",
        rows=_rows(assignment),
    )


def _rogue(comparison: Comparison, assignment: Assignment, look: Look | None) -> Finding:
    return Finding(
        kind=Drift.Kind.ROGUE,
        words=(assignment.principal_id, assignment.entitlement_id),
        what=f"{_holder(assignment)} holds {assignment.entitlement}, which is only given for a time, without a grant.",
        proof=look.proof if look else None,
        is_critical=True,
        is_repairable=comparison.connection.is_writable,
        rows=_rows(assignment),
    )


def _rows(assignment: Assignment) -> dict[str, object]:
    return {"assignment": assignment, "principal": assignment.principal, "entitlement": assignment.entitlement}


def _holder(assignment: Assignment) -> str:
    return str(assignment.principal.identity or assignment.principal.name)


def _find_objects(comparison: Comparison) -> None:
    """Roles under our path, and dated policies of our name, that no grant stands behind."""
    roles = Principal.objects.present().filter(
        connection=comparison.connection, kind="iam_role", attributes__path__startswith=OUR_PATH
    )
    roles = roles.exclude(attributes__path__startswith=TIER_PATH)
    as_of = comparison.connection.as_of  # what went since is still in the inventory
    went = Q(cleared_at=None) | Q(revoked_at__gte=as_of) | Q(cleared_at__gte=as_of)
    known = Grant.objects.filter(Q(state__in=LIVE | {State.REVOKING}) | Q(went, state=State.REVOKED))
    references = set(known.filter(connection=comparison.connection).values_list("reference", flat=True))
    for role in roles.select_related("resource"):
        if role.name.removeprefix(OUR_ROLE) not in references:
            _find_object(comparison, role, f"Role {role.name} stands in our path in {role.resource}")
    policies = Assignment.objects.open().filter(
        connection=comparison.connection, entitlement__is_ours=True, entitlement__kind="iam_inline_policy"
    )
    # What grants of dated policies share is the policy of their holder, which is examined against them. Grants of anything
    # else write no such policy, so they explain none.
    dated = known.filter(
        principal=OuterRef("principal"), shared_key__gt="", entitlement__kind=Entitlement.Kind.DATED_POLICY
    )
    for policy in policies.exclude(Exists(dated)).select_related("principal__resource", "entitlement"):
        if not _is_part_of_a_role_of_ours(policy):
            _find_object(comparison, policy.principal, f"{policy.principal.name} has a dated policy of ours")


def _is_part_of_a_role_of_ours(policy: Assignment) -> bool:
    """The policies of a grant's role stand or fall with the role, and a tier role keeps its guard."""
    path = str(policy.principal.attributes.get("path", ""))
    is_guard = path == TIER_PATH and policy.entitlement.name == TIER_GUARD
    return policy.principal.kind == Principal.Kind.IAM_ROLE and (path == OUR_PATH or is_guard)


def _find_object(comparison: Comparison, principal: Principal, what: str) -> None:
    comparison.find(
        Finding(
            kind=Drift.Kind.ROGUE,
            words=("object", principal.pk, what),
            what=f"{what}, and no grant made it.",
            is_critical=True,
            rows={"principal": principal},
        )
    )

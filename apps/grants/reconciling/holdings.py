"""What grants gave and took: active ones must be in AWS, ended ones must not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q

from apps.connectors import budget, registry
from apps.connectors.base import Look, Remover
from apps.core.locks import exclusive
from apps.grants.models import Drift, Grant, State
from apps.grants.provisioning.turns import Turn
from apps.grants.reconciling.comparing import Comparison, Finding
from apps.grants.reconciling.objects import SETTLE
from apps.grants.windows import is_held_standing
from apps.inventory.models import Assignment
from apps.inventory.sync import seen

REMEMBERED_FOR = timedelta(days=1)  # an ended grant is looked at again for so long; later, complete syncs show it


def compare_held(comparison: Comparison) -> None:
    """Every active grant's access is in AWS."""
    settled = comparison.now - SETTLE
    active = Grant.objects.filter(
        connection=comparison.connection, state=State.ACTIVE, provisioner__gt="", active_at__lte=settled
    )
    for grant in _one_of_each(active.with_names().order_by("pk")):
        with comparison.reading(grant.number):
            _compare_held(comparison, grant)


def _compare_held(comparison: Comparison, grant: Grant) -> None:
    turn = Turn(grant)
    comparison.looked()
    if _look(turn).is_present:
        return
    with exclusive("object", turn.hand.lock_key(turn.target)), budget.purpose("grant"):
        look = _look(turn)
        rows = [grant, *Grant.objects.same_access(grant).with_names()]
        missing = Grant.objects.filter(pk__in=[row.pk for row in rows], state=State.ACTIVE)
        still = set(missing.values_list("pk", flat=True))
    if look.is_present:
        return
    for row in rows:
        if row.pk in still:
            comparison.find(
                Finding(
                    kind=Drift.Kind.MISSING,
                    words=(row.pk,),
                    what=f"{row.number} is active, and AWS does not show it: {row.entitlement} for {_holder(row)}.",
                    proof=look.proof,
                    is_repairable=True,
                    rows={"grant": row, "principal": row.principal, "entitlement": row.entitlement},
                )
            )


def compare_ended(comparison: Comparison) -> None:
    """What was taken away lately is still gone, where no other grant and no standing right brings it."""
    lately = Q(revoked_at__gte=comparison.now - REMEMBERED_FOR) | Q(cleared_at=None, shared_key__gt="")
    ended = Grant.objects.filter(
        lately, connection=comparison.connection, state=State.REVOKED, revoked_at__lte=comparison.now - SETTLE
    ).exclude(remover=Grant.BY_OWNER)
    for grant in _one_of_each(ended.with_names().order_by("-pk")):
        with comparison.reading(grant.number):
            _compare_ended(comparison, grant)


def _compare_ended(comparison: Comparison, grant: Grant) -> None:
    turn = Turn(grant)
    if _is_explained(grant):
        return
    comparison.looked()
    if not _look(turn).is_present:
        return
    with exclusive("object", turn.hand.lock_key(turn.target)), budget.purpose("grant"):
        look = _look(turn)
        if not look.is_present or _is_explained(grant):
            return
    comparison.find(came_back(comparison, grant, look))


def came_back(comparison: Comparison, grant: Grant, look: Look) -> Finding:
    """Access that was proven gone is there again. Where a remover can take it, the inventory is told, so that it ends on
    the path of everything that was found."""
    rows = {"grant": grant, "principal": grant.principal, "entitlement": grant.entitlement}
    if registry.has_remover(grant.connection.kind, grant.entitlement.kind) and not grant.is_alone_in_aws:
        seen.note(grant.principal, grant.entitlement, is_present=True, at=look.proof.read_at)
        held = Assignment.objects.open().filter(principal=grant.principal, entitlement=grant.entitlement)
        rows["assignment"] = held.first()  # type: ignore[assignment]
    return Finding(
        kind=Drift.Kind.RESURRECTED,
        words=(grant.principal_id, grant.entitlement_id, grant.reference if grant.is_alone_in_aws else ""),
        what=f"{grant.entitlement} of {_holder(grant)} was removed with {grant.number}, and is there again.",
        proof=look.proof,
        is_critical=True,
        is_repairable=comparison.connection.is_writable,
        rows=rows,
    )


def _one_of_each(grants: Iterable[Grant]) -> Iterable[Grant]:
    """One grant for each thing that AWS shows."""
    seen_before: set[tuple[int, int, str]] = set()
    for grant in grants:
        key = (grant.principal_id, grant.entitlement_id, grant.reference if grant.is_alone_in_aws else "")
        if key not in seen_before:
            seen_before.add(key)
            yield grant


def _look(turn: Turn) -> Look:
    hand: Remover = turn.hand
    return hand.look(turn.target)


def _is_explained(grant: Grant) -> bool:
    """Another grant, or a standing right, says that it shall be there; or a removal is under way."""
    return Grant.objects.same_access(grant).unfinished().exists() or is_held_standing(grant)


def _holder(grant: Grant) -> str:
    return str(grant.identity or grant.principal)

"""The objects that grants share in AWS: guards and dated policies, compared with what the rows say."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from apps.connectors import budget
from apps.connectors.base import Examination, Examiner, Window
from apps.core.locks import exclusive
from apps.grants.models import COMMITTED, Drift, Grant, State
from apps.grants.models.grants import GrantQuerySet
from apps.grants.reconciling.comparing import Comparison, Finding
from apps.grants.windows import provisioner_of, target_of, windows_of

SETTLE = timedelta(minutes=1)  # what changed since then may not be everywhere in AWS, or not in both places yet

Pair = tuple[str, str]


def compare_objects(comparison: Comparison) -> None:
    """Every object that a grant of this connection has something to say in."""
    said = Grant.objects.filter(
        COMMITTED | Q(state=State.REVOKED), connection=comparison.connection, cleared_at=None, shared_key__gt=""
    )
    for first in said.with_names().order_by("shared_key", "pk").distinct("shared_key"):
        with comparison.reading(first.shared_key):
            _compare_object(comparison, first)


def _compare_object(comparison: Comparison, first: Grant) -> None:
    provisioner, target, key = provisioner_of(first), target_of(first), first.shared_key
    if not isinstance(provisioner, Examiner):
        return
    comparison.looked()
    found = provisioner.examine(target, windows_of(key))
    if not found.differences:
        return
    with exclusive("shared", key), budget.purpose("grant"):  # removals may wait for this lock
        found = provisioner.examine(target, windows_of(key))
        moving = moving_in(key, comparison.now)
    late = [window for window in found.weaker if pair_of(window) not in moving]
    if late or found.is_wider:
        _tell(comparison, first, found, is_critical=True)
    elif found.differences and not _only_moves(found, moving):
        _tell(comparison, first, found, is_critical=False)


def _only_moves(found: Examination, moving: set[Pair]) -> bool:
    """Whether all of it is about grants whose own turn writes it in a moment."""
    touched = [*found.weaker, *found.stricter]
    return bool(touched) and all(pair_of(window) in moving for window in touched)


def moving_in(key: str, now: datetime) -> set[Pair]:
    """The pairs whose row and whose line in AWS may differ for a moment, because somebody is at it."""
    recently = now - SETTLE
    grants: GrantQuerySet = Grant.objects.filter(shared_key=key)
    rows = grants.filter(
        Q(state=State.PROVISIONING)
        | Q(state=State.REVOKING, denied_at=None)
        | Q(state=State.ACTIVE, narrowed_at=None)
        | Q(state=State.REVOKED, cleared_at=None) & (Q(sessions_until=None) | Q(sessions_until__lte=now))
        | Q(narrowed_at__gt=recently)
        | Q(denied_at__gt=recently)
        | Q(revoking_at__gt=recently)
        | Q(revoked_at__gt=recently)
        | Q(cleared_at__gt=recently)
    )
    return set(rows.values_list("principal__external_id", "entitlement__external_id"))


def pair_of(window: Window) -> Pair:
    """Who it is about, and what, by the names that AWS has for them."""
    return window.target.principal_external_id, window.target.entitlement_external_id


def _tell(comparison: Comparison, first: Grant, found: Examination, *, is_critical: bool) -> None:
    account = first.entitlement.resource or first.principal.resource
    where = f"{first.provisioner_title} in {account.name if account else first.connection}"
    what = (
        f"What ends grants there was weakened: {where}."
        if is_critical
        else f"What ends grants there says more than was decided: {where}."
    )
    comparison.find(
        Finding(
            kind=Drift.Kind.TAMPERED,
            words=(first.shared_key,),
            what=what,
            proof=found.proof,
            differences=found.differences,
            is_critical=is_critical,
            is_repairable=is_critical,  # what only denies more is taken back by a person
            rows={"shared_key": first.shared_key, "grant": first, "entitlement": first.entitlement},
        )
    )

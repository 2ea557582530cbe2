"""The objects that grants share in AWS: guards and dated policies, compared with what the rows say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Q

from apps.connectors import budget, registry
from apps.connectors.base import Examination, Examiner, Window
from apps.core.locks import exclusive
from apps.grants.models import COMMITTED, Drift, Grant, State, StopWrite
from apps.grants.models.grants import GrantQuerySet
from apps.grants.reconciling.comparing import Comparison, Finding
from apps.grants.windows import Shared, shared_by, shared_of, windows_of
from apps.inventory.models import Connection

SETTLE = timedelta(minutes=1)  # what changed since then may not be everywhere in AWS, or not in both places yet

Pair = tuple[str, str]


def compare_objects(comparison: Comparison) -> None:
    """Every object that a grant of this connection has something to say in, or a stop in force there; each once."""
    for shared in _spoken_in(comparison.connection):
        with comparison.reading(shared.key):
            _compare_object(comparison, shared)


def _spoken_in(connection: Connection) -> Iterator[Shared]:
    """A stop goes on denying in a guard long after the last grant that it ended there was taken out of it."""
    grants = Grant.objects.filter(
        COMMITTED | Q(state=State.REVOKED), connection=connection, cleared_at=None, shared_key__gt=""
    )
    seen = set()
    for first in grants.with_names().order_by("shared_key", "pk").distinct("shared_key"):
        seen.add(first.shared_key)
        yield shared_of(first)
    for row in StopWrite.objects.believed().filter(connection=connection, stop__lifted_at=None).with_names():
        if row.shared_key not in seen and (shared := shared_by(row)):
            seen.add(row.shared_key)
            yield shared


def _compare_object(comparison: Comparison, shared: Shared) -> None:
    provisioner, target, key = shared.provisioner, shared.target, shared.key
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
        _tell(comparison, shared, found, is_critical=True)
    elif found.differences and not _only_moves(found, moving):
        _tell(comparison, shared, found, is_critical=False)


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
    return {*rows.values_list("principal__external_id", "entitlement__external_id"), *_stops_moving_in(key, recently)}


def _stops_moving_in(key: str, recently: datetime) -> Iterator[Pair]:
    """What stops deny there, while they are on their way into AWS."""
    rows = StopWrite.objects.said_in(key).filter(Q(read_at=None) | Q(read_at__gt=recently))
    for row in rows.with_names():
        for target in row.targets():
            yield target.principal_external_id, target.entitlement_external_id


def pair_of(window: Window) -> Pair:
    """Who it is about, and what, by the names that AWS has for them."""
    return window.target.principal_external_id, window.target.entitlement_external_id


def _place_of(row: Grant | StopWrite) -> str:
    account = row.account if isinstance(row, StopWrite) else row.entitlement.resource or row.principal.resource
    return f"{registry.TITLES.get(row.provisioner, row.provisioner)} in {account.name if account else row.connection}"


def _tell(comparison: Comparison, shared: Shared, found: Examination, *, is_critical: bool) -> None:
    where, grant = _place_of(shared.row), shared.row if isinstance(shared.row, Grant) else None
    what = (
        f"What ends grants there was weakened: {where}."
        if is_critical
        else f"What ends grants there says more than was decided: {where}."
    )
    comparison.find(
        Finding(
            kind=Drift.Kind.TAMPERED,
            words=(shared.key,),
            what=what,
            proof=found.proof,
            differences=found.differences,
            is_critical=is_critical,
            is_repairable=is_critical,  # what only denies more is taken back by a person
            rows={"shared_key": shared.key, "grant": grant, "entitlement": grant.entitlement if grant else None},
        )
    )

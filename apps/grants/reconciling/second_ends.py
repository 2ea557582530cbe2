"""What AWS takes away by itself when a grant ends, beside what a shared object denies then: an assignment's schedule.

One read for each pair that is held: the list of schedules says which there are, but not when they begin. Where a schedule
is all that ends something (a membership, a network opening) it is the shared object, and is compared as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from apps.connectors import budget
from apps.connectors.base import EndsTwice, Examination, Window
from apps.core.locks import exclusive
from apps.grants.models import Drift, Grant, State
from apps.grants.reconciling.comparing import Comparison, Finding
from apps.grants.reconciling.objects import moving_in, pair_of
from apps.grants.windows import decided_in, provisioner_of, window_for


def compare_second_ends(comparison: Comparison) -> None:
    """Everything that grants of this connection hold open is taken away in AWS at its end."""
    active = Grant.objects.filter(connection=comparison.connection, state=State.ACTIVE, shared_key__gt="")
    for key, grants in groupby(active.with_names().order_by("shared_key", "pk"), lambda grant: grant.shared_key):
        _compare_those_of(comparison, key, list(grants))


def _compare_those_of(comparison: Comparison, key: str, grants: Sequence[Grant]) -> None:
    provisioner = provisioner_of(grants[0])
    if not isinstance(provisioner, EndsTwice):
        return
    known = {(grant.principal.external_id, grant.entitlement.external_id): grant for grant in grants}
    for window in _settled_in(key, comparison):
        grant = known.get(pair_of(window))
        if grant:
            with comparison.reading(grant.number):
                _compare_second_end(comparison, provisioner, grant, window)


def _settled_in(key: str, comparison: Comparison) -> list[Window]:
    """What is open in a shared object, and is not being moved right now."""
    moving = moving_in(key, comparison.now)
    return [window for window in decided_in(key) if window.is_open and pair_of(window) not in moving]


def _compare_second_end(comparison: Comparison, provisioner: EndsTwice, grant: Grant, window: Window) -> None:
    comparison.looked()
    if not provisioner.examine_second_end(window).differences:
        return
    with exclusive("shared", grant.shared_key), budget.purpose("grant"):  # removals may wait for this lock
        now_open = window_for(window.target, _settled_in(grant.shared_key, comparison))
        found = provisioner.examine_second_end(now_open) if now_open else None
    if found and found.differences:
        comparison.find(_unscheduled(grant, found))


def _holder(grant: Grant) -> str:
    return str(grant.identity or grant.principal)


def _unscheduled(grant: Grant, found: Examination) -> Finding:
    """Not critical: what denies it at its end is compared by itself."""
    return Finding(
        kind=Drift.Kind.UNSCHEDULED,
        words=(grant.principal_id, grant.entitlement_id),
        what=f"AWS's scheduler would not take {grant.entitlement} from {_holder(grant)} at the end of {grant.number}.",
        proof=found.proof,
        differences=found.differences,
        is_repairable=True,
        rows={"grant": grant, "principal": grant.principal, "entitlement": grant.entitlement},
    )

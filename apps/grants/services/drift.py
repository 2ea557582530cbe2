"""Deciding what becomes of differences: repairs by the clock, always by narrowing; the brake; what may stay for now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.lifecycle import Conflict, move
from apps.core.refusals import NotPossible
from apps.grants import tasks
from apps.grants.models import Drift, EndReason, Grant, Reconciliation
from apps.grants.services import brake
from apps.grants.services.grants import MOST_WORDS, can_remove, end, remove_standing

LONGEST_ACCEPTANCE = timedelta(days=90)
MOST_TOLD = 10  # sentences of an event


@transaction.atomic
def decide(run: Reconciliation) -> Reconciliation:
    """Say what becomes of what this comparison saw: nothing when it is incomplete, or the first of its connection in this
    database; nothing before two people say so when it would repair suspiciously much, or while an earlier one waits for
    that; else every repair, as a decision of the clock each."""
    run = Reconciliation.objects.select_for_update(of=("self",)).select_related("connection").get(pk=run.pk)
    if not Reconciliation.objects.undecided().filter(pk=run.pk).exists():
        return run
    if run.problems:
        return _settle(run, Reconciliation.State.INCOMPLETE, "grants.reconciliation.incomplete")
    due = list(Drift.objects.to_repair(run, timezone.now()).with_names())
    waiting = run.connection.reconciliations.held().exists()
    most, percent = settings.DRIFT_MOST_REPAIRS, settings.DRIFT_MOST_PERCENT
    if not waiting and brake.bites(len(due), run.held_count, most=most, percent=percent):
        Drift.objects.filter(pk__in=[row.pk for row in due]).update(held_in=run)
        return _settle(run, Reconciliation.State.HELD, "grants.reconciliation.held", repairs=len(due))
    repairs = len(due)
    if not (waiting or run.only_reports):
        for drift in due:
            _repair(drift)
    return _settle(run, Reconciliation.State.SETTLED, "grants.reconciliation.settled", repairs=repairs)


def _settle(run: Reconciliation, to: str, event: str, **fields: Any) -> Reconciliation:
    seen = Drift.objects.open().filter(seen_in=run)
    new = seen.critical().filter(first_seen_at__gte=run.started_at)
    data = {
        "looked_at": run.looked_at,
        "found": run.found,
        "closed": run.closed,
        "only_reports": run.only_reports,
        "problems": run.problems[:MOST_TOLD],
        "new_critical": new.count(),
        "critical": list(new.values_list("what", flat=True)[:MOST_TOLD]),
        **fields,
    }
    return move(run, to, by=audit.CLOCK, event=event, about=[run.connection], data=data, **fields)


# ---- repairs ------------------------------------------------------------------------------------------------------


def _repair(drift: Drift) -> None:
    """Decide one repair. What cannot be decided stays open, and says why."""
    try:
        with transaction.atomic():
            removal = _REPAIRS[Drift.Kind(drift.kind)](drift)
    except (NotPossible, Conflict) as error:
        Drift.objects.filter(pk=drift.pk).update(problem=str(error)[:1000])
        return
    Drift.objects.filter(pk=drift.pk).update(
        decided_at=timezone.now(), removal=removal, repaired_at=None, problem="", held_in=None
    )


def _mend(drift: Drift) -> Grant | None:
    """What many share is written again. What a grant has for itself was changed by somebody who wanted in: that grant
    ends, denied first."""
    grant = drift.grant
    is_shared = Grant.objects.sharing(drift.shared_key).count() > 1
    if grant is None or is_shared or not (grant.is_live and grant.is_alone_in_aws):
        _write_again(drift)
        return None
    return end(grant, by=audit.CLOCK, reason=EndReason.DRIFT, note=f"{drift.number}: {drift.what}")


def _write_again(drift: Drift) -> None:
    """A worker writes it: the decision and its event are here, the proof follows."""
    about = [row for row in (drift.grant, drift.principal, drift.entitlement) if row]
    audit.record("grants.drift.repair_decided", by=audit.CLOCK, subject=drift, about=about, data={"kind": drift.kind})
    Drift.objects.filter(pk=drift.pk).update(next_try_at=timezone.now())
    transaction.on_commit(lambda: tasks.enqueue(tasks.repair, drift.pk))


def _remove(drift: Drift) -> Grant | None:
    """On the path of everything that is found; a thing of its own in AWS goes by what made it."""
    assignment = drift.assignment
    if assignment is None or not (can_remove(assignment) or drift.grant is None):
        _write_again(drift)
        return None
    return remove_standing(
        assignment, by=audit.CLOCK, reason=drift.what, end_reason=EndReason.DRIFT, about=[drift, drift.connection]
    )


def _end_missing(drift: Drift) -> Grant:
    """Never opened again by itself: that would give access on nobody's word."""
    assert drift.grant is not None
    return end(drift.grant, by=audit.CLOCK, reason=EndReason.GONE, note=f"{drift.number}: AWS no longer shows it.")


_REPAIRS: dict[Drift.Kind, Callable[[Drift], Grant | None]] = {
    Drift.Kind.TAMPERED: _mend,
    Drift.Kind.ROGUE: _remove,
    Drift.Kind.RESURRECTED: _remove,
    Drift.Kind.MISSING: _end_missing,
    Drift.Kind.UNSCHEDULED: _write_again,
}


# ---- people -------------------------------------------------------------------------------------------------------


@transaction.atomic
def propose_release(run: Reconciliation, *, by: Any) -> Reconciliation:
    """The first of two administrators looked at what the brake holds, and says that it is real."""
    return brake.propose(run, by=by, event="grants.reconciliation.release_proposed")


@transaction.atomic
def release(run: Reconciliation, *, by: Any) -> Reconciliation:
    """The second, another person by whatever login, says so too: exactly what the brake holds, and AWS still showed last,
    is repaired. What was found since waits for the next comparison."""
    held = list(Drift.objects.open().unaccepted(timezone.now()).filter(held_in=run).with_names())
    data = {"repairs": len(held)}
    run = brake.let_go(run, Reconciliation.State.SETTLED, by=by, event="grants.reconciliation.released", data=data)
    for drift in held:
        _repair(drift)
    run.holding.update(held_in=None)
    return run


@transaction.atomic
def accept(drift: Drift, *, by: Any, until: datetime, reason: str) -> Drift:
    """It may stay as it is until then. Nothing is repaired meanwhile; what is decided already goes on."""
    drift = Drift.objects.select_for_update(of=("self",)).get(pk=drift.pk)
    reason, now = reason.strip()[:MOST_WORDS], timezone.now()
    if not drift.is_open:
        raise NotPossible("AWS no longer shows this. There is nothing to accept.")
    if not reason:
        raise NotPossible("Say why it may stay.")
    if not now < until <= now + LONGEST_ACCEPTANCE:
        raise NotPossible(f"Choose a day in the next {LONGEST_ACCEPTANCE.days}.")
    drift.accepted_until, drift.accepted_by, drift.accepted_reason = until, by, reason
    drift.held_in = None
    drift.save(update_fields=["accepted_until", "accepted_by", "accepted_reason", "held_in"])
    about = [row for row in (drift.grant, drift.principal, drift.entitlement) if row]
    data = {"until": until.isoformat(), "reason": reason, "kind": drift.kind, "what": drift.what}
    audit.record("grants.drift.accepted", by=by, subject=drift, about=about, data=data)
    return drift

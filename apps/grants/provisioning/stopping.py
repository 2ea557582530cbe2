"""Writing an emergency stop into AWS: one write for each shared object, read back, before any removal is carried out. And
lifting one, on what two administrators signed."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import OperationalError, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget, registry
from apps.connectors.base import Proof
from apps.connectors.errors import ConnectorError, Gone, Unproven
from apps.core.locks import Taken, is_held
from apps.core.privileges import SAY_IT_MAY_GO
from apps.grants import lifting, narrowing
from apps.grants.models import Grant, Stop, StopWrite
from apps.grants.models.stops import StopWriteQuerySet
from apps.grants.provisioning.denying import note_denied
from apps.grants.provisioning.enforcing import alone_with, enforce, refuse
from apps.grants.provisioning.turns import BACKOFF, BACKOFF_CAP, HANDOVER, whole_now
from apps.grants.signatures import NotSigned
from apps.grants.windows import Shared, target_of, windows_of, writer_for

logger = logging.getLogger(__name__)


@budget.purpose("revoke")
def write_stop(write_id: int) -> None:
    """Write one object that a stop is said in, or out of which it was lifted, and read it back. Tried for ever.

    A stop that was lifted is written out with the same call: the object then says what the rows say.
    """
    row = StopWrite.objects.with_names().get(pk=write_id)
    if row.is_settled or not _claim(row):
        return
    try:
        proof = _write_policy(row) if row.is_organization else _write_shared(row)
    except (ConnectorError, Taken) as error:
        _postpone(row, error)
        return
    _settle(row, proof)


def _claim(row: StopWrite) -> bool:
    """Whether nobody is at it. One whose row another session holds is written all the same: twice does no harm, and
    whoever could hold the row would hold the stop back."""
    now = timezone.now()
    mine = StopWrite.objects.due(now).filter(pk=row.pk)
    if not mine.exists():
        return False
    return _keep(mine, next_try_at=now + HANDOVER, written_at=now) is not False


def _keep(rows: StopWriteQuerySet, **fields: Any) -> bool | None:
    """Keep this with the row. False when it is not among these any more; None when another session holds it, which is
    not waited for."""
    try:
        with transaction.atomic():
            mine = list(rows.select_for_update(nowait=True).values_list("pk", flat=True))
            return bool(StopWrite.objects.filter(pk__in=mine).update(**fields))
    except OperationalError as error:
        if not is_held(error):
            raise
        logger.warning("Another session holds the row of a stop's write, so this is not kept yet: %s", sorted(fields))
        return None


def _write_shared(row: StopWrite) -> Proof:
    """Under the object's lock, so that whoever writes it next has read the stop too. A Deny is not taken back while the
    database may have forgotten what else it is for."""
    if not row.stop.is_in_force:
        narrowing.require_may_take_back()
    try:
        shared = _shared(row)
        with alone_with(shared):
            ending = list(Grant.objects.undenied().filter(shared_key=shared.key).with_names())
            windows = windows_of(shared.key)
            proof = enforce(shared, windows)
            note_denied(ending, windows, proof)
    except Gone as error:  # whoever held it was deleted in AWS, and the object with them
        return Proof(str(error), whole_now())
    return proof


def _shared(row: StopWrite) -> Shared:
    """The object, by any target of it: they all name the same one. The stop's own, so that nothing else of a grant is
    touched."""
    if (row.connection.kind, row.provisioner) not in registry.PROVISIONERS:
        refuse(row, row.shared_key)
    own = row.targets()
    if own:
        return Shared(row.shared_key, writer_for(row), own[0], row)
    said = Grant.objects.filter(shared_key=row.shared_key).with_names().first()
    if said is None:
        raise Gone("No grant is known in this object any more.")
    return Shared(row.shared_key, writer_for(row), target_of(said), row)


def _write_policy(row: StopWrite) -> Proof:
    """The organization's stop policy. Attaching it only narrows; taking it off is a person's work in AWS."""
    policy = registry.stop_policy(row.connection.kind, row.connection.config)
    if row.stop.is_in_force:
        return policy.attach()
    look = policy.look()
    if look.is_present:
        raise Unproven(f"{look.proof.what} Gatehouse may not detach it. A person does that in AWS Organizations.")
    return look.proof


def _settle(row: StopWrite, proof: Proof) -> None:
    """Keep what was read back. One that was lifted while it was being written is still to be cleared after this."""
    field = "read_at" if row.stop.is_in_force else "cleared_at"
    event = "grants.stop.written" if row.stop.is_in_force else "grants.stop.cleared"
    mine = StopWrite.objects.filter(pk=row.pk)
    with transaction.atomic():
        if not _keep(mine, **{field: proof.read_at}, proof=proof.what[:1000], problem="", problem_count=0):
            return
        data = {"object": row.shared_key or "organization", "proof": proof.what, "read_at": proof.read_at.isoformat()}
        audit.record(event, by=audit.WORKER, subject=row.stop, data=data)


def _postpone(row: StopWrite, error: Exception) -> None:
    logger.warning("%s could not be written for %s yet: %s", row.where, row.stop.number, error)
    wait = timedelta(seconds=min(BACKOFF * 2 ** min(row.problem_count, 10), BACKOFF_CAP))
    mine = StopWrite.objects.filter(pk=row.pk)
    _keep(mine, problem=str(error)[:1000], problem_count=row.problem_count + 1, next_try_at=whole_now() + wait)


@transaction.atomic
def lift_stop(stop_id: int) -> None:
    """Lift a stop that two administrators signed may go. What is said to be signed and is not is an alarm, and has to be
    said anew. The clock then has it written out of AWS; what it was to end and has not is ended before."""
    stop = Stop.objects.to_lift().with_names().select_for_update(of=("self",)).filter(pk=stop_id).first()
    if stop is None or Grant.objects.live().filter(stop.covers()).exists():
        return
    now = timezone.now()
    try:
        lifting.require_both(stop, at=now)
    except NotSigned as error:
        _refuse_to_lift(stop, str(error))
        return
    stop.lifted_at, stop.lifted_by, stop.lift_problem = now, stop.lift_asked_by, ""
    stop.save(update_fields=["lifted_at", "lifted_by", "lift_problem"])
    stop.writes.update(next_try_at=now, problem="", problem_count=0)
    names = {"proposed_by": str(stop.lift_proposed_by), "lifted_by": str(stop.lifted_by)}
    audit.record("grants.stop.lifted", by=audit.WORKER, subject=stop, data={**names, "reason": stop.lift_reason})


def _refuse_to_lift(stop: Stop, why: str) -> None:
    names = {"proposed_by": str(stop.lift_proposed_by), "asked_by": str(stop.lift_asked_by)}
    stop.lift_proposed_at = stop.lift_proposed_by = stop.lift_asked_at = stop.lift_asked_by = None
    stop.lift_proposal, stop.lift_consent, stop.lift_problem = {}, {}, why[:1000]
    stop.save(update_fields=[*SAY_IT_MAY_GO, "lift_problem"])
    audit.record("grants.stop.lift_refused", by=audit.WORKER, subject=stop, data={**names, "problem": why})

"""Writing an emergency stop into AWS: one write for each shared object, read back, before any removal is carried out."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget, registry
from apps.connectors.base import Proof, Target
from apps.connectors.errors import ConnectorError, Gone, Unproven
from apps.core.locks import Taken, exclusive
from apps.grants import narrowing
from apps.grants.models import Grant, StopWrite
from apps.grants.provisioning.denying import note_denied
from apps.grants.provisioning.turns import BACKOFF, BACKOFF_CAP, HANDOVER, whole_now
from apps.grants.windows import target_of, windows_of

logger = logging.getLogger(__name__)


@budget.purpose("revoke")
def write_stop(write_id: int) -> None:
    """Write one object that a stop is said in, or out of which it was lifted, and read it back. Tried for ever.

    A stop that was lifted is written out with the same call: the object then says what the rows say.
    """
    row = StopWrite.objects.with_names().get(pk=write_id)
    now = timezone.now()
    mine = StopWrite.objects.due(now).filter(pk=row.pk)
    if row.is_settled or not mine.update(next_try_at=now + HANDOVER, written_at=now):
        return
    try:
        proof = _write_policy(row) if row.is_organization else _write_shared(row)
    except (ConnectorError, Taken) as error:
        _postpone(row, error)
        return
    _settle(row, proof)


def _write_shared(row: StopWrite) -> Proof:
    """Under the object's lock, so that whoever writes it next has read the stop too. A Deny is not taken back while the
    database may have forgotten what else it is for."""
    why_narrow = "" if row.stop.is_in_force else narrowing.reason()
    if why_narrow:
        raise narrowing.OnlyNarrowing(why_narrow)
    provisioner = registry.provisioner(row.connection.kind, row.provisioner, row.connection.config)
    with exclusive("shared", row.shared_key):
        ending = list(Grant.objects.undenied().filter(shared_key=row.shared_key).with_names())
        windows = windows_of(row.shared_key)
        try:
            proof = provisioner.enforce(_target(row), windows)
        except Gone as error:  # whoever held it was deleted in AWS, and the object with them
            return Proof(str(error), whole_now())
        note_denied(ending, windows, proof)
    return proof


def _target(row: StopWrite) -> Target:
    """Any target of the object: they all name the same one. The stop's own, so that nothing else of a grant is touched."""
    own = row.targets()
    if own:
        return own[0]
    said = Grant.objects.filter(shared_key=row.shared_key).with_names().first()
    if said is None:
        raise Gone("No grant is known in this object any more.")
    return target_of(said)


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
    with transaction.atomic():
        mine = StopWrite.objects.filter(pk=row.pk)
        mine.update(**{field: proof.read_at}, proof=proof.what[:1000], problem="", problem_count=0)
        data = {"object": row.shared_key or "organization", "proof": proof.what, "read_at": proof.read_at.isoformat()}
        audit.record(event, by=audit.WORKER, subject=row.stop, data=data)


def _postpone(row: StopWrite, error: Exception) -> None:
    logger.warning("%s could not be written for %s yet: %s", row.where, row.stop.number, error)
    wait = timedelta(seconds=min(BACKOFF * 2 ** min(row.problem_count, 10), BACKOFF_CAP))
    StopWrite.objects.filter(pk=row.pk).update(
        problem=str(error)[:1000], problem_count=row.problem_count + 1, next_try_at=whole_now() + wait
    )

"""Carrying out the repairs that are a write in AWS: always less access than before, or the same."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.base import EndsTwice, Proof, Window
from apps.connectors.errors import ConnectorError, Gone, Unproven
from apps.core.locks import Taken, exclusive
from apps.grants import narrowing
from apps.grants.models import Drift, Grant
from apps.grants.provisioning.enforcing import alone_with, enforce
from apps.grants.provisioning.turns import BACKOFF_CAP, HANDOVER, Turn, plain, whole_now
from apps.grants.windows import decided_in, find_shared, window_for, windows_of

logger = logging.getLogger(__name__)


@budget.purpose("revoke")
def repair(drift_id: int) -> None:
    """Write what was decided about one difference: a shared object or a second end as the rows say, or a removal once more.
    Tried again until AWS shows it."""
    now = timezone.now()
    mine = Drift.objects.unwritten(now).filter(pk=drift_id)
    if not mine.update(next_try_at=now + HANDOVER):
        return
    drift = Drift.objects.with_names().get(pk=drift_id)
    try:
        proof = _REPAIRS[Drift.Kind(drift.kind)](drift)
    except (ConnectorError, Taken) as error:
        logger.warning("%s could not be repaired yet: %s", drift.number, error)
        later = timezone.now() + timedelta(seconds=BACKOFF_CAP)
        Drift.objects.filter(pk=drift.pk).update(problem=str(error)[:1000], next_try_at=later)
        return
    with transaction.atomic():
        Drift.objects.filter(pk=drift.pk).update(repaired_at=proof.read_at, problem="")
        about = [row for row in (drift.grant, drift.principal, drift.entitlement) if row]
        audit.record("grants.drift.repaired", by=audit.WORKER, subject=drift, about=about, data={"proof": plain(proof)})


def _write_again(drift: Drift) -> Proof:
    """The shared object, whole, from the rows as they are now; what it denies or no longer gives stays so."""
    shared = find_shared(drift.shared_key)
    if shared is None:
        return Proof("Nothing is left that this object would end.", whole_now())
    with alone_with(shared):
        windows = narrowing.strictest(shared.provisioner, shared.target, windows_of(shared.key))
        return enforce(shared, windows)


def _schedule_again(drift: Drift) -> Proof:
    """The second end of one pair, and nothing else, from the rows as they are now: what the shared object denies does not
    depend on it, so neither waits for the other."""
    assert drift.grant is not None  # it is known by the grant that it ends
    turn = Turn(Grant.objects.with_names().get(pk=drift.grant.pk))
    key = turn.grant.shared_key
    with exclusive("shared", key):
        window = window_for(turn.target, decided_in(key))
        if window is None or not window.is_open or not isinstance(turn.provisioner, EndsTwice):
            return Proof("Nothing is open any more that this would end.", whole_now())
        return turn.provisioner.write_second_end(window)


def _remove_again(drift: Drift) -> Proof:
    """What came back goes again, denied first, by what removed it before."""
    assert drift.grant is not None  # what came back is known by the grant that it came with
    grant = Grant.objects.with_names().get(pk=drift.grant.pk)
    turn = Turn(grant)
    if grant.shared_key:
        with alone_with(turn.shared):
            # Long taken out of the object, it may be that nobody speaks there any more: then this does.
            enforce(turn.shared, windows_of(grant.shared_key) or [Window(turn.target, whole_now(), is_open=False)])
    with exclusive("object", turn.hand.lock_key(turn.target)):
        if Grant.objects.same_access(grant).unfinished().exists():
            return Proof("Another grant gives the same access now, and takes it away when it ends.", whole_now())
        try:
            if turn.hand.look(turn.target).is_present:
                turn.hand.close(turn.target)
        except Gone as error:
            return Proof(str(error), whole_now())
    look = turn.hand.look(turn.target)
    if look.is_present:
        raise Unproven("AWS still shows it. It is removed once more.")
    return look.proof


_REPAIRS = {
    Drift.Kind.TAMPERED: _write_again,
    Drift.Kind.RESURRECTED: _remove_again,
    Drift.Kind.UNSCHEDULED: _schedule_again,
}

"""What people know about machines and AWS does not: what they are, what they are for, and who comes after their owner.
None of it changes who may ask for what: rules read none of these words."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.refusals import NotPossible
from apps.inventory.models import Correction, Identity, Principal
from apps.inventory.models.holders import Classification
from apps.inventory.services import logins

REASON = 500
LONGEST = 1000


@transaction.atomic
def correct(
    identity: Identity, *, classification: Classification | None, is_person: bool = False, reason: str, by: Any
) -> Correction:
    """Say what a machine is, whatever AWS shows. What AWS shows is kept beside it, as it is and as it was when this was
    said. `is_person` puts an IAM user into the queue, where an administrator says whose login it is: an owner's word
    alone makes nobody a person, for a person may ask for more than a machine."""
    identity = _machine(identity)
    if not reason.strip():
        raise NotPossible("Say why, so that the next person can judge it.")
    if is_person:
        principal = _iam_user_of(identity)
        logins.ask_whose(principal, by=by, note=f"{by} says it is a person's login: {reason}")
    elif classification is None:
        raise NotPossible("Choose what it is.")
    row, _ = Correction.objects.update_or_create(
        identity=identity,
        defaults={
            "classification": classification or "",
            "is_person": is_person,
            "reason": reason[:REASON],
            "said_by": by,
            "said_at": timezone.now(),
            "signs_then": identity.signs,
        },
    )
    data = {
        "said": "person" if is_person else str(classification),
        "evidence_says": identity.classification,
        "evidence": identity.evidence,
        "reason": row.reason,
    }
    audit.record("inventory.identity.corrected", by=by, subject=identity, data=data)
    return row


@transaction.atomic
def take_correction_back(identity: Identity, *, by: Any) -> Identity:
    """What AWS shows is the last word again."""
    identity = _machine(identity)
    row = Correction.objects.filter(identity=identity).first()
    if row is None:
        raise NotPossible(f"Nobody corrected what {identity} is.")
    data = {"said": "person" if row.is_person else row.classification, "evidence_says": identity.classification}
    row.delete()
    audit.record("inventory.identity.correction_taken_back", by=by, subject=identity, data=data)
    return identity


@transaction.atomic
def describe(identity: Identity, *, purpose: str, consumers: str, by: Any) -> Identity:
    """Write down what a machine is for and who relies on it."""
    identity = _machine(identity)
    before = {"purpose": identity.purpose, "consumers": identity.consumers}
    after = {"purpose": purpose.strip()[:LONGEST], "consumers": consumers.strip()[:LONGEST]}
    if before == after:
        return identity
    identity.purpose, identity.consumers = after["purpose"], after["consumers"]
    identity.save(update_fields=["purpose", "consumers"])
    data = {"from": before, "to": after}
    audit.record("inventory.identity.described", by=by, subject=identity, data=data)
    return identity


@transaction.atomic
def set_successor(identity: Identity, successor: Identity | None, *, by: Any) -> Identity:
    """Name who answers for a machine once its owner has left."""
    identity = _machine(identity)
    if successor and (not successor.is_human or successor.ended_at):
        raise NotPossible(f"{successor} cannot answer for anything. Choose a person who is here now.")
    if successor and successor.connection_id != identity.connection_id:
        raise NotPossible(f"{successor} belongs to another connection. Choose somebody of {identity.connection}.")
    if successor and successor.pk == identity.owner_id:
        raise NotPossible(f"{successor} is the owner. Choose somebody who stays when they leave.")
    before, identity.successor = identity.successor, successor
    identity.successor_source = f"set by {by}"[:120] if successor else ""
    identity.save(update_fields=["successor", "successor_source"])
    audit.record(
        "inventory.identity.successor_set",
        by=by,
        subject=identity,
        about=[person for person in (successor, before) if person],
        data={"from": str(before or ""), "to": str(successor or "")},
    )
    return identity


def _machine(identity: Identity) -> Identity:
    locked = Identity.objects.select_for_update(of=("self",)).select_related("connection", "successor")
    identity = locked.get(pk=identity.pk)
    if identity.is_human:
        raise NotPossible("This is a person. Only machines are classified and owned.")
    if identity.ended_at:
        raise NotPossible(f"{identity} is gone. What was known about it stays as it is.")
    return identity


def _iam_user_of(identity: Identity) -> Principal:
    users = Principal.objects.present().filter(identity=identity, kind=Principal.Kind.IAM_USER)
    found = users.select_related("connection").first()
    if found is None:
        raise NotPossible("Only an IAM user can be a person's login.")
    return found

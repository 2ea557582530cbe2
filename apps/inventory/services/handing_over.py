"""What somebody who left answered for gets somebody else who answers for it."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Concat, Left

from apps.audit import services as audit
from apps.inventory.models import Entitlement, Identity, Principal, Resource
from apps.inventory.sync.upserts import DERIVED, DERIVED_STARTS, PASSED_ON

OWNED: dict[str, type[models.Model]] = {
    "accounts": Resource,
    "entitlements": Entitlement,
    "groups": Principal,
    "machines": Identity,
}


@transaction.atomic
def hand_over(person: Identity, to: Identity | None, *, by: Any) -> dict[str, int]:
    """Make `to` the owner of everything that `person`, who left, owned; a machine goes to its named successor first. What
    nobody takes over keeps its owner, and is shown as nobody's. A few statements, whatever it is. For approvals of
    privileged access the new owner's word counts after the waiting time.

    Where only AWS said that it was theirs, a tag that names somebody else later counts again. Where a person had said so,
    or named the successor, it does not.

    Returns how many of each were handed over.
    """
    succeeds = f"named to succeed {person}, who left"[:120]
    named = Identity.objects.machine().filter(owner=person, successor__isnull=False, successor__ended_at=None)
    counts = {"machines with a successor": named.update(owner=F("successor"), owner_source=succeeds)}
    for words, model in OWNED.items():
        rows = model._default_manager.filter(owner=person)
        source = {"owner_source": _source(person)} if model in (Resource, Identity) else {}
        counts[words] = rows.update(owner=to, **source) if to else 0
    counts = {words: count for words, count in counts.items() if count}
    if counts:
        about = [to] if to else []
        audit.record("inventory.identity.handed_over", by=by, subject=person, about=about, data={"counts": counts})
    return counts


def _source(person: Identity) -> Case:
    """Where the next owner is known from: beside a person's word, which stays, or by this alone."""
    passed_on = f"{PASSED_ON}{person}, who left"[:120]
    nobody_said = Q(owner_source__in=DERIVED)
    for start in (*DERIVED_STARTS, PASSED_ON):
        nobody_said |= Q(owner_source__startswith=start)
    beside = Left(Concat(F("owner_source"), Value(f"; {passed_on}")), 120)
    return Case(When(nobody_said, then=Value(passed_on)), default=beside)

"""What somebody who left answered for gets somebody else who answers for it."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models import F

from apps.audit import services as audit
from apps.inventory.models import Entitlement, Identity, Principal, Resource

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

    Returns how many of each were handed over.
    """
    said = f"passed on by {person}, who left"[:120]
    named = Identity.objects.machine().filter(owner=person, successor__isnull=False, successor__ended_at=None)
    counts = {"machines with a successor": named.update(owner=F("successor"), owner_source=said)}
    for words, model in OWNED.items():
        rows = model._default_manager.filter(owner=person)
        source = {"owner_source": said} if model in (Resource, Identity) else {}
        counts[words] = rows.update(owner=to, **source) if to else 0
    counts = {words: count for words, count in counts.items() if count}
    if counts:
        about = [to] if to else []
        audit.record("inventory.identity.handed_over", by=by, subject=person, about=about, data={"counts": counts})
    return counts

"""The brake: what the clock would do to suspiciously many at once waits for two administrators.

What waits is a row of its own: a comparison that would repair so much, or an exodus. The first of the two says that it is
real; the second, another person by whatever login, lets it go. Called inside the transaction of the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.utils import timezone

from apps.audit import services as audit
from apps.core.lifecycle import move
from apps.core.refusals import NotPossible
from apps.grants import permissions
from apps.grants.models import Exodus, Reconciliation
from apps.users.models import User

MINIMUM = 3  # fewer than this are never a suspicious share: small connections would trip at every change

Held = TypeVar("Held", Reconciliation, Exodus)


def bites(count: int, of: int, *, most: int, percent: int) -> bool:
    """Whether so many of so many at once are more likely a mistake (a broken feed, lost rows) than the truth."""
    return count > most or (count >= MINIMUM and count * 100 > percent * of)


def propose(row: Held, *, by: Any, event: str) -> Held:
    """The first of the two looked at it, and says that it is real."""
    row = _held(row, by)
    if row.proposed_by:
        raise NotPossible(f"{row.proposed_by} said so already. Another administrator lets it go.")
    row.proposed_at, row.proposed_by = timezone.now(), by
    row.save(update_fields=["proposed_at", "proposed_by"])
    audit.record(event, by=by, subject=row, about=[row.connection])
    return row


def let_go(row: Held, to: str, *, by: Any, event: str, data: Mapping[str, Any]) -> Held:
    """The second says so too."""
    row = _held(row, by)
    if row.proposed_by is None:
        raise NotPossible("Nobody has said yet that this is real. Say so first, then another administrator lets it go.")
    if not permissions.are_two_people(row.proposed_by, by):
        raise NotPossible("You said yourself that this is real. Another person lets it go.")
    data = {**data, "proposed_by": str(row.proposed_by)}
    who = {"released_at": timezone.now(), "released_by": by}
    return move(row, to, by=by, event=event, about=[row.connection], data=data, **who)


def forget(user: User) -> None:
    """What somebody said as the first of two is unsaid: somebody else says it, so that nothing waits for ever."""
    for model in (Reconciliation, Exodus):
        mine = model._default_manager.filter(state=model.State.HELD, proposed_by=user)
        mine.update(proposed_by=None, proposed_at=None)


def _held(row: Held, by: Any) -> Held:
    rows = type(row)._default_manager.select_for_update(of=("self",)).select_related("connection", "proposed_by")
    row = rows.get(pk=row.pk)
    if row.state != row.State.HELD:
        raise NotPossible(f"Nothing is held any more: {row.get_state_display().lower()}. Look at the latest.")
    if not permissions.can_release(by):
        raise NotPossible(
            "Two administrators who are known people let this go. Have your user linked to your identity first."
        )
    return row

"""Which event tells whom what: one table, event name → the function that makes the notes of one event.

An event without an entry tells nobody. The functions look at the rows as they are now, not as they were: a note that
has become pointless meanwhile is not made.
"""

from __future__ import annotations

from apps.notifications.notes import access, drift, grants, inventory, leaving, people, reviews, stops
from apps.notifications.notes.base import Note, Teller, administrators, one_line

TELLERS: dict[str, Teller] = {
    **access.TELLERS,
    **grants.TELLERS,
    **drift.TELLERS,
    **stops.TELLERS,
    **people.TELLERS,
    **leaving.TELLERS,
    **inventory.TELLERS,
    **reviews.TELLERS,
}

# Event name → kinds of earlier notes on the same subject that ask for nothing any more once it happened.
SETTLES: dict[str, tuple[str, ...]] = {
    **access.SETTLES,
    **grants.SETTLES,
    **drift.SETTLES,
    **stops.SETTLES,
    **inventory.SETTLES,
    **leaving.SETTLES,
    **reviews.SETTLES,
}

__all__ = ["SETTLES", "TELLERS", "Note", "administrators", "one_line"]

"""Who else reads the events of audit trails. The inventory keeps usage of its own; upper apps (what was a grant used for)
add readers in `AppConfig.ready`, so that inventory knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apps.connectors.trail import TrailEvent
from apps.inventory.models import Connection

EventReader = Callable[[Connection, Sequence[TrailEvent]], None]

_readers: dict[str, EventReader] = {}


def add_event_reader(name: str, reader: EventReader) -> None:
    """Adds a reader; one with the same name replaces the earlier one.

    It is called with each batch of new events, in the order of the files, inside the transaction that also notes that
    they were read: either both are kept or neither. An event id comes once, as far as the window of ids that are remembered
    reaches (days, see docs/decisions/0024). What a reader raises undoes the batch and fails the reading, so it must not
    raise for what an event says. It may not call the provider.
    """
    _readers[name] = reader


def hand_on(connection: Connection, events: Sequence[TrailEvent]) -> None:
    """Give a batch of events that were not seen before to every reader. Called inside the batch's transaction."""
    for reader in _readers.values():
        reader(connection, events)

"""What a system tells about its own changes: something may be different there, read it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Change:
    """Something in the system may be different since `at`: a provider's event said so, and only that is believed of it.

    `kind`: account (the inside of one), holders (`key` is the external id of the entitlement that may be held by others
    now), membership (`key` is the provider's own id of one that ended), rest (read everything).
    """

    event_id: str
    event_name: str
    at: datetime
    account_id: str
    kind: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """Some messages of a change feed: what they are about, why some could not be understood, and what to give back when
    all of that is safely noted."""

    changes: list[Change]
    malformed: list[str]
    receipts: list[str]


class ChangeFeed(Protocol):
    """What a system tells about its own changes, at least once and in any order. Every method may raise."""

    def receive(self) -> Received:
        """The next messages; none when none wait."""

    def done(self, receipts: Sequence[str]) -> None:
        """What came with these is safely noted: do not tell it again."""

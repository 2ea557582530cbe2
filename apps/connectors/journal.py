"""What was asked of a provider in one turn, for a grant's receipt: the changes only, with the provider's own number of each
request, which its log (CloudTrail) knows too. Never a parameter, never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One changing call and how it went."""

    call: str  # "iam:CreatePolicyVersion"
    account_id: str
    request_id: str
    outcome: str  # accepted, or the class of the error
    at: datetime


_kept: ContextVar[list[Change] | None] = ContextVar("changes", default=None)


@contextmanager
def kept() -> Iterator[list[Change]]:
    """Collect the changes that are asked for inside the block."""
    changes: list[Change] = []
    token = _kept.set(changes)
    try:
        yield changes
    finally:
        _kept.reset(token)


def note(call: str, account_id: str, request_id: str, outcome: str = "accepted") -> None:
    """A changing call was made. Outside of `kept` nobody wants to know."""
    changes = _kept.get()
    if changes is not None:
        changes.append(Change(call, account_id, request_id, outcome, datetime.now(UTC)))

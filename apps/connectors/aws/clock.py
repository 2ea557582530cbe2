"""How far our clock is from AWS's, by the `Date` of its answers (aws.md §1.6).

The ends that we write are compared with AWS's clock. When ours is wrong they are wrong by as much, so nothing is opened
then; ending access does not depend on it, and reading goes on, which is how we learn that the clock is right again.
"""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from apps.connectors import budget
from apps.connectors.errors import Unproven

MOST = timedelta(seconds=30)
TOLD_EVERY = 30.0  # seconds after which a process tells the others again

_HALF = timedelta(milliseconds=500)  # the header has whole seconds, cut off
_last: timedelta | None = None
_told_at = float("-inf")


def note(date: str) -> None:
    """AWS answered with this `Date` just now. What is not a date says nothing."""
    global _last, _told_at  # noqa: PLW0603  one clock a process
    try:
        theirs = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return
    _last = datetime.now(UTC) - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) - _HALF
    if time.monotonic() - _told_at >= TOLD_EVERY:
        _told_at = time.monotonic()
        budget.here().note_skew(f"{socket.gethostname()}:{os.getpid()}", round(_last.total_seconds(), 1))


def skew() -> timedelta | None:
    """How far we are ahead of AWS (behind: negative), by its last answer to this process. None before the first."""
    return _last


def require_right() -> None:
    """Raise `Unproven` while our clock is more than `MOST` off: what opens access now would end at the wrong time."""
    if _last is not None and abs(_last) > MOST:
        raise Unproven(
            f"The clock of this machine is {abs(_last).total_seconds():.0f} seconds "
            f"{'ahead of' if _last > timedelta() else 'behind'} AWS's. Nothing is opened until it is set right."
        )


def forget() -> None:
    """As if AWS had never answered. For tests."""
    global _last, _told_at
    _last, _told_at = None, float("-inf")

"""Times in policies: what a dated condition can never allow again.

A condition on the clock is the only one that is decided without a request. Only its end counts: once it is over it stays
over, so an answer from earlier can say too much and never too little.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from apps.connectors.aws.policy.documents import Condition, Document, Statement

MARGIN = timedelta(minutes=5)  # how far our clock may be ahead of AWS's before something is called over too early

_EPOCH = re.compile(r"-?\d+(\.\d+)?")
_ENDS = ("DateLessThan", "DateLessThanEquals", "DateLessThanIfExists", "DateLessThanEqualsIfExists")


def instant(text: str) -> datetime | None:
    """What a W3C date (2026-11-22, 2026-11-22T18:00:00Z) or seconds since 1970 mean; None for anything else. Without a zone
    it is UTC."""
    try:
        found = datetime.fromtimestamp(float(text), UTC) if _EPOCH.fullmatch(text) else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def is_over(condition: Condition, now: datetime) -> bool:
    """Whether the condition asks for a time before `now`, by every value it lists and whatever our clock's fault."""
    end = _end(condition)
    return end is not None and end < now - MARGIN  # not end + MARGIN: people write 9999-12-31T23:59:59Z for never


def without_the_past(document: Document, now: datetime) -> Document:
    """The document without what its Allow statements gave until a date that has passed. Their places stay, so that the
    others keep their index; the same object when there is nothing to leave out."""
    over = tuple(one.index for one in document.statements if _is_past(one, now))
    return _emptied(document, over) if over else document


def _is_past(statement: Statement, now: datetime) -> bool:
    return statement.effect == "Allow" and any(is_over(one, now) for one in statement.conditions)


@lru_cache(maxsize=1024)
def _emptied(document: Document, over: tuple[int, ...]) -> Document:
    statements = tuple(
        replace(one, actions=(), is_not_action=False) if one.index in over else one for one in document.statements
    )
    return Document(version=document.version, statements=statements, raw=document.raw)


def _end(condition: Condition) -> datetime | None:
    """The last instant that a condition can be met; None when it has none that can be read."""
    if condition.key != "aws:currenttime" or condition.operator not in _ENDS or not condition.values:
        return None
    instants = [instant(value) for value in condition.values]
    known = [one for one in instants if one is not None]
    return max(known) if len(known) == len(instants) else None

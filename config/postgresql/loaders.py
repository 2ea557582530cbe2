"""Loaders for values that PostgreSQL takes and Python cannot hold: infinity, the year 10000, an interval of a million
years, a number of 5,000 digits or a thousand brackets in JSON. Whoever may write a row may write one. It breaks what is
decided about that row, and must never break what reads it among others: an end, a stop, the ledger.

So an instant is read as the nearest between `FIRST` and `LAST`, a duration as the nearest up to `LONGEST`, and a document
that cannot be read as an empty one of its kind. They leave so much room that reckoning with them does not overflow either.
What is past stays past and what is to come stays to come; no access lasts longer by it, since a warrant bounds that.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from itertools import accumulate

from psycopg import DataError
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader

FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
FIRST_DAY, LAST_DAY = FIRST.date(), LAST.date()
LONGEST = timedelta(days=36_500)

MOST_DIGITS = 4_000  # of a number in JSON; Python refuses 4,301 ("Integer string conversion length limitation")
DEEPEST = 200  # brackets within brackets in JSON; Python's parser gives up somewhere below a thousand
_SHORT = 2 * DEEPEST  # characters in which there is no room for either

_EMPTY = {"{": "{}", "[": "[]"}
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MOST_DIGITS + 1))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ALL_ELSE = bytes(set(range(256)) - set(_STEPS))
_INTERVAL = re.compile(
    rb"(?:([-+]?\d+) years? ?)?(?:([-+]?\d+) mons? ?)?(?:([-+]?\d+) days? ?)?(?:([-+])?(\d+):(\d+):(\d+(?:\.\d+)?))?"
)
_LATER = re.compile(rb"infinity|[0-9]{5,}-")


def _is_later(data: Buffer) -> bool:
    """Of something that is no date of Python's: whether it comes after all of those, rather than before."""
    said = bytes(data)
    if said == b"-infinity" or said.endswith(b" BC"):
        return False
    if _LATER.match(said):
        return True
    raise DataError(f"{said!r} is no date of PostgreSQL's in ISO 8601")


class InstantLoader(Loader):
    """A timestamptz, in the timezone that Django gave the connection."""

    timezone: tzinfo | None = UTC

    def load(self, data: Buffer) -> datetime:
        try:
            found = datetime.fromisoformat(str(data, "ascii"))
        except ValueError:
            found = LAST if _is_later(data) else FIRST
        if not FIRST <= found <= LAST:
            found = min(max(found, FIRST), LAST)
        return found if found.tzinfo is self.timezone else found.astimezone(self.timezone)


class DayLoader(Loader):
    def load(self, data: Buffer) -> date:
        try:
            found = date.fromisoformat(str(data, "ascii"))
        except ValueError:
            found = LAST_DAY if _is_later(data) else FIRST_DAY
        return found if FIRST_DAY <= found <= LAST_DAY else min(max(found, FIRST_DAY), LAST_DAY)


class DurationLoader(Loader):
    """An interval, whose months are of 30 days and years of 365, as psycopg has it. Reckoned with numbers of any size:
    in psycopg's faster one a number of years runs over into a few days."""

    def load(self, data: Buffer) -> timedelta:
        return _duration(bytes(data))


@lru_cache(maxsize=1024)  # there are few: people ask for an hour, or eight
def _duration(text: bytes) -> timedelta:
    said = _INTERVAL.fullmatch(text)
    if said is None:
        if text in (b"infinity", b"-infinity"):  # from PostgreSQL 17 on
            return LONGEST if text == b"infinity" else -LONGEST
        raise DataError(f"{text!r} is no interval of PostgreSQL's in its own style")
    years, months, days, sign, hours, minutes, seconds = said.groups(default=b"0")
    time = timedelta(hours=int(hours), minutes=int(minutes), microseconds=round(float(seconds) * 1_000_000))
    time = -time if sign == b"-" else time
    whole = 365 * int(years) + 30 * int(months) + int(days)
    if abs(whole + time.days) > LONGEST.days:
        return LONGEST if whole + time.days > 0 else -LONGEST
    return timedelta(whole) + time


class DocumentLoader(Loader):
    """A jsonb as text, which Django's JSONField reads."""

    def load(self, data: Buffer) -> str:
        text = str(data, "utf-8")
        return text if len(text) <= _SHORT or _is_readable(bytes(data)) else _EMPTY.get(text[0], "null")


def _is_readable(text: bytes) -> bool:
    """Whether Python's JSON parser takes this, which PostgreSQL wrote."""
    is_flat = text.count(b"[") + text.count(b"{") <= DEEPEST
    if is_flat and (len(text) <= MOST_DIGITS or not _LONG_NUMBER.search(text)):
        return True
    outside_strings = b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    depths = accumulate(map(_STEPS.__getitem__, outside_strings.translate(None, _ALL_ELSE)))
    return max(depths, default=0) <= DEEPEST and not _LONG_NUMBER.search(outside_strings)


@cache
def extending(template: AdaptersMap, timezone: tzinfo | None) -> AdaptersMap:
    """Django's adapters, with these in the place of its own."""
    adapters = AdaptersMap(template)
    adapters.register_loader("timestamptz", type("InstantIn", (InstantLoader,), {"timezone": timezone}))
    adapters.register_loader("date", DayLoader)
    adapters.register_loader("interval", DurationLoader)
    adapters.register_loader("jsonb", DocumentLoader)
    return adapters

"""One row that PostgreSQL takes and Python has no word for is read like any other, and on the side it is on."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from psycopg import DataError

from config.postgresql.loaders import (
    DEEPEST,
    FIRST,
    FIRST_DAY,
    LAST,
    LAST_DAY,
    LONGEST,
    MOST_DIGITS,
    DayLoader,
    DurationLoader,
    InstantLoader,
)

pytestmark = pytest.mark.django_db


def loaded(expression: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression}", params)
        [value] = cursor.fetchone()
    return value


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-22 16:04:39.509752+00", datetime(2026, 11, 22, 16, 4, 39, 509752, UTC)),
        ("2026-11-22 16:04:39.5+02:30", datetime(2026, 11, 22, 13, 34, 39, 500000, UTC)),
        ("1901-01-01", datetime(1901, 1, 1, tzinfo=UTC)),
        ("infinity", LAST),
        ("294276-12-31 23:59:59", LAST),
        ("10000-01-01", LAST),
        ("9999-12-31 23:59:59.999999", LAST),
        ("-infinity", FIRST),
        ("0044-03-15 BC", FIRST),
        ("4713-01-01 BC", FIRST),
        ("0001-01-01", FIRST),
    ],
)
def test_an_instant(said: str, meant: datetime) -> None:
    found = loaded("%s::timestamptz", said)
    assert (found, found.tzinfo) == (meant, UTC)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-22", date(2026, 11, 22)),
        ("infinity", LAST_DAY),
        ("5874897-12-31", LAST_DAY),
        ("9999-12-31", LAST_DAY),
        ("-infinity", FIRST_DAY),
        ("0044-03-15 BC", FIRST_DAY),
        ("0001-01-01", FIRST_DAY),
    ],
)
def test_a_day(said: str, meant: date) -> None:
    assert loaded("%s::date", said) == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("0", timedelta(0)),
        ("04:05:06.789", timedelta(hours=4, minutes=5, seconds=6, milliseconds=789)),
        ("-00:00:01", timedelta(seconds=-1)),
        ("30 days", timedelta(30)),
        ("1 year 2 mons -3 days -04:00", timedelta(365 + 60 - 3, -4 * 3600)),
        ("100000000 years", LONGEST),
        ("11767033 years 1 mon 21 days 01:00", LONGEST),  # in 32 bits of days that is an hour
        ("-100000000 years", -LONGEST),
        ("-13 mons 1 day", timedelta(-365 - 30 + 1)),
        ("-1 day 01:00", timedelta(-1, 3600)),
        ("-1 year 2000000000 days", LONGEST),
        ("2562047788:00:54", LONGEST),
        ("-2562047788:00:54", -LONGEST),
        ("100000000 days 2400000000:00:00", LONGEST),
        ("100000000 days -2399976000:00:00", timedelta(1000)),
    ],
)
def test_a_duration(said: str, meant: timedelta) -> None:
    assert loaded("%s::interval", said) == meant


def test_there_is_room_to_reckon_with_what_was_read() -> None:
    assert LAST + 9 * LONGEST > LAST
    assert FIRST - 9 * LONGEST < FIRST


def test_what_a_later_postgresql_calls_endless() -> None:
    assert DurationLoader(0).load(b"infinity") == LONGEST
    assert DurationLoader(0).load(b"-infinity") == -LONGEST


@pytest.mark.parametrize("loader", [InstantLoader, DayLoader, DurationLoader])
@pytest.mark.parametrize("said", [b"22.11.2026", b"Sun Nov 22 16:04:39 2026 UTC", b"P1D"])
def test_another_style_of_dates_is_refused_and_not_guessed(loader: Any, said: bytes) -> None:
    with pytest.raises(DataError):
        loader(0).load(said)


@pytest.mark.parametrize("of", [dict, list])
@pytest.mark.parametrize(
    "broken",
    [
        "1" * 5000,
        "1e130000",
        f"-{'9' * 4301}.0e0",
        rf'["\\", {"1" * 5000}]',
        "[" * 5000 + "]" * 5000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        '{"a": [' * 900 + "]}" * 900,
    ],
)
def test_a_document_that_cannot_be_read_is_an_empty_one(of: type, broken: str) -> None:
    around = f'{{"n": {broken}}}' if of is dict else f'["n", {broken}]'
    assert json.loads(loaded("%s::jsonb", around)) == of()


def test_a_number_alone_that_cannot_be_read_is_nothing() -> None:
    assert json.loads(loaded("%s::jsonb", "1" * 5000)) is None


@pytest.mark.parametrize(
    "document",
    [
        {"n": int("1" * MOST_DIGITS), "text": "x" * 5000},
        {"text": "1" * 9000},
        {"text": "[{" * 9000, "more": '"[' * 500, "path": "\\" * 501 + '"' + "[" * 500},
        [{"n": n, "list": [n]} for n in range(500)],
        json.loads("[" * DEEPEST + "]" * DEEPEST),
        json.loads("[" * DEEPEST + "]" * (DEEPEST - 1) + ",[]]"),
        {"é" * 500: "[" * 400},
        1,
        None,
        "[",
    ],
)
def test_a_document_that_can_be_read_is_left_as_it_is(document: Any) -> None:
    assert json.loads(loaded("%s::jsonb", json.dumps(document))) == document


def test_ranges_and_arrays_of_such_instants() -> None:
    found = loaded("tstzrange('-infinity', 'infinity')")
    assert (found.lower, found.upper) == (FIRST, LAST)
    assert loaded("ARRAY['infinity', '-infinity']::timestamptz[]") == [LAST, FIRST]

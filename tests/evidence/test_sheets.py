"""CSV that no spreadsheet runs, and JSON that is the same for the same facts."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from apps.core import sheets


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("  =1+1", "'  =1+1"),
        ("\u00a0=1+1", "'\u00a0=1+1"),
        ("＝1+1", "'＝1+1"),
        ("＠x", "'＠x"),
        ('=HYPERLINK("https://evil.example","x")', '\'=HYPERLINK("https://evil.example","x")'),
        ("plain", "plain"),
        ("a=b", "a=b"),
        ("a-b@c.example", "a-b@c.example"),
        ("", ""),
        (" spaced", " spaced"),
        ("'quoted", "'quoted"),
        (None, ""),
        (True, "true"),
        (-5, "-5"),  # a number of ours, not somebody's text
        (["-x", "y"], '["-x","y"]'),
        ({"b": 1, "a": "é"}, '{"a":"é","b":1}'),
        (datetime(2026, 11, 22, 9, 0, 0, 5, UTC), "2026-11-22T09:00:00.000005Z"),
        (datetime(2026, 11, 22, 10, 0, tzinfo=timezone(timedelta(hours=1))), "2026-11-22T09:00:00.000000Z"),
    ],
)
def test_a_cell_is_harmless_and_says_the_same(value: object, shown: str) -> None:
    assert sheets.cell(value) == shown


def written(rows: list[dict[str, object]]) -> tuple[sheets.Hashed, bytes]:
    file = io.BytesIO()
    out = sheets.Hashed(file)
    sheets.write_csv(out, ["name", "note"], rows)
    return out, file.getvalue()


def test_the_csv_reads_back_whatever_is_in_it() -> None:
    rows = [{"name": 'a "quoted", name', "note": "two\r\nlines;\tand\u2028more"}, {"name": "x", "note": None}]
    _, data = written(rows)
    assert data.startswith(sheets.BOM)
    back = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert back == [{"name": row["name"], "note": row["note"] or ""} for row in rows]


def test_a_lone_surrogate_breaks_no_export() -> None:
    _, data = written([{"name": "a\ud800b", "note": ""}])
    assert b"a?b" in data


def test_the_digest_is_that_of_the_bytes() -> None:
    import hashlib

    out, data = written([{"name": "x", "note": "y"}])
    assert (out.digest, out.size) == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_json_is_an_array_with_a_row_a_line(count: int) -> None:
    file = io.BytesIO()
    rows = [{"b": number, "a": "=1"} for number in range(count)]
    assert sheets.write_json(sheets.Hashed(file), rows) == count
    assert json.loads(file.getvalue()) == rows  # as it is: nothing neutralised
    assert len(file.getvalue().splitlines()) == count + 2

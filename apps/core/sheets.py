"""Rows as CSV for people and as JSON for machines. The CSV is made harmless for spreadsheet programs; the JSON holds the
values as they are."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

# A spreadsheet takes a cell that begins like this for a formula (CWE-1236). The wide forms are the same to some.
FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
BOM = b"\xef\xbb\xbf"  # without it Excel reads UTF-8 as something else


def cell(value: object) -> str:
    """A value as a CSV cell. Text that a spreadsheet could run gets an apostrophe in front, also behind spaces."""
    if value is None:
        return ""
    if isinstance(value, str):
        start = value.lstrip(" \u00a0")[:1]
        return f"'{value}" if value[:1] in FORMULA or start in FORMULA else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return instant(value)
    return cell(canonical(value))


def instant(value: datetime) -> str:
    """An instant in UTC, to the microsecond: 2026-11-22T09:00:00.000000Z"""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def canonical(value: object) -> str:
    """JSON that is the same for the same value: sorted keys, no spaces, no escapes that are not needed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return instant(value) if isinstance(value, datetime) else str(value)


class Hashed:
    """Writes to a file and knows the SHA-256 and the size of what went through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """A header and the rows as UTF-8 CSV, a line at a time."""
    line = io.StringIO()
    writer = csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n")

    def put(cells: Iterable[str]) -> bytes:
        writer.writerow(cells)
        written = line.getvalue().encode("utf-8", "replace")
        line.seek(0)
        line.truncate()
        return written

    yield BOM + put(columns)
    for row in rows:
        yield put(cell(row.get(name)) for name in columns)


def write_csv(out: Hashed, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a header and the rows as UTF-8 CSV, one row in memory at a time; return how many rows there were."""
    count = -1  # the header
    for line in csv_lines(columns, rows):
        out.write(line)
        count += 1
    return count


def write_json(out: Hashed, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the rows as one JSON array, a row a line; return how many there were."""
    count = 0
    out.write(b"[")
    for row in rows:
        out.write((",\n" if count else "\n").encode() + canonical(row).encode("utf-8", "replace"))
        count += 1
    out.write(b"\n]\n")
    return count

"""An audit trail in memory, for tests of what reads one: files by name, as a bucket would hold them."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors import registry
from apps.connectors.aws import trails
from apps.connectors.errors import Unreachable
from apps.connectors.trail import Shelf, TrailEvent
from tests.trail import ACCOUNT, file, record

REGION = "eu-west-1"


@dataclass
class Bucket:
    """`put` a file of a day; the trail that the code reads is this."""

    files: dict[str, bytes] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)
    calls: int = 0

    def put(self, name: str, *records: Any, day: date | None = None, content: bytes | None = None) -> str:
        day = day or timezone.now().date()
        key = f"{day:%Y/%m/%d}/{name}.json.gz"
        self.files[key] = file(records) if content is None else content
        return key

    def shelves(self) -> list[Shelf]:
        return [Shelf(ACCOUNT, REGION, "")]

    def keys(self, shelf: Shelf, since: date) -> Iterator[str]:
        if shelf.prefix in self.unreachable:
            raise Unreachable("No answer.")
        return iter(sorted(key for key in self.files if key > f"{since:%Y/%m/%d}/"))

    def day_of(self, key: str) -> date | None:
        found = re.match(r"(\d{4})/(\d\d)/(\d\d)/(?!Digest)", key)
        return date(*map(int, found.groups())) if found else None

    def read(self, key: str, skipped: Counter[str]) -> Iterator[TrailEvent]:
        self.opened.append(key)
        return trails.read(io.BytesIO(self.files[key]), skipped)


def at(when: datetime | None = None, **earlier: float) -> str:
    """An eventTime, so much earlier than now."""
    return ((when or timezone.now()) - timedelta(**earlier)).strftime("%Y-%m-%dT%H:%M:%SZ")


def events(count: int, **fields: Any) -> list[dict[str, Any]]:
    """So many different calls a minute ago."""
    prefix = fields.pop("id", "e")
    return [record(eventID=f"{prefix}-{n}", **{"eventTime": at(minutes=1), **fields}) for n in range(count)]


def install(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Let connections of kind `fake` have this trail."""
    monkeypatch.setitem(registry.TRAILS, "fake", "tests.inventory.trail:here")
    monkeypatch.setattr("tests.inventory.trail.here", lambda _config: bucket)
    return bucket


def here(_config: Any) -> Bucket:
    raise AssertionError("install a bucket first")

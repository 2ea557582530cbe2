"""One reading of an audit trail: list what is new, read it file by file, and keep it batch by batch.

A batch's events, what they add up to, and that their files were read, are one transaction; so a reading that was killed at
any instruction goes on where it was, and nothing counts twice (docs/decisions/0024). Listing and reading files call the
provider with no transaction open.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, islice
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Max, QuerySet
from django.utils import timezone

from apps.connectors import registry
from apps.connectors.errors import ConnectorError
from apps.connectors.trail import Shelf, Trail, TrailEvent, Unreadable
from apps.core.lifecycle import Conflict, move
from apps.inventory.models import Connection, TrailDay, TrailHour, TrailRun, Usage
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync import usage
from apps.inventory.sync.claims import CannotRun, Paused, Superseded, our_fault

log = logging.getLogger(__name__)

EVENT = "inventory.trail_run.finished"
BATCH = 5_000  # events in one transaction
MOST_FILES = 500  # files in one transaction
BEAT_SECONDS = 2.0
WINDOW = timedelta(days=2)  # files of a day come until then; after that its listing is over
SETTLES = timedelta(hours=6)  # after a day's end, until we call it whole; what comes later is still read
MOST_UNREAD = 50  # shelves that could not be read, until which ids of the others are forgotten
SKEW = timedelta(days=1)  # how far an event's clock may be ahead of ours

NO_FILE = "Not a file of the trail"
FUTURE = "An event lies in the future"
TOO_OLD = "An event is older than what is kept"


def read(connection_id: int, *, by: Any) -> TrailRun:
    """Read what is new in a connection's trail, once. Returns the finished run, whose state says how it ended.

    Raises `CannotRun` when the connection is paused, names no trail, or its trail is being read already.
    """
    connection = Connection.objects.get(pk=connection_id)
    run = _claim(connection, by=by)
    try:
        return _Reading(connection, run, registry.trail(connection.kind, connection.config), by).go()
    except Paused as paused:
        return _fail(run, str(paused), by=by)
    except Superseded:
        run.refresh_from_db()
        return run
    except ConnectorError as error:
        return _fail(run, str(error), by=by)
    except BaseException as error:
        _fail(run, our_fault(error) if isinstance(error, Exception) else INTERRUPTED, by=by)
        raise


INTERRUPTED = "It was interrupted. The next reading goes on from there."


def _claim(connection: Connection, *, by: Any) -> TrailRun:
    if connection.paused_at:
        raise CannotRun(f"{connection} is paused. An administrator can resume it.")
    if not registry.has_trail(connection.kind, connection.config):
        raise CannotRun(f"{connection} names no audit trail. An administrator can set its bucket.")
    for silent in TrailRun.objects.filter(connection=connection).silent(timezone.now()):
        with contextlib.suppress(Conflict):
            _fail(silent, f"No sign of life since {silent.beat_at:%Y-%m-%d %H:%M} UTC. Its process has died.", by=by)
    try:
        with transaction.atomic():
            return TrailRun.objects.create(connection=connection, doing="Listing")
    except IntegrityError:
        raise CannotRun(f"The trail of {connection} is being read right now.") from None


def _fail(run: TrailRun, problem: str, *, by: Any) -> TrailRun:
    said = as_rows.text(problem, 2000)
    run.refresh_from_db()
    return move(
        run,
        TrailRun.State.FAILED,
        by=by,
        event=EVENT,
        about=[run.connection],
        data={"problem": said, "files": run.files, "events": run.events},
        problem=said,
        finished_at=timezone.now(),
        doing="",
    )


@dataclass
class _File:
    shelf: Shelf
    day: date
    key: str
    events: int = 0
    is_damaged: bool = False

    @property
    def mark(self) -> int:
        return _mark(self.key)


@dataclass
class _Batch:
    """What waits to be written together. A file is in `files` once it was read to its end."""

    events: list[TrailEvent] = field(default_factory=list)
    files: list[_File] = field(default_factory=list)
    missed: list[_File] = field(default_factory=list)  # there, and not handed out now
    listed: list[tuple[Shelf, date]] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.events) >= BATCH or len(self.files) >= MOST_FILES or len(self.listed) >= MOST_FILES


def _mark(key: str) -> int:
    """Eight bytes that stand for a file's name among those of its day, as PostgreSQL's bigint."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


class _Reading:
    def __init__(self, connection: Connection, run: TrailRun, trail: Trail, by: Any) -> None:
        self.connection, self.run, self.trail, self.by = connection, run, trail, by
        self.batch = _Batch()
        self.began_at = timezone.now()
        self.oldest = self.began_at - timedelta(days=settings.USAGE_KEPT_DAYS)
        self.skipped: list[dict[str, Any]] = []
        self.skipped_count = 0
        self.is_whole = True
        self.unread: list[Shelf] = []
        self.waiting: Counter[tuple[str, str]] = Counter()  # shelves of each account and Region that were not read yet
        self.since: dict[tuple[str, str], date] = {}  # the first day that is listed of each
        self.digest = hashlib.sha256()
        self._beat_at = 0.0

    def go(self) -> TrailRun:
        shelves = self.trail.shelves()
        self.waiting = Counter((shelf.account_id, shelf.region) for shelf in shelves)
        self.expect()
        for shelf in shelves:
            self.beat(f"{shelf.account_id} in {shelf.region}")
            try:
                self.read_shelf(shelf)
            except ConnectorError as error:
                self.unread.append(shelf)
                self.skip(shelf.prefix, str(error))
        self.flush()
        usage.link(self.connection)
        self.forget()
        return self.finish()

    # ---- reading

    def starts(self) -> dict[tuple[str, str], date]:
        """By account and Region, the first day of which more files may come: after the last one whose window is over."""
        over = TrailDay.objects.filter(connection=self.connection, read_keys=[]).exclude(listed_at=None)
        over = over.filter(listed_at__gte=F("day") + timedelta(days=1) + WINDOW)
        last = over.values("account_id", "region").annotate(last=Max("day"))
        return {(row["account_id"], row["region"]): row["last"] + timedelta(days=1) for row in last}

    def expect(self) -> None:
        """A row for every day that is going to be listed, before anything is: a Region that does not answer, or that a
        reading which dies does not come to, keeps its days from counting as whole."""
        first, today = (self.began_at - timedelta(days=settings.TRAIL_BACKFILL_DAYS)).date(), self.began_at.date()
        self.since = dict.fromkeys(self.waiting, first) | {
            place: start for place, start in self.starts().items() if place in self.waiting
        }
        days = (
            TrailDay(connection=self.connection, account_id=account_id, region=region, day=since + timedelta(days=n))
            for (account_id, region), since in self.since.items()
            for n in range((today - since).days + 1)
        )
        while some := list(islice(days, BATCH)):
            TrailDay.objects.bulk_create(some, ignore_conflicts=True)
            self.beat("Listing")

    def read_shelf(self, shelf: Shelf) -> None:
        since = self.since[shelf.account_id, shelf.region]
        known = self.known(shelf, since)
        for key in self.trail.keys(shelf, since):
            day = self.trail.day_of(key)
            if day is None:
                self.note(key, NO_FILE)
            elif _mark(key) not in known.get(day, ()):
                self.read_file(_File(shelf, day, key))
        self.waiting[shelf.account_id, shelf.region] -= 1
        if not self.waiting[shelf.account_id, shelf.region]:  # a bucket may hold two layouts: a day is whole with both
            self.batch.listed.append((shelf, since))
        if self.batch.is_full:
            self.flush()

    def known(self, shelf: Shelf, since: date) -> dict[date, set[int]]:
        return {day: set(keys) for day, keys in self.rows(shelf).filter(day__gte=since).values_list("day", "read_keys")}

    def rows(self, shelf: Shelf) -> QuerySet[TrailDay]:
        return TrailDay.objects.filter(connection=self.connection, account_id=shelf.account_id, region=shelf.region)

    def read_file(self, file: _File) -> None:
        """Read one file. What it says before it breaks counts, and it is not read again: files do not change."""
        left_out: Counter[str] = Counter()
        latest = timezone.now() + SKEW
        try:
            for event in self.trail.read(file.key, left_out):
                if event.at > latest or event.at < self.oldest:
                    left_out[FUTURE if event.at > latest else TOO_OLD] += 1
                    continue
                file.events += 1
                self.batch.events.append(event)
                if self.batch.is_full:
                    self.flush()
        except Unreadable as broken:
            file.is_damaged = True
            self.skip(file.key, str(broken))
        except ConnectorError:
            self.batch.missed.append(file)
            raise
        for reason, count in left_out.items():
            self.skip(file.key, reason, count)
        self.batch.files.append(file)
        self.beat(f"{file.shelf.account_id} in {file.shelf.region}, {file.day}")
        if self.batch.is_full:
            self.flush()

    def skip(self, name: str, reason: str, count: int = 1) -> None:
        """Something of the trail could not be read: the run's page says what, and the run is not complete."""
        self.is_whole = False
        self.note(name, reason, count)

    def note(self, name: str, reason: str, count: int = 1) -> None:
        self.skipped_count += count
        if len(self.skipped) < TrailRun.MOST_SKIPPED:
            said = {"file": as_rows.text(name[-200:], 200), "reason": as_rows.text(reason, 300), "count": count}
            self.skipped.append(said)

    def beat(self, doing: str) -> None:
        if time.monotonic() - self._beat_at < BEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        if not self.mine().update(beat_at=timezone.now(), doing=as_rows.text(doing, 200)):
            raise Superseded(f"{self.run} was declared dead")
        self.stop_if_paused()

    def stop_if_paused(self) -> None:
        if not Connection.objects.readable().filter(pk=self.connection.pk).exists():
            raise Paused

    def mine(self) -> Any:
        return TrailRun.objects.filter(pk=self.run.pk).running()

    # ---- writing

    def flush(self) -> None:
        """Keep the batch: the events, and that these files were read and these days listed."""
        self.stop_if_paused()
        batch, self.batch = self.batch, _Batch()
        with transaction.atomic():
            if not self.mine().select_for_update().exists():
                raise Superseded(f"{self.run} was declared dead")
            stored = usage.store(self.connection, batch.events)
            self.keep_files(batch.files)
            for file in batch.missed:
                self.rows(file.shelf).filter(day=file.day).update(whole_at=None)
            for shelf, since in batch.listed:
                self.keep_listing(shelf, since)
            self.mine().update(
                beat_at=timezone.now(),
                files=F("files") + len(batch.files),
                events=F("events") + stored.new,
                repeated=F("repeated") + stored.repeated,
                of_nobody=F("of_nobody") + stored.of_nobody,
                skipped=self.skipped,
                skipped_count=self.skipped_count,
                calls=self.trail.calls,
            )
        for file in batch.files:
            self.digest.update(f"{file.key}\0{file.events}\n".encode())

    def keep_files(self, files: Iterable[_File]) -> None:
        def place(file: _File) -> tuple[str, str, date]:
            return file.shelf.account_id, file.shelf.region, file.day

        for (account_id, region, day), group in groupby(sorted(files, key=place), key=place):
            read = list(group)
            row, _ = TrailDay.objects.select_for_update().get_or_create(
                connection=self.connection, account_id=account_id, region=region, day=day
            )
            row.read_keys = [*row.read_keys, *(file.mark for file in read)]
            row.files += len(read)
            row.events += sum(file.events for file in read)
            row.damaged += sum(file.is_damaged for file in read)
            if row.damaged:  # also where the day was whole before this file came
                row.whole_at = None
            row.save()

    def keep_listing(self, shelf: Shelf, since: date) -> None:
        """Every day from `since` was listed now, also those without a file: nothing was delivered for them. Which of them
        are whole, and of which no more files are expected, follows from how long they have been over."""
        mine = self.rows(shelf).filter(day__gte=since, day__lte=self.began_at.date())
        mine.update(listed_at=self.began_at)
        settled = (self.began_at - SETTLES - timedelta(days=1)).date()
        mine.filter(day__lte=settled, damaged=0, whole_at=None).update(whole_at=self.began_at)
        over = (self.began_at - WINDOW - timedelta(days=1)).date()
        mine.filter(day__lte=over).exclude(read_keys=[]).update(read_keys=[])

    def forget(self) -> None:
        """Event ids are remembered while their files may still come, and where a file may be read again."""
        if len(self.unread) > MOST_UNREAD:
            return
        horizon = self.began_at - WINDOW - timedelta(days=2)
        old = TrailHour.objects.filter(connection=self.connection, hour__lt=horizon)
        for shelf in self.unread:
            old = old.exclude(account_id=shelf.account_id, region=shelf.region)
        old.delete()

    def finish(self) -> TrailRun:
        self.run.refresh_from_db()
        state = TrailRun.State.COMPLETE if self.is_whole else TrailRun.State.INCOMPLETE
        data = {
            "files": self.run.files,
            "events": self.run.events,
            "repeated": self.run.repeated,
            "skipped": self.skipped_count,
            "digest": self.digest.hexdigest(),
        }
        try:
            return move(
                self.run,
                state,
                by=self.by,
                event=EVENT,
                about=[self.connection],
                data=data,
                finished_at=timezone.now(),
                skipped=self.skipped,
                skipped_count=self.skipped_count,
                calls=self.trail.calls,
                doing="",
            )
        except Conflict:
            raise Superseded(f"{self.run} was declared dead") from None


def prune(now: datetime | None = None) -> int:
    """Drop usage, and what was read, that is older than it is kept for. Returns how many rows of usage went."""
    first = ((now or timezone.now()) - timedelta(days=settings.USAGE_KEPT_DAYS)).astimezone(UTC).date()
    gone, _ = Usage.objects.filter(day__lt=first).delete()
    TrailDay.objects.filter(day__lt=first).delete()
    TrailHour.objects.filter(hour__date__lt=first).delete()
    TrailRun.objects.filter(started_at__date__lt=first).delete()
    return gone

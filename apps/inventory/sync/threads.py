"""What reads in threads, which call the provider and never the database: the list of accounts and an account at once, the
directory part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.utils import timezone

from apps.connectors import budget
from apps.connectors.base import Scan
from apps.inventory.models import Resource
from apps.inventory.sync import claims

T = TypeVar("T")

WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Read:
    """What a thread brought back of an account: a scan or why there is none."""

    resource: Resource
    started_at: datetime
    finished_at: datetime
    scan: Scan
    spent: budget.Spent
    error: Exception | None = None


def listed(read: Callable[[], T], spent: budget.Spent, progress: claims.Progress) -> T:
    """What one call of a connector gives, which can take minutes: read in a thread, and counted into `spent`. Without it
    there is no run: when nobody waits for it any more it stops at its next step."""

    def counted() -> T:
        with budget.counting(spent):
            return read()

    with ThreadPoolExecutor(1, thread_name_prefix="sync") as pool:
        try:
            return _when_done(pool.submit(counted), progress)
        except BaseException:
            progress.is_over = True
            raise


def parts(scan: Callable[[], Iterable[Scan]], spent: budget.Spent, progress: claims.Progress) -> Iterator[Scan]:
    """The parts of a scan, read in a thread and counted into `spent`, one ahead of what is being written."""
    found: list[Iterator[Scan]] = []

    def next_part() -> Scan | None:
        with budget.counting(spent):
            if not found:
                found.append(iter(scan()))
            part = next(found[0], None)
        if part is not None:
            spent.calls = max(spent.calls, part.calls)  # a connector that counts for itself
        return part

    pool = ThreadPoolExecutor(1, thread_name_prefix="sync")
    try:
        pending = pool.submit(next_part)
        while True:
            part = _when_done(pending, progress)
            if part is None:
                return
            pending = pool.submit(next_part)
            yield part
            progress.save()
    finally:
        pool.shutdown(cancel_futures=True)


def _when_done(pending: Future[T], progress: claims.Progress) -> T:
    """Its result; a sign of life now and then meanwhile."""
    while not wait([pending], WAIT_SECONDS).done:
        progress.save()
    return pending.result()


def read(resource: Resource, scan: Callable[[Any], Scan]) -> Read:
    """In a thread: call the provider, and count what it cost whatever became of it."""
    started_at, found, error = timezone.now(), Scan(), None
    with budget.counting() as spent:
        try:
            found = scan(resource)
        except Exception as failed:  # noqa: BLE001  raised again where it is written
            error = failed
    spent.calls = max(spent.calls, found.calls)  # a connector that counts for itself
    return Read(resource, started_at, timezone.now(), found, spent, error)

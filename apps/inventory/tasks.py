"""Wake-up calls for workers that read."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from apps.audit import services as audit
from apps.core import locks
from apps.inventory import responsibilities, sync, tracing
from apps.inventory.models import Connection
from apps.inventory.sync import correlation, following, last_accessed, pruning, testing, trails

log = logging.getLogger(__name__)

LISTENS_SECONDS = 20  # how often the clock has feeds listened to: what no worker took until then is asked for again


@shared_task
def sync_connection(connection_id: int) -> None:
    """Read one connection. A second call while it is being read does nothing."""
    try:
        following.settle(sync.run(connection_id, by=audit.WORKER))
    except sync.CannotRun as reason:
        log.info("Not synced: %s", reason)


@shared_task
def listen(connection_id: int) -> None:
    """Hear what changed in one connection, and have it read again."""
    following.listen(connection_id)
    for connection in Connection.objects.readable().filter(pk=connection_id):
        for account_id in following.due_places(connection, timezone.now()):
            sync_changes.apply_async((connection_id, account_id), expires=LISTENS_SECONDS)


@shared_task
def sync_changes(connection_id: int, account_id: str) -> None:
    """Read again what changed in one account, or in the directory. A second call meanwhile does nothing."""
    following.reread(connection_id, account_id)


@shared_task
def forget_changes() -> None:
    """Drop what the feeds said long ago."""
    following.forget(timezone.now())


@shared_task
def sync_trail(connection_id: int) -> None:
    """Read what is new in one connection's audit trail. A second call while it is being read does nothing."""
    try:
        trails.read(connection_id, by=audit.WORKER)
    except sync.CannotRun as reason:
        log.info("Trail not read: %s", reason)


@shared_task
def sync_last_accesses(connection_id: int) -> None:
    """Read the reports of last accesses that are due in one connection. A second call meanwhile does nothing."""
    last_accessed.read(connection_id)


@shared_task
def sync_prune_usage() -> None:
    """Drop usage that is older than it is kept for."""
    trails.prune()


@shared_task
def sync_prune_scans() -> None:
    """Drop what long finished runs said of each scope."""
    log.info("Scans of old runs that were dropped: %s", pruning.prune(timezone.now()))


@shared_task
def test_connection(test_id: int) -> None:
    """Do a test that somebody asked for. A second call does nothing."""
    testing.run(test_id, by=audit.WORKER)


@shared_task
def sync_ways(connection_id: int) -> None:
    """Work out again who can become whom. A second call meanwhile does nothing, and the clock calls again."""
    try:
        tracing.trace(Connection.objects.get(pk=connection_id))
    except locks.Taken as reason:
        log.info("Not traced: %s", reason)


@shared_task
def follow_responsibilities() -> None:
    """Note since when who answers for what."""
    responsibilities.follow()


@shared_task
def correlate_people(connection_id: int) -> None:
    """Make logins belong to whom administrators said. Every sync does it too."""
    correlation.correlate(Connection.objects.get(pk=connection_id), by=audit.WORKER, with_rules=False)

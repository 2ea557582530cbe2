"""What the clock does about the inventory."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from apps.connectors import registry
from apps.inventory import tasks, tracing
from apps.inventory.models import Connection, ConnectionTest
from apps.inventory.services import said
from apps.inventory.sync import following

EXPIRES_SECONDS = 55  # a tick that no worker took before the next one is dropped: the clock asks again


@shared_task
def sync_due() -> None:
    """Have every connection read whose last reading is old enough, or that a change needs. Runs once a minute."""
    now = timezone.now()
    for connection in Connection.objects.readable().select_related("feed").annotate(last=Max("runs__started_at")):
        feed = getattr(connection, "feed", None)
        every = connection.full_reading_every(feed is not None and feed.is_heard(now))
        if is_due(connection, connection.last, now, every) or following.needs_all(connection, connection.last, now):
            tasks.sync_connection.apply_async((connection.pk,), expires=EXPIRES_SECONDS)


@shared_task
def follow_changes() -> None:
    """Have every change feed listened to. Runs every twenty seconds."""
    for connection in Connection.objects.readable():
        if connection.change_queue:
            tasks.listen.apply_async((connection.pk,), expires=tasks.LISTENS_SECONDS)


@shared_task
def test_asked() -> None:
    """Have tests of connections done whose wake-up call got lost. Runs once a minute."""
    for test in ConnectionTest.objects.alive(timezone.now()).filter(state=ConnectionTest.State.WAITING):
        tasks.test_connection.apply_async((test.pk,), expires=EXPIRES_SECONDS)


@shared_task
def read_trails_due() -> None:
    """Have every audit trail read whose last reading began `TRAIL_EVERY_MINUTES` ago. Runs once a minute."""
    now, every = timezone.now(), timedelta(minutes=settings.TRAIL_EVERY_MINUTES)
    for connection in Connection.objects.readable().annotate(last=Max("trail_runs__started_at")):
        if registry.has_trail(connection.kind, connection.config) and is_due(connection, connection.last, now, every):
            tasks.sync_trail.apply_async((connection.pk,), expires=EXPIRES_SECONDS)


@shared_task
def read_last_accesses() -> None:
    """Have the reports of last accesses read that are due. Runs every ten minutes."""
    for connection in Connection.objects.readable():
        if registry.has_access_reports(connection.kind):
            tasks.sync_last_accesses.apply_async((connection.pk,), expires=EXPIRES_SECONDS)


@shared_task
def prune_usage() -> None:
    """Drop usage that is older than it is kept for. Runs once a day."""
    tasks.sync_prune_usage.delay()


@shared_task
def end_departed() -> None:
    """End everybody whose last day is over. Runs once a minute."""
    said.end_departed(now=timezone.now())


@shared_task
def trace_due() -> None:
    """Have it worked out who can become whom, where a reading ended since. Runs once a minute."""
    now = timezone.now()
    for connection in Connection.objects.all():
        if tracing.is_due(connection, now):
            tasks.sync_ways.apply_async((connection.pk,), expires=EXPIRES_SECONDS)


def is_due(connection: Connection, last: datetime | None, now: datetime, every: timedelta | None = None) -> bool:
    """Whether it is time again: every connection has its own moment, up to a fifth later, so that they do not all start
    at once. The same every time, so that "15 minutes" stays between 15 and 18."""
    if last is None:
        return True
    every = every or timedelta(minutes=settings.SYNC_EVERY_MINUTES)
    share = hashlib.sha256(connection.name.encode()).digest()[0] / 255
    return now - last >= every * (1 + share / 5)

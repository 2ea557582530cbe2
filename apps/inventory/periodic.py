"""What the clock does about the inventory."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from apps.inventory import tasks
from apps.inventory.models import Connection

EXPIRES_SECONDS = 55  # a tick that no worker took before the next one is dropped: the clock asks again


@shared_task
def sync_due() -> None:
    """Have every connection read whose last reading began `SYNC_EVERY_MINUTES` ago. Runs once a minute."""
    now = timezone.now()
    for connection in Connection.objects.readable().annotate(last=Max("runs__started_at")):
        if is_due(connection, connection.last, now):
            tasks.sync_connection.apply_async((connection.pk,), expires=EXPIRES_SECONDS)


def is_due(connection: Connection, last: datetime | None, now: datetime) -> bool:
    """Whether it is time again: every connection has its own moment, up to a fifth later, so that they do not all start
    at once. The same every time, so that "15 minutes" stays between 15 and 18."""
    if last is None:
        return True
    every = timedelta(minutes=settings.SYNC_EVERY_MINUTES)
    share = hashlib.sha256(connection.name.encode()).digest()[0] / 255
    return now - last >= every * (1 + share / 5)

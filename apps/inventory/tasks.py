"""Wake-up calls for workers that read."""

from __future__ import annotations

import logging

from celery import shared_task

from apps.audit import services as audit
from apps.inventory import responsibilities, sync

log = logging.getLogger(__name__)


@shared_task
def sync_connection(connection_id: int) -> None:
    """Read one connection. A second call while it is being read does nothing."""
    try:
        sync.run(connection_id, by=audit.WORKER)
    except sync.CannotRun as reason:
        log.info("Not synced: %s", reason)


@shared_task
def follow_responsibilities() -> None:
    """Note since when who answers for what."""
    responsibilities.follow()

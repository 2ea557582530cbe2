"""Wake-up calls for workers that look for findings."""

from __future__ import annotations

import logging

from celery import shared_task

from apps.core.locks import Taken
from apps.insights import inspecting
from apps.inventory.models import Connection

log = logging.getLogger(__name__)


@shared_task
def inspect(connection_id: int) -> None:
    """Look for findings in what is known of one connection."""
    try:
        inspecting.inspect(Connection.objects.get(pk=connection_id))
    except Taken:
        log.info("Connection %s is being looked at already.", connection_id)

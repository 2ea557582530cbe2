"""Wake-up calls for workers. Losing one costs seconds: the clock's sweep finds the same rows in the database."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task

from apps.grants import provisioning, reconciling

logger = logging.getLogger(__name__)


@shared_task
def provision(grant_id: int) -> None:
    """Take the next steps towards ACTIVE."""
    provisioning.provision(grant_id)


@shared_task
def deprovision(grant_id: int) -> None:
    """Take the next steps towards REVOKED."""
    provisioning.deprovision(grant_id)


@shared_task
def deny(shared_key: str) -> None:
    """Deny everything that shall end in one shared object of AWS, with one write."""
    provisioning.deny(shared_key)


@shared_task
def extend(extension_id: int) -> None:
    """Move a grant's end in AWS."""
    provisioning.extend(extension_id)


@shared_task
def narrow(grant_id: int) -> None:
    """Bring the end that AWS enforces down to what was asked, if that did not happen right after ACTIVE."""
    provisioning.narrow(grant_id)


@shared_task
def clear(grant_id: int) -> None:
    """Take a long ended grant out of the object it shared in AWS."""
    provisioning.clear(grant_id)


@shared_task
def write_stop(write_id: int) -> None:
    """Write one object that an emergency stop is said in."""
    provisioning.write_stop(write_id)


@shared_task
def lift_stop(stop_id: int) -> None:
    """Lift an emergency stop, if two administrators signed that it may go."""
    provisioning.lift_stop(stop_id)


@shared_task
def compare(connection_id: int) -> None:
    """Compare what grants say about one connection with what AWS shows."""
    try:
        reconciling.compare(connection_id)
    except reconciling.CannotCompare as reason:
        logger.info("Not compared: %s", reason)


@shared_task
def repair(drift_id: int) -> None:
    """Write the repair of one difference."""
    reconciling.repair(drift_id)


def enqueue(task: Any, key: int | str) -> None:
    """Wake a worker. Expires soon: the clock asks again for what is still due."""
    task.apply_async((key,), expires=60)

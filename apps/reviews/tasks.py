"""Wake-up calls for workers. Losing one costs a minute: the clock finds the same rows in the database."""

from __future__ import annotations

from celery import shared_task

from apps.reviews import removals


@shared_task
def carry_out(campaign_id: int, reviewer_id: int) -> None:
    """Begin the removals that one reviewer signed for."""
    removals.carry_out(campaign_id, reviewer_id)


def enqueue(campaign_id: int, reviewer_id: int) -> None:
    """Wake a worker. Expires soon: the clock asks again for what has not begun."""
    carry_out.apply_async((campaign_id, reviewer_id), expires=60)

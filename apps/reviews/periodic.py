"""What the clock does about reviews. It may run at any time, twice, or by hand."""

from __future__ import annotations

from functools import partial

from celery import shared_task
from django.db.models import Exists, OuterRef
from django.utils import timezone

from apps.grants.periodic import run_all
from apps.inventory.models import Connection
from apps.reviews import tasks
from apps.reviews.models import Move, ReviewItem
from apps.reviews.services import movers


@shared_task
def carry_out_revocations() -> None:
    """Wake a worker for every reviewer whose signed revocations have not all begun: a lost wake-up call, a worker that
    was killed, a connection that may not be written yet."""
    due = ReviewItem.objects.to_carry_out().order_by("campaign", "reviewer").values_list("campaign", "reviewer")
    for campaign_id, reviewer_id in due.distinct():
        tasks.enqueue(campaign_id, reviewer_id)


@shared_task
def follow_movers() -> None:
    """Notice who moved, and ask whoever answers for them now. Runs once a minute."""
    run_all(movers.follow, settle_movers)


def settle_movers() -> None:
    """One connection that fails stops no other."""
    due = Move.objects.due(timezone.now()).filter(identity__connection=OuterRef("pk"))
    run_all(*(partial(movers.settle, row) for row in Connection.objects.filter(Exists(due)).order_by("pk")))

"""What the clock does about findings."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone

from apps.insights import tasks
from apps.insights.models import Inspection
from apps.inventory.models import Connection, SyncRun

AT_LEAST_EVERY = timedelta(hours=1)  # keys age, and people name owners, without any reading
EXPIRES_SECONDS = 55


@shared_task
def inspect_due() -> None:
    """Look at every connection that was read since the last look, or worked out who can become whom, and at every other
    once an hour."""
    read = SyncRun.objects.finished().filter(connection=OuterRef("pk")).order_by("-started_at").values("finished_at")
    looked = Inspection.objects.filter(connection=OuterRef("pk")).order_by("-pk").values("started_at")
    rows = Connection.objects.annotate(read_at=Subquery(read[:1]), looked_at=Subquery(looked[:1]))
    is_news = Q(looked_at__lt=F("read_at")) | Q(looked_at__lt=F("tracing__traced_at"))
    is_due = is_news | Q(looked_at=None) | Q(looked_at__lt=timezone.now() - AT_LEAST_EVERY)
    for pk in rows.exclude(read_at=None).filter(is_due).values_list("pk", flat=True):
        tasks.inspect.apply_async((pk,), expires=EXPIRES_SECONDS)

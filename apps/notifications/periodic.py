"""What the clock does about telling people. Every function may run at any time, twice, or by hand."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from apps.grants.models import Grant, State
from apps.notifications import consumer, mailing, services

log = logging.getLogger(__name__)

BATCH = 500


@shared_task
def tell() -> None:
    """Follow the audit log, then send what is to leave."""
    try:
        consumer.follow()
    except consumer.NeedsRebase as restored:
        log.error("%s", restored)  # noqa: TRY400  its text says all there is to say
    mailing.send_due()


@shared_task
def watch() -> None:
    """Notice what nobody does, so no event tells: grants that end soon, removals that are overdue."""
    now = timezone.now()
    soon = Grant.objects.filter(state=State.ACTIVE, ends_at__gt=now, ends_at__lte=now + services.ENDING_SOON)
    services.note_ending_soon(soon.order_by("ends_at")[:BATCH], now=now)
    late = Grant.objects.overdue(now).order_by("pk")
    after = 0
    while batch := list(late.filter(pk__gt=after)[:BATCH]):
        services.note_overdue(batch)
        after = batch[-1].pk


@shared_task
def forget_old() -> None:
    """Keep inboxes bounded."""
    services.forget_old(now=timezone.now())

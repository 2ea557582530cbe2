"""What the clock does about telling people. Every function may run at any time, twice, or by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from celery import shared_task
from django.db.models import QuerySet
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
    for batch in _batches(soon):
        services.note_ending_soon(batch, now=now)
    for batch in _batches(Grant.objects.overdue(now)):
        services.note_overdue(batch)


def _batches(grants: QuerySet[Grant]) -> Iterator[list[Grant]]:
    """All of them, a part at a time: those that were told stay among them."""
    after = 0
    while batch := list(grants.filter(pk__gt=after).order_by("pk")[:BATCH]):
        yield batch
        after = batch[-1].pk


@shared_task
def forget_old() -> None:
    """Keep inboxes bounded."""
    services.forget_old(now=timezone.now())

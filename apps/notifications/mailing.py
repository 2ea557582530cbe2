"""Sends what is to leave by mail. The network: no transaction is open round a send.

Each attempt is claimed first, in a statement of its own, by moving the next attempt into the future; only a success
marks the row as sent. Killed in between, the mail may leave once more after that time, with the same Message-ID.
"""

from __future__ import annotations

import logging
import smtplib
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db.models import F
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from apps.notifications.models import Delivery

log = logging.getLogger(__name__)

BATCH = 100
BACKOFF = timedelta(minutes=1)
BACKOFF_CAP = timedelta(hours=1)
TIMEOUT_SECONDS = 20


def send_due() -> int:
    """Send every mail that is due, over one connection, and return how many left. A failure ends the round: the rest
    has a turn in the next one, a few seconds later."""
    due = Delivery.objects.due(timezone.now()).filter(notification__recipient__is_active=True)
    waiting = list(due.order_by("next_try_at").values_list("pk", "attempts")[:BATCH])
    if not waiting:
        return 0
    sent = 0
    with get_connection(timeout=TIMEOUT_SECONDS) as smtp:
        for pk, attempts in waiting:
            if not _claim(pk, attempts):
                continue
            delivery = Delivery.objects.select_related("notification__recipient").get(pk=pk)
            try:
                message = _message(delivery)
                message.connection = smtp
                message.send()
            except (OSError, smtplib.SMTPException) as error:
                log.warning("Mail %s did not leave: %s. It is tried again.", pk, type(error).__name__)
                Delivery.objects.filter(pk=pk).update(problem=f"{type(error).__name__}: {error}"[:300])
                break
            Delivery.objects.filter(pk=pk).update(sent_at=timezone.now(), problem="")
            sent += 1
    return sent


def _claim(pk: int, attempts: int) -> bool:
    """Whether this attempt is ours: of several senders one moves the row."""
    now = timezone.now()
    wait = min(BACKOFF * 2 ** min(attempts, 10), BACKOFF_CAP)
    mine = Delivery.objects.waiting().filter(pk=pk, attempts=attempts)
    return bool(mine.update(attempts=F("attempts") + 1, next_try_at=now + wait))


def _message(delivery: Delivery) -> EmailMessage:
    note = delivery.notification
    host = urlsplit(settings.BASE_URL).hostname
    body = render_to_string(
        "notifications/mail.txt",
        {
            "note": note,
            "link": f"{settings.BASE_URL}{note.url}",
            "inbox": f"{settings.BASE_URL}{reverse('notifications:inbox')}",
        },
    )
    return EmailMessage(
        note.title,
        body,
        to=[note.recipient.email],
        headers={"Message-ID": f"<notification-{note.pk}@{host}>", "Auto-Submitted": "auto-generated"},
    )

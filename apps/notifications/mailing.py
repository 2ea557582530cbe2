"""Sends what is to leave by mail. The network: no transaction is open round a send.

Each attempt is claimed first, in a statement of its own, by moving the next attempt into the future; only a success
marks the row as sent. Killed in between, the mail may leave once more after that time, with the same Message-ID.
"""

from __future__ import annotations

import hashlib
import logging
import smtplib
from datetime import timedelta
from typing import Any
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
MOST_SINGLE = 4  # mails of its own for one person in one round; more than that become one


def send_due() -> int:
    """Send every mail that is due, over one connection, and return how many left. Much at once for one person leaves as
    one mail. A failure ends the round: the rest has a turn in the next one, a few seconds later."""
    due = Delivery.objects.due(timezone.now()).filter(notification__recipient__is_active=True)
    rows = due.order_by("next_try_at").values_list("notification__recipient", "pk", "attempts")[:BATCH]
    waiting: dict[int, list[tuple[int, int]]] = {}
    for recipient, pk, attempts in rows:
        waiting.setdefault(recipient, []).append((pk, attempts))
    if not waiting:
        return 0
    sent = 0
    with get_connection(timeout=TIMEOUT_SECONDS) as smtp:
        for theirs in waiting.values():
            claimed = [pk for pk, attempts in theirs if _claim(pk, attempts)]
            mails = [claimed] if len(claimed) > MOST_SINGLE else [[pk] for pk in claimed]
            for keys in mails:
                if not _send(keys, smtp):
                    return sent
                sent += 1
    return sent


def _send(keys: list[int], smtp: Any) -> bool:
    """Whether the mail about these deliveries of one person left."""
    rows = Delivery.objects.filter(pk__in=keys)
    try:
        message = _message(list(rows.select_related("notification__recipient").order_by("pk")))
        message.connection = smtp
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("Mail %s did not leave: %s. It is tried again.", keys[0], type(error).__name__)
        rows.update(problem=f"{type(error).__name__}: {error}"[:300])
        return False
    rows.update(sent_at=timezone.now(), problem="")
    return True


def _claim(pk: int, attempts: int) -> bool:
    """Whether this attempt is ours: of several senders one moves the row."""
    now = timezone.now()
    wait = min(BACKOFF * 2 ** min(attempts, 10), BACKOFF_CAP)
    mine = Delivery.objects.waiting().filter(pk=pk, attempts=attempts)
    return bool(mine.update(attempts=F("attempts") + 1, next_try_at=now + wait))


def _message(deliveries: list[Delivery]) -> EmailMessage:
    notes = [delivery.notification for delivery in deliveries]
    first = notes[0]
    host = urlsplit(settings.BASE_URL).hostname
    same = hashlib.sha256(",".join(str(note.pk) for note in notes).encode()).hexdigest()[:32]  # sent twice, shown once
    body = render_to_string(
        "notifications/mail.txt",
        {"notes": notes, "base": settings.BASE_URL, "inbox": f"{settings.BASE_URL}{reverse('notifications:inbox')}"},
    )
    return EmailMessage(
        first.title if len(notes) == 1 else f"{len(notes)} things from Gatehouse, first: {first.title}",
        body,
        to=[first.recipient.email],
        headers={"Message-ID": f"<{same}@{host}>", "Auto-Submitted": "auto-generated"},
    )

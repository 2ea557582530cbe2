"""What people were told, what of it still has to leave by mail, and how far the audit log was read."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone


class NotificationQuerySet(models.QuerySet["Notification"]):
    def unread(self) -> NotificationQuerySet:
        return self.filter(read_at=None)

    def of(self, user: models.Model) -> NotificationQuerySet:
        """One person's inbox."""
        return self.filter(recipient=user)

    def outdated(self, now: datetime) -> NotificationQuerySet:
        """Kept long enough: the audit log is the record, an inbox is not."""
        return self.filter(created_at__lt=now - Notification.KEPT_FOR)


class Notification(models.Model):
    """One person was told about one event of the audit log, in a sentence and with a page to go to."""

    KEPT_FOR = timedelta(days=180)

    event = models.BigIntegerField(help_text="The audit event. No foreign key: the log stands for itself.")
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=80, help_text="The event's name.")
    subject = models.CharField(max_length=120, help_text='The event\'s subject: "grants.grant:42"')
    title = models.CharField(max_length=200)
    text = models.CharField(max_length=1000, blank=True)
    url = models.CharField(max_length=300, help_text="A path of this portal.")
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["event", "recipient"], name="notification_once"),
            models.CheckConstraint(
                condition=Q(url__startswith="/") & ~Q(url__startswith="//"), name="notification_leads_to_this_portal"
            ),
        ]
        indexes = [
            models.Index(fields=["recipient", "-id"], name="notification_inbox"),
            models.Index(fields=["recipient", "-id"], condition=Q(read_at=None), name="notification_unread"),
            models.Index(fields=["subject"], condition=Q(read_at=None), name="notification_open_subject"),
            models.Index(fields=["created_at"], name="notification_age"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_read(self) -> bool:
        return self.read_at is not None


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def waiting(self) -> DeliveryQuerySet:
        return self.filter(sent_at=None)

    def due(self, now: datetime) -> DeliveryQuerySet:
        """Should leave now. Nobody needs yesterday's mail: what did not leave within a day stays in the inbox only."""
        return self.waiting().filter(next_try_at__lte=now, made_at__gt=now - Delivery.TRIED_FOR)

    def stuck(self, now: datetime) -> DeliveryQuerySet:
        """Tried and refused, lately: what an administrator should look into."""
        return self.waiting().filter(made_at__gt=now - timedelta(days=7)).exclude(problem="")


class Delivery(models.Model):
    """One notification that leaves the portal on one channel. The row is there before anything is sent and is claimed
    before each attempt, so that a crash at any point loses nothing and sends nothing twice knowingly."""

    class Channel(models.TextChoices):
        EMAIL = "email", "E-mail"

    TRIED_FOR = timedelta(hours=24)

    notification = models.ForeignKey(Notification, models.CASCADE, related_name="deliveries")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    made_at = models.DateTimeField(default=timezone.now)
    next_try_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=300, blank=True, help_text="Why the last attempt did not get through.")

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["notification", "channel"], name="delivery_once")]
        indexes = [models.Index(fields=["next_try_at"], condition=Q(sent_at=None), name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.get_channel_display()} of {self.notification_id}"


class Cursor(models.Model):
    """How far a consumer has followed the audit log, in commit order. Everything up to `(xid, event)` is dealt with, and
    so is every event with an id up to `floor`: after a restore the old events carry transaction ids of another cluster,
    which say nothing here (`services.rebase_cursor`)."""

    consumer = models.CharField(max_length=40, unique=True)
    xid = models.BigIntegerField(default=0)
    event = models.BigIntegerField(default=0)
    floor = models.BigIntegerField(default=0)
    moved_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.consumer} at {self.xid}/{self.event}"

"""What a change feed said: its state, and the marks it left on what must be read again."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models.connections import Connection


class ChangeFeed(models.Model):
    """The queue of changes of one connection as we last saw it."""

    SILENT_FOR = timedelta(minutes=10)  # not asked for so long: nobody hears of changes

    connection = models.OneToOneField(Connection, models.CASCADE, related_name="feed")
    polled_at = models.DateTimeField(null=True, blank=True, help_text="When the queue last answered.")
    received = models.PositiveBigIntegerField(default=0, help_text="Messages since the feed began.")
    malformed = models.PositiveBigIntegerField(default=0, help_text="Messages that could not be understood.")
    last_malformed = models.CharField(max_length=300, blank=True, help_text="What was wrong with the latest of them.")
    problem = models.CharField(max_length=500, blank=True, help_text="Why it cannot be read now.")

    def __str__(self) -> str:
        return f"Change feed of {self.connection}"

    def is_heard(self, now: datetime) -> bool:
        """Whether changes are heard of: the queue answered lately."""
        return self.polled_at is not None and now - self.polled_at < self.SILENT_FOR


class ChangeMarkQuerySet(models.QuerySet["ChangeMark"]):
    def unread(self) -> ChangeMarkQuerySet:
        return self.filter(read_at=None)

    def due(self, now: datetime) -> ChangeMarkQuerySet:
        """Old enough that AWS shows the change everywhere, and neither just read nor just tried in vain."""
        return self.unread().filter(try_at__lte=now)


class ChangeMark(models.Model):
    """Something in a connection may be different from what we show: an event said so, and nothing else about it is
    believed. `read_at` is when it was read again; a later event takes that away."""

    class Kind(models.TextChoices):
        ACCOUNT = "account", "The inside of an account"
        HOLDERS = "holders", "Who holds something"
        MEMBERSHIP = "membership", "A membership that ended"
        REST = "rest", "Anything else: read everything"

    SETTLES_FOR = timedelta(seconds=10)  # AWS shows a change within seconds, rarely at once
    RESTS_FOR = timedelta(minutes=1)  # and the same is not read again sooner, however much happens there
    KEPT_FOR = timedelta(days=7)

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="marks")
    account_id = models.CharField(max_length=12, blank=True, help_text="Empty: the directory or the organization.")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    key = models.CharField(max_length=300, blank=True)
    event_id = models.CharField(max_length=64)
    event_name = models.CharField(max_length=128)
    event_at = models.DateTimeField()
    seen_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)
    try_at = models.DateTimeField(default=timezone.now, help_text="Not before: the last try failed.")
    tries = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=500, blank=True)

    objects = ChangeMarkQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["connection", "account_id", "kind", "key"], name="change_mark_once")
        ]
        indexes = [
            models.Index(fields=["connection", "seen_at"], name="change_mark_since"),
            models.Index(fields=["connection", "try_at"], condition=Q(read_at=None), name="change_mark_unread"),
        ]

    def __str__(self) -> str:
        return f"{self.event_name}: {self.get_kind_display().lower()} {self.key}".rstrip()

"""Tests of connections: whether we have every right that reading needs, and where not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pgtrigger
from django.conf import settings
from django.db import models
from django.utils import timezone

from apps.core.privileges import ROLES
from apps.inventory.models.connections import Connection


class ConnectionTestQuerySet(models.QuerySet["ConnectionTest"]):
    def open(self) -> ConnectionTestQuerySet:
        return self.filter(state__in=(ConnectionTest.State.WAITING, ConnectionTest.State.RUNNING))

    def alive(self, now: datetime) -> ConnectionTestQuerySet:
        """Open, and somebody asked for it or worked on it lately."""
        return self.open().filter(beat_at__gte=now - ConnectionTest.SILENT_FOR)


class ConnectionTest(models.Model):
    """One test of a connection that somebody asked for: how far it is, and what it found, a line for each right in each
    place. It changes nothing, here or there."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    MOVES = {State.WAITING: {State.RUNNING}, State.RUNNING: {State.DONE, State.FAILED}}
    SILENT_FOR = timedelta(minutes=5)  # without a sign of life for so long nobody works on it

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="tests")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    asked_at = models.DateTimeField(default=timezone.now)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    beat_at = models.DateTimeField(default=timezone.now, help_text="Last sign of life.")
    finished_at = models.DateTimeField(null=True, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    doing = models.CharField(max_length=200, blank=True)
    problem = models.TextField(blank=True, help_text="Why it could not be tested at all, and what to do.")
    sampled = models.PositiveIntegerField(default=0, help_text="Accounts that were tested,")
    accounts = models.PositiveIntegerField(default=0, help_text="of so many that can be read.")
    findings = models.JSONField(default=list, help_text="[{account_id, name, action, state, why, next, statement}]")

    objects = ConnectionTestQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["connection", "-id"], name="connection_test_latest")]
        triggers = [
            pgtrigger.Trigger(
                name="found_by_workers",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=f"""
                IF current_user = '{ROLES["web"]}' AND (NEW.state <> 'waiting' OR NEW.findings <> '[]'::jsonb) THEN
                    RAISE EXCEPTION 'People ask for a test, workers do it.' USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            )
        ]

    def __str__(self) -> str:
        return f"Test of {self.connection} at {self.asked_at:%Y-%m-%d %H:%M} UTC"

    @property
    def is_open(self) -> bool:
        """Somebody works on it, or will soon."""
        is_open = self.state in (self.State.WAITING, self.State.RUNNING)
        return is_open and timezone.now() - self.beat_at < self.SILENT_FOR

    @property
    def missing(self) -> int:
        """Rights that are not there."""
        return self._count("missing")

    @property
    def unknown(self) -> int:
        """Rights that could not be tried."""
        return self._count("unknown")

    def _count(self, state: str) -> int:
        return sum(finding["state"] == state for finding in self.findings)

    @property
    def is_partial(self) -> bool:
        return self.sampled < self.accounts

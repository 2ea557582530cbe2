"""Connections to governed systems, and the runs that read them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone


def _external_id() -> str:
    return secrets.token_urlsafe(24)


class ConnectionQuerySet(models.QuerySet["Connection"]):
    def readable(self) -> ConnectionQuerySet:
        """Connections the clock syncs."""
        return self.filter(paused_at=None)

    def writable(self) -> ConnectionQuerySet:
        """Connections Gatehouse may change: two people said so, and nobody paused it since."""
        return self.filter(paused_at=None).exclude(write_approved_at=None)


class Connection(models.Model):
    """One governed system we are connected to (an AWS organization). It starts observe-only: an administrator baselines
    what stands there, and two people let Gatehouse write."""

    class Kind(models.TextChoices):
        AWS = "aws", "AWS organization"
        FAKE = "fake", "Fake system (tests)"

    name = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.AWS)
    region = models.CharField(max_length=30, default="us-east-1", help_text="Home Region of Identity Center.")
    external_id = models.CharField(max_length=64, default=_external_id, editable=False)
    options = models.JSONField(default=dict, blank=True, help_text="Role names and the like; never a secret.")
    drop_percent = models.PositiveSmallIntegerField(
        default=30, help_text="A scan that would end more than this share of an account's assignments stops and asks."
    )
    created_at = models.DateTimeField(default=timezone.now)
    paused_at = models.DateTimeField(null=True, blank=True)
    baselined_at = models.DateTimeField(null=True, blank=True)
    baselined_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    write_proposed_at = models.DateTimeField(null=True, blank=True)
    write_proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    write_approved_at = models.DateTimeField(null=True, blank=True)
    write_approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(write_approved_by=None) | ~Q(write_approved_by=F("write_proposed_by")),
                name="connection_writes_need_two_people",
            ),
            models.CheckConstraint(
                condition=Q(write_approved_at=None) | Q(baselined_at__isnull=False, write_proposed_at__isnull=False),
                name="connection_writes_after_baseline",
            ),
            models.CheckConstraint(
                condition=Q(drop_percent__gte=1, drop_percent__lte=100), name="connection_drop_percent_range"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_writable(self) -> bool:
        return self.write_approved_at is not None and self.paused_at is None

    @property
    def config(self) -> Mapping[str, Any]:
        """What a connector needs to reach the system. Holds no secret: credentials come from the environment's chain."""
        defaults = {
            "reader_role": "portal/PortalReader",
            "provisioner_role": "portal/PortalProvisioner",
            "remover_role": "portal/PortalRemover",
            "guard_policy": "/jit/jit-guard",
            "source_identity": "portal-gatehouse",
        }
        return {**defaults, **self.options, "region": self.region, "external_id": self.external_id, "name": self.name}


class SyncRunQuerySet(models.QuerySet["SyncRun"]):
    def running(self) -> SyncRunQuerySet:
        return self.filter(state=SyncRun.State.RUNNING)

    def finished(self) -> SyncRunQuerySet:
        return self.exclude(state=SyncRun.State.RUNNING)


class SyncRun(models.Model):
    """One reading of a connection: when, how far, what was read, what it should have been, what changed, what failed."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETE = "complete", "Complete"
        INCOMPLETE = "incomplete", "Incomplete"
        HELD = "held", "Waiting for a person"
        FAILED = "failed", "Failed"

    MOVES = {
        State.RUNNING: {State.COMPLETE, State.INCOMPLETE, State.HELD, State.FAILED},
        State.HELD: {State.COMPLETE},
    }

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="runs")
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    beat_at = models.DateTimeField(default=timezone.now, help_text="Last sign of life; a silent run is declared failed.")
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    doing = models.CharField(max_length=200, blank=True, help_text="What is being read now, for the progress bar.")
    problem = models.TextField(blank=True, help_text="Why it failed as a whole, and what to do.")
    changes = models.JSONField(default=dict, help_text="Rows added, changed and ended, by table.")
    calls = models.PositiveIntegerField(default=0)
    confirmed_drops = models.BooleanField(default=False, help_text="A person said a suspicious drop is real.")

    objects = SyncRunQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection"], condition=Q(state="running"), name="sync_run_one_at_a_time"
            ),
        ]
        indexes = [models.Index(fields=["connection", "-started_at"], name="sync_run_latest")]

    def __str__(self) -> str:
        return f"Sync of {self.connection} at {self.started_at:%Y-%m-%d %H:%M} UTC"

    @property
    def took(self) -> timedelta | None:
        return self.finished_at - self.started_at if self.finished_at else None


class ScopeScan(models.Model):
    """What one run read of one scope: the directory, or one account. Says how complete it was and how we know."""

    class State(models.TextChoices):
        COMPLETE = "complete", "Complete"
        INCOMPLETE = "incomplete", "Incomplete"
        HELD = "held", "Waiting for a person"
        FAILED = "failed", "Failed"

    run = models.ForeignKey(SyncRun, models.CASCADE, related_name="scopes")
    resource = models.ForeignKey(
        "inventory.Resource", models.CASCADE, null=True, blank=True, related_name="scans", help_text="Empty: the directory."
    )
    state = models.CharField(max_length=12, choices=State.choices)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    totals = models.JSONField(default=list, help_text="[{name, read, expected}]; expected null where AWS gives no count.")
    problems = models.JSONField(default=list)
    notes = models.JSONField(default=list)
    would_end = models.PositiveIntegerField(default=0, help_text="Assignments a held scan would have ended.")
    calls = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["run", "resource"], nulls_distinct=False, name="scope_scan_once")
        ]

    def __str__(self) -> str:
        return f"{self.resource or 'Directory'}: {self.get_state_display()}"

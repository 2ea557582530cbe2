"""Connections to governed systems, and the runs that read them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pgtrigger
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property

from apps.core.privileges import ROLES

# What may be changed as long as a connection lives: none of it says where Gatehouse writes, or as whom.
FREE_OPTIONS = ("change_queue", "start_url", "trail_bucket", "trail_prefix", "trail_account")

# Everything an option may be. Names, never addresses that we call: endpoints come from the environment alone.
_ROLE = re.compile(r"(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)
_POLICY = re.compile(r"/(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,128}", re.ASCII)
_NAME = re.compile(r"[\w-]{1,80}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,3}")
OPTIONS: Mapping[str, tuple[re.Pattern[str], str]] = {
    **dict.fromkeys(
        ("reader_role", "provisioner_role", "remover_role", "ender_role", "broker_role", "feed_role", "schedule_role"),
        (_ROLE, "A role is named by its path and name without a leading slash, like portal/PortalReader."),
    ),
    **dict.fromkeys(
        ("guard_policy", "boundary_policy"),
        (_POLICY, "A policy is named by its path and name, like /jit/jit-guard."),
    ),
    **dict.fromkeys(
        ("schedule_group", "ender_function", "entry_permission_set", "stop_policy", "source_identity"),
        (_NAME, "Letters, digits, hyphens and underscores."),
    ),
    **dict.fromkeys(
        ("change_queue", "schedule_dlq"), (_NAME, "The name of the queue only: letters, digits, hyphens, underscores.")
    ),
    "trail_bucket": (re.compile(r"[a-z0-9.-]{3,63}"), "The name of the bucket only."),
    "trail_prefix": (re.compile(r"[\w/.-]{1,200}", re.ASCII), "Letters, digits, hyphens, dots and slashes."),
    "trail_account": (re.compile(r"[0-9]{12}"), "An account id of twelve digits."),
    **dict.fromkeys(("widest_ipv4", "widest_ipv6", "rules_per_group"), (_NUMBER, "A number.")),
    "start_url": (
        re.compile(r"https://[a-z0-9.-]{1,253}(?:/[\w/#.-]{0,500})?", re.ASCII),
        "The address of your access portal, like https://example.awsapps.com/start.",
    ),
}

is_region = RegexValidator(r"^[a-z]{2}(-[a-z]+)+-[0-9]\Z", "A Region is called like us-east-1 or eu-central-1.")


class IsFlat(models.Func):
    """Whether a document is what `OPTIONS` allow: an object of texts and numbers, short enough for Python to read whatever
    they are. Every process reads it to know what it writes to, so no row may hold one that breaks it."""

    output_field = models.BooleanField()
    template = (
        "jsonb_typeof(%(expressions)s) = 'object' AND octet_length(%(expressions)s::text) <= 4000 AND NOT "
        """jsonb_path_exists(%(expressions)s, 'strict $.* ? (@.type() <> "string" && @.type() <> "number")', '{}', true)"""
    )

    def as_sql(self, *args: Any, **more: Any) -> tuple[str, Any]:
        said, values = super().as_sql(*args, **more)
        return said, [*values] * 3  # what it asks about stands in it three times


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
    region = models.CharField(
        max_length=30, default="us-east-1", validators=[is_region], help_text="Home Region of Identity Center."
    )
    external_id = models.CharField(max_length=64, default=_external_id, editable=False, unique=True)
    options = models.JSONField(default=dict, blank=True, help_text="Role names and the like; never a secret.")
    drop_percent = models.PositiveSmallIntegerField(
        default=30, help_text="A scan that would end more than this share of an account's assignments stops and asks."
    )
    created_at = models.DateTimeField(default=timezone.now)
    paused_at = models.DateTimeField(null=True, blank=True)
    baselined_at = models.DateTimeField(null=True, blank=True)
    baselined_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
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
            models.CheckConstraint(
                condition=IsFlat("options"),
                name="connection_options_are_flat",
                violation_error_message="Options are texts and numbers, 4,000 characters in all.",
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="added_to_look",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=f"""
                IF current_user = '{ROLES["web"]}' AND (NEW.kind <> 'aws' OR NEW.baselined_at IS NOT NULL
                    OR NEW.write_proposed_at IS NOT NULL OR NEW.write_approved_at IS NOT NULL) THEN
                    RAISE EXCEPTION 'A connection begins observe-only.' USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            ),
            pgtrigger.Trigger(
                name="points_where_it_was_baselined",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                declare=[("free", "text[]")],
                func=f"""
                free := ARRAY[{", ".join(f"'{name}'" for name in FREE_OPTIONS)}];
                IF OLD.baselined_at IS NOT NULL AND current_user = '{ROLES["web"]}' AND (NEW.region <> OLD.region
                    OR NEW.baselined_at IS DISTINCT FROM OLD.baselined_at
                    OR (NEW.options - free) IS DISTINCT FROM (OLD.options - free)) THEN
                    RAISE EXCEPTION 'What was baselined stays where it is.' USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("inventory:connection", args=[self.name])

    def clean(self) -> None:
        """Options are of a known name and shape. They end up in the names of what we call."""
        if self.kind != self.Kind.AWS:
            return
        for name, value in self.options.items():
            shape, advice = OPTIONS.get(name, (None, ""))
            if shape is None:
                raise ValidationError({"options": f"There is no option {name[:40]!r}."})
            if not isinstance(value, str | int) or not shape.fullmatch(str(value)):
                raise ValidationError({"options": f"{name}: {advice}"})

    @cached_property
    def latest_run(self) -> SyncRun | None:
        """The last run that came to an end, whatever end."""
        return self.runs.finished().first()

    @cached_property
    def as_of(self) -> datetime | None:
        """The instant that the inventory is complete to: when the last complete run began. None means never."""
        return self.runs.complete().values_list("started_at", flat=True).first()

    @property
    def is_being_read(self) -> bool:
        """A full reading is going on, and somebody is at it."""
        return self.runs.alive(timezone.now()).exists()

    @property
    def is_writable(self) -> bool:
        return self.write_approved_at is not None and self.paused_at is None

    @property
    def is_fixed(self) -> bool:
        """Whether it must go on pointing where it points: what stands was taken as standing there, and grants may rest
        on its roles. Another place is another connection."""
        return self.baselined_at is not None

    @property
    def change_queue(self) -> str:
        """The queue in the hub that changes are announced in; "" without a feed."""
        return str(self.options.get("change_queue", ""))

    def full_reading_every(self, is_heard: bool) -> timedelta:
        """How often everything is read. Seldom where a change feed is heard (`is_heard`), since that reads what changed at
        once; a feed that fell silent makes it often again."""
        minutes = settings.FULL_SYNC_EVERY_MINUTES if self.change_queue and is_heard else settings.SYNC_EVERY_MINUTES
        return timedelta(minutes=max(minutes, settings.SYNC_EVERY_MINUTES))

    @property
    def config(self) -> Mapping[str, Any]:
        """What a connector needs to reach the system. Holds no secret: credentials come from the environment."""
        defaults = {
            "reader_role": "portal/PortalReader",
            "provisioner_role": "portal/PortalProvisioner",
            "remover_role": "portal/PortalRemover",
            "ender_role": "portal/PortalEnder",
            "broker_role": "portal/PortalBroker",
            "feed_role": "portal/PortalFeed",
            "guard_policy": "/jit/jit-guard",
            "boundary_policy": "/jit/JitBoundary",
            "schedule_group": "jit",
            "schedule_role": "portal/PortalScheduler",
            "ender_function": "portal-ender",
            "entry_permission_set": "JitBase",
            "stop_policy": "GatehouseStop",
            "source_identity": "portal-gatehouse",
        }
        return {**defaults, **self.options, "region": self.region, "external_id": self.external_id, "name": self.name}


class SyncRunQuerySet(models.QuerySet["SyncRun"]):
    def running(self) -> SyncRunQuerySet:
        return self.filter(state=SyncRun.State.RUNNING)

    def finished(self) -> SyncRunQuerySet:
        return self.exclude(state=SyncRun.State.RUNNING)

    def complete(self) -> SyncRunQuerySet:
        return self.filter(state=SyncRun.State.COMPLETE)

    def alive(self, now: datetime) -> SyncRunQuerySet:
        """Running, and their process gave a sign of life lately."""
        return self.running().filter(beat_at__gte=now - SyncRun.SILENT_FOR)

    def silent(self, now: datetime) -> SyncRunQuerySet:
        """Say they run, but their process is dead."""
        return self.running().filter(beat_at__lt=now - SyncRun.SILENT_FOR)


class SyncRun(models.Model):
    """One reading of a connection: when, how far, what was read, how much there should be, what changed and failed."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETE = "complete", "Complete"
        INCOMPLETE = "incomplete", "Incomplete"
        HELD = "held", "Waiting for a person"
        FAILED = "failed", "Failed"

    MOVES = {State.RUNNING: {State.COMPLETE, State.INCOMPLETE, State.HELD, State.FAILED}}
    SILENT_FOR = timedelta(minutes=10)  # a running run without a sign of life for so long has died

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="runs")
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    beat_at = models.DateTimeField(default=timezone.now, help_text="Last sign of life; a silent run is failed.")
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    doing = models.CharField(max_length=200, blank=True, help_text="What is being read now, for the progress bar.")
    problem = models.TextField(blank=True, help_text="Why it failed as a whole, and what to do.")
    changes = models.JSONField(default=dict, help_text="Rows added, changed and ended, by table.")
    calls = models.PositiveIntegerField(default=0)
    throttles = models.PositiveIntegerField(default=0, help_text="Answers of the provider that we ask too much.")
    waited_for = models.DurationField(
        default=timedelta, help_text="Time in our own queue, summed over what was read at the same time."
    )
    confirmed_drops = models.BooleanField(
        default=False, help_text="A person said its suspicious drops are real: the next run may end exactly those rows."
    )

    objects = SyncRunQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["connection"], condition=Q(state="running"), name="sync_run_one_at_a_time"),
        ]
        indexes = [models.Index(fields=["connection", "-started_at"], name="sync_run_latest")]

    def __str__(self) -> str:
        return f"Sync of {self.connection} at {self.started_at:%Y-%m-%d %H:%M} UTC"

    def get_absolute_url(self) -> str:
        return f"{self.connection.get_absolute_url()}?run={self.pk}"

    @property
    def is_running(self) -> bool:
        return self.state == self.State.RUNNING

    @property
    def is_thinned(self) -> bool:
        """Whether it is so old that what it read may be kept of some scopes only (`sync.pruning`)."""
        return timezone.now() - self.started_at > timedelta(days=settings.SCANS_KEPT_DAYS)

    @property
    def waits_for_confirmation(self) -> bool:
        return self.state == self.State.HELD and not self.confirmed_drops

    @property
    def took(self) -> timedelta | None:
        return self.finished_at - self.started_at if self.finished_at else None


class ScopeScanQuerySet(models.QuerySet["ScopeScan"]):
    def complete_of(self, resource: object) -> ScopeScanQuerySet:
        """Complete readings of one account, latest first."""
        return self.filter(resource=resource, state=ScopeScan.State.COMPLETE).order_by("-started_at")


class ScopeScan(models.Model):
    """What one run read of one scope: the directory, or one account. Says how complete it was and how we know."""

    class State(models.TextChoices):
        COMPLETE = "complete", "Complete"
        INCOMPLETE = "incomplete", "Incomplete"
        HELD = "held", "Waiting for a person"
        FAILED = "failed", "Failed"

    run = models.ForeignKey(SyncRun, models.CASCADE, related_name="scopes")
    resource = models.ForeignKey(
        "inventory.Resource",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="scans",
        help_text="Empty: the directory.",
    )
    state = models.CharField(max_length=12, choices=State.choices)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    totals = models.JSONField(default=list, help_text="[{name, read, expected}]; null where AWS gives no count.")
    problems = models.JSONField(default=list)
    notes = models.JSONField(default=list)
    would_end = models.PositiveIntegerField(default=0, help_text="Assignments a held scan would have ended.")
    would_end_rows = models.JSONField(
        default=dict, help_text='The rows that are held: {"assignments": [ids], "identities": [ids]}.'
    )
    calls = models.PositiveIntegerField(default=0)
    throttles = models.PositiveIntegerField(default=0)
    waited_for = models.DurationField(default=timedelta)

    objects = ScopeScanQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["run", "resource"], nulls_distinct=False, name="scope_scan_once")
        ]
        indexes = [
            models.Index(fields=["resource", "-started_at"], condition=Q(state="complete"), name="scope_scan_complete"),
            models.Index(fields=["resource", "-started_at"], name="scope_scan_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.resource or 'Directory'}: {self.get_state_display()}"

    @property
    def took(self) -> timedelta:
        return self.finished_at - self.started_at

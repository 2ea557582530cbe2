"""What principals really do: read from the audit trail's files and from AWS's own record of last accesses.

Unknown is not unused: a day that was not read whole, an action that no trail logs, and a principal that was never asked
about are each told apart from "not used".
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models.connections import Connection
from apps.inventory.models.holders import Principal

MOST_SOURCES = 20  # networks, Regions and services kept of one row; as many mean "at least so many"


class TrailRunQuerySet(models.QuerySet["TrailRun"]):
    def running(self) -> TrailRunQuerySet:
        return self.filter(state=TrailRun.State.RUNNING)

    def silent(self, now: datetime) -> TrailRunQuerySet:
        """Say they run, but their process is dead."""
        return self.running().filter(beat_at__lt=now - TrailRun.SILENT_FOR)


class TrailRun(models.Model):
    """One reading of a connection's audit trail: how many files and events, what was left out and why."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETE = "complete", "Complete"
        INCOMPLETE = "incomplete", "Incomplete"
        FAILED = "failed", "Failed"

    MOVES = {State.RUNNING: {State.COMPLETE, State.INCOMPLETE, State.FAILED}}
    SILENT_FOR = timedelta(minutes=10)
    MOST_SKIPPED = 200  # lines of what was skipped that are kept; the count goes on

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="trail_runs")
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    beat_at = models.DateTimeField(default=timezone.now, help_text="Last sign of life; a silent run is failed.")
    files = models.PositiveIntegerField(default=0)
    events = models.PositiveBigIntegerField(default=0)
    repeated = models.PositiveBigIntegerField(default=0, help_text="Events that had been read before.")
    of_nobody = models.PositiveBigIntegerField(
        default=0, help_text="Events of AWS services, other accounts and the like, which are no principal's usage."
    )
    skipped_count = models.PositiveBigIntegerField(default=0)
    skipped = models.JSONField(default=list, help_text='[{"file": …, "reason": …, "count": …}], the first ones.')
    calls = models.PositiveIntegerField(default=0)
    doing = models.CharField(max_length=200, blank=True)
    problem = models.TextField(blank=True, help_text="Why it failed as a whole, and what to do.")

    objects = TrailRunQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["connection"], condition=Q(state="running"), name="trail_run_one_at_a_time")
        ]
        indexes = [models.Index(fields=["connection", "-started_at"], name="trail_run_latest")]

    def __str__(self) -> str:
        return f"Trail of {self.connection} at {self.started_at:%Y-%m-%d %H:%M} UTC"

    def get_absolute_url(self) -> str:
        return self.connection.get_absolute_url()

    @property
    def is_running(self) -> bool:
        return self.state == self.State.RUNNING


class TrailDay(models.Model):
    """What was read of the trail of one account's Region for one day. A day that is not here, or not `whole_at`, is
    unknown: what was not seen on it may still have happened."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="trail_days")
    account_id = models.CharField(max_length=12)
    region = models.CharField(max_length=40)
    day = models.DateField()
    files = models.PositiveIntegerField(default=0)
    events = models.PositiveBigIntegerField(default=0)
    damaged = models.PositiveIntegerField(default=0, help_text="Files that could not be read to their end.")
    read_keys = ArrayField(
        models.BigIntegerField(),
        default=list,
        help_text="Hashes of the files that were read; emptied after the window.",
    )
    listed_at = models.DateTimeField(null=True, blank=True, help_text="When the whole day was last listed.")
    whole_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was known to be over and read to the end. Empty: incomplete."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "account_id", "region", "day"], name="trail_day_once")
        ]
        indexes = [models.Index(fields=["connection", "day"], name="trail_day_by_day")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.region} {self.day}"


class TrailHour(models.Model):
    """The events of one hour in one Region of an account that were read, as 8-byte hashes of their ids one after another:
    two files may hold the same event. Kept as long as files of that hour may still come."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="+")
    account_id = models.CharField(max_length=64)
    region = models.CharField(max_length=40)
    hour = models.DateTimeField()
    seen = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "account_id", "region", "hour"], name="trail_hour_once")
        ]
        indexes = [models.Index(fields=["hour"], name="trail_hour_by_hour")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.region} {self.hour}"


class Actor(models.Model):
    """Somebody as the trail names them: an IAM user, a role whatever its session, an Identity Center user, a root user.
    Its principal is found by unique id first, and is empty while the inventory does not know it: what it does is kept."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="actors")
    external_id = models.CharField(max_length=256, help_text="The unique id (AROA…, AIDA…), which is never used again.")
    arn = models.CharField(max_length=700, blank=True)
    account_id = models.CharField(max_length=64, blank=True)
    principal = models.ForeignKey(Principal, models.SET_NULL, null=True, blank=True, related_name="actors")
    first_at = models.DateTimeField(help_text="Of the earliest call that was read.")
    last_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "external_id"], name="actor_once")]
        indexes = [
            models.Index(fields=["connection", "arn"], condition=Q(principal=None), name="actor_unknown"),
        ]

    def __str__(self) -> str:
        return self.arn or self.external_id


class Usage(models.Model):
    """How often an actor did one thing on one day, by how it ended. What AWS services did on its behalf is counted apart:
    it is not the actor's own need."""

    actor = models.ForeignKey(Actor, models.CASCADE, related_name="usage")
    day = models.DateField()
    action = models.CharField(max_length=200, help_text="The permission, or the call where none is known for it.")
    is_mapped = models.BooleanField(default=True, help_text="`action` is a permission of AWS's reference.")
    is_data_event = models.BooleanField(default=False)
    done = models.PositiveIntegerField(default=0)
    denied = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    by_services = models.PositiveIntegerField(default=0, help_text="Calls that AWS services made for it, not its own.")
    last_at = models.DateTimeField()
    networks = ArrayField(models.CharField(max_length=64), default=list)
    regions = ArrayField(models.CharField(max_length=40), default=list)
    services = ArrayField(models.CharField(max_length=64), default=list, help_text="That called on its behalf.")

    class Meta:
        verbose_name_plural = "usage"
        constraints = [models.UniqueConstraint(fields=["actor", "day", "action"], name="usage_once")]
        indexes = [models.Index(fields=["day"], name="usage_by_day")]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor} on {self.day}"


class Creation(models.Model):
    """Who made a role or an IAM user, as the trail says: where nobody else owns it, its maker is asked first."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="creations")
    made_id = models.CharField(max_length=256, help_text="The unique id of what was made.")
    made_arn = models.CharField(max_length=700, blank=True)
    actor = models.ForeignKey(Actor, models.CASCADE, related_name="creations")
    session_name = models.CharField(
        max_length=256, blank=True, help_text="Of an Identity Center session: the user name."
    )
    source_identity = models.CharField(max_length=256, blank=True)
    at = models.DateTimeField()
    event_id = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "made_id"], name="creation_once")]

    def __str__(self) -> str:
        return f"{self.made_arn} by {self.actor}"


class AccessReport(models.Model):
    """What AWS itself says a principal last accessed ("service last accessed"): when we asked, and how that went."""

    principal = models.OneToOneField(Principal, models.CASCADE, related_name="access_report")
    read_at = models.DateTimeField(null=True, blank=True, help_text="When the report was last read whole.")
    tried_at = models.DateTimeField()
    used_at = models.DateTimeField(
        null=True, blank=True, help_text="The principal's last use at that time: it is asked again when that changed."
    )
    problem = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"Last accesses of {self.principal}"


class LastAccess(models.Model):
    """When a principal last accessed a service, or one action of it, as AWS says. Attempts that were denied count there
    too. `last_at` empty: not within AWS's tracking period of about 400 days."""

    principal = models.ForeignKey(Principal, models.CASCADE, related_name="last_accesses")
    service = models.CharField(max_length=64)
    action = models.CharField(max_length=200, blank=True, help_text="Empty: the service as a whole.")
    last_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["principal", "service", "action"], name="last_access_once")]

    def __str__(self) -> str:
        return f"{self.action or self.service} by {self.principal}"

"""How AWS differs from what grants say: comparisons, and the differences they find."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.grants.models.grants import Grant
from apps.grants.models.guarding import only_lets_go, only_puts_off
from apps.inventory.models import Assignment, Connection, Entitlement, Principal


class ReconciliationQuerySet(models.QuerySet["Reconciliation"]):
    def running(self) -> ReconciliationQuerySet:
        return self.filter(state=Reconciliation.State.RUNNING)

    def silent(self, now: datetime) -> ReconciliationQuerySet:
        """Say they run, but their process is dead."""
        return self.running().filter(finished_at=None, beat_at__lt=now - Reconciliation.SILENT_FOR)

    def undecided(self) -> ReconciliationQuerySet:
        """Everything is read, and nothing is decided yet about what was found."""
        return self.running().filter(finished_at__isnull=False)

    def settled(self) -> ReconciliationQuerySet:
        return self.filter(state=Reconciliation.State.SETTLED)

    def held(self) -> ReconciliationQuerySet:
        """Stopped before any repair; two administrators must let them go."""
        return self.filter(state=Reconciliation.State.HELD)


class Reconciliation(models.Model):
    """One comparison of what grants say about a connection with what AWS shows. Only a complete one closes a difference
    or repairs anything; one that would repair suspiciously much stops first, and waits for two people."""

    class State(models.TextChoices):
        RUNNING = "running", "Comparing"
        INCOMPLETE = "incomplete", "Incomplete"
        HELD = "held", "Waits for two people"
        SETTLED = "settled", "Done"

    MOVES = {
        State.RUNNING: {State.SETTLED, State.HELD, State.INCOMPLETE},
        State.HELD: {State.SETTLED},
    }
    SILENT_FOR = timedelta(minutes=10)  # a running comparison without a sign of life for so long has died

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="reconciliations")
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    database = models.CharField(max_length=100, help_text="The database it compared from, as `Home` names it.")
    started_at = models.DateTimeField(default=timezone.now)
    beat_at = models.DateTimeField(default=timezone.now, help_text="Last sign of life; a silent one is given up.")
    finished_at = models.DateTimeField(null=True, blank=True)
    next_at = models.DateTimeField(help_text="When the connection is compared again.")
    looked_at = models.PositiveIntegerField(default=0, help_text="How many objects and holdings were read in AWS.")
    held_count = models.PositiveIntegerField(default=0, help_text="How many grants AWS should have shown.")
    found = models.PositiveIntegerField(default=0, help_text="Differences that it saw.")
    closed = models.PositiveIntegerField(default=0, help_text="Differences that it no longer saw.")
    repairs = models.PositiveIntegerField(default=0, help_text="What it decided, or would have, without the brake.")
    only_reports = models.BooleanField(default=False, help_text="The first of its connection in this database.")
    problems = models.JSONField(default=list, help_text="Sentences: what could not be read.")
    proposed_at = models.DateTimeField(null=True, blank=True)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    objects = ReconciliationQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection"], condition=Q(state="running"), name="reconciliation_one_at_a_time"
            ),
            models.UniqueConstraint(fields=["connection"], condition=Q(state="held"), name="reconciliation_held_once"),
            models.CheckConstraint(
                condition=Q(released_by=None) | (Q(proposed_by__isnull=False) & ~Q(released_by=F("proposed_by"))),
                name="reconciliation_release_needs_two_people",
            ),
            models.CheckConstraint(
                condition=Q(released_at=None, released_by=None)
                | Q(released_at__isnull=False, released_by__isnull=False),
                name="reconciliation_release_says_who",
            ),
        ]
        indexes = [models.Index(fields=["connection", "-id"], name="reconciliation_latest")]
        triggers = [only_lets_go("settled")]

    def __str__(self) -> str:
        return f"Comparison of {self.connection} at {self.started_at:%Y-%m-%d %H:%M} UTC"

    @property
    def waits_for_second(self) -> bool:
        return self.state == self.State.HELD and self.proposed_by_id is not None


class DriftQuerySet(models.QuerySet["Drift"]):
    def open(self) -> DriftQuerySet:
        """The last complete comparison still showed it, or none has looked since."""
        return self.filter(closed_at=None)

    def critical(self) -> DriftQuerySet:
        return self.filter(is_critical=True)

    def unaccepted(self, now: datetime) -> DriftQuerySet:
        """Nobody said that it may stay for now."""
        return self.filter(Q(accepted_until=None) | Q(accepted_until__lte=now))

    def to_repair(self, run: Reconciliation, now: datetime) -> DriftQuerySet:
        """What this comparison saw, though it was to be repaired before it began, or never was."""
        return (
            self.open()
            .unaccepted(now)
            .filter(seen_in=run, kind__in=Drift.REPAIRED, is_repairable=True)
            .filter(Q(decided_at=None) | Q(decided_at__lt=run.started_at))
            .exclude(removal__state="revoking")
        )

    def unwritten(self, now: datetime) -> DriftQuerySet:
        """Its repair was decided, and is a write that did not get through yet."""
        decided = self.open().filter(decided_at__isnull=False, repaired_at=None, removal=None, next_try_at__lte=now)
        return decided.filter(kind__in=Drift.WRITTEN)

    def with_names(self) -> DriftQuerySet:
        return self.select_related(
            "connection",
            "grant__identity",
            "principal__identity",
            "entitlement__resource",
            "entitlement__group",
            "removal",
            "accepted_by",
            "seen_in",
        )


class Drift(models.Model):
    """One difference between what grants say and what AWS shows, from when it was first seen until a complete
    comparison no longer shows it."""

    class Kind(models.TextChoices):
        ROGUE = "rogue", "Rogue"
        TAMPERED = "tampered", "Tampered"
        RESURRECTED = "resurrected", "Came back"
        MISSING = "missing", "Missing"
        UNSCHEDULED = "unscheduled", "Unscheduled"
        UNINTENDED = "unintended", "Unintended"

    # by itself, each of them by narrowing
    REPAIRED = (Kind.ROGUE, Kind.TAMPERED, Kind.RESURRECTED, Kind.MISSING, Kind.UNSCHEDULED)
    WRITTEN = (Kind.TAMPERED, Kind.RESURRECTED, Kind.UNSCHEDULED)  # where the repair may be a write of its own

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="drifts")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    key = models.CharField(max_length=64, help_text="The same for the same difference, whichever comparison sees it.")
    is_critical = models.BooleanField(default=False, help_text="Access is there that nothing ends, or nobody decided.")
    is_repairable = models.BooleanField(default=False, help_text="Gatehouse can narrow it by itself.")
    grant = models.ForeignKey(Grant, models.PROTECT, null=True, blank=True, related_name="drifts")
    principal = models.ForeignKey(Principal, models.CASCADE, null=True, blank=True, related_name="drifts")
    entitlement = models.ForeignKey(Entitlement, models.CASCADE, null=True, blank=True, related_name="drifts")
    assignment = models.ForeignKey(Assignment, models.SET_NULL, null=True, blank=True, related_name="drifts")
    shared_key = models.CharField(max_length=300, blank=True, help_text="The shared object that differs.")
    what = models.CharField(max_length=500, help_text="A sentence: what AWS shows, and what it should.")
    evidence = models.JSONField(default=dict, help_text="{differences: [sentences], proof: {what, read_at, facts}}")
    first_seen_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    seen_in = models.ForeignKey(Reconciliation, models.CASCADE, related_name="drifts")
    closed_at = models.DateTimeField(null=True, blank=True)

    decided_at = models.DateTimeField(null=True, blank=True, help_text="When its repair was decided, last.")
    removal = models.ForeignKey(
        Grant, models.SET_NULL, null=True, blank=True, related_name="+", help_text="The ending that repairs it."
    )
    repaired_at = models.DateTimeField(null=True, blank=True, help_text="When AWS showed the repair in place.")
    problem = models.CharField(max_length=1000, blank=True, help_text="Why the last try to repair it failed.")
    next_try_at = models.DateTimeField(default=timezone.now)
    held_in = models.ForeignKey(
        Reconciliation,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="holding",
        help_text="Whose brake holds it.",
    )

    accepted_until = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    accepted_reason = models.CharField(max_length=1000, blank=True)

    objects = DriftQuerySet.as_manager()

    class Meta:
        ordering = ["-is_critical", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["connection", "key"], condition=Q(closed_at=None), name="drift_open_once"),
            models.CheckConstraint(
                condition=Q(accepted_until=None) | (Q(accepted_by__isnull=False) & ~Q(accepted_reason="")),
                name="drift_accepted_by_somebody_with_a_reason",
            ),
        ]
        indexes = [models.Index(fields=["connection", "kind"], condition=Q(closed_at=None), name="drift_open")]
        triggers = [only_puts_off]

    def __str__(self) -> str:
        return f"D-{self.pk}: {self.what}"

    @property
    def number(self) -> str:
        return f"D-{self.pk}"

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def is_accepted(self) -> bool:
        return self.accepted_until is not None and self.accepted_until > timezone.now()


def key_of(kind: str, *words: object) -> str:
    """What names one difference: the same words give the same key."""
    return hashlib.sha256("\0".join([kind, *map(str, words)]).encode()).hexdigest()

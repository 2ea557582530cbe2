"""What does not look right, from the day it is seen until it is gone, and each look for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils import timezone

from apps.inventory.models import Assignment, Connection, Credential, Entitlement, Identity, Resource, SyncRun


class Severity(models.IntegerChoices):
    """How much it matters. A number, so that the worst sort first."""

    CRITICAL = 4, "Critical"
    HIGH = 3, "High"
    MEDIUM = 2, "Medium"
    LOW = 1, "Low"


class Inspection(models.Model):
    """One look for findings in what is known of a connection."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="inspections")
    run = models.ForeignKey(
        SyncRun, models.SET_NULL, null=True, blank=True, related_name="+", help_text="The last reading that it saw."
    )
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    found = models.PositiveIntegerField(help_text="What it saw, what was known before included.")
    opened = models.PositiveIntegerField()
    closed = models.PositiveIntegerField()
    kept = models.PositiveIntegerField(help_text="No longer seen, but no complete scan says that it is gone.")

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["connection", "-id"], name="inspection_latest")]

    def __str__(self) -> str:
        return f"Inspection of {self.connection} at {self.started_at:%Y-%m-%d %H:%M} UTC"


class FindingQuerySet(models.QuerySet["Finding"]):
    def open(self) -> FindingQuerySet:
        """No complete scan showed it gone."""
        return self.filter(closed_at=None)

    def accepted(self, now: datetime) -> FindingQuerySet:
        return self.open().filter(accepted_until__gt=now)

    def unaccepted(self, now: datetime) -> FindingQuerySet:
        """Open, and nobody decided that it may stay for now."""
        return self.open().filter(Q(accepted_until=None) | Q(accepted_until__lte=now))

    def to_do(self, now: datetime) -> FindingQuerySet:
        """Somebody has to act: it is neither accepted nor said to be done."""
        return self.unaccepted(now).filter(resolved_at=None)

    def of(self, identity: Identity) -> FindingQuerySet:
        """What this person answers for, and what is about them."""
        return self.filter(Q(owner=identity) | Q(identity=identity))

    def listed(self) -> FindingQuerySet:
        """With what a list prints, and no more of it."""
        own = "kind", "severity", "name", "what", "first_seen_at", "closed_at", "accepted_until", "resolved_at"
        return self.select_related("resource", "owner").only(*own, "resource__name", "owner__name")

    def with_names(self) -> FindingQuerySet:
        """With everything that its page prints. Joining all of it would take PostgreSQL longer to plan than to do."""
        joined = self.select_related("resource", "identity", "owner", "entitlement")
        return joined.defer("entitlement__documents").prefetch_related("connection", "accepted_by", "resolved_by")


class Finding(models.Model):
    """One thing in the inventory that should not be so, from when it was first seen until it is gone. It closes itself,
    and only on the word of a complete scan; people accept it for a time, or say that it is done, with a reason."""

    class Kind(models.TextChoices):
        ROOT_KEY = "root_key", "Root access key"
        NO_MFA = "no_mfa", "No MFA"
        STALE_KEY = "stale_key", "Stale access key"
        STANDING_ADMIN = "standing_admin", "Standing admin"
        ESCALATION = "escalation", "Way to admin"
        OPEN_TRUST = "open_trust", "Open trust"
        ORPHAN = "orphan", "Orphan"
        UNOWNED = "unowned", "Unowned machine"
        UNUSED = "unused", "Unused access"
        MIXED_USE = "mixed_use", "Person and program"
        OUTSIDE = "outside", "Outside the portal"

    LONGEST_ACCEPTANCE = timedelta(days=365)

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="findings")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    key = models.CharField(max_length=80, help_text="What it is about; the same every time it is seen.")
    severity = models.PositiveSmallIntegerField(choices=Severity.choices)
    resource = models.ForeignKey(Resource, models.CASCADE, null=True, blank=True, related_name="findings")
    identity = models.ForeignKey(Identity, models.CASCADE, null=True, blank=True, related_name="findings")
    entitlement = models.ForeignKey(Entitlement, models.CASCADE, null=True, blank=True, related_name="findings")
    credential = models.ForeignKey(Credential, models.CASCADE, null=True, blank=True, related_name="findings")
    assignment = models.ForeignKey(Assignment, models.CASCADE, null=True, blank=True, related_name="findings")
    owner = models.ForeignKey(
        Identity, models.SET_NULL, null=True, blank=True, related_name="owned_findings", help_text="Who answers for it."
    )
    name = models.CharField(max_length=256, help_text="What it is about, as people know it.")
    what = models.CharField(max_length=1000, help_text="A sentence.")
    evidence = models.JSONField(default=dict, help_text="The facts it rests on, by name.")
    first_seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    accepted_until = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    accepted_reason = models.CharField(max_length=1000, blank=True, db_default="")
    resolved_at = models.DateTimeField(null=True, blank=True, help_text="Somebody says it is done; no scan yet.")
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    resolved_reason = models.CharField(max_length=1000, blank=True, db_default="")

    objects = FindingQuerySet.as_manager()

    class Meta:
        ordering = ["-severity", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "kind", "key"], condition=Q(closed_at=None), name="finding_open_once"
            ),
            models.CheckConstraint(
                condition=Q(accepted_until=None) | (Q(accepted_by__isnull=False) & ~Q(accepted_reason="")),
                name="finding_accepted_by_somebody_with_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | (Q(resolved_by__isnull=False) & ~Q(resolved_reason="")),
                name="finding_resolved_by_somebody_with_a_reason",
            ),
        ]
        indexes = [
            models.Index(
                fields=["-severity", "id"],
                include=["accepted_until", "resolved_at"],  # so that counting what is to do reads no row
                condition=Q(closed_at=None),
                name="finding_list",
            ),
            models.Index(fields=["kind", "-severity", "id"], condition=Q(closed_at=None), name="finding_by_kind"),
            models.Index(fields=["-closed_at", "-id"], condition=Q(closed_at__isnull=False), name="finding_closed"),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="finding_name_search"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("insights:finding", args=[self.pk])

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def is_accepted(self) -> bool:
        return self.accepted_until is not None and self.accepted_until > timezone.now()

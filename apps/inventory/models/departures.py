"""Who leaves, as the company's people systems say it."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.inventory.models.connections import Connection
from apps.inventory.models.holders import Identity


class DepartureQuerySet(models.QuerySet["Departure"]):
    def due(self, now: datetime) -> DepartureQuerySet:
        """Those whose instant has come: the person has left."""
        return self.filter(leaves_at__lte=now)


class Departure(models.Model):
    """A people system says that this person leaves, or has left: one row for a person and a kind of source. Whatever the
    directory still lists, somebody with a departure that is due is not here, until that source takes it back."""

    class Source(models.TextChoices):
        SCIM = "scim", "SCIM"
        HR_FILE = "hr_file", "HR file"

    identity = models.ForeignKey(Identity, models.CASCADE, related_name="departures")
    source = models.CharField(max_length=8, choices=Source.choices)
    said_by = models.CharField(max_length=120, help_text="Which identity provider, or which file.")
    leaves_at = models.DateTimeField(help_text="From then on they are not here any more.")
    said_at = models.DateTimeField(default=timezone.now)

    objects = DepartureQuerySet.as_manager()

    class Meta:
        ordering = ["leaves_at", "pk"]
        constraints = [models.UniqueConstraint(fields=["identity", "source"], name="departure_once_by_source")]
        indexes = [models.Index(fields=["leaves_at"], name="departure_due")]

    def __str__(self) -> str:
        return f"{self.identity} leaves, says {self.said_by}"


class Employment(models.Model):
    """What a people system says somebody's job is. It holds against the directory, so that a sync does not undo it."""

    identity = models.OneToOneField(Identity, models.CASCADE, related_name="employment")
    title = models.CharField(max_length=200, null=True, help_text="NULL: it says nothing, and the directory's holds.")
    department = models.CharField(max_length=200, null=True)
    said_by = models.CharField(max_length=120, help_text="Which identity provider, or which file.")
    said_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.identity}, says {self.said_by}"


class HrFileQuerySet(models.QuerySet["HrFile"]):
    def open(self) -> HrFileQuerySet:
        """Looked at, and neither applied nor thrown away."""
        return self.filter(applied_at=None, discarded_at=None)


class HrFile(models.Model):
    """One file of the people team that somebody looked at before it was applied: what exactly it would change, and from
    what. Of the file itself only the digest and these differences are kept."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="hr_files")
    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the file, in hexadecimal.")
    lines = models.PositiveIntegerField(help_text="Rows after the first line.")
    changes = models.JSONField(help_text="What would change: one object for a person, with before and after.")
    joiners = models.JSONField(help_text="The first people that the directory does not know.")
    counts = models.JSONField(help_text="How many of each.")
    ignored = models.JSONField(default=list, help_text="Columns that nobody reads here.")
    needs_second = models.BooleanField(help_text="It ends so many people that another administrator applies it.")
    looked_at = models.DateTimeField(default=timezone.now)
    looked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    applied_at = models.DateTimeField(null=True, blank=True)
    applied_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    discarded_at = models.DateTimeField(null=True, blank=True)

    objects = HrFileQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(needs_second=False)
                | Q(applied_at=None)
                | (Q(looked_by__isnull=False, applied_by__isnull=False) & ~Q(applied_by=F("looked_by"))),
                name="hr_file_that_ends_many_needs_two",
            )
        ]

    def __str__(self) -> str:
        return self.name

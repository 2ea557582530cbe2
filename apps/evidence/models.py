"""What was handed out as evidence. The files themselves are not kept: the same state gives the same bytes again, and the
digest says whether a file somebody shows is the one that was handed out."""

from __future__ import annotations

from datetime import datetime, timedelta

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.reviews.models import Campaign


class Export(models.Model):
    """Somebody took the audit events of a period out of the portal, as one CSV file."""

    start_at = models.DateTimeField(help_text="Included.")
    end_at = models.DateTimeField(help_text="Excluded.")
    rows = models.PositiveBigIntegerField()
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the file.")
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]
        constraints = [models.CheckConstraint(condition=Q(start_at__lt=F("end_at")), name="export_is_a_period")]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"the audit events of {self.start_at:%Y-%m-%d} to {self.last_at:%Y-%m-%d}"

    @property
    def last_at(self) -> datetime:
        """The last instant that is included: people name the last day, not the one after it."""
        return self.end_at - timedelta(microseconds=1)


class EvidencePack(models.Model):
    """Somebody took the evidence of a campaign out of the portal, as one zip file."""

    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="evidence_packs")
    content_digest = models.CharField(
        max_length=64, help_text="SHA-256 of what is in it: the same for the same state of the campaign."
    )
    digest = models.CharField(max_length=64, help_text="SHA-256 of this zip file.")
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    rows = models.JSONField(help_text="{file: rows}")
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"the evidence of {self.campaign}"

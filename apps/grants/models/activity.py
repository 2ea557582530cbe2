"""What grants were used for, as audit trails say."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Q

from apps.grants.models.grants import Grant


class Strength(models.TextChoices):
    """How surely a call belongs to a grant, the surest first."""

    EXACT = "exact", "Certain"  # only this grant can have made the session
    PROBABLE = "probable", "Probable"  # the session fits, but another way in would look the same
    POSSIBLE = "possible", "Possible"  # the same login did it meanwhile, and can do so without the grant


class TracedSession(models.Model):
    """A session in AWS that a grant brought about, by the id of its access key: the trail showed how it began. What is
    done with the key belongs to the grant, also when further roles are assumed with it."""

    grant = models.ForeignKey(Grant, models.CASCADE, related_name="traced_sessions")
    access_key_id = models.CharField(max_length=128)
    strength = models.CharField(max_length=8, choices=Strength.choices)
    began_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["access_key_id"], name="traced_session_once")]

    def __str__(self) -> str:
        return f"{self.access_key_id} of {self.grant_id}"


class OutsideChange(models.Model):
    """A call that gave access in AWS and was not Gatehouse's: who made it, from where. Kept for as long as usage is, to
    say who is behind what came about outside the portal."""

    connection = models.ForeignKey("inventory.Connection", models.CASCADE, related_name="outside_changes")
    event_id = models.CharField(max_length=64)
    at = models.DateTimeField()
    account_id = models.CharField(max_length=64)
    call = models.CharField(max_length=130, help_text="iam:AttachUserPolicy")
    named = models.JSONField(default=dict, help_text="Who and what it names.")
    actor_arn = models.CharField(max_length=2048, blank=True)
    session_name = models.CharField(max_length=256, blank=True)
    source_identity = models.CharField(max_length=256, blank=True)
    source_address = models.CharField(max_length=128, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["connection", "event_id"], name="outside_change_once")]
        indexes = [
            GinIndex(OpClass("named", name="jsonb_path_ops"), name="outside_change_names"),
            models.Index(fields=["at"], name="outside_change_by_day"),
        ]

    def __str__(self) -> str:
        return f"{self.call} by {self.who}"

    @property
    def who(self) -> str:
        """The surest name that the trail has for them."""
        return self.source_identity or self.session_name or self.actor_arn


class Activity(models.Model):
    """How often one action was called under a grant, by how it ended. What AWS services did on behalf of the session is
    counted apart: it is not what the holder needed."""

    grant = models.ForeignKey(Grant, models.CASCADE, related_name="activity")
    action = models.CharField(max_length=200, help_text="The permission, or the call where none is known for it.")
    strength = models.CharField(max_length=8, choices=Strength.choices)
    is_mapped = models.BooleanField(default=True, help_text="`action` is a permission of AWS's reference.")
    done = models.PositiveIntegerField(default=0)
    denied = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    by_services = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        ordering = ["action", "pk"]
        verbose_name_plural = "activity"
        constraints = [
            models.UniqueConstraint(fields=["grant", "action", "strength"], name="activity_once"),
            models.CheckConstraint(condition=Q(last_at__gte=models.F("first_at")), name="activity_in_order"),
        ]

    def __str__(self) -> str:
        return f"{self.action} under {self.grant_id}"

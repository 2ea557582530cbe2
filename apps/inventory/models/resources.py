"""What is governed."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import OuterRef, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property

from apps.inventory.models.connections import Connection, ScopeScan


class Environment(models.TextChoices):
    PRODUCTION = "production", "Production"
    STAGING = "staging", "Staging"
    DEVELOPMENT = "development", "Development"
    SANDBOX = "sandbox", "Sandbox"
    SECURITY = "security", "Security"
    MANAGEMENT = "management", "Management"
    UNKNOWN = "unknown", "Unknown"  # treated like production everywhere


ORGANIZATION = "organization"  # environment_source of an environment that sync derives and keeps up to date


class ResourceQuerySet(models.QuerySet["Resource"]):
    def present(self) -> ResourceQuerySet:
        return self.filter(ended_at=None)

    def with_read_at(self) -> ResourceQuerySet:
        """Each with the instant its contents were last read completely, without a query a row."""
        return self.annotate(read_at=Subquery(ScopeScan.objects.complete_of(OuterRef("pk")).values("started_at")[:1]))


class Resource(models.Model):
    """A governed thing: an AWS account today. Its environment comes from the organization's tree or a person's
    confirmed word, never from a tag, since a tag must not be able to lower a tier."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="resources")
    external_id = models.CharField(max_length=64)
    name = models.CharField(max_length=256)
    path = models.CharField(max_length=500, blank=True, help_text="Where it stands in the organization.")
    email = models.CharField(max_length=254, blank=True)
    provider_state = models.CharField(max_length=30, default="active")
    is_management = models.BooleanField(default=False)
    environment = models.CharField(max_length=12, choices=Environment.choices, default=Environment.UNKNOWN)
    environment_source = models.CharField(
        max_length=120, default=ORGANIZATION, help_text="The organization's tree, or who confirmed another one."
    )
    tags = models.JSONField(default=dict)
    owner = models.ForeignKey(
        "inventory.Identity", models.SET_NULL, null=True, blank=True, related_name="owned_resources"
    )
    owner_source = models.CharField(max_length=120, blank=True, help_text="Who or what named the owner.")
    digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = ResourceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["connection", "external_id"], name="resource_once")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("inventory:account", args=[self.pk])

    @cached_property
    def read_at(self) -> datetime | None:
        """As of when its contents were last read completely; None means never. Not a column, so that a sync that finds
        nothing new writes nothing; lists take it from `with_read_at()`."""
        return ScopeScan.objects.complete_of(self.pk).values_list("started_at", flat=True).first()

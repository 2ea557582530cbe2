"""What is governed."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from apps.inventory.models.connections import Connection


class Environment(models.TextChoices):
    PRODUCTION = "production", "Production"
    STAGING = "staging", "Staging"
    DEVELOPMENT = "development", "Development"
    SANDBOX = "sandbox", "Sandbox"
    SECURITY = "security", "Security"
    MANAGEMENT = "management", "Management"
    UNKNOWN = "unknown", "Unknown"  # treated like production everywhere


class ResourceQuerySet(models.QuerySet["Resource"]):
    def present(self) -> ResourceQuerySet:
        return self.filter(ended_at=None)


class Resource(models.Model):
    """A governed thing: an AWS account today. Its environment comes from the organization's tree or a person's confirmed
    word, never from a tag, since a tag must not be able to lower a tier."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="resources")
    external_id = models.CharField(max_length=64)
    name = models.CharField(max_length=256)
    path = models.CharField(max_length=500, blank=True, help_text="Where it stands in the organization.")
    email = models.CharField(max_length=254, blank=True)
    provider_state = models.CharField(max_length=30, default="active")
    is_management = models.BooleanField(default=False)
    environment = models.CharField(max_length=12, choices=Environment.choices, default=Environment.UNKNOWN)
    tags = models.JSONField(default=dict)
    owner = models.ForeignKey(
        "inventory.Identity", models.SET_NULL, null=True, blank=True, related_name="owned_resources"
    )
    owner_source = models.CharField(max_length=120, blank=True, help_text="Who or what named the owner.")
    digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True, help_text="As of when its contents were last read completely.")

    objects = ResourceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["connection", "external_id"], name="resource_once")]

    def __str__(self) -> str:
        return self.name

"""Who answers for what, as workers saw it."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q


class ResponsibilityQuerySet(models.QuerySet["Responsibility"]):
    def counting(self, at: datetime) -> ResponsibilityQuerySet:
        """Those that held at that instant, and had for the waiting time."""
        return self.filter(Q(ended_at=None) | Q(ended_at__gt=at), counts_from__lte=at)


class Responsibility(models.Model):
    """Somebody answers for an account, an entitlement or a person's access, or administers the portal, since a worker first
    saw it. People say who answers for what in the portal, and so can whoever steals it: an approval of privileged access
    counts only by a word that has stood for the waiting time."""

    class Kind(models.TextChoices):
        ACCOUNT = "account", "Owner of an account"
        ENTITLEMENT = "entitlement", "Owner of an entitlement"
        MANAGER = "manager", "Manager of somebody"
        ADMINISTRATOR = "administrator", "Administrator"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="responsibilities")
    kind = models.CharField(max_length=14, choices=Kind.choices)
    about = models.BigIntegerField(help_text="The account's, entitlement's or person's row; 0 for administrators.")
    first_seen_at = models.DateTimeField()
    counts_from = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = ResponsibilityQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "responsibilities"
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind", "about"], condition=Q(ended_at=None), name="responsibility_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.get_kind_display()} {self.about}"

"""Who can become whom. Workers derive these rows from what was read; nobody else writes them.

Trusts and the rights to knock are kept apart, each made from one row of the inventory alone, and joined when somebody asks:
a change in one account touches no row of another, and there are never more rows than there are roles and policies.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models.access import Entitlement, Privilege
from apps.inventory.models.connections import Connection, SyncRun
from apps.inventory.models.holders import Principal
from apps.inventory.models.resources import Resource


class Trust(models.Model):
    """Whom one role lets in by its trust policy, and how much the role may do. A user has one too, that lets nobody in."""

    principal = models.OneToOneField(Principal, models.CASCADE, primary_key=True, related_name="trust")
    resource = models.ForeignKey(Resource, models.CASCADE, related_name="trusts")
    arn = models.CharField(max_length=700, default="", help_text="Beside the keys, so that both narrow one scan.")
    keys = ArrayField(models.TextField(), default=list, help_text="ARNs and accounts; * is anybody.")
    services = ArrayField(models.TextField(), default=list)
    lines = models.JSONField(default=list)
    is_fixed = models.BooleanField(default=False, help_text="AWS lets nobody change or pass it.")
    problem = models.CharField(max_length=500, blank=True, help_text="Why the trust policy cannot be read.")
    privilege = models.CharField(max_length=10, choices=Privilege.choices, default=Privilege.UNKNOWN)
    privilege_reason = models.CharField(max_length=500, blank=True)
    privilege_statement = models.JSONField(
        null=True,
        blank=True,
        help_text="Which statement of which policy causes it, where several were weighed: {policy, statement}.",
    )
    is_outright = models.BooleanField(default=False, help_text="The privilege rests on no escalation.")
    can_escalate = models.BooleanField(default=False, help_text="All of its policies together let it become more.")
    holds = models.CharField(
        max_length=32, blank=True, help_text="What must be weighed together; empty for one policy."
    )
    weighed = models.CharField(max_length=32, blank=True, help_text="The same of when it was.")
    digest = models.CharField(max_length=64, blank=True, help_text="Of the principal it was derived from.")

    class Meta:
        indexes = [
            GinIndex(fields=["keys"], name="trust_by_key"),
            models.Index(fields=["resource", "privilege"], name="trust_by_risk"),
        ]

    def __str__(self) -> str:
        return f"Trust of {self.principal}"


class Knock(models.Model):
    """What one policy or permission set says about becoming somebody else."""

    entitlement = models.OneToOneField(Entitlement, models.CASCADE, primary_key=True, related_name="knock")
    acts_as = models.CharField(
        max_length=700, blank=True, help_text="The role that holders of a permission set act as."
    )
    lines = models.JSONField(default=list)
    boundary = models.JSONField(null=True, blank=True, help_text="The same of the permission set's own boundary.")
    runs = ArrayField(models.TextField(), default=list, help_text="Actions that make a service run something.")
    denied_runs = ArrayField(
        models.TextField(),
        default=list,
        help_text="Such actions that nobody who has this policy may do, whatever allows it.",
    )
    digest = models.CharField(max_length=64, blank=True, help_text="Of the entitlement it was derived from.")

    class Meta:
        indexes = [
            models.Index(
                fields=["entitlement"],
                condition=Q(lines__contains=[{"e": "Allow", "ways": ["assume"]}]),
                name="knock_asking",
            ),
        ]

    def __str__(self) -> str:
        return f"Knock of {self.entitlement}"


class Escalation(models.Model):
    """Somebody can become an administrator in one step or two, though no policy of theirs says so. The surest and shortest
    way of each holder; the others go when this one is closed, or take its place."""

    class Way(models.TextChoices):
        ASSUME = "assume", "Assumes the role"
        REWRITE = "rewrite", "Changes whom the role lets in"
        PASS = "pass", "Hands the role to a service"
        KEYS = "keys", "Makes an access key for the user"
        PASSWORD = "password", "Makes a password for the user"
        RESET = "reset", "Changes the user's password"

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="escalations")
    resource = models.ForeignKey(
        Resource, models.CASCADE, related_name="escalations", help_text="The holder's account."
    )
    principal = models.ForeignKey(
        Principal, models.CASCADE, null=True, blank=True, related_name="escalations", help_text="A role or user."
    )
    entitlement = models.ForeignKey(
        Entitlement, models.CASCADE, null=True, blank=True, related_name="escalations", help_text="Or a permission set."
    )
    way = models.CharField(max_length=8, choices=Way.choices)
    target = models.ForeignKey(Principal, models.CASCADE, related_name="+", help_text="Who is become first.")
    steps = models.PositiveSmallIntegerField(help_text="1: the target is an administrator. 2: it can become one.")
    reason = models.CharField(max_length=1000)
    statement = models.JSONField(null=True, blank=True, help_text="The policy or trust statement that allows the step.")
    is_conditional = models.BooleanField(
        default=False, help_text="It rests on a condition that cannot be decided here."
    )
    first_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["principal"], condition=~Q(principal=None), name="escalation_of_principal"),
            models.UniqueConstraint(
                fields=["entitlement"], condition=~Q(entitlement=None), name="escalation_of_entitlement"
            ),
            models.CheckConstraint(
                condition=Q(principal=None, entitlement__isnull=False) | Q(entitlement=None, principal__isnull=False),
                name="escalation_of_one_holder",
            ),
            models.CheckConstraint(condition=Q(steps__in=(1, 2)), name="escalation_in_two_steps"),
        ]

    def __str__(self) -> str:
        return f"{self.entitlement or self.principal}: {self.reason}"


class Tracing(models.Model):
    """When it was last worked out who can become whom in a connection, from which reading, and what was left out."""

    connection = models.OneToOneField(Connection, models.CASCADE, primary_key=True, related_name="tracing")
    run = models.ForeignKey(SyncRun, models.SET_NULL, null=True, blank=True, related_name="+")
    traced_at = models.DateTimeField()
    notes = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"Tracing of {self.connection}"

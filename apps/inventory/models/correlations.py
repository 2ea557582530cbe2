"""Whose login an IAM user is."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models.holders import Identity, Principal


class CorrelationQuerySet(models.QuerySet["Correlation"]):
    def present(self) -> CorrelationQuerySet:
        """About IAM users that are still there."""
        return self.filter(principal__kind=Principal.Kind.IAM_USER, principal__ended_at=None)

    def waiting(self, at: datetime | None = None) -> CorrelationQuerySet:
        """The queue: nobody said anything yet, or "not now" has run out."""
        now = at or timezone.now()
        return self.present().filter(Q(decision="") | Q(decision=Correlation.Choice.LATER, until__lte=now))

    def put_off(self) -> CorrelationQuerySet:
        return self.present().filter(decision=Correlation.Choice.LATER, until__gt=timezone.now())

    def decided(self) -> CorrelationQuerySet:
        return self.present().filter(decision__in=(Correlation.Choice.PERSON, Correlation.Choice.MACHINE))


class Correlation(models.Model):
    """Whose login one IAM user is: the question, since it looks like a person's; what the rules propose; and the answer.
    Workers write the question and carry the answer out (`inventory.sync.correlation`); administrators answer."""

    class Choice(models.TextChoices):
        PERSON = "person", "A person's login"
        MACHINE = "machine", "A machine"
        LATER = "later", "Not now"

    principal = models.OneToOneField(Principal, models.CASCADE, related_name="correlation")
    unique_id = models.CharField(
        max_length=128, blank=True, help_text="AWS's id of the user asked about: another one of that name is another."
    )
    asked_at = models.DateTimeField(default=timezone.now)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Who says it is a person's login. Empty: its password does.",
    )
    proposed = models.ForeignKey(Identity, models.SET_NULL, null=True, blank=True, related_name="+")
    rule = models.CharField(max_length=20, blank=True, help_text="Which rule proposes, or decided.")
    note = models.CharField(max_length=300, blank=True, help_text="What to know before answering.")
    decision = models.CharField(max_length=8, blank=True, choices=Choice.choices)
    person = models.ForeignKey(Identity, models.SET_NULL, null=True, blank=True, related_name="correlations")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", help_text="Empty: a rule."
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True, help_text="When a question that was put off is asked again.")
    reason = models.CharField(max_length=500, blank=True)

    objects = CorrelationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(person=None) | Q(decision="person"), name="correlation_person_only_when_linked"
            ),
            models.CheckConstraint(
                condition=Q(decision__in=("", "person")) | Q(decided_by__isnull=False),
                name="correlation_rules_only_link",
            ),
        ]
        indexes = [models.Index(fields=["decision", "id"], name="correlation_queue")]

    def __str__(self) -> str:
        return f"Whose is {self.principal}?"

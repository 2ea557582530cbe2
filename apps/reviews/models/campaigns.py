"""One review as a whole: its scope, its dates, its numbers."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from apps.inventory.models import Connection, Resource, SyncRun
from apps.inventory.models.resources import Environment

# What a launch fixes for good.
FROZEN = ["connection", "environments", "privileged_only", "holders", "resource", "run", "population", "digest"]
FROZEN += ["kind", "people", "left_out", "launched_at", "launched_by"]


def changed(*fields: str) -> pgtrigger.Q:
    """For triggers: an update that changes one of these."""
    return reduce(or_, (pgtrigger.Q(**{f"old__{name}__df": pgtrigger.F(f"new__{name}")}) for name in fields))


class Kind(models.TextChoices):
    """Why it is held."""

    PERIODIC = "periodic", "Review"
    MOVE = "move", "After a move"


class Holder(models.TextChoices):
    """Who holds what an item is about."""

    HUMAN = "human", "People"
    MACHINE = "machine", "Machines"
    GROUP = "group", "Groups, for what the group itself holds"


class State(models.TextChoices):
    DRAFT = "draft", "Draft"
    RUNNING = "running", "Running"
    CLOSED = "closed", "Closed"


class CampaignQuerySet(models.QuerySet["Campaign"]):
    def running(self) -> CampaignQuerySet:
        return self.filter(state=State.RUNNING)

    def launched(self) -> CampaignQuerySet:
        return self.exclude(state=State.DRAFT)


class Campaign(models.Model):
    """One bounded review: everything that stood in a scope at one instant, and by when it must be decided. Its population
    is frozen at launch; what is decided about it becomes grants that end, and it closes with its numbers tied out."""

    State = State
    Kind = Kind
    MOVES = {State.DRAFT: {State.RUNNING}, State.RUNNING: {State.CLOSED}}

    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.PERIODIC, db_default=Kind.PERIODIC)
    name = models.CharField(max_length=120)
    instructions = models.TextField(max_length=2000, blank=True, help_text="What reviewers read first.")
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="campaigns")
    environments = ArrayField(
        models.CharField(max_length=12, choices=Environment.choices),
        default=list,
        blank=True,
        help_text="Empty: all. Production includes what nobody has classified.",
    )
    privileged_only = models.BooleanField(default=True)
    holders = ArrayField(models.CharField(max_length=8, choices=Holder.choices), default=list)
    resource = models.ForeignKey(
        Resource, models.PROTECT, null=True, blank=True, related_name="campaigns", help_text="Empty: every account."
    )
    people = ArrayField(
        models.BigIntegerField(),
        default=list,
        blank=True,
        db_default=models.Value([], ArrayField(models.BigIntegerField())),
        help_text="Whose access it is about, by the identities' keys. Empty: everybody's.",
    )
    due_at = models.DateTimeField()
    fallback = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="fallback_campaigns",
        help_text="Reviews what has nobody else; never their own access.",
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.DRAFT)
    drafted_at = models.DateTimeField(default=timezone.now)
    drafted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", help_text="Empty: the clock."
    )
    launched_at = models.DateTimeField(null=True, blank=True)
    launched_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    run = models.ForeignKey(
        SyncRun,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="campaigns",
        help_text="The complete sync the population was frozen from.",
    )
    population = models.PositiveIntegerField(default=0, help_text="Items frozen at launch.")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the population; see population.py.")
    left_out = models.JSONField(default=dict, help_text="What was in scope and is no item: {reason: count}.")
    reminded_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    close_note = models.CharField(max_length=1000, blank=True, help_text="Why it was closed with items left.")
    tie_out = models.JSONField(default=dict, help_text="The equations as they stood when it was closed.")

    objects = CampaignQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="draft")
                | (Q(launched_at__isnull=False, run__isnull=False, population__gt=0) & ~Q(digest="")),
                name="campaign_launched_is_frozen",
            ),
            models.CheckConstraint(
                condition=~Q(state="closed") | (Q(closed_at__isnull=False) & ~Q(tie_out={})),
                name="campaign_closed_is_tied_out",
            ),
            models.CheckConstraint(condition=~Q(holders=[]), name="campaign_reviews_somebody"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="frozen_once_launched",
                operation=pgtrigger.Update,
                condition=~pgtrigger.Q(old__state="draft") & changed(*FROZEN),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("reviews:campaign", args=[self.pk])

    @property
    def is_draft(self) -> bool:
        return self.state == State.DRAFT

    @property
    def is_running(self) -> bool:
        return self.state == State.RUNNING

    @property
    def is_closed(self) -> bool:
        return self.state == State.CLOSED

    @property
    def is_overdue(self) -> bool:
        return self.is_running and timezone.now() >= self.due_at

    @property
    def scope(self) -> dict[str, Any]:
        """What was asked for, as the audit log and the evidence keep it."""
        return {
            "connection": self.connection.name,
            "environments": list(self.environments),
            "privileged_only": self.privileged_only,
            "holders": list(self.holders),
            "account": self.resource.external_id if self.resource else "",
            **({"people": list(self.people)} if self.people else {}),
        }

    @property
    def scope_words(self) -> str:
        """The scope as a sentence for people."""
        if self.people:
            whose = "one person holds" if len(self.people) == 1 else f"{len(self.people)} people hold"
            return f"Everything that {whose} all the time, {self.connection}"
        what = "Standing privileged access" if self.privileged_only else "Standing access"
        holders = [{"human": "people", "machine": "machines", "group": "groups"}[name] for name in self.holders]
        named = [Environment(name).label.lower() for name in self.environments]
        place = f" in {self.resource.name}" if self.resource else f" in {_listed(named)}" if named else ""
        return f"{what} of {_listed(holders)}{place}, {self.connection}"


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

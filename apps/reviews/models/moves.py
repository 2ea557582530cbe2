"""People who came to another manager or department, and where everybody was last."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models import Identity


class Placement(models.Model):
    """Where a person was when it was looked last: what a change is a change from. What a source does not say (any more)
    stays as it was: nobody moves to nowhere."""

    identity = models.OneToOneField(Identity, models.CASCADE, related_name="placement")
    manager = models.ForeignKey(Identity, models.SET_NULL, null=True, blank=True, related_name="+")
    department = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.identity} in {self.department}"


class MoveQuerySet(models.QuerySet["Move"]):
    def open(self) -> MoveQuerySet:
        """Nobody was asked yet about what they brought along."""
        return self.filter(settled_at=None)

    def due(self, now: datetime) -> MoveQuerySet:
        return self.open().filter(noticed_at__lte=now - Move.SETTLE, next_try_at__lte=now)

    def with_names(self) -> MoveQuerySet:
        return self.select_related("identity__connection", "from_manager", "to_manager")


class Move(models.Model):
    """A person came to another manager or department: whoever answers for them now is asked about what they brought along.
    A team whose manager left and who got another one did not move."""

    class Outcome(models.TextChoices):
        REVIEW = "review", "The new manager reviews it"
        PROPOSED = "proposed", "An administrator was proposed a review"
        PASSED = "passed", "Passed on to the new manager within a review"
        NOTHING = "nothing", "They held nothing all the time"
        SUPERSEDED = "superseded", "They moved again"
        LEFT = "left", "They left"

    SETTLE = timedelta(minutes=10)  # a reorganisation arrives one by one: nobody is asked before it was seen whole
    WINDOW = timedelta(days=1)  # people who move within it count as moving at once

    identity = models.ForeignKey(Identity, models.CASCADE, related_name="moves")
    from_manager = models.ForeignKey(Identity, models.SET_NULL, null=True, blank=True, related_name="+")
    to_manager = models.ForeignKey(Identity, models.SET_NULL, null=True, blank=True, related_name="+")
    from_department = models.CharField(max_length=200, blank=True)
    to_department = models.CharField(max_length=200, blank=True)
    noticed_at = models.DateTimeField(default=timezone.now)
    settled_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)
    next_try_at = models.DateTimeField(default=timezone.now)
    problem = models.CharField(max_length=1000, blank=True, help_text="Why nobody could be asked yet.")

    objects = MoveQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["identity"], condition=Q(settled_at=None), name="move_open_once"),
            models.CheckConstraint(
                condition=Q(settled_at=None, outcome="") | (Q(settled_at__isnull=False) & ~Q(outcome="")),
                name="move_settled_with_an_outcome",
            ),
        ]
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(settled_at=None), name="move_due"),
            models.Index(fields=["noticed_at"], name="move_noticed"),
        ]

    def __str__(self) -> str:
        return f"{self.identity} moved"

    @property
    def words(self) -> str:
        """From where to where."""
        if self.from_department != self.to_department and self.to_department:
            return f"from {self.from_department or 'no department'} to {self.to_department}"
        return f"from {self.from_manager or 'nobody'} to {self.to_manager or 'nobody'}"

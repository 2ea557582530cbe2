"""What people say about machines where AWS's evidence is not the whole truth."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models.holders import Classification, Identity


class Correction(models.Model):
    """A person says what a machine identity is. It stands beside what AWS shows, which every sync goes on writing, and
    no rule about who may ask for what reads it: it changes how a machine is named, never what it takes to give it more.
    Taken back by deleting it; the audit log keeps what was said."""

    identity = models.OneToOneField(Identity, models.CASCADE, related_name="correction")
    classification = models.CharField(max_length=40, blank=True, choices=Classification.choices)
    is_person = models.BooleanField(
        default=False, help_text="This IAM user is a person's login; an administrator says whose in the queue."
    )
    reason = models.CharField(max_length=500)
    said_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    said_at = models.DateTimeField(default=timezone.now)
    signs_then = models.JSONField(default=list, help_text="What AWS showed when it was said.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(classification="", is_person=False), name="correction_says_something"),
        ]

    def __str__(self) -> str:
        said = "a person" if self.is_person else self.get_classification_display()
        return f"{self.identity} is {said}"

    @property
    def has_evidence_changed(self) -> bool:
        """AWS shows something else than when this was said, so it is worth saying again or taking back."""
        return _facts(self.signs_then) != _facts(self.identity.signs)


def _facts(signs: Any) -> list[tuple[str, str]]:
    return sorted((str(sign["classification"]), str(sign["evidence"])) for sign in signs)

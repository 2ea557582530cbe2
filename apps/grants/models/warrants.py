"""The authority that grants rest on."""

from __future__ import annotations

from datetime import datetime, timedelta

import pgtrigger
from django.db import models
from django.db.models import Case, ExpressionWrapper, F, Max, OuterRef, Subquery, Value, When
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Greatest
from django.utils import timezone

from apps.grants.models.grants import Grant
from apps.grants.models.guarding import extension_begins, warrant_begins


class Authorization(models.Model):
    """Exactly what was asked, by whom, which rule allowed it, who approved."""

    spec = models.JSONField(help_text="What may be provisioned: principal, entitlement, duration, provisioner.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the canonical spec.")
    requester = models.CharField(max_length=64, help_text="User id.")
    approvals = models.JSONField(
        default=list,
        help_text="[{user, name, at, step_up, signed}]; `signed` is {request, expires, assertion} of a passkey.",
    )
    signed_digest = models.CharField(
        max_length=64, null=True, unique=True, help_text="What a passkey signed: it serves this one and no other."
    )
    verdict = models.JSONField(help_text="The rule set's answer: tier, cap, rule, digest of the rule set.")
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True


def _seconds() -> Case:
    """What a spec allows, in whole seconds; none where it says no sensible number."""
    text = Cast(KT("spec__seconds"), models.IntegerField())
    return Case(When(spec__seconds__regex=r"^[0-9]{1,8}$", then=text), default=Value(0))


class WarrantQuerySet(models.QuerySet["Warrant"]):
    def lasting(self, at: datetime) -> WarrantQuerySet:
        """By which access may still be there at `at`: its grant was begun as late as it could be, and extended by all the
        extensions that were carried out. Rests on nothing that a worker can write, but for which extensions were."""
        second = Value(timedelta(seconds=1), models.DurationField())
        longer = Extension.objects.exclude(applied_at=None).filter(grant=OuterRef("grant")).order_by()
        most = Subquery(longer.values("grant").annotate(most=Max(_seconds())).values("most"))
        allowed = ExpressionWrapper(
            (F("first") + Greatest("first", Coalesce(most, 0))) * second, models.DurationField()
        )
        made_after = ExpressionWrapper(Value(at - 2 * Grant.ALLOWANCE) - F("allowed"), models.DateTimeField())
        return self.annotate(first=_seconds()).annotate(allowed=allowed).filter(made_at__gt=made_after)


class Warrant(Authorization):
    """The authority one grant rests on. Made by access, kept and checked by grants before anything is written in AWS; it
    can never be changed."""

    grant = models.OneToOneField(Grant, models.CASCADE, related_name="warrant")

    objects = WarrantQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["made_at"], name="warrant_made")]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update), warrant_begins]

    def __str__(self) -> str:
        return f"Warrant of {self.grant_id}"


class ExtensionQuerySet(models.QuerySet["Extension"]):
    def unsettled(self) -> ExtensionQuerySet:
        """Decided, and neither carried out nor refused by a worker yet."""
        return self.filter(applied_at=None, refused_at=None)


class Extension(Authorization):
    """A yes to holding one grant longer, with the authority it rests on. A worker checks that, moves the end in AWS and
    only then in the grant; or says why not."""

    grant = models.ForeignKey(Grant, models.CASCADE, related_name="extensions")
    duration = models.DurationField(help_text="How much longer than before.")
    applied_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=1000, blank=True, help_text="Why it was refused.")

    objects = ExtensionQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(condition=models.Q(duration__gt=timedelta(0)), name="extension_is_positive"),
            models.CheckConstraint(
                condition=models.Q(applied_at=None) | models.Q(refused_at=None), name="extension_settled_one_way"
            ),
            models.UniqueConstraint(
                fields=["grant"],
                condition=models.Q(applied_at=None, refused_at=None),
                name="extension_one_at_a_time",
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="says_the_same_for_ever",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(
                    *("grant", "duration", "spec", "digest", "requester"),
                    *("approvals", "signed_digest", "verdict", "made_at"),
                ),
            ),
            extension_begins,
        ]

    def __str__(self) -> str:
        return f"{self.duration} longer for {self.grant_id}"

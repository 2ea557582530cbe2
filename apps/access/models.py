"""Asking for access: what is on offer, who asked, who said yes or no."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from apps.connectors import registry
from apps.grants.models import Grant
from apps.inventory.models import Entitlement, Identity, Principal


class OfferQuerySet(models.QuerySet["Offer"]):
    def open(self) -> OfferQuerySet:
        """What can be asked for now: offered, still there, in a connection that two people let us write."""
        return self.filter(
            Q(entitlement__resource=None) | Q(entitlement__resource__ended_at=None),
            withdrawn_at=None,
            entitlement__ended_at=None,
            entitlement__connection__paused_at=None,
        ).exclude(entitlement__connection__write_approved_at=None)

    def matching(self, word: str) -> OfferQuerySet:
        """Offers whose entitlement or account has `word` in its name, description or number."""
        return self.filter(
            Q(entitlement__name__icontains=word)
            | Q(entitlement__description__icontains=word)
            | Q(entitlement__resource__name__icontains=word)
            | Q(entitlement__resource__external_id__startswith=word)
        )

    def for_person(self, identity: Identity | None) -> OfferQuerySet:
        """Offers in the system that they are known in. What there is in another one is not theirs to see."""
        return self.filter(entitlement__connection=identity.connection_id) if identity else self.none()

    def with_names(self) -> OfferQuerySet:
        return self.select_related(
            "entitlement__resource__owner__user", "entitlement__owner__user", "entitlement__connection"
        )


class Offer(models.Model):
    """An entitlement that can be asked for: what opens and ends it, and the longest anybody may have it at a time. Who
    may, and at which tier, is for the rules to say."""

    entitlement = models.ForeignKey(Entitlement, models.CASCADE, related_name="offers")
    provisioner = models.CharField(max_length=40)
    max_for = models.DurationField(
        default=timedelta(hours=8), help_text="Never longer than this, whatever a rule says."
    )
    offered_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    offered_at = models.DateTimeField(default=timezone.now)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects = OfferQuerySet.as_manager()

    class Meta:
        ordering = ["entitlement__name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["entitlement"], condition=Q(withdrawn_at=None), name="offer_once_for_each_entitlement"
            ),
            models.CheckConstraint(condition=Q(max_for__gt=timedelta(0)), name="offer_max_for_is_positive"),
        ]

    def __str__(self) -> str:
        return str(self.entitlement)

    @property
    def provisioner_title(self) -> str:
        return registry.TITLES.get(self.provisioner, self.provisioner)


class State(models.TextChoices):
    CONFIRMING = "confirming", "Waiting for your confirmation"
    WAITING = "waiting", "Waiting for approval"
    ALLOWED = "allowed", "Allowed"
    DENIED = "denied", "Denied"
    WITHDRAWN = "withdrawn", "Withdrawn"
    LAPSED = "lapsed", "Lapsed"


class AccessRequestQuerySet(models.QuerySet["AccessRequest"]):
    def undecided(self) -> AccessRequestQuerySet:
        return self.filter(state__in={State.CONFIRMING, State.WAITING})

    def waiting_for(self, user: models.Model) -> AccessRequestQuerySet:
        """Requests this user can decide now."""
        return self.filter(state=State.WAITING, approvers__user=user).exclude(requester=user)

    def lapsed(self, now: datetime) -> AccessRequestQuerySet:
        return self.undecided().filter(lapses_at__lte=now)

    def with_names(self) -> AccessRequestQuerySet:
        return self.select_related(
            *("requester", "identity", "principal", "grant", "extends", "offer"),
            *("entitlement__resource", "entitlement__connection"),
        )


class AccessRequest(models.Model):
    """Somebody asks to hold something for a while, and why. What became of it is the grant's to tell: an allowed request
    shows `request.grant`."""

    State = State
    MOVES = {
        State.CONFIRMING: {State.ALLOWED, State.WITHDRAWN, State.LAPSED},
        State.WAITING: {State.ALLOWED, State.DENIED, State.WITHDRAWN, State.LAPSED},
    }
    LAPSES_AFTER = timedelta(hours=24)

    requester = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="access_requests")
    identity = models.ForeignKey(
        Identity,
        models.PROTECT,
        related_name="access_requests",
        help_text="Who is to hold it: the requester, or a machine they own.",
    )
    principal = models.ForeignKey(Principal, models.PROTECT, related_name="+")
    offer = models.ForeignKey(Offer, models.PROTECT, related_name="requests")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, related_name="access_requests")
    duration = models.DurationField()
    reason = models.CharField(max_length=1000)
    ticket_ref = models.CharField(max_length=100, blank=True)
    tier = models.CharField(max_length=10, choices=[("auto", "Auto"), ("self", "Self"), ("approval", "Approval")])
    verdict = models.JSONField(help_text="The rule set's answer when it was asked.")
    state = models.CharField(max_length=12, choices=State.choices)
    asked_at = models.DateTimeField(default=timezone.now)
    lapses_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    asked_from = models.JSONField(
        default=dict, help_text="{device, session}: digests, so that a confirmation can be told apart."
    )
    confirmed_by = models.CharField(max_length=20, blank=True, help_text="passkey, or other_device")
    grant = models.OneToOneField(Grant, models.PROTECT, null=True, blank=True, related_name="access_request")
    extends = models.ForeignKey(
        Grant,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="extension_requests",
        help_text="The grant that shall last longer; empty when it asks for a new one.",
    )

    objects = AccessRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(duration__gt=timedelta(0)), name="access_request_duration_is_positive"),
            models.CheckConstraint(
                condition=Q(state="allowed", grant__isnull=False, extends=None)
                | Q(state="allowed", grant=None, extends__isnull=False)
                | (~Q(state="allowed") & Q(grant=None)),
                name="access_request_allowed_has_a_grant",
            ),
            models.CheckConstraint(
                condition=~Q(tier="self", state="allowed") | ~Q(confirmed_by=""),
                name="access_request_self_tier_was_confirmed",
            ),
        ]
        indexes = [
            models.Index(fields=["requester", "-id"], name="access_request_of"),
            models.Index(
                fields=["lapses_at"], condition=Q(state__in=["confirming", "waiting"]), name="access_request_lapse"
            ),
        ]

    def __str__(self) -> str:
        return f"R-{self.pk}: {self.entitlement} for {self.identity}"

    def get_absolute_url(self) -> str:
        return reverse("access:detail", args=[self.pk])

    @property
    def number(self) -> str:
        return f"R-{self.pk}"

    @property
    def about(self) -> Grant | None:
        """The grant that tells what became of it: the one it made, or the one that it asks to hold longer."""
        return self.grant or self.extends

    @property
    def would_end_at(self) -> datetime | None:
        """When the grant would end with the extension."""
        return self.extends.ends_at + self.duration if self.extends and self.extends.ends_at else None

    @property
    def is_undecided(self) -> bool:
        return self.state in (State.CONFIRMING, State.WAITING)


class Approver(models.Model):
    """Somebody who may decide one request, and what makes them so: the requester's manager, the owner, an administrator."""

    request = models.ForeignKey(AccessRequest, models.CASCADE, related_name="approvers")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    requester = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    why = models.CharField(max_length=200)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["request", "user"], name="approver_once"),
            models.CheckConstraint(condition=~Q(user=F("requester")), name="approver_is_not_the_requester"),
        ]

    def __str__(self) -> str:
        return f"{self.user}, {self.why}"


class Approval(models.Model):
    """One approver's yes or no to one request, with the step-up it was given under."""

    class Choice(models.TextChoices):
        APPROVE = "approve", "Approved"
        DENY = "deny", "Denied"

    request = models.ForeignKey(AccessRequest, models.CASCADE, related_name="approvals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="approvals")
    requester = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    choice = models.CharField(max_length=8, choices=Choice.choices)
    reason = models.CharField(max_length=1000, blank=True)
    decided_at = models.DateTimeField(default=timezone.now)
    step_up = models.JSONField(default=dict, help_text="{method, authenticator, at}")

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["request", "user"], name="approval_once"),
            models.CheckConstraint(condition=~Q(user=F("requester")), name="approval_is_not_the_requesters_own"),
            models.CheckConstraint(condition=Q(choice="approve") | ~Q(reason=""), name="approval_denial_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.get_choice_display()} by {self.user}"

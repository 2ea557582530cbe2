"""People who left: what ended with them, and how far what they held all the time is gone."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.grants.models.guarding import leaving_begins, only_lets_go
from apps.inventory.models import Connection, Identity


class ExodusQuerySet(models.QuerySet["Exodus"]):
    def held(self) -> ExodusQuerySet:
        """Nothing was taken away yet; two administrators must say that so many really left."""
        return self.filter(state=Exodus.State.HELD)


class Exodus(models.Model):
    """So many people left a connection at once that a broken feed is more likely than the truth. Their sessions and timed
    access ended, which can be given again; what they held all the time waits for two people."""

    class State(models.TextChoices):
        HELD = "held", "Waits for two people"
        RELEASED = "released", "Let go"
        OVER = "over", "They came back"

    MOVES = {State.HELD: {State.RELEASED, State.OVER}}

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="exoduses")
    state = models.CharField(max_length=8, choices=State.choices, default=State.HELD)
    began_at = models.DateTimeField(default=timezone.now)
    people_before = models.PositiveIntegerField(help_text="How many people there were before they left.")
    proposed_at = models.DateTimeField(null=True, blank=True)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    objects = ExodusQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "exoduses"
        constraints = [
            models.UniqueConstraint(fields=["connection"], condition=Q(state="held"), name="exodus_held_once"),
            models.CheckConstraint(
                condition=Q(released_by=None) | (Q(proposed_by__isnull=False) & ~Q(released_by=F("proposed_by"))),
                name="exodus_release_needs_two_people",
            ),
            models.CheckConstraint(
                condition=~Q(state="released") | Q(released_by__isnull=False, released_at__isnull=False),
                name="exodus_release_says_who",
            ),
        ]
        triggers = [only_lets_go("released")]

    def __str__(self) -> str:
        return f"Many leavers of {self.connection}, {self.began_at:%Y-%m-%d}"


class LeavingQuerySet(models.QuerySet["Leaving"]):
    def open(self) -> LeavingQuerySet:
        """They have not come back."""
        return self.filter(returned_at=None)

    def away(self) -> LeavingQuerySet:
        """They have not come back, and the inventory does not show them as here before the clock noted that."""
        return self.open().filter(identity__ended_at__isnull=False)

    def with_another_login(self) -> LeavingQuerySet:
        """Who can sign in by a login that was not theirs when it was noticed that they left."""
        return self.away().filter(identity__user__is_active=True).exclude(user=F("identity__user"))

    def unpassed(self, now: datetime) -> LeavingQuerySet:
        """What they left behind is to be dealt with: they are gone for the settling time, and no brake holds it."""
        free = Q(exodus=None) | Q(exodus__state=Exodus.State.RELEASED)
        return self.away().filter(free, passed_at=None, noticed_at__lte=now - Leaving.SETTLE)

    def taking(self, now: datetime) -> LeavingQuerySet:
        """Their standing access goes, and is not all gone yet."""
        return self.away().filter(passed_at__isnull=False, gone_at=None, next_try_at__lte=now)

    def with_names(self) -> LeavingQuerySet:
        return self.select_related("identity__connection", "identity__manager", "passes_to", "user", "exodus")


class Leaving(models.Model):
    """One person left, once: what ended in the transaction that noticed it, who answers in their place, and what became of
    what they held all the time. Whoever comes back leaves this row behind, and gets nothing back with it."""

    SETTLE = timedelta(minutes=10)  # a feed that breaks says so one by one: nothing for good before it was seen whole
    WINDOW = timedelta(days=1)  # people who leave within it count as leaving at once

    identity = models.ForeignKey(Identity, models.PROTECT, related_name="leavings")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", help_text="Who was shut out."
    )
    left_at = models.DateTimeField(help_text="Since when they are not here, by the inventory.")
    noticed_at = models.DateTimeField(default=timezone.now)
    ended = models.JSONField(default=dict, help_text="How many of what ended when it was noticed: {words: count}.")
    passes_to = models.ForeignKey(
        Identity, models.PROTECT, null=True, blank=True, related_name="+", help_text="Who took over; empty: nobody."
    )
    passed = models.JSONField(default=dict, help_text="How many of what they took over: {words: count}.")
    passed_at = models.DateTimeField(null=True, blank=True, help_text="When it was decided what becomes of the rest.")
    at_stake = models.BooleanField(
        default=False, help_text="There was something to take away or to hand over for good."
    )
    exodus = models.ForeignKey(Exodus, models.SET_NULL, null=True, blank=True, related_name="leavings")
    gone_at = models.DateTimeField(null=True, blank=True, help_text="When nothing that they held was there any more.")
    returned_at = models.DateTimeField(null=True, blank=True)
    next_try_at = models.DateTimeField(default=timezone.now)
    problem = models.CharField(max_length=1000, blank=True, help_text="Why some of it could not be taken away yet.")

    objects = LeavingQuerySet.as_manager()

    class Meta:
        ordering = ["-left_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["identity"], condition=Q(returned_at=None), name="leaving_once"),
        ]
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(returned_at=None, gone_at=None), name="leaving_due"),
            models.Index(fields=["-left_at", "-id"], name="leaving_list"),
        ]
        triggers = [leaving_begins]

    def __str__(self) -> str:
        return f"{self.identity} left"

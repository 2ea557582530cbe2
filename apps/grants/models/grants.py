"""Grants: what shall be held, until when, and how far AWS has followed."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Least
from django.urls import reverse
from django.utils import timezone

from apps.connectors import registry
from apps.connectors.base import Promise
from apps.grants.models.guarding import found_to_end, only_narrows
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Principal
from apps.inventory.models.access import PRIVILEGED
from apps.inventory.succession import stood_for
from apps.users.models import User


class State(models.TextChoices):
    PENDING = "pending", "Starting"
    PROVISIONING = "provisioning", "Confirming with AWS"
    ACTIVE = "active", "Active"
    REVOKING = "revoking", "Ending"
    REVOKED = "revoked", "Removed and checked"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"


LIVE = frozenset({State.PENDING, State.PROVISIONING, State.ACTIVE})  # the intent stands
IN_AWS = frozenset({State.PROVISIONING, State.ACTIVE, State.REVOKING})  # AWS may show something of it
# AWS was asked for it, so whatever becomes of it, it ends through a removal. One that is being provisioned and has asked
# for nothing yet may still fail without one.
COMMITTED = Q(state__in=IN_AWS) & ~Q(state=State.PROVISIONING, ticket={})


class EndReason(models.TextChoices):
    EXPIRED = "expired", "Its time was up"
    DONE = "done", "The holder was done"
    REVOKED = "revoked", "An owner or administrator ended it"
    REVIEW = "review", "A review revoked it"
    LEAVER = "leaver", "The holder left"
    UNAPPROVED = "unapproved", "Who approved it left before it opened"
    GONE = "gone", "It was removed outside Gatehouse"
    FAILED = "failed", "It could not be opened"
    UNWARRANTED = "unwarranted", "No passkey signed its approval"
    CANCELLED = "cancelled", "It was cancelled before it began"
    EMERGENCY = "emergency", "Emergency stop"
    DRIFT = "drift", "Nobody had granted it"


def new_reference() -> str:
    """A name that nobody can guess and no database ever gives twice, as roles, tags and session names allow it."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


class GrantQuerySet(models.QuerySet["Grant"]):
    def live(self) -> GrantQuerySet:
        """The intent stands: starting, being confirmed, or active."""
        return self.filter(state__in=LIVE)

    def unfinished(self) -> GrantQuerySet:
        """Not yet at an end: live, or being removed."""
        return self.filter(state__in=LIVE | {State.REVOKING})

    def expired(self, now: datetime) -> GrantQuerySet:
        """Should be ended by the clock now: its time is up, or would be had it begun when it was decided. Access that
        opens days late, because no worker ran, helps nobody."""
        return self.filter(
            Q(state=State.ACTIVE, ends_at__lte=now)
            | Q(state__in={State.PROVISIONING, State.ACTIVE}, not_after__lte=now)
            | Q(state=State.PENDING, created_at__lte=now - Grant.ALLOWANCE - Least("duration", Grant.LONGEST))
        )

    def due(self, now: datetime) -> GrantQuerySet:
        """A worker should take the next step: nobody has, or the one who did went silent."""
        return self.filter(state__in={State.PENDING, State.PROVISIONING, State.REVOKING}, next_try_at__lte=now).exclude(
            state=State.REVOKING, remover=Grant.BY_OWNER
        )

    def undenied(self) -> GrantQuerySet:
        """Being ended, in an object that AWS shares among grants, and not read back as denied yet."""
        return self.filter(state=State.REVOKING, denied_at=None, shared_key__gt="")

    def overdue(self, now: datetime) -> GrantQuerySet:
        """Should be gone by now and is not proven gone. What its owner removes by hand has a date of its own."""
        return self.filter(
            Q(due_at=None, revoking_at__lte=now - Grant.REVOKE_SLO) | Q(due_at__lte=now), state=State.REVOKING
        )

    def overrun(self, now: datetime) -> GrantQuerySet:
        """Should have been ended by others a while ago: what the separate ender takes upon itself."""
        late = now - Grant.OVERRUN
        over = Q(state__in=IN_AWS) & (Q(ends_at__lte=late) | Q(not_after__lte=late))
        stuck = Q(state=State.REVOKING, revoking_at__lte=now - Grant.REVOKE_SLO)
        return self.filter(over | stuck).exclude(provisioner="")

    def keeping(self, grant: Grant) -> GrantQuerySet:
        """Other grants that need what AWS shows for this one, and take it away themselves when they end."""
        return self.same_access(grant).filter(COMMITTED).exclude(state=State.REVOKING)

    def taking_away(self, grant: Grant) -> GrantQuerySet:
        """Other grants that asked AWS to remove what this one needs, and do not know yet whether it is gone."""
        return self.same_access(grant).filter(state__in={State.REVOKING, State.REVOKED}, ticket__verb="close")

    def sharing(self, shared_key: str, opening: Grant | None = None) -> GrantQuerySet:
        """Everything the shared object `shared_key` in AWS has to say something about: what is open, what is being
        ended, what ended and was not taken out of it yet, and the one that is to be `opening` now."""
        said = COMMITTED | Q(state=State.REVOKED)
        if opening:
            said |= Q(pk=opening.pk, state=State.PROVISIONING)
        return self.filter(said, shared_key=shared_key, cleared_at=None)

    def uncleared(self, now: datetime) -> GrantQuerySet:
        """Ended grants that the shared object still mentions though no session of theirs can live any more."""
        return self.filter(
            Q(sessions_until=None) | Q(sessions_until__lte=now),
            state=State.REVOKED,
            cleared_at=None,
            shared_key__gt="",
            next_try_at__lte=now,
        )

    def unsigned(self) -> GrantQuerySet:
        """Privileged ones in AWS whose approval no passkey signed: opened before that was asked for, or what they allow
        became privileged since."""
        return self.filter(
            Q(warrant=None) | Q(warrant__signed_digest=None),
            state__in={State.PROVISIONING, State.ACTIVE},
            origin=Grant.Origin.REQUEST,
            entitlement__privilege__in=PRIVILEGED,
        )

    def unnarrowed(self, now: datetime) -> GrantQuerySet:
        """Active grants that AWS would end later than they asked for, because narrowing did not get through."""
        return self.filter(state=State.ACTIVE, narrowed_at=None, shared_key__gt="", next_try_at__lte=now)

    def same_access(self, grant: Grant) -> GrantQuerySet:
        """Other grants for the same (principal, entitlement) where AWS shows one thing for all of them."""
        if grant.is_alone_in_aws:
            return self.none()
        return self.filter(principal_id=grant.principal_id, entitlement_id=grant.entitlement_id).exclude(pk=grant.pk)

    def visible_to(self, user: User) -> GrantQuerySet:
        """What this user may look at: their own, their reports', what they own; for auditors and administrators all.
        The same as `permissions.can_see`."""
        if user.is_auditor or user.is_administrator:
            return self
        me = Identity.objects.present().filter(user=user)
        return self.filter(
            Q(requested_by=user)
            | Q(identity__user=user)
            | Q(identity__manager__in=stood_for(user))
            | Q(entitlement__owner__in=me)
            | Q(entitlement__resource__owner__in=me)
            | Q(task_owner__in=me)
        )

    def of(self, user: User) -> GrantQuerySet:
        """What they hold, or asked for on behalf of a machine."""
        theirs = Identity.objects.filter(user=user).values("pk")  # not joined: each page asks, among all that is open
        return self.filter(Q(identity__in=theirs) | Q(requested_by=user, origin=Grant.Origin.REQUEST))

    def with_names(self) -> GrantQuerySet:
        """For lists and pages: everything they print, without a query a row."""
        return self.select_related(*Grant.NAMES)


class Grant(models.Model):
    """Our intent: this principal shall hold this entitlement, until then. It begins as a request that was allowed
    (`request`), as break-glass, or as standing access that somebody decided about (`found`). Its state follows AWS:
    active only after a read-back showed it there, revoked only after a read-back showed it gone."""

    State = State
    EndReason = EndReason

    class Origin(models.TextChoices):
        REQUEST = "request", "Requested"
        BREAK_GLASS = "break_glass", "Break-glass"
        FOUND = "found", "Found standing"

    MOVES = {
        State.PENDING: {State.PROVISIONING, State.CANCELLED, State.FAILED},
        State.PROVISIONING: {State.ACTIVE, State.REVOKING, State.FAILED},
        State.ACTIVE: {State.REVOKING},
        State.REVOKING: {State.REVOKED},
    }
    ALLOWANCE = timedelta(minutes=15)  # for provisioning; the end written first is claim + allowance + duration
    REVOKE_SLO = timedelta(minutes=5)  # after this an unproven removal is overdue, in red
    LONGEST = timedelta(days=36_500)  # a date so far off can still be reckoned with, whatever a row asks for
    OVERRUN = timedelta(minutes=2)  # past its end by so much, and the ender no longer waits for the workers
    NAMES = (
        "identity__manager",
        "principal",
        "entitlement__resource__owner",
        "entitlement__owner",
        "connection",
        "requested_by",
        "ended_by",
        "task_owner",
    )
    BY_OWNER = "owner"  # a remover that is a person: only a complete sync can show it done

    connection = models.ForeignKey(Connection, models.PROTECT, related_name="grants")
    identity = models.ForeignKey(
        Identity, models.PROTECT, null=True, related_name="grants", help_text="Empty when a group holds it."
    )
    principal = models.ForeignKey(Principal, models.PROTECT, related_name="grants")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, related_name="grants")
    assignment = models.ForeignKey(
        Assignment, models.PROTECT, null=True, blank=True, related_name="grants", help_text="What was found, if found."
    )
    origin = models.CharField(max_length=12, choices=Origin.choices)
    provisioner = models.CharField(max_length=40, blank=True, help_text="Opens and ends it; empty for found ones.")
    remover = models.CharField(max_length=40, blank=True, help_text="For found ones: the entitlement kind, or owner.")
    reference = models.CharField(
        max_length=16, default=new_reference, unique=True, editable=False, help_text="What it is called in AWS."
    )
    made_as = models.CharField(
        max_length=64,
        blank=True,
        help_text="What AWS calls the object that was made for it alone; one that is made again has another id.",
    )
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    end_reason = models.CharField(max_length=12, choices=EndReason.choices, blank=True)
    end_note = models.CharField(max_length=1000, blank=True)
    reason = models.CharField(max_length=1000)
    ticket_ref = models.CharField(max_length=100, blank=True)
    duration = models.DurationField(null=True, blank=True, help_text="Asked for, counted from active.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    ended_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    created_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    not_after = models.DateTimeField(null=True, blank=True, help_text="The end that AWS enforces.")
    accepted_at = models.DateTimeField(null=True, blank=True, help_text="When AWS accepted the opening.")
    active_at = models.DateTimeField(null=True, blank=True)
    narrowed_at = models.DateTimeField(null=True, blank=True, help_text="When AWS's end was narrowed to ends_at.")
    ends_at = models.DateTimeField(null=True, blank=True)
    revoking_at = models.DateTimeField(null=True, blank=True)
    denied_at = models.DateTimeField(null=True, blank=True, help_text="When a Deny was read back in force.")
    removal_accepted_at = models.DateTimeField(null=True, blank=True, help_text="When AWS accepted the removal.")
    revoked_at = models.DateTimeField(null=True, blank=True)
    sessions_until = models.DateTimeField(null=True, blank=True, help_text="Until when a session could have lived.")

    shared_key = models.CharField(max_length=300, blank=True, help_text="The AWS object it shares with other grants.")
    attempt = models.PositiveIntegerField(default=0, help_text="Fences out workers that come too late.")
    next_try_at = models.DateTimeField(default=timezone.now)
    ticket = models.JSONField(
        default=dict, blank=True, help_text="What AWS was asked last: {verb: open or close, state, reference, reason}."
    )
    problem = models.CharField(max_length=1000, blank=True, help_text="Why the last attempt did not get through.")
    problem_count = models.PositiveIntegerField(default=0)
    receipt = models.JSONField(default=list, blank=True, help_text="Proofs of the removal, in order.")
    cleared_at = models.DateTimeField(
        null=True, blank=True, help_text="When the shared object stopped mentioning it, after its last session."
    )
    deny_left_out = models.BooleanField(default=False, help_text="A Deny would have cut standing rights.")

    task_owner = models.ForeignKey(
        Identity, models.SET_NULL, null=True, blank=True, related_name="tasks", help_text="Who must remove it by hand."
    )
    due_at = models.DateTimeField(null=True, blank=True)

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        triggers = [only_narrows, found_to_end]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="active") | Q(active_at__isnull=False), name="grant_active_was_read_back"
            ),
            models.CheckConstraint(
                condition=~Q(state="revoked") | (Q(revoked_at__isnull=False) & ~Q(receipt=[])),
                name="grant_revoked_has_receipt",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "cancelled", "failed"])
                | Q(origin="found")
                | Q(not_after__isnull=False),
                name="grant_has_an_end_before_it_begins",
            ),
            models.CheckConstraint(
                condition=Q(origin="found") | (Q(duration__gt=timedelta(0)) & ~Q(provisioner="")),
                name="grant_requested_is_timed_and_provisioned",
            ),
            models.CheckConstraint(
                condition=~Q(origin="found") | (Q(assignment__isnull=False) & ~Q(remover="")),
                name="grant_found_names_what_was_found",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "provisioning", "active", "failed"]) | ~Q(end_reason=""),
                name="grant_end_has_a_reason",
            ),
            models.UniqueConstraint(
                fields=["assignment"],
                condition=Q(origin="found", state__in=["active", "revoking"]),
                name="grant_found_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"], condition=Q(state__in=["pending", "provisioning", "revoking"]), name="grant_due"
            ),
            models.Index(fields=["ends_at"], condition=Q(state="active"), name="grant_expiry"),
            models.Index(
                fields=["ends_at"],
                condition=Q(state__in=["provisioning", "active", "revoking"]),
                name="grant_in_aws",
            ),
            models.Index(fields=["shared_key"], condition=Q(cleared_at=None), name="grant_in_shared"),
            models.Index(
                fields=["identity"], condition=Q(state__in=["pending", "provisioning", "active"]), name="grant_live"
            ),
            models.Index(fields=["identity", "-id"], name="grant_of_identity"),
            models.Index(fields=["principal", "entitlement"], name="grant_same_access"),
            # what insights measures over a period
            models.Index(fields=["active_at"], condition=Q(active_at__isnull=False), name="grant_opened"),
            models.Index(fields=["denied_at"], condition=Q(denied_at__isnull=False), name="grant_denied"),
            models.Index(fields=["revoked_at"], condition=Q(revoked_at__isnull=False), name="grant_gone"),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.entitlement} for {self.identity or self.principal}"

    def get_absolute_url(self) -> str:
        return reverse("grants:detail", args=[self.pk])

    @property
    def number(self) -> str:
        return f"G-{self.pk}"

    @property
    def proofs(self) -> list[tuple[str, datetime]]:
        """The receipt in words: what was read back, and when."""
        return [(one["what"], datetime.fromisoformat(one["read_at"])) for one in self.receipt if "what" in one]

    @property
    def paths_left(self) -> dict[str, Any] | None:
        """What its holder still had in the same account when it was gone: {paths, as_of of the inventory}."""
        found = next((one for one in self.receipt if "paths" in one), None)
        as_of = found and found["as_of"]
        return found and {**found, "as_of": datetime.fromisoformat(as_of) if as_of else None}

    @property
    def is_unproven(self) -> bool:
        """Its removal should have been read back by now, and was not. It is tried for ever."""
        return self.is_overdue and not self.is_owner_task

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What AWS was asked to change to end it: {call, account_id, request_id, outcome, at}."""
        found = (one["change"] for one in self.receipt if "change" in one)
        return [{**change, "at": datetime.fromisoformat(change["at"])} for change in found]

    @property
    def provisioner_title(self) -> str:
        return registry.TITLES.get(self.provisioner, self.provisioner)

    @property
    def is_alone_in_aws(self) -> bool:
        """Whether it has an object or sessions of its own there, which it shares with no other grant."""
        return bool(self.provisioner) and self.promise.is_per_grant

    @property
    def promise(self) -> Promise:
        """What its provisioner promises. Found ones have none."""
        return registry.promise(self.connection.kind, self.provisioner)

    @property
    def is_ending(self) -> bool:
        return self.state == State.REVOKING

    @property
    def held_for(self) -> timedelta | None:
        """How long AWS showed it, as far as we can prove."""
        if self.active_at is None or self.origin == self.Origin.FOUND:
            return None
        return (self.revoking_at or self.revoked_at or timezone.now()) - self.active_at

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    @property
    def is_owner_task(self) -> bool:
        return self.remover == self.BY_OWNER

    @property
    def is_overdue(self) -> bool:
        if self.state != State.REVOKING or self.revoking_at is None:
            return False
        return timezone.now() >= (self.due_at or self.revoking_at + self.REVOKE_SLO)

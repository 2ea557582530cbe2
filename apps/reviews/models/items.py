"""What a campaign asks about, what was answered, and who signed for the answers."""

from __future__ import annotations

import uuid

import pgtrigger
from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Upper
from django.utils import timezone

from apps.core import words
from apps.core.privileges import ROLES
from apps.grants.models import Grant
from apps.grants.models import State as GrantState
from apps.inventory.models import Assignment, Credential, Entitlement, Identity, Principal
from apps.inventory.models.access import PRIVILEGED, Privilege
from apps.reviews.models.campaigns import Campaign, State, changed
from apps.users.models import User


class Choice(models.TextChoices):
    UNDECIDED = "undecided", "Not decided"
    KEEP = "keep", "Keep"
    REVOKE = "revoke", "Revoke"


class Outcome(models.TextChoices):
    """Where an item stands, derived from its choice, its grant and what the inventory shows."""

    UNDECIDED = "undecided", "Not decided"
    KEPT = "kept", "Kept"
    REMOVED = "removed", "Removed and checked"
    REMOVING = "removing", "Being removed"
    OWNER_TASK = "owner_task", "Waits for its owner"
    NOT_STARTED = "not_started", "Not started"


_ENDED = Q(grant=None, assignment__period__upper_inf=False)
_BY_OWNER = Q(grant__remover=Grant.BY_OWNER)
OUTCOMES: dict[str, Q] = {
    Outcome.UNDECIDED: Q(choice=Choice.UNDECIDED),
    Outcome.KEPT: Q(choice=Choice.KEEP),
    Outcome.REMOVED: Q(choice=Choice.REVOKE) & (Q(grant__state=GrantState.REVOKED) | _ENDED),
    Outcome.REMOVING: Q(choice=Choice.REVOKE, grant__state=GrantState.REVOKING) & ~_BY_OWNER,
    Outcome.OWNER_TASK: Q(choice=Choice.REVOKE, grant__state=GrantState.REVOKING) & _BY_OWNER,
    Outcome.NOT_STARTED: Q(choice=Choice.REVOKE, grant=None, assignment__period__upper_inf=True),
}


class ReviewItemQuerySet(models.QuerySet["ReviewItem"]):
    def undecided(self) -> ReviewItemQuerySet:
        return self.filter(choice=Choice.UNDECIDED)

    def decided(self) -> ReviewItemQuerySet:
        return self.exclude(choice=Choice.UNDECIDED)

    def unsigned(self) -> ReviewItemQuerySet:
        """Nobody signed for them yet, so what is decided can still be changed."""
        return self.filter(sign_off=None)

    def privileged(self) -> ReviewItemQuerySet:
        return self.filter(privilege__in=PRIVILEGED)

    def waiting_for(self, user: User) -> ReviewItemQuerySet:
        """What this user should decide now."""
        return self.undecided().filter(reviewer=user, campaign__state=State.RUNNING)

    def outcome(self, name: str) -> ReviewItemQuerySet:
        return self.filter(OUTCOMES[name])

    def to_carry_out(self) -> ReviewItemQuerySet:
        """Revocations somebody signed for, whose removal has not begun and whose access still stands."""
        return self.outcome(Outcome.NOT_STARTED).exclude(sign_off=None)

    def own_of(self, user: User) -> ReviewItemQuerySet:
        """Items about access of this user, whichever login or path: their own, what their linked identity or one with
        their address holds, what an IAM user with a password holds whose owner they are, and what a group holds that
        they are a member of. An address is no proof of who somebody is, but enough to keep them from certifying it."""

        def is_them(path: str) -> Q:
            return Q(**{f"{path}__user": user}) | Q(**{f"{path}__email__iexact": user.email})

        password = Credential.objects.filter(
            principal=OuterRef("principal"), kind=Credential.Kind.PASSWORD, is_active=True, ended_at=None
        )
        member = Assignment.objects.open().filter(
            is_them("principal__identity"), entitlement__group=OuterRef("principal")
        )
        return self.filter(
            Q(subject_user=user)
            | is_them("identity")
            | (Q(principal__kind=Principal.Kind.IAM_USER) & is_them("identity__owner") & Exists(password))
            | (Q(kind=ReviewItem.Kind.GROUP) & Exists(member))
        )

    def with_names(self) -> ReviewItemQuerySet:
        """For lists: everything they print, without a query a row."""
        return self.select_related("reviewer", "grant__task_owner", "assignment")


class ReviewItem(models.Model):
    """One assignment that could be removed, as it stood at launch, and one reviewer who decides whether it stays. What it
    was is frozen: a later rename changes no evidence. Ids run by reviewer and holder, so they are the queue's order."""

    Choice = Choice

    class Kind(models.TextChoices):
        DIRECT = "direct", "Held directly"
        MEMBERSHIP = "membership", "Group membership"
        GROUP = "group", "Held by a group"

    class Rule(models.TextChoices):
        """What made somebody the reviewer; `reviewer_rule` says it in a sentence."""

        MANAGER = "manager", "Manager"
        OWNER = "owner", "Owner"
        FALLBACK = "fallback", "Fallback"
        LAUNCHER = "launcher", "Who launched it"
        PASSED = "passed", "Passed on"

    MIN_REASON = 8  # characters: enough that "x" does not pass

    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="items")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    assignment = models.ForeignKey(Assignment, models.PROTECT, related_name="review_items")
    principal = models.ForeignKey(Principal, models.PROTECT, related_name="review_items")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, related_name="review_items")
    identity = models.ForeignKey(
        Identity, models.PROTECT, null=True, blank=True, related_name="review_items", help_text="Empty for a group."
    )
    holder_name = models.CharField(max_length=256)
    holding_name = models.CharField(max_length=520, help_text="What is held, and where.")
    privilege = models.CharField(max_length=10, choices=Privilege.choices)
    frozen = models.JSONField(help_text="Everything else as it stood at launch; population.py lists it.")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="review_items")
    rule = models.CharField(max_length=10, choices=Rule.choices)
    reviewer_rule = models.CharField(max_length=700, help_text="Why it is this reviewer, in a sentence.")
    subject_user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose access it is, as far as a portal user is known for it.",
    )
    choice = models.CharField(max_length=10, choices=Choice.choices, default=Choice.UNDECIDED)
    reason = models.CharField(max_length=1000, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="decided_items"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    is_bulk = models.BooleanField(default=False)
    batch = models.UUIDField(null=True, blank=True, help_text="The act it was decided in; undo takes it back whole.")
    sign_off = models.ForeignKey("SignOff", models.PROTECT, null=True, blank=True, related_name="items")
    grant = models.ForeignKey(
        Grant, models.PROTECT, null=True, blank=True, related_name="review_items", help_text="Of a revocation."
    )
    problem = models.CharField(max_length=1000, blank=True, help_text="Why its removal could not begin yet.")

    objects = ReviewItemQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["campaign", "assignment"], name="review_item_once"),
            models.CheckConstraint(condition=~Q(reviewer=F("subject_user")), name="review_item_reviewer_not_subject"),
            models.CheckConstraint(condition=~Q(decided_by=F("subject_user")), name="review_item_decider_not_subject"),
            models.CheckConstraint(
                condition=Q(choice="undecided", decided_at=None, decided_by=None, sign_off=None)
                | (~Q(choice="undecided") & Q(decided_at__isnull=False, decided_by__isnull=False)),
                name="review_item_decided_by_somebody",
            ),
            models.CheckConstraint(
                condition=~Q(reason="")
                | Q(choice="undecided")
                | (Q(choice="keep") & ~Q(privilege__in=sorted(PRIVILEGED))),
                name="review_item_decision_has_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(grant=None) | Q(choice="revoke", sign_off__isnull=False),
                name="review_item_only_signed_revocations_end",
            ),
        ]
        indexes = [
            models.Index(fields=["campaign", "reviewer", "id"], name="review_item_queue"),
            models.Index(
                fields=["reviewer"], condition=Q(choice="undecided"), name="review_item_waiting", include=["campaign"]
            ),
            models.Index(
                fields=["campaign", "reviewer"],
                condition=Q(choice="revoke", grant=None, sign_off__isnull=False),
                name="review_item_to_carry_out",
            ),
            GinIndex(OpClass(Upper("holder_name"), name="gin_trgm_ops"), name="review_item_search"),
        ]
        triggers = [
            pgtrigger.Protect(name="no_delete", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="workers_decide_nothing",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func=f"""
                IF current_user = '{ROLES["worker"]}' AND NEW.choice <> 'undecided'
                   AND (TG_OP = 'INSERT' OR NEW.choice <> OLD.choice OR NEW.decided_by_id <> OLD.decided_by_id) THEN
                    RAISE EXCEPTION 'People decide about holdings.' USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            ),
            pgtrigger.ReadOnly(
                name="frozen",
                fields=[
                    *("campaign", "kind", "assignment", "principal", "entitlement", "identity"),
                    *("holder_name", "holding_name", "privilege", "frozen", "subject_user"),
                ],
            ),
            pgtrigger.Protect(
                name="signed",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__sign_off__isnull=False)
                & changed("reviewer", "choice", "reason", "decided_by", "decided_at", "is_bulk", "batch", "sign_off"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.holding_name} for {self.holder_name}"

    @property
    def is_decided(self) -> bool:
        return self.choice != Choice.UNDECIDED

    @property
    def is_privileged(self) -> bool:
        return self.privilege in PRIVILEGED

    @property
    def keeping_needs_reason(self) -> bool:
        return self.is_privileged

    @property
    def account_number(self) -> str:
        """The account's id as people read it; "" for what holds everywhere."""
        return words.account_id(self.frozen["account_id"] or "")

    @property
    def outcome(self) -> Outcome:
        """The same as `OUTCOMES`, of one row with its grant and assignment."""
        if self.choice != Choice.REVOKE:
            return Outcome.KEPT if self.choice == Choice.KEEP else Outcome.UNDECIDED
        if self.grant is None:
            return Outcome.NOT_STARTED if self.assignment.is_open else Outcome.REMOVED
        if self.grant.state == GrantState.REVOKED:
            return Outcome.REMOVED
        return Outcome.OWNER_TASK if self.grant.is_owner_task else Outcome.REMOVING

    @property
    def about(self) -> list[models.Model]:
        """The rows an event about this item touches, by their keys alone."""
        holder = Identity(pk=self.identity_id) if self.identity_id else Principal(pk=self.principal_id)
        rows: list[models.Model] = [
            Campaign(pk=self.campaign_id),
            Assignment(pk=self.assignment_id),
            Entitlement(pk=self.entitlement_id),
        ]
        return [*rows, holder]


class Decision(models.Model):
    """One answer about one item, in the order they were given. Rows are only added: an undo is an answer too."""

    item = models.ForeignKey(ReviewItem, models.PROTECT, related_name="decisions")
    choice = models.CharField(max_length=10, choices=Choice.choices)
    was = models.CharField(max_length=10, choices=Choice.choices, help_text="The choice it changed.")
    reason = models.CharField(max_length=1000, blank=True)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", help_text="Empty: the clock."
    )
    at = models.DateTimeField(default=timezone.now)
    is_bulk = models.BooleanField(default=False)
    batch = models.UUIDField(default=uuid.uuid4)

    class Meta:
        ordering = ["pk"]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.get_choice_display()} by {self.by}"


class SignOff(models.Model):
    """A reviewer put their name to their decisions: what they said, how many it covers, and a digest of exactly those.
    Somebody who is passed more items afterwards signs again for those; an item is covered once."""

    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="sign_offs")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="sign_offs")
    number = models.PositiveSmallIntegerField(default=1)
    statement = models.TextField()
    counts = models.JSONField(help_text="{items, keep, revoke, bulk}")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the decisions; see population.py.")
    signed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["campaign", "reviewer", "number"], name="sign_off_once"),
        ]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.reviewer} signed {self.counts.get('items', 0)} items of {self.campaign}"

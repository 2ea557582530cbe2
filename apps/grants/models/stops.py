"""Emergency stops: a scope in which nothing is held and nothing opens, until two administrators say otherwise."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from apps.connectors import registry
from apps.connectors.base import Target
from apps.grants.models.grants import Grant
from apps.grants.models.guarding import only_hurries, stop_begins
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Resource

EVERYTHING = "*"  # any principal, any permission set, in the words of a guard


class Scope(models.TextChoices):
    PERSON = "person", "A person"
    ENTITLEMENT = "entitlement", "An entitlement"
    ACCOUNT = "account", "An account"
    ALL = "all", "Everything"


SUBJECTS = {Scope.PERSON: "identity", Scope.ENTITLEMENT: "entitlement", Scope.ACCOUNT: "account"}


def _names_only(scope: str) -> Q:
    """The one subject that this scope has, and no other."""
    named = SUBJECTS.get(Scope(scope))
    subjects = Q()
    for field in SUBJECTS.values():
        subjects &= Q(**{f"{field}__isnull": field != named})
    return Q(scope=scope) & subjects


class StopQuerySet(models.QuerySet["Stop"]):
    def in_force(self) -> StopQuerySet:
        return self.filter(lifted_at=None)

    def to_lift(self) -> StopQuerySet:
        """Two administrators signed, as the web process says. A worker looks."""
        return self.in_force().filter(lift_asked_at__isnull=False)

    def with_names(self) -> StopQuerySet:
        return self.select_related(
            "identity__user",
            "entitlement__resource",
            "account",
            "ordered_by",
            "lift_proposed_by",
            "lift_asked_by",
            "lifted_by",
        )

    def against(self, grant: Grant) -> StopQuerySet:
        """Stops in whose scope this grant is, saved or not. The same as `Stop.covers`, from the other side."""
        entitlement, principal = grant.entitlement, grant.principal
        brought = Assignment.objects.open().filter(principal=entitlement.group_id)
        accounts = [pk for pk in (entitlement.resource_id, principal.resource_id) if pk]
        identities = [pk for pk in (grant.identity_id, principal.identity_id) if pk]
        scope = (
            Q(scope=Scope.ALL)
            | Q(identity__in=identities)
            | Q(entitlement=entitlement.pk)
            | Q(account__in=accounts)
            | Q(identity__user__in=[grant.requested_by_id] if grant.requested_by_id else [])
        )
        if entitlement.group_id:
            scope |= Q(entitlement__in=brought.values("entitlement"))
            scope |= Q(account__in=brought.values("entitlement__resource"))
        return self.filter(scope)

    def covering(self) -> Q:
        """Condition on grants: in the scope of any of these, in one statement however many they are."""
        everything = Q(Exists(self.filter(scope=Scope.ALL)))
        people = self.exclude(identity=None)
        return everything | _in_scope(
            people=people.values("identity"),
            users=people.exclude(identity__user=None).values("identity__user"),
            entitlements=self.exclude(entitlement=None).values("entitlement"),
            accounts=self.exclude(account=None).values("account"),
        )


def _in_scope(*, people: Any, users: Any, entitlements: Any, accounts: Any) -> Q:
    """Condition on grants: of one of these people, or asked for by them, or for one of these entitlements, or in one of
    these accounts; a membership with what its group holds. Each may be keys, or a query for them."""
    brought = Q(entitlement__in=entitlements) | Q(entitlement__resource__in=accounts)
    return (
        Q(identity__in=people)
        | Q(principal__identity__in=people)
        | Q(requested_by__in=users)
        | Q(entitlement__in=entitlements)
        | Q(entitlement__resource__in=accounts)
        | Q(principal__resource__in=accounts)
        | Q(entitlement__group__in=Assignment.objects.open().filter(brought).values("principal"))
    )


class Stop(models.Model):
    """An administrator's word that nobody holds, gets or keeps anything for a time in one scope: all that a person holds
    or asked for, an entitlement, an account, or everything. A membership counts with what its group holds.

    It is in force until a worker lifts it, on the signatures of two administrators. What it ended stays ended.
    """

    Scope = Scope

    scope = models.CharField(max_length=12, choices=Scope.choices)
    identity = models.ForeignKey(Identity, models.PROTECT, null=True, blank=True, related_name="stops")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, null=True, blank=True, related_name="stops")
    account = models.ForeignKey(Resource, models.PROTECT, null=True, blank=True, related_name="stops")
    reason = models.CharField(max_length=1000)
    ordered_at = models.DateTimeField(default=timezone.now)
    ordered_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    step_up = models.JSONField(default=dict, help_text="How they proved to be there: {method, authenticator, at}.")
    count = models.PositiveIntegerField(default=0, help_text="Grants it ended at once.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over the references of those, sorted, one a line.")
    lift_proposed_at = models.DateTimeField(null=True, blank=True)
    lift_proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    lift_reason = models.CharField(max_length=1000, blank=True)
    lift_proposal = models.JSONField(default=dict, blank=True, help_text="{expires, assertion} of the first's passkey.")
    lift_asked_at = models.DateTimeField(null=True, blank=True, help_text="When the second signed too.")
    lift_asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    lift_consent = models.JSONField(default=dict, blank=True, help_text="{expires, assertion} of the second's passkey.")
    lift_problem = models.CharField(max_length=1000, blank=True, help_text="Why a worker did not lift it, last.")
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    objects = StopQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=_names_only("person")
                | _names_only("entitlement")
                | _names_only("account")
                | _names_only("all"),
                name="stop_scope_names_its_subject",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="stop_has_a_reason"),
            models.CheckConstraint(
                condition=Q(lifted_at=None, lifted_by=None)
                | (
                    Q(lifted_at__isnull=False, lifted_by__isnull=False, lift_proposed_by__isnull=False)
                    & ~Q(lifted_by=F("lift_proposed_by"))
                ),
                name="stop_lifting_needs_two_people",
            ),
        ]
        indexes = [models.Index(fields=["scope"], condition=Q(lifted_at=None), name="stop_in_force")]
        triggers = [stop_begins]

    def __str__(self) -> str:
        return f"{self.number}: {self.title}"

    def get_absolute_url(self) -> str:
        return reverse("stops:detail", args=[self.pk])

    @property
    def preview_url(self) -> str:
        """The page that says what a stop of this scope would do."""
        query = {"scope": self.scope, **({"id": self.subject.pk} if self.subject else {})}
        return f"{reverse('stops:every')}?{urlencode(query)}"

    @property
    def number(self) -> str:
        return f"S-{self.pk}"

    @property
    def subject(self) -> Identity | Entitlement | Resource | None:
        return self.identity or self.entitlement or self.account

    @property
    def title(self) -> str:
        return f"Everything of {self.subject}" if self.subject else "Everything"

    @property
    def is_in_force(self) -> bool:
        return self.lifted_at is None

    @property
    def is_lift_proposed(self) -> bool:
        """One administrator signed that it may go, and that may still be used."""
        expires = parse_datetime(str(self.lift_proposal.get("expires", "")))
        return self.lift_proposed_by_id is not None and expires is not None and expires > timezone.now()

    @property
    def is_lift_asked(self) -> bool:
        """Both signed, and no worker has looked yet."""
        return self.is_in_force and self.lift_asked_at is not None

    @property
    def refusal(self) -> str:
        """What whoever wants something in its scope is told. Not why: that could warn the wrong one."""
        return (
            f"An emergency stop ({self.number}) is in force here since {self.ordered_at:%d %B %H:%M} UTC. "
            "Nothing is opened until administrators lift it."
        )

    def covers(self) -> Q:
        """Condition on grants: in the scope. The same as `StopQuerySet.against`, from the other side."""
        if self.scope == Scope.ALL:
            return Q()
        return _in_scope(
            people=[self.identity_id] if self.identity_id else [],
            users=[self.identity.user_id] if self.identity and self.identity.user_id else [],
            entitlements=[self.entitlement_id] if self.entitlement_id else [],
            accounts=[self.account_id] if self.account_id else [],
        )


class StopWriteQuerySet(models.QuerySet["StopWrite"]):
    def due(self, now: datetime) -> StopWriteQuerySet:
        """A worker should write it now: a stop into AWS, or out of it again."""
        return self.unsettled().filter(next_try_at__lte=now)

    def unsettled(self) -> StopWriteQuerySet:
        return self.filter(Q(stop__lifted_at=None, read_at=None) | Q(stop__lifted_at__isnull=False, cleared_at=None))

    def unread(self) -> StopWriteQuerySet:
        """Not yet proven to bite."""
        return self.filter(stop__lifted_at=None, read_at=None)

    def with_names(self) -> StopWriteQuerySet:
        """With everything that writing and showing them reads."""
        return self.select_related("stop__identity", "stop__entitlement", "stop__account", "connection", "account")

    def said_in(self, shared_key: str) -> StopWriteQuerySet:
        """The stops in force that this shared object in AWS has to say."""
        return self.naming(shared_key).filter(stop__lifted_at=None)

    def naming(self, shared_key: str) -> StopWriteQuerySet:
        """Those that name this shared object and have a say in it."""
        return self.believed().filter(shared_key=shared_key)

    def believed(self) -> StopWriteQuerySet:
        """In another connection than their account's they have no say."""
        return self.filter(Q(account=None) | Q(account__connection=F("connection")))


class StopWrite(models.Model):
    """One object in AWS that a stop has to be written into, and whether it was read back there: what grants share (a
    guard, a policy document), or the organization's stop policy when `shared_key` is empty."""

    stop = models.ForeignKey(Stop, models.PROTECT, related_name="writes")
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="+")
    account = models.ForeignKey(Resource, models.PROTECT, null=True, blank=True, related_name="+")
    provisioner = models.CharField(max_length=40, blank=True, help_text="Whose object it is.")
    shared_key = models.CharField(max_length=300, blank=True)
    written_at = models.DateTimeField(null=True, blank=True, help_text="When AWS was asked last.")
    read_at = models.DateTimeField(null=True, blank=True, help_text="When it was read back in force.")
    proof = models.CharField(max_length=1000, blank=True)
    cleared_at = models.DateTimeField(null=True, blank=True, help_text="When, after lifting, it was read back as gone.")
    problem = models.CharField(max_length=1000, blank=True)
    problem_count = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(default=timezone.now)

    objects = StopWriteQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["stop", "connection", "shared_key"], name="stop_write_once"),
        ]
        indexes = [
            models.Index(fields=["shared_key"], name="stop_write_shared"),
            models.Index(fields=["next_try_at"], condition=Q(read_at=None), name="stop_write_due"),
        ]
        triggers = [only_hurries]

    def __str__(self) -> str:
        return f"{self.stop.number} in {self.where}"

    @property
    def where(self) -> str:
        if self.is_organization:
            return f"the organization of {self.connection}"
        return str(self.account or self.connection)

    @property
    def is_organization(self) -> bool:
        return not self.shared_key

    @property
    def is_settled(self) -> bool:
        return (self.read_at if self.stop.is_in_force else self.cleared_at) is not None

    @property
    def has_guard(self) -> bool:
        """Whether this object can deny also what no row names."""
        return registry.has_guard(self.connection.kind, self.provisioner)

    @property
    def denies(self) -> bool:
        """Whether writing it alone cuts what it ends. A schedule that was brought forward (a membership, a network opening)
        denies nothing, and what the proof says is all there is."""
        known = (self.connection.kind, self.provisioner) in registry.PROVISIONERS
        return self.is_organization or (known and registry.promise(self.connection.kind, self.provisioner).denies)

    def targets(self) -> list[Target]:
        """Whom the stop denies what in a guard, in the provider's words; `*` is anybody, or anything. Empty where the
        object cannot name more than grants do."""
        stop = self.stop
        if not self.has_guard or self.account is None:
            return []
        if stop.identity:
            people = stop.identity.principals.filter(connection=self.connection, kind="idc_user")
            return [self._target(one.external_id, one.name, None) for one in people]
        if stop.entitlement is None or stop.entitlement.kind == "permission_set":
            return [self._target(EVERYTHING, "everybody", stop.entitlement)]
        return []

    def _target(self, person: str, name: str, entitlement: Entitlement | None) -> Target:
        assert self.account is not None
        return Target(
            account_id=self.account.external_id,
            principal_kind="idc_user",
            principal_external_id=person,
            principal_name=name,
            entitlement_kind="permission_set",
            entitlement_external_id=entitlement.external_id if entitlement else EVERYTHING,
            entitlement_name=entitlement.name if entitlement else "everything",
            entitlement_attributes=entitlement.attributes if entitlement else {"permission_set_name": EVERYTHING},
        )

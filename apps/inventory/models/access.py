"""What can be held, and who holds it when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pgtrigger
from django.contrib.postgres.fields import DateTimeRangeField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Case, Exists, F, IntegerField, OuterRef, Q, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils import timezone

from apps.core.privileges import ROLES
from apps.inventory.models.connections import Connection
from apps.inventory.models.holders import GROUPS, Identity, Principal
from apps.inventory.models.resources import Resource


class Privilege(models.TextChoices):
    """How much an entitlement can do, computed from its policy documents. Unknown counts as the worst."""

    ADMIN = "admin", "Admin"
    PRIVILEGED = "privileged", "Privileged"
    WRITE = "write", "Write"
    READ = "read", "Read"
    NONE = "none", "Nothing"
    UNKNOWN = "unknown", "Unknown"


# What counts as privileged wherever a rule, a campaign or a number says "privileged".
PRIVILEGED = frozenset({Privilege.ADMIN, Privilege.PRIVILEGED, Privilege.UNKNOWN})

# Unknown could be anything, but a known admin is admin.
HEAVIEST_FIRST = (
    Privilege.ADMIN,
    Privilege.UNKNOWN,
    Privilege.PRIVILEGED,
    Privilege.WRITE,
    Privilege.READ,
    Privilege.NONE,
)
_WEIGHTS: dict[str, int] = {privilege.value: weight for weight, privilege in enumerate(HEAVIEST_FIRST)}


def weight_of(privilege: str) -> int:
    """The place of a privilege among these: the heaviest has the smallest."""
    return _WEIGHTS[privilege]


def by_weight(column: str) -> Case:
    """`weight_of` the privilege in a column, for SQL."""
    return Case(
        *(When(**{column: value}, then=Value(weight)) for weight, value in enumerate(HEAVIEST_FIRST)),
        default=Value(len(HEAVIEST_FIRST)),
        output_field=IntegerField(),
    )


class EntitlementQuerySet(models.QuerySet["Entitlement"]):
    def present(self) -> EntitlementQuerySet:
        return self.filter(ended_at=None)

    def privileged(self) -> EntitlementQuerySet:
        return self.filter(privilege__in=PRIVILEGED)


class Entitlement(models.Model):
    """Something that can be held: a permission set in an account, membership of a group, a policy attached to a
    principal. Its privilege is computed from what it allows, with the sentence that says why."""

    class Kind(models.TextChoices):
        PERMISSION_SET = "permission_set", "Permission set"
        IDC_GROUP = "idc_group", "Group membership"
        IAM_GROUP = "iam_group", "IAM group membership"
        IAM_POLICY = "iam_policy", "Attached policy"
        IAM_INLINE_POLICY = "iam_inline_policy", "Inline policy"
        DATED_POLICY = "dated_policy", "Dated policy"  # the portal's own, held only through grants
        TIER_ROLE = "tier_role", "Role to assume"  # under /jit/tier/, held only through sessions that a broker mints
        NETWORK_RULE = "network_rule", "Network opening"  # one ingress rule of a security group, only through grants

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="entitlements")
    resource = models.ForeignKey(
        Resource, models.CASCADE, null=True, blank=True, related_name="entitlements", help_text="Empty: org-wide."
    )
    kind = models.CharField(max_length=20, choices=Kind.choices)
    external_id = models.CharField(max_length=900)
    name = models.CharField(max_length=256)
    description = models.CharField(max_length=1000, blank=True)
    group = models.ForeignKey(
        Principal,
        models.CASCADE,
        null=True,
        blank=True,
        db_index=False,  # of the few that have one, below
        related_name="memberships",
        help_text="For a membership: the group that holding it makes one part of.",
    )
    owner = models.ForeignKey(
        "inventory.Identity", models.SET_NULL, null=True, blank=True, related_name="owned_entitlements"
    )
    privilege = models.CharField(max_length=10, choices=Privilege.choices, default=Privilege.UNKNOWN)
    privilege_reason = models.CharField(max_length=500, blank=True)
    privilege_statement = models.JSONField(null=True, blank=True, help_text="The policy statement that causes it.")
    can_escalate = models.BooleanField(default=False)
    is_sensitive_read = models.BooleanField(default=False)
    session_for = models.DurationField(null=True, blank=True, help_text="How long a session can outlive the end.")
    documents = models.JSONField(default=list, help_text="[{name, document}] it consists of.")
    attributes = models.JSONField(default=dict)
    is_ours = models.BooleanField(default=False, help_text="Gatehouse's own artefact (a guard, a dated policy).")
    digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = EntitlementQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["connection", "external_id"], name="entitlement_once")]
        triggers = [
            pgtrigger.Trigger(
                name="defined_by_people",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=f"""
                IF current_user = '{ROLES["web"]}' AND NEW.kind NOT IN ('dated_policy', 'network_rule') THEN
                    RAISE EXCEPTION 'A % is read, not defined.', NEW.kind USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            )
        ]
        indexes = [
            models.Index(fields=["name", "id"], condition=Q(ended_at=None), name="entitlement_list"),
            models.Index(fields=["resource", "privilege"], name="entitlement_by_risk"),
            models.Index(
                fields=["group"], include=["id"], condition=Q(group__isnull=False), name="entitlement_memberships"
            ),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="entitlement_name_search"),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.resource.name}" if self.resource else self.name

    def get_absolute_url(self) -> str:
        return reverse("inventory:entitlement", args=[self.pk])

    @property
    def holder_name(self) -> str:
        """Whose inline policy it is, since many have the same name."""
        return str(self.attributes.get("holder_arn", "")).rpartition("/")[2]

    @property
    def is_privileged(self) -> bool:
        return self.privilege in PRIVILEGED


@dataclass(frozen=True)
class Path:
    """One way somebody holds something: the assignment that gives it, and the membership it comes through, if any."""

    assignment: Assignment
    via: Assignment | None = None

    @property
    def removable(self) -> Assignment:
        """What would have to go for this path to go: the membership, with everything it brings, or the assignment."""
        return self.via or self.assignment

    @property
    def is_membership(self) -> bool:
        return self.assignment.entitlement.group_id is not None


MEMBERSHIP_ID = KeyTextTransform("membership_id", "attributes")
ENDS = F("period__startswith"), F("period__endswith")


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def open(self) -> AssignmentQuerySet:
        """Held now, as far as the last complete scan knows."""
        return self.filter(period__upper_inf=True)

    def of_membership(self, membership_id: str) -> AssignmentQuerySet:
        """The membership that the provider calls so: events that end one name nothing else."""
        return self.filter(attributes__has_key="membership_id").alias(_id=MEMBERSHIP_ID).filter(_id=membership_id)

    def on(self, instant: object) -> AssignmentQuerySet:
        """Held at `instant`."""
        return self.filter(period__contains=instant)

    def standing(self) -> AssignmentQuerySet:
        return self.open().filter(is_standing=True)

    def strangers_only(self) -> AssignmentQuerySet:
        """Without Gatehouse's own artefacts (guards, dated policies), which are grants' work."""
        return self.exclude(entitlement__is_ours=True).exclude(attributes__contains={"is_ours": True})

    def with_names(self) -> AssignmentQuerySet:
        """For lists and pages: everything they print, without a query a row."""
        return self.select_related(
            "connection", "principal__identity", "principal__resource", "entitlement__resource", "entitlement__group"
        )

    def paths_of(self, identity: Identity) -> list[Path]:
        """Every way `identity` holds something now: what its principals hold, memberships among it, and what each of
        their groups holds. A constant number of queries, however much that is; what many rows share is loaded once, and
        policy documents only when somebody asks for one."""
        rows = self.open().select_related("entitlement").defer(*DOCUMENTS).order_by("entitlement__name", "pk")
        held = list(rows.filter(principal__identity=identity))
        memberships: dict[int, list[Assignment]] = {}
        for row in held:
            if row.entitlement.group_id:
                memberships.setdefault(row.entitlement.group_id, []).append(row)
        brought = list(rows.filter(principal__in=[*memberships]))
        models.prefetch_related_objects([*held, *brought], *SHARED)
        through = [Path(row, via) for row in brought for via in memberships[row.principal_id]]
        return [*map(Path, held), *through]

    def holders_of(self, entitlement: Entitlement) -> AssignmentQuerySet:
        """Who holds `entitlement` now: an assignment to it held directly, or a membership of a group that holds it (the
        row's own entitlement then names that group). One row for each removable path; a queryset, since a group can be
        large. Asks at once which groups those are, so that the rest is a walk in one index."""
        groups = list(self.model._default_manager.groups_holding(entitlement).values_list("principal_id", flat=True))
        memberships = Entitlement.objects.filter(group__in=groups).values_list("pk", flat=True)
        return self.open().filter(entitlement__in=[entitlement.pk, *memberships]).exclude(principal__in=groups)

    def groups_holding(self, entitlement: Entitlement) -> AssignmentQuerySet:
        """The groups that hold `entitlement` now. No group is a member of one, so that nobody looks among its members."""
        held = self.open().filter(entitlement=entitlement, principal__kind__in=GROUPS)
        return held.none() if entitlement.group_id else held


# What paths need of the rows around them, and what they do not.
SHARED = (
    "connection",
    "principal__identity",
    "principal__resource",
    "entitlement__resource",
    "entitlement__group",
)
DOCUMENTS = ("entitlement__documents", "entitlement__privilege_statement")


class Assignment(models.Model):
    """The provider's fact: this principal holds this entitlement, during this period. It is standing when it was there
    at its connection's baseline or was adopted since; otherwise a grant explains it, or it is drift."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="assignments")
    # both are the first column of an index below
    principal = models.ForeignKey(Principal, models.CASCADE, related_name="assignments", db_index=False)
    entitlement = models.ForeignKey(Entitlement, models.CASCADE, related_name="assignments", db_index=False)
    period = DateTimeRangeField(help_text="From when we first saw it until we saw it gone; open while it is held.")
    is_standing = models.BooleanField(default=False)
    attributes = models.JSONField(default=dict)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["principal", "entitlement"], condition=Q(period__upper_inf=True), name="assignment_open_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["entitlement", "principal"], condition=Q(period__upper_inf=True), name="assignment_open_held_by"
            ),
            # history: all that it asks of a row is in the index, and the period is not taken apart for each
            models.Index("principal", "entitlement", *ENDS, include=["period", "id"], name="assignment_history"),
            models.Index("entitlement", "principal", *ENDS, include=["period", "id"], name="assignment_history_of"),
            models.Index(MEMBERSHIP_ID, condition=Q(attributes__has_key="membership_id"), name="assignment_membership"),
        ]

    def __str__(self) -> str:
        return f"{self.principal} holds {self.entitlement}"

    @property
    def is_open(self) -> bool:
        return self.period.upper is None


class CredentialQuerySet(models.QuerySet["Credential"]):
    def static(self) -> CredentialQuerySet:
        """What opens AWS until somebody takes it away: keys, certificates and console passwords that work now. AWS does not
        say whether a root user has a password, so only one that was used counts."""
        working = self.filter(ended_at=None, is_active=True, kind__in=STATIC)
        root = Principal.objects.filter(pk=OuterRef("principal"), kind=Principal.Kind.IAM_ROOT)
        return working.exclude(Exists(root), kind="password", last_used_at=None)

    def stale(self, made_before: datetime, used_before: datetime) -> CredentialQuerySet:
        return self.filter(is_stale(made_before, used_before))


def is_stale(made_before: datetime, used_before: datetime) -> Q:
    """Condition: older than it should be, or last used too long ago. An unknown last use says nothing."""
    return Q(created_at__lt=made_before) | Q(last_used_at__lt=used_before)


class Credential(models.Model):
    """A long-lived secret of a principal: a console password, an access key, a signing certificate, an MFA device. Never
    the secret itself."""

    class Kind(models.TextChoices):
        PASSWORD = "password", "Console password"
        ACCESS_KEY = "access_key", "Access key"
        MFA = "mfa", "MFA device"
        ROOT_KEY = "root_key", "Root access key"
        CERTIFICATE = "certificate", "Signing certificate"

    principal = models.ForeignKey(Principal, models.CASCADE, related_name="credentials")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    external_id = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Empty means unknown, not unused.")
    attributes = models.JSONField(default=dict)
    digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        ordering = ["kind", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["principal", "kind", "external_id"], name="credential_once"),
        ]
        indexes = [
            models.Index(
                fields=["created_at", "id"], condition=Q(ended_at=None, is_active=True), name="credential_list"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.principal}"


# What lets somebody in until somebody takes it away.
STATIC = (
    Credential.Kind.ACCESS_KEY,
    Credential.Kind.PASSWORD,
    Credential.Kind.ROOT_KEY,
    Credential.Kind.CERTIFICATE,
)

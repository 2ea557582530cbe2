"""Who can hold access."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pgtrigger
from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils import timezone

from apps.core.privileges import ROLES
from apps.inventory.models.connections import Connection
from apps.inventory.models.resources import Resource

if TYPE_CHECKING:
    from apps.inventory.models.corrections import Correction


class Classification(models.TextChoices):
    """What kind of machine an identity is, the ones to worry about first. From its trust policy or its credentials."""

    ANYBODY = "anybody", "Open to anybody"
    THIRD_PARTY = "third_party", "Third party"
    ORPHAN = "orphan", "Trusts a deleted principal"
    UNREADABLE = "unreadable", "Trust policy cannot be read"
    ACCOUNT_ACCESS = "account_access", "Account access manager"  # people reach it, and no API says which
    ROOT = "root", "Root user"
    MIXED_USER = "iam_user_mixed", "User with a password and keys"
    USER_WITH_KEYS = "iam_user_with_keys", "User with access keys"
    CONSOLE_USER = "iam_user_console", "User with a password"
    IDLE_USER = "iam_user", "User without credentials"
    SAML = "saml", "Signed in through SAML"
    GITHUB = "github_oidc", "GitHub workflow"
    OIDC = "oidc", "OpenID Connect"
    IRSA = "irsa", "Kubernetes service account"
    POD_IDENTITY = "pod_identity", "Kubernetes pod identity"
    SPIFFE = "spiffe", "SPIFFE workload"
    ROLES_ANYWHERE = "roles_anywhere", "Certificate holder"
    CROSS_ACCOUNT = "cross_account", "Another account of ours"
    SAME_ACCOUNT = "same_account", "Same account"
    SERVICE = "service", "AWS service"
    IDENTITY_CENTER = "identity_center", "Identity Center role"  # AWS made it for a permission set: people use it
    SERVICE_LINKED = "service_linked", "Service-linked role"  # AWS made it for itself, and nobody can change it
    CLOSED = "closed", "Trusts nobody"


class Confidence(models.TextChoices):
    """How sure the evidence makes a classification."""

    HIGH = "high", "Certain"
    MEDIUM = "medium", "Likely"
    LOW = "low", "A guess"


class IdentityQuerySet(models.QuerySet["Identity"]):
    def present(self) -> IdentityQuerySet:
        """Still there. A person who left, or a deleted machine, is kept for history."""
        return self.filter(ended_at=None)

    def human(self) -> IdentityQuerySet:
        return self.filter(kind=Identity.Kind.HUMAN)

    def machine(self) -> IdentityQuerySet:
        return self.filter(kind=Identity.Kind.MACHINE)

    def classified(self, classification: str) -> IdentityQuerySet:
        """Machines that are this: because a person says so, else because AWS shows it."""
        return self.filter(
            Q(correction__classification=classification)
            | Q(Q(correction=None) | Q(correction__classification=""), classification=classification)
        )

    def unowned(self) -> IdentityQuerySet:
        """Machines that nobody answers for: no owner and no successor, or both left."""
        return self.machine().filter(_nobody("owner"), _nobody("successor"))

    def peers_of(self, identity: Identity) -> IdentityQuerySet:
        """People beside `identity`: in the same department, or where none is known, with the same manager."""
        same = {"department": identity.department} if identity.department else {"manager": identity.manager_id}
        if not identity.is_human or not any(same.values()):
            return self.none()
        return self.present().human().filter(connection=identity.connection_id, **same).exclude(pk=identity.pk)


def answered_by(person: Identity, to: str = "") -> Q:
    """Condition: `person` answers for the machine at `to` (a path that ends in "__")."""
    succeeds = Q(**{f"{to}successor": person}) & _nobody("owner", to)
    return Q(**{f"{to}owner": person}) | succeeds


def _nobody(role: str, to: str = "") -> Q:
    """Condition: nobody has this role, or who had it left."""
    return Q(**{f"{to}{role}": None}) | Q(**{f"{to}{role}__ended_at__isnull": False})


class Identity(models.Model):
    """Somebody or something that can hold access, once, whatever logins it has: a person, or a machine identity."""

    class Kind(models.TextChoices):
        HUMAN = "human", "Person"
        MACHINE = "machine", "Machine"

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="identities")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    external_id = models.CharField(max_length=700, help_text="The principal that made us know it.")
    name = models.CharField(max_length=256)
    email = models.CharField(max_length=254, blank=True)
    title = models.CharField(max_length=200, blank=True)
    department = models.CharField(max_length=200, blank=True)
    classification = models.CharField(
        max_length=40, blank=True, choices=Classification.choices, help_text="What kind of machine; empty for people."
    )
    evidence = models.CharField(max_length=500, blank=True, help_text="The fact in AWS the classification rests on.")
    confidence = models.CharField(max_length=6, blank=True, db_default="", default="", choices=Confidence.choices)
    signs = models.JSONField(
        default=list,
        blank=True,
        db_default=Value([], models.JSONField()),
        help_text="Every class it shows: [{classification, confidence, evidence, statement, concerns}].",
    )
    purpose = models.CharField(max_length=1000, blank=True, default="", db_default="", help_text="What it is for.")
    consumers = models.CharField(max_length=1000, blank=True, default="", db_default="", help_text="Who relies on it.")
    manager = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="reports")
    manager_source = models.CharField(max_length=120, blank=True, help_text="Identity Center, or the CSV's name.")
    owner = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="owned_identities")
    owner_source = models.CharField(max_length=120, blank=True)
    successor = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="succeeding_identities",
        help_text="Answers for it once its owner has left; a person says who.",
    )
    successor_source = models.CharField(max_length=120, blank=True, default="", db_default="")
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="identity",
        help_text="The portal user this is, linked explicitly (issuer and subject, SCIM id, or an administrator).",
    )
    user_source = models.CharField(max_length=200, blank=True)
    digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = IdentityQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        verbose_name_plural = "identities"
        triggers = [
            pgtrigger.Trigger(
                name="comes_back_by_the_directory",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__ended_at__isnull=False, new__ended_at__isnull=True),
                func=f"""
                IF current_user = '{ROLES["web"]}' AND NOT EXISTS (
                    SELECT FROM inventory_principal p WHERE p.identity_id = NEW.id AND p.kind = 'idc_user'
                        AND p.ended_at IS NULL AND COALESCE(p.attributes->>'status', '') <> 'disabled'
                ) THEN
                    RAISE EXCEPTION 'The directory does not have them any more.'
                        USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["connection", "external_id"], name="identity_once"),
            models.CheckConstraint(condition=Q(manager=None) | ~Q(manager=F("pk")), name="identity_not_own_manager"),
            models.CheckConstraint(condition=Q(user=None) | Q(kind="human"), name="identity_user_is_human"),
        ]
        indexes = [
            models.Index(fields=["kind", "name", "id"], name="identity_list"),
            models.Index(Upper("email"), name="identity_by_email"),
            models.Index(
                fields=["department"],
                condition=Q(kind="human", ended_at=None) & ~Q(department=""),
                name="identity_departments",
            ),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="identity_name_search"),
            GinIndex(OpClass(Upper("email"), name="gin_trgm_ops"), name="identity_email_search"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("inventory:identity", args=[self.pk])

    @property
    def is_human(self) -> bool:
        return self.kind == self.Kind.HUMAN

    @property
    def said(self) -> Correction | None:
        """What a person said it is, where AWS's evidence is not the last word. `select_related("correction")` first."""
        return getattr(self, "correction", None)

    @property
    def what(self) -> str:
        """What it is in words: as a person said, else as AWS shows."""
        said = self.said
        value = (said.classification if said else "") or self.classification
        return str(Classification(value).label) if value in Classification else value

    @property
    def answerer(self) -> Identity | None:
        """Who answers for it now: its owner, or once they left their successor."""
        return next((one for one in (self.owner, self.successor) if one and one.ended_at is None), None)


class PrincipalQuerySet(models.QuerySet["Principal"]):
    def present(self) -> PrincipalQuerySet:
        return self.filter(ended_at=None)

    def matched_by_rule(self) -> PrincipalQuerySet:
        """IAM users whose name alone says whose they are: good enough to show and to review them as that person's, never
        to let that person ask for more with them. Whoever runs an account chooses the names in it."""
        return self.filter(correlation__decision="person", correlation__decided_by=None)


class Principal(models.Model):
    """One face of an identity in one connection: an Identity Center user, an IAM user, an IAM role; or a group, which
    is nobody's face but holds things for its members."""

    class Kind(models.TextChoices):
        IDC_USER = "idc_user", "Identity Center user"
        IDC_GROUP = "idc_group", "Identity Center group"
        IAM_USER = "iam_user", "IAM user"
        IAM_GROUP = "iam_group", "IAM group"
        IAM_ROLE = "iam_role", "IAM role"
        IAM_ROOT = "iam_root", "Root user"

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="principals")
    resource = models.ForeignKey(
        Resource, models.CASCADE, null=True, blank=True, related_name="principals", help_text="Empty: the directory's."
    )
    identity = models.ForeignKey(Identity, models.SET_NULL, null=True, blank=True, related_name="principals")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    external_id = models.CharField(max_length=700)
    name = models.CharField(max_length=256)
    owner = models.ForeignKey(
        Identity, models.SET_NULL, null=True, blank=True, related_name="owned_principals", help_text="Of a group."
    )
    is_externally_owned = models.BooleanField(default=False, help_text="SCIM or AD owns it: we cannot change it.")
    is_reserved = models.BooleanField(default=False, help_text="AWS made it for itself, like AWSReservedSSO.")
    created_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Empty means unknown, not unused.")
    attributes = models.JSONField(default=dict)
    digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = PrincipalQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["connection", "external_id"], name="principal_once")]
        indexes = [
            models.Index(fields=["identity"], condition=Q(ended_at=None), name="principal_of_identity"),
            GinIndex(
                OpClass(KeyTransform("external_ids", "attributes"), name="jsonb_path_ops"),
                condition=Q(kind="idc_user"),
                name="principal_by_provider_id",
            ),
            models.Index(
                "connection", Upper("name"), condition=Q(ended_at=None, kind="iam_user"), name="principal_iam_user"
            ),
            models.Index(fields=["id"], condition=Q(kind="iam_root"), name="principal_iam_root"),
            models.Index("connection", KeyTextTransform("unique_id", "attributes"), name="principal_by_unique_id"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_group(self) -> bool:
        return self.kind in GROUPS


GROUPS = frozenset({Principal.Kind.IDC_GROUP, Principal.Kind.IAM_GROUP})
CALLERS = frozenset({Principal.Kind.IAM_ROLE, Principal.Kind.IAM_USER})  # what calls AWS from within an account

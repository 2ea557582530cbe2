"""Who can hold access."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils import timezone

from apps.inventory.models.connections import Connection
from apps.inventory.models.resources import Resource


class Classification(models.TextChoices):
    """What kind of machine an identity is, the ones to worry about first. From its trust policy or its credentials."""

    ANYBODY = "anybody", "Open to anybody"
    THIRD_PARTY = "third_party", "Third party"
    ORPHAN = "orphan", "Trusts a deleted principal"
    UNREADABLE = "unreadable", "Trust policy cannot be read"
    ACCOUNT_ACCESS = "account_access", "Account access manager"  # people reach it, and no API says which
    ROOT = "root", "Root user"
    USER_WITH_KEYS = "iam_user_with_keys", "User with access keys"
    CONSOLE_USER = "iam_user_console", "User with a password"
    IDLE_USER = "iam_user", "User without credentials"
    SAML = "saml", "Signed in through SAML"
    GITHUB = "github_oidc", "GitHub workflow"
    OIDC = "oidc", "OpenID Connect"
    IRSA = "irsa", "Kubernetes service account"
    POD_IDENTITY = "pod_identity", "Kubernetes pod identity"
    ROLES_ANYWHERE = "roles_anywhere", "Certificate holder"
    CROSS_ACCOUNT = "cross_account", "Another account of ours"
    SAME_ACCOUNT = "same_account", "Same account"
    SERVICE = "service", "AWS service"
    CLOSED = "closed", "Trusts nobody"


class IdentityQuerySet(models.QuerySet["Identity"]):
    def present(self) -> IdentityQuerySet:
        """Still there. A person who left, or a deleted machine, is kept for history."""
        return self.filter(ended_at=None)

    def human(self) -> IdentityQuerySet:
        return self.filter(kind=Identity.Kind.HUMAN)

    def machine(self) -> IdentityQuerySet:
        return self.filter(kind=Identity.Kind.MACHINE)

    def unowned(self) -> IdentityQuerySet:
        """Machines that nobody answers for: no owner, or one who left."""
        return self.machine().filter(Q(owner=None) | Q(owner__ended_at__isnull=False))

    def peers_of(self, identity: Identity) -> IdentityQuerySet:
        """People beside `identity`: in the same department, or where none is known, with the same manager."""
        same = {"department": identity.department} if identity.department else {"manager": identity.manager_id}
        if not identity.is_human or not any(same.values()):
            return self.none()
        return self.present().human().filter(connection=identity.connection_id, **same).exclude(pk=identity.pk)


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
    manager = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="reports")
    manager_source = models.CharField(max_length=120, blank=True, help_text="Identity Center, or the CSV's name.")
    owner = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="owned_identities")
    owner_source = models.CharField(max_length=120, blank=True)
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
        constraints = [
            models.UniqueConstraint(fields=["connection", "external_id"], name="identity_once"),
            models.CheckConstraint(condition=Q(manager=None) | ~Q(manager=F("pk")), name="identity_not_own_manager"),
            models.CheckConstraint(condition=Q(user=None) | Q(kind="human"), name="identity_user_is_human"),
        ]
        indexes = [
            models.Index(fields=["kind", "name", "id"], name="identity_list"),
            models.Index(Upper("email"), name="identity_by_email"),
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


class PrincipalQuerySet(models.QuerySet["Principal"]):
    def present(self) -> PrincipalQuerySet:
        return self.filter(ended_at=None)


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
        indexes = [models.Index(fields=["identity"], condition=Q(ended_at=None), name="principal_of_identity")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_group(self) -> bool:
        return self.kind in GROUPS


GROUPS = frozenset({Principal.Kind.IDC_GROUP, Principal.Kind.IAM_GROUP})

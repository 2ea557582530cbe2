"""Identity providers, their tokens, and the users and groups as they said them."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from apps.inventory.models import Connection, Identity

BYTEWISE = "C"  # text as SCIM compares it, in whatever language the database was made


class Source(models.Model):
    """One identity provider that tells us about people over SCIM, and whose people they are."""

    name = models.CharField(max_length=60, unique=True)
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="scim_sources")
    subject_is_external_id = models.BooleanField(
        default=False, help_text="Its external ids are the subjects that people sign in with (Okta: the user id)."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("scim:source", args=[self.pk])


class TokenQuerySet(models.QuerySet["Token"]):
    def live(self, now: datetime) -> TokenQuerySet:
        """Those that open the door."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class Token(models.Model):
    """A secret that an identity provider shows. Only its SHA-256 is kept: 256 random bits cannot be guessed from it."""

    MOST_LIVE = 2  # the old one and its successor, while the identity provider is told

    source = models.ForeignKey(Source, models.CASCADE, related_name="tokens")
    prefix = models.CharField(max_length=16, unique=True, help_text="Names the token; not secret.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the whole token, in hexadecimal.")
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.source} {self.prefix}"

    @property
    def state(self) -> str:
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= timezone.now() else "live"


class ScimUserQuerySet(models.QuerySet["ScimUser"]):
    def unlinked(self) -> ScimUserQuerySet:
        """Active ones that nobody in the inventory is."""
        return self.filter(identity=None, active=True)


class ScimUser(models.Model):
    """A user as an identity provider says it. It means something only for the identity that it is linked to: by a rule
    (Identity Center's external id of somebody is this row's external id, or they sign in with it), or because an
    administrator said so; never by an e-mail address."""

    source = models.ForeignKey(Source, models.CASCADE, related_name="scim_users")
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False, help_text="What SCIM calls its id.")
    external_id = models.CharField(max_length=254, blank=True, db_collation=BYTEWISE)
    user_name = models.CharField(max_length=254)
    user_name_key = models.CharField(max_length=600, db_collation=BYTEWISE, help_text="As SCIM compares it.")
    display_name = models.CharField(max_length=254, blank=True)
    display_name_key = models.CharField(max_length=600, blank=True, db_collation=BYTEWISE)
    email_keys = ArrayField(models.CharField(max_length=600), default=list)
    active = models.BooleanField(default=True)
    title = models.CharField(max_length=200, blank=True)
    department = models.CharField(max_length=200, blank=True)
    manager_key = models.CharField(max_length=254, blank=True, help_text="Whom it names as manager: a SCIM id.")
    payload = models.JSONField(help_text="What it said, without secrets.")
    version = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now)
    modified_at = models.DateTimeField(default=timezone.now)
    identity = models.OneToOneField(Identity, models.SET_NULL, null=True, blank=True, related_name="scim_user")
    identity_source = models.CharField(max_length=200, blank=True, help_text="By which rule, or by whom.")
    kept_out = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The portal user whom its leaving kept out.",
    )

    objects = ScimUserQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["source", "user_name_key"], name="scim_user_name_once"),
            models.UniqueConstraint(
                fields=["source", "external_id"], condition=~Q(external_id=""), name="scim_user_external_id_once"
            ),
        ]
        indexes = [
            models.Index(fields=["source", "id"], name="scim_user_page"),
            models.Index(fields=["source", "display_name_key", "id"], name="scim_user_by_name"),
            models.Index(fields=["source", "modified_at", "id"], name="scim_user_by_change"),
            models.Index(fields=["source", "id"], condition=Q(identity=None, active=True), name="scim_user_unlinked"),
            models.Index(fields=["source", "manager_key"], condition=~Q(manager_key=""), name="scim_user_reports"),
            GinIndex(fields=["email_keys"], name="scim_user_by_email"),
        ]

    def __str__(self) -> str:
        return self.user_name


class ScimGroup(models.Model):
    """A group as an identity provider says it. It is text: nobody gets anything by being in it."""

    source = models.ForeignKey(Source, models.CASCADE, related_name="scim_groups")
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    external_id = models.CharField(max_length=254, blank=True, db_collation=BYTEWISE)
    display_name = models.CharField(max_length=254)
    display_name_key = models.CharField(max_length=600, db_collation=BYTEWISE)
    payload = models.JSONField()
    version = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now)
    modified_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "external_id"], condition=~Q(external_id=""), name="scim_group_external_id_once"
            ),
        ]
        indexes = [
            models.Index(fields=["source", "id"], name="scim_group_page"),
            models.Index(fields=["source", "display_name_key", "id"], name="scim_group_by_name"),
            models.Index(fields=["source", "modified_at", "id"], name="scim_group_by_change"),
        ]

    def __str__(self) -> str:
        return self.display_name


class ScimMember(models.Model):
    """A user, or a group, is in a group."""

    group = models.ForeignKey(ScimGroup, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(ScimUser, models.CASCADE, null=True, blank=True, related_name="memberships")
    nested = models.ForeignKey(ScimGroup, models.CASCADE, null=True, blank=True, related_name="nestings")
    display = models.CharField(max_length=254, blank=True, help_text="How the identity provider calls it there.")

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None, nested__isnull=False) | Q(user__isnull=False, nested=None),
                name="scim_member_is_one_thing",
            ),
            models.UniqueConstraint(fields=["group", "user"], name="scim_member_user_once"),
            models.UniqueConstraint(fields=["group", "nested"], name="scim_member_group_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.nested} in {self.group}"

"""People who sign in to the portal, and the portal roles that are given, not derived."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import pgtrigger
from allauth.account.models import EmailAddress
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models, transaction
from django.db.models.functions import Lower
from django.utils import timezone

from apps.audit import services as audit
from apps.core.privileges import ROLES


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A person who may sign in. Without a password only single sign-on or a passkey lets them in."""
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """For `manage.py createsuperuser`: the first administrator, who can sign in with a password at once, also when
        single sign-on is on. There is no superuser flag that could bypass anything."""
        with transaction.atomic():
            user = self.create_user(email, password, is_emergency=True, **fields)
            EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
            PortalRole.objects.create(user=user, role=PortalRole.Role.ADMINISTRATOR, source="first administrator")
            audit.record("users.user.first_administrator", by=audit.COMMAND, subject=user)
        return user

    def get_by_natural_key(self, email: str | None) -> User:
        return self.get(email__iexact=email)


class User(AbstractBaseUser):
    """A person who may sign in to the portal. What they hold in AWS hangs on the Identity they are linked to,
    explicitly and never by e-mail alone; without a link they can look at their own pages and nothing more."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    is_emergency = models.BooleanField(
        default=False, help_text="May still sign in with a password when single sign-on is on."
    )
    joined_at = models.DateTimeField(default=timezone.now)
    single_keys = models.BooleanField(
        default=True, help_text="Single-key shortcuts are on (WCAG 2.1.4 lets people turn them off)."
    )

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["name"]

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_ignoring_case")]
        triggers = [
            pgtrigger.Trigger(
                name="workers_only_shut_out",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__is_active=False, new__is_active=True),
                func=f"""
                IF current_user = '{ROLES["worker"]}' THEN
                    RAISE EXCEPTION 'People let each other in again.' USING ERRCODE = 'insufficient_privilege';
                END IF;
                RETURN NEW;
                """,
            )
        ]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def roles(self) -> frozenset[str]:
        """The given portal roles. Manager and entitlement owner are derived from the inventory instead."""
        if not hasattr(self, "_roles"):
            self._roles = frozenset(self.portal_roles.values_list("role", flat=True)) if self.is_active else frozenset()
        return self._roles

    @property
    def is_administrator(self) -> bool:
        return PortalRole.Role.ADMINISTRATOR in self.roles

    @property
    def is_auditor(self) -> bool:
        return PortalRole.Role.AUDITOR in self.roles


class PortalRole(models.Model):
    """Somebody was made auditor or administrator of the portal. Member is everybody; manager and entitlement owner come
    from the org chart and from ownership, so that they are never out of date."""

    class Role(models.TextChoices):
        AUDITOR = "auditor", "Auditor"
        ADMINISTRATOR = "administrator", "Administrator"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="portal_roles")
    role = models.CharField(max_length=20, choices=Role.choices)
    source = models.CharField(max_length=200, help_text="Who or what gave it.")
    given_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "role"], name="portal_role_once")]

    def __str__(self) -> str:
        return f"{self.user} is {self.get_role_display()}"


class PasskeyQuerySet(models.QuerySet["Passkey"]):
    def counting(self, at: datetime) -> PasskeyQuerySet:
        """Keys whose signature counted at that instant: their waiting time was over, and they were still enrolled."""
        return self.filter(models.Q(ended_at=None) | models.Q(ended_at__gt=at), counts_from__lte=at)


class Passkey(models.Model):
    """The public key of one passkey, as a worker first saw it. Signatures over approvals count against these rows alone:
    the web process can enrol authenticators, and can neither write here nor hurry the waiting time, which begins when a
    worker sees the key. What is done to the authenticator afterwards changes nothing here but its end."""

    user = models.ForeignKey(User, models.PROTECT, related_name="passkeys")
    authenticator = models.BigIntegerField(unique=True, help_text="The row of the authenticator it was copied from.")
    credential_id = models.CharField(max_length=1400, help_text="base64url, as browsers say it.")
    public_key = models.TextField(help_text="COSE_Key in CBOR, base64url.")
    name = models.CharField(max_length=100, blank=True)
    first_seen_at = models.DateTimeField()
    counts_from = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When its authenticator was gone.")

    objects = PasskeyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["credential_id"], condition=models.Q(ended_at=None), name="passkey_of_one_person"
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="no_delete", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="as_first_seen",
                fields=["user", "authenticator", "credential_id", "public_key", "first_seen_at", "counts_from"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name or 'A passkey'} of {self.user}"

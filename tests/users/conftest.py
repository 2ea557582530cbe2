"""People who sign in as people do, and authenticators of a given age."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from apps.audit.models import AuditEvent
from apps.users import services
from apps.users.models import User
from tests.factories.users import UserFactory
from tests.users.soft_key import SoftKey

PASSWORD = "correct horse battery staple"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _stock_settings(settings: Settings) -> None:
    settings.STEP_UP_WAITING_TIME = timedelta(hours=24)
    settings.SECURE_SSL_REDIRECT = False


def make_person(name: str, **traits: Any) -> User:
    user = UserFactory(name=name, email=f"{name.lower()}@example.com", **traits)
    user.set_password(PASSWORD)
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


@pytest.fixture
def alice(db: None) -> User:
    return make_person("Alice")


@pytest.fixture
def erin(db: None) -> User:
    return make_person("Erin", administrator=True)


@pytest.fixture
def mallory(db: None) -> User:
    return make_person("Mallory")


def client_of(user: User) -> Client:
    """Somebody who is signed in, in a browser of their own."""
    client = Client()
    client.force_login(user)
    return client


def sign_in(client: Client, email: str, password: str = PASSWORD) -> Any:
    return client.post("/accounts/login/", {"login": email, "password": password})


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def aged(authenticator: Authenticator, age: timedelta) -> Authenticator:
    """Enrolled `age` ago."""
    authenticator.created_at = timezone.now() - age
    authenticator.save()
    return authenticator


OLD = timedelta(days=30)


def give_totp(user: User, age: timedelta = OLD) -> Authenticator:
    return aged(services.seed_totp(user=user, secret=SECRET, by=user), age)


def give_passkey(user: User, key: SoftKey | None = None, age: timedelta = OLD) -> Authenticator:
    return aged((key or SoftKey()).enrol(user), age)


def give_recovery_codes(user: User, age: timedelta = OLD) -> list[str]:
    codes = RecoveryCodes.activate(user)
    aged(codes.instance, age)
    return codes.get_unused_codes()


def events(name: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(event=name).order_by("pk"))

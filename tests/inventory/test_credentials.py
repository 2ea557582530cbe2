"""Zero static credentials is a number with the list behind it: what counts, what does not, and who sees it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.inventory.models import Credential, Identity, Principal
from tests.factories.inventory import IdentityFactory, PrincipalFactory, ResourceFactory
from tests.factories.users import UserFactory

NOW = timezone.now()


@pytest.fixture
def user(db: None) -> Principal:
    account = ResourceFactory(name="production")
    machine = IdentityFactory(connection=account.connection, kind="machine", name="deploy")
    return PrincipalFactory(
        connection=account.connection, resource=account, identity=machine, kind="iam_user", name="deploy"
    )


def has(principal: Principal, kind: str, **fields: Any) -> Credential:
    values = {"external_id": f"{kind}-{Credential.objects.count()}", "created_at": NOW, "last_used_at": NOW, **fields}
    return Credential.objects.create(principal=principal, kind=kind, **values)


def test_keys_and_passwords_that_work_count_and_nothing_else(user: Principal) -> None:
    key, password, certificate = has(user, "access_key"), has(user, "password"), has(user, "certificate")
    has(user, "mfa")
    has(user, "access_key", is_active=False)
    has(user, "access_key", ended_at=NOW)
    assert {*Credential.objects.static()} == {key, password, certificate}


def test_a_root_password_counts_once_it_is_known_to_be_one(user: Principal) -> None:
    root = PrincipalFactory(connection=user.connection, resource=user.resource, kind="iam_root", name="root")
    has(root, "password", last_used_at=None)
    assert not Credential.objects.static().exists()
    used, key = has(root, "password"), has(root, "root_key", last_used_at=None)
    assert {*Credential.objects.static()} == {used, key}


@pytest.mark.parametrize(
    ("made", "used", "is_stale"),
    [(91, 1, True), (1, 91, True), (89, 89, False), (89, None, False), (None, None, False)],
)
def test_stale_is_old_or_known_to_be_unused(
    user: Principal, made: int | None, used: int | None, is_stale: bool
) -> None:
    def ago(days: int | None) -> Any:
        return None if days is None else NOW - timedelta(days=days)

    has(user, "access_key", created_at=ago(made), last_used_at=ago(used))
    since = NOW - timedelta(days=90)
    assert Credential.objects.static().stale(since, since).exists() is is_stale


def test_the_page_counts_lists_and_filters(client: Client, user: Principal) -> None:
    client.force_login(UserFactory(auditor=True))
    page = client.get("/credentials/").content.decode()
    assert "Zero static credentials" in page
    assert "Not read, so not counted" in page
    has(user, "access_key", external_id="AKIAOLD", created_at=NOW - timedelta(days=200))
    has(user, "password", external_id="password")
    page = client.get("/credentials/").content.decode()
    assert "2 static credentials to go" in page
    assert "No MFA" in page
    assert "AKIAOLD" in client.get("/credentials/?stale=1&kind=access_key&q=DEPL").content.decode()
    assert "AKIAOLD" not in client.get("/credentials/?kind=password").content.decode()
    has(user, "mfa")
    assert "No MFA" not in client.get("/credentials/").content.decode()
    assert "No credential matches" in client.get("/credentials/?mfa=none").content.decode()


def test_everybody_else_sees_those_of_what_they_answer_for(client: Client, user: Principal) -> None:
    has(user, "access_key", external_id="AKIAOLD")
    bob = IdentityFactory(connection=user.connection, user=UserFactory(name="Bob"))
    client.force_login(bob.user)
    assert "AKIAOLD" not in client.get("/credentials/").content.decode()
    user.identity.owner = bob  # type: ignore[union-attr]
    user.identity.save()  # type: ignore[union-attr]
    assert "AKIAOLD" in client.get("/credentials/").content.decode()


def test_the_successor_of_an_owner_who_left_is_named(client: Client, user: Principal) -> None:
    has(user, "access_key")
    gone, stays = (IdentityFactory(connection=user.connection, name=name) for name in ("Bob Left", "Alice Stays"))
    gone.ended_at = NOW
    gone.save()
    Identity.objects.filter(pk=user.identity_id).update(owner=gone, successor=stays)
    client.force_login(UserFactory(auditor=True))
    page = client.get("/credentials/").content.decode()
    assert "Alice Stays" in page
    assert "Bob Left" not in page


def test_queries_do_not_grow_with_credentials(client: Client, user: Principal) -> None:
    client.force_login(UserFactory(administrator=True))

    def count() -> int:
        with CaptureQueriesContext(database) as queries:
            client.get("/credentials/")
        return len(queries)

    has(user, "access_key")
    few = count()
    for _ in range(20):
        has(user, "access_key")
    assert count() == few

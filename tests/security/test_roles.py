"""What each process may do in the database: enough for its work, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.mail import EmailMessage
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.core import database_roles
from apps.core.privileges import ROLES, TABLES
from apps.grants import provisioning, services
from apps.grants.models import EndReason, State, Warrant
from apps.inventory.models import Assignment
from apps.users import passkeys
from apps.users.models import Passkey
from apps.users.tasks import send_invitation
from tests.factories.users import UserFactory
from tests.grants.signing import give_key
from tests.grants.system import System
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db


def denied(act: Any) -> str:
    """What the database says when it refuses."""
    with pytest.raises(DatabaseError) as refused, transaction.atomic():
        act()
    return str(refused.value)


# The table


def test_every_table_says_what_each_process_may_do(db: None) -> None:
    tables = {apps.get_model(model)._meta.db_table for model in TABLES}
    assert set(connection.introspection.table_names()) - tables == {"django_migrations"}


def test_every_line_names_a_process(db: None) -> None:
    assert {process for line in TABLES.values() for process in line} <= set(ROLES)


def test_giving_privileges_twice_changes_nothing(acting: Acting) -> None:
    query = "SELECT grantee, table_name, column_name, privilege_type FROM information_schema.column_privileges"

    def given() -> set[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(f"{query} WHERE grantee = ANY(%s)", [list(ROLES.values())])
            return set(cursor.fetchall())

    before = given()
    assert before
    database_roles.apply()
    assert given() == before


def test_what_was_given_by_hand_is_taken_back(acting: Acting) -> None:
    with connection.cursor() as cursor:
        cursor.execute("GRANT UPDATE ON users_passkey, grants_warrant TO gatehouse_web")
    database_roles.apply()
    with acting("web"):
        assert "permission denied" in denied(lambda: Passkey.objects.update(name="x"))


def test_nobody_chooses_the_key_that_the_database_gives(acting: Acting) -> None:
    """Who could would take those that come next, and nobody could add a row any more."""
    keys = {
        (model._meta.db_table, model._meta.auto_field.column)
        for model in map(apps.get_model, TABLES)
        if model._meta.auto_field
    }
    query = "SELECT table_name, column_name FROM information_schema.column_privileges WHERE grantee = ANY(%s)"
    with connection.cursor() as cursor:
        cursor.execute(f"{query} AND privilege_type IN ('INSERT', 'UPDATE')", [list(ROLES.values())])
        said = set(cursor.fetchall())
    assert ("audit_auditevent", "event") in said
    assert not keys & said


@pytest.mark.parametrize("process", ["web", "worker", "broker", "ender"])
def test_nobody_takes_the_place_of_an_event_to_come(acting: Acting, process: str) -> None:
    values = {"event": "x", "actor_kind": "worker", "actor_name": "x", "subject": "x", "refs": []}
    with acting(process):
        assert "permission denied" in denied(lambda: AuditEvent.objects.create(id=10**6, **values))
        AuditEvent.objects.create(**values)


@pytest.mark.parametrize("process", ["web", "worker", "broker", "ender"])
def test_nobody_says_that_something_happened_at_another_time(acting: Acting, process: str) -> None:
    """Nor that it belongs before what was told already, where nobody would hear of it."""
    before = timezone.now()
    values = {"event": "x", "actor_kind": "worker", "actor_name": "x", "subject": "x", "refs": []}
    with acting(process):
        rows = [
            AuditEvent.objects.create(**values),
            AuditEvent.objects.create(**values, at=before - timedelta(days=400), xid=1),
        ]
    for row in rows:
        row.refresh_from_db()
    assert rows[0].xid == rows[1].xid
    assert before - timedelta(minutes=1) < rows[1].at <= timezone.now()


def test_a_missing_role_is_named(acting: Acting) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP OWNED BY gatehouse_ender; DROP ROLE gatehouse_ender")
    assert database_roles.missing() == ["gatehouse_ender"]


@pytest.mark.parametrize("process", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE audit_auditevent",
        "UPDATE audit_auditevent SET data = '{}'",
        "DELETE FROM audit_auditevent",
        "DELETE FROM grants_grant",
        "DELETE FROM grants_warrant",
        "UPDATE grants_warrant SET digest = ''",
        "UPDATE users_passkey SET counts_from = now()",
        "DELETE FROM users_passkey",
        "DELETE FROM grants_minting",
        "ALTER TABLE grants_grant DISABLE TRIGGER ALL",
        "DROP TABLE grants_grant",
        "CREATE TABLE public.mine ()",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION public._pgtrigger_should_ignore(trigger_name name) RETURNS boolean "
        "LANGUAGE sql AS 'SELECT true'",
        "CREATE ROLE friend",
        "SET ROLE gatehouse_owner",
        "UPDATE django_migrations SET name = ''",
    ],
)
def test_nobody_changes_what_proves_anything(acting: Acting, process: str, statement: str) -> None:
    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    with acting(process):
        denied(run)


@pytest.mark.parametrize("model", TABLES)
def test_the_clock_sees_nothing(acting: Acting, model: str) -> None:
    with acting("clock"):
        assert "permission denied" in denied(lambda: apps.get_model(model)._default_manager.exists())


@pytest.mark.parametrize("model", ["sessions.Session", "mfa.Authenticator", "account.EmailAddress"])
@pytest.mark.parametrize("process", ["broker", "ender"])
def test_broker_and_ender_see_no_way_to_sign_in(acting: Acting, process: str, model: str) -> None:
    with acting(process):
        assert "permission denied" in denied(lambda: apps.get_model(model)._default_manager.exists())


def test_a_worker_makes_no_authority(acting: Acting, system: System) -> None:
    grant = system.issue()
    with acting("worker"):
        denied(lambda: Warrant.objects.create(grant=grant, spec={}, digest="", requester="", verdict={}))
        denied(lambda: Warrant.objects.all().delete())


# Enough for the work


def test_workers_open_and_end_what_the_web_process_decides(acting: Acting, system: System) -> None:
    with acting("web"):
        grant = system.issue()
    with acting("worker"):
        provisioning.provision(grant.pk)
    assert system.can_use()
    with acting("web"):
        services.end(grant, by=system.alice.identity.user, reason=EndReason.DONE)
    with acting("worker"):
        system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


def test_the_web_process_cancels_what_nobody_began(acting: Acting, system: System) -> None:
    with acting("web"):
        grant = services.end(system.issue(), by=system.alice.identity.user, reason=EndReason.DONE)
    assert grant.state == State.CANCELLED


def test_standing_access_is_removed(acting: Acting, system: System) -> None:
    held = system.holds(system.alice, system.admin)
    with acting("web"):
        services.remove_standing(held, by=system.bob.identity.user, reason="Not needed any more.")
    with acting("worker"):
        system.run_clock()
    assert not system.can_use(what=system.admin)
    assert not Assignment.objects.open().filter(pk=held.pk).exists()


def test_workers_send_invitations(acting: Acting, mailoutbox: list[EmailMessage]) -> None:
    somebody = UserFactory(last_login=None)
    with acting("worker"):
        send_invitation(somebody.pk)
    assert [mail.to for mail in mailoutbox] == [[somebody.email]]


def test_workers_follow_passkeys(acting: Acting, system: System) -> None:
    bob = system.bob.identity.user
    with acting("worker"):
        passkeys.follow()
    key = give_key(bob, waited=False)
    assert Passkey.objects.count() == 1
    with acting("web"):
        denied(lambda: give_key(bob, key))
    with acting("worker"):
        passkeys.follow()
    assert AuditEvent.objects.filter(event="users.passkey.seen").count() == 1


@pytest.mark.django_db
def test_nothing_that_a_process_asks_is_compiled_first(acting: Acting) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolconfig FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES.values())])
        assert {role for role, set_to in cursor.fetchall() if "jit=off" in (set_to or ())} == {*ROLES.values()}

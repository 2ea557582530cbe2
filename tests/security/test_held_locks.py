"""Somebody holds the web process's database role and locks whatever it lets them, for as long as they like: what shall end
ends all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection, connections
from django.utils import timezone

from apps.core import database_roles
from apps.core.lifecycle import Held
from apps.core.locks import Taken, exclusive
from apps.core.privileges import ROLES, TABLES
from apps.grants import periodic, provisioning, services
from apps.grants.management.commands import ender as ender_command
from apps.grants.models import EndReason, Grant, Scope, State, Stop
from apps.grants.provisioning.ender import Ender, Report
from apps.grants.services import stops
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.security.conftest import Acting, act

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
ADVISORY = """
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ 'advisory'
"""


# What the role lets them


@pytest.mark.django_db
@pytest.mark.parametrize("process", ROLES)
def test_only_workers_and_the_ender_take_locks_by_number(acting: Acting, process: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT name, has_function_privilege(%s, name, 'EXECUTE') FROM ({ADVISORY}) one(name)", [ROLES[process]]
        )
        may = dict(cursor.fetchall())
    assert len(may) > 20
    assert set(may.values()) == {process in ("worker", "ender")}
    assert database_roles.strangers_with_locks() == []


@pytest.mark.django_db
@pytest.mark.parametrize("process", ["worker", "ender"])
def test_they_have_what_they_need_for_it(acting: Acting, process: str) -> None:
    with acting(process), exclusive("shared", "guard", wait_ms=20):
        pass


@pytest.mark.django_db
def test_where_it_could_not_be_taken_from_the_others_it_is_told(acting: Acting) -> None:
    with connection.cursor() as cursor:
        cursor.execute("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO gatehouse_web")
    assert database_roles.strangers_with_locks() == ["gatehouse_web"]


@pytest.mark.django_db
def test_no_process_waits_for_ever(acting: Acting) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolconfig FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES.values())])
        waits = dict(cursor.fetchall())
    assert {role for role, set_to in waits.items() if "lock_timeout" in str(set_to)} == set(waits) - {ROLES["clock"]}


# What they do with it


def _tables() -> list[str]:
    return [apps.get_model(model)._meta.db_table for model in TABLES]


@pytest.fixture
def system(_roles: None, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return System()


@pytest.fixture
def hold(system: System) -> Iterator[Any]:
    """Call it to lock every table, and every row, that the web process's role can lock; until the test is over."""
    params = connections["default"].get_connection_params()
    for ours in ("pool", "cursor_factory", "context", "prepare_threshold"):
        params.pop(ours, None)
    with psycopg.connect(**params) as web:
        web.execute(f"SET ROLE {ROLES['web']}")
        web.commit()

        def everything() -> list[str]:
            taken = []
            web.execute("SELECT 1")  # a transaction begins, and what follows are parts of it
            for table in _tables():
                for statement in (
                    f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT",
                    f"SELECT 1 FROM {table} FOR UPDATE",
                ):
                    try:
                        with web.transaction():
                            web.execute(statement)
                            taken.append(statement)
                    except psycopg.errors.InsufficientPrivilege:
                        continue
            return taken

        yield everything
        web.rollback()


@pytest.mark.django_db(transaction=True)
def test_whatever_they_lock_a_stop_bites_and_what_shall_end_ends(system: System, hold: Any) -> None:
    """The workers can keep nothing of what they did in the rows that are held, and deny it in AWS all the same; what they
    cannot remove the ender does, which reads and locks nothing."""
    ending, stopped = system.active(), system.active(who=system.bob)
    services.end(ending, by=ending.requested_by, reason=EndReason.REVOKED)
    stop = stops.order(
        scope=Scope.ACCOUNT,
        subject=system.account,
        reason="An incident.",
        by=UserFactory(administrator=True),
        step_up=PASSKEY,
    )
    Grant.objects.update(revoking_at=timezone.now() - 2 * Grant.REVOKE_SLO)
    taken = hold()
    assert "SELECT 1 FROM grants_grant FOR UPDATE" in taken
    assert "SELECT 1 FROM grants_stopwrite FOR UPDATE" in taken
    with act("worker"):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '500ms'")
        provisioning.deny(ending.shared_key)
        assert not system.can_use()
        [row] = stop.writes.all()
        provisioning.write_stop(row.pk)
        assert not system.can_use(who=system.bob)
        for grant in (ending, stopped):
            provisioning.deprovision(grant.pk)
        periodic.expire()
    assert system.world.assignments
    with act("ender"):
        assert set(Ender().round().ended) == {ending.number, stopped.number}
    assert not system.world.assignments
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")


def _past_their_end() -> None:
    Grant.objects.update(ends_at=timezone.now() - timedelta(minutes=1))


def _stopped() -> None:
    Stop.objects.create(scope=Scope.ALL, reason="An incident.", ordered_by=UserFactory(), digest="")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("they_are", "sweep", "told"),
    [(_past_their_end, periodic.expire, ""), (_stopped, periodic.end_stopped, "in force")],
)
def test_one_row_that_is_held_keeps_no_other_open(
    system: System, they_are: Callable[[], None], sweep: Callable[[], object], told: str
) -> None:
    held, other = system.active(), system.active(who=system.bob)
    they_are()
    params = connections["default"].get_connection_params()
    for ours in ("pool", "cursor_factory", "context", "prepare_threshold"):
        params.pop(ours, None)
    with psycopg.connect(**params) as web:
        web.execute("SELECT 1 FROM grants_grant WHERE id = %s FOR UPDATE", [held.pk])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '500ms'")
        sweep()
        with pytest.raises(Held, match="Another process holds this"):
            services.end(held, by=held.requested_by, reason=EndReason.DONE)
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    for grant, state in ((held, State.ACTIVE), (other, State.REVOKING)):
        grant.refresh_from_db()
        assert grant.state == state
    assert told in other.end_note


# The ender's own lock


def test_an_ender_that_stands_by_works_itself_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has its lock may be stuck, or hold it so that nothing ends."""

    class Working:
        def round(self) -> Report:
            return Report("database")

    def taken(*_: Any, **__: Any) -> Any:
        raise Taken("ender is being changed by another process")

    monkeypatch.setattr(ender_command, "exclusive", taken)
    command = ender_command.Command()
    sources = [command.one_round(Working()).source for _ in range(2 * ender_command.PATIENCE)]  # type: ignore[arg-type]
    assert sources == (["standby"] * (ender_command.PATIENCE - 1) + ["database"]) * 2

"""Locks on things outside the database."""

from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from apps.core.locks import Lost, Taken, exclusive

pytestmark = pytest.mark.django_db


def test_one_at_a_time_holds_a_lock() -> None:
    with exclusive("shared", "guard"), pytest.raises(Taken), exclusive("shared", "guard", wait_ms=20):
        pytest.fail("both hold it")


def test_other_keys_are_other_locks() -> None:
    with exclusive("shared", "guard"), exclusive("object", "guard", wait_ms=20), exclusive("shared", "g", wait_ms=20):
        pass


@pytest.mark.parametrize("error", [None, RuntimeError("boom"), KeyboardInterrupt()], ids=str)
def test_it_is_free_again_however_the_block_ended(error: BaseException | None) -> None:
    def hold() -> None:
        with exclusive("shared", "guard"):
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            hold()
    else:
        hold()
    with exclusive("shared", "guard", wait_ms=20):
        pass


@pytest.mark.parametrize("how", ["its connection died", "its session let it go"])
def test_a_lock_that_did_not_last_is_told(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[psycopg.Connection] = []
    connect = psycopg.connect

    def remembered(**params: Any) -> psycopg.Connection:
        opened.append(connect(**params))
        return opened[-1]

    monkeypatch.setattr(psycopg, "connect", remembered)

    def lose() -> None:
        with exclusive("shared", "guard"):
            if how == "its connection died":
                opened[-1].close()
            else:
                opened[-1].execute("SELECT pg_advisory_unlock_all()")

    with pytest.raises(Lost):
        lose()


def test_a_lock_that_did_not_last_is_told_also_where_the_block_came_to_an_error_by_it() -> None:
    """Whoever took it meanwhile changed what the block was about."""

    def lose() -> None:
        with exclusive("shared", "guard"):
            _end_other_sessions()
            raise ValueError("It moved on.")

    with pytest.raises(Lost) as told:
        lose()
    assert isinstance(told.value.__cause__, ValueError)


def test_its_session_holds_no_transaction_open() -> None:
    """One that is idle in a transaction is ended by some servers, and the lock with it."""
    with exclusive("shared", "guard"):
        assert _of_other_sessions("state") == ["idle"]


def test_it_is_had_where_all_else_takes_its_connections_from_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = connections["default"]
    params = {**ours.get_connection_params(), "pool": {"max_size": 4}}
    monkeypatch.setattr(ours, "get_connection_params", params.copy)
    with exclusive("shared", "guard"), pytest.raises(Taken), exclusive("shared", "guard", wait_ms=20):
        pytest.fail("both hold it")


def _end_other_sessions() -> None:
    _of_other_sessions("pg_terminate_backend(pid, 2000)")


def _of_other_sessions(what: str) -> list[Any]:
    """Of those that hold a lock."""
    with connection.cursor() as sql:
        sql.execute(
            f"SELECT {what} FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND datname = current_database()"
        )
        return [value for (value,) in sql.fetchall()]

"""Locks on things outside the database."""

from typing import Any

import psycopg
import pytest
from django.db import connection

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


def _end_other_sessions() -> None:
    with connection.cursor() as sql:
        sql.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_locks JOIN pg_database d ON d.oid = database "
            "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND datname = current_database()"
        )

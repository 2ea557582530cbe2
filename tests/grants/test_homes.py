"""By what a database is told from the one before it."""

from __future__ import annotations

import pytest
from django.db import connection

from apps.grants.models.homes import name_here

pytestmark = pytest.mark.django_db


def shadow(function: str, returns: str, value: str) -> None:
    """PostgreSQL says something else, here and now."""
    with connection.cursor() as sql:
        sql.execute("CREATE SCHEMA IF NOT EXISTS another")
        sql.execute(f"CREATE FUNCTION another.{function} RETURNS {returns} LANGUAGE sql AS $$ SELECT {value} $$")
        sql.execute("SET LOCAL search_path = another, pg_catalog, public")


def timeline() -> int:
    return int(name_here().split("/")[1])


def test_a_replica_that_took_over_is_another_at_once() -> None:
    """The control file says so minutes later, with the first checkpoint."""
    before = name_here()
    shadow("pg_walfile_name(pg_lsn)", "text", "'0000001F0000000000000003'")
    assert timeline() == 0x1F
    assert name_here() != before


def test_it_has_the_name_that_it_had_by_its_control_file() -> None:
    with connection.cursor() as sql:
        sql.execute("CHECKPOINT")
        sql.execute("SELECT timeline_id FROM pg_control_checkpoint()")
        assert sql.fetchone() == (timeline(),)


def test_a_replica_can_be_asked_too() -> None:
    before = name_here()
    shadow("pg_is_in_recovery()", "boolean", "true")
    shadow("pg_current_wal_lsn()", "pg_lsn", "('no' || 'ne')::pg_lsn")
    assert name_here() == before

"""Temporary tables: PostgreSQL looks for a table's name among them first, so whoever makes one may stand in for any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.core import database_roles
from apps.core.privileges import ROLES
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def run(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.parametrize("process", sorted(set(ROLES) - {"worker"}))
def test_only_workers_make_them(acting: Acting, process: str) -> None:
    with acting(process), pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        run("CREATE TEMP TABLE grants_grant (id bigint)")
    assert database_roles.strangers_with_tables() == []


def test_where_they_were_given_to_another_it_is_told(acting: Acting) -> None:
    run(f"GRANT TEMPORARY ON DATABASE {connection.ops.quote_name(connection.settings_dict['NAME'])} TO gatehouse_web")
    assert database_roles.strangers_with_tables() == ["gatehouse_web"]


def test_a_worker_says_by_none_of_them_when_an_event_happened(acting: Acting) -> None:
    """In the past, or below every cursor, nobody would be told of it."""
    with acting("worker"):
        run(
            "CREATE TEMP TABLE pg_class AS SELECT oid, 'gatehouse_worker'::regrole::oid AS relowner "
            "FROM pg_catalog.pg_class WHERE oid = 'audit_auditevent'::regclass"
        )
        event = AuditEvent.objects.create(
            at=LONG_AGO, xid=5, event="x.y.z", actor_kind="system", actor_name="w", subject="s", refs=[]
        )
    event.refresh_from_db()
    assert event.xid != 5
    assert event.at.date() == timezone.now().date()

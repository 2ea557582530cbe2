"""What other processes do while a part is read again or written: who waits for whom, and who does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, transaction
from django.db import connection as database
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import fake_world
from apps.inventory.models import Connection
from apps.inventory.sync import assignments, claims, correlation, following
from tests.inventory.test_following import ADMIN_IN_PROD, holders

pytestmark = pytest.mark.django_db(transaction=True)


class Other:
    """Another process's connection to the same database, which never waits."""

    def __init__(self) -> None:
        params = database.get_connection_params()
        for ours in ("pool", "cursor_factory", "context", "prepare_threshold"):  # Django's own, not libpq's
            params.pop(ours, None)
        self.connect = psycopg.connect(**params)

    def refer_to(self, connection: Connection) -> None:
        """What every INSERT does that names the connection."""
        self.lock("SELECT 1 FROM inventory_connection WHERE id = %s FOR KEY SHARE NOWAIT", connection)

    def hold(self, connection: Connection) -> None:
        self.lock("SELECT 1 FROM inventory_connection WHERE id = %s FOR NO KEY UPDATE NOWAIT", connection)

    def lock(self, statement: str, connection: Connection) -> None:
        self.connect.execute(statement, [connection.pk])


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.connect.close()


def test_while_a_part_is_written_no_run_begins_and_new_rows_may_name_the_connection(
    org: Connection, other: Other
) -> None:
    with transaction.atomic():
        following._still_alone(org, timezone.now())
        other.refer_to(org)
    with transaction.atomic():
        correlation.correlate(org, by=audit.WORKER, with_rules=False)
        other.refer_to(org)
    other.hold(org)
    with transaction.atomic(), database.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '1ms'")
        with pytest.raises(OperationalError):
            claims.claim(org, by=audit.WORKER)


def test_a_read_back_of_a_grant_beside_a_reading_costs_no_scope(
    org: Connection, world: fake_world.World, read: Any, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the period of what the reading found new, and commits while the reading writes the same."""
    read()
    world.assign("bob", ADMIN_IN_PROD)
    begin = assignments.Difference.begin
    with Other().connect as watcher, ThreadPoolExecutor(1) as pool:

        def commit_when_somebody_waits() -> None:
            until = time.monotonic() + 20
            while time.monotonic() < until and not watcher.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount:
                watcher.rollback()
            other.connect.commit()

        def beside_the_read_back(*args: Any) -> None:
            if args[0].new:
                other.connect.execute(_READ_BACK, [ADMIN_IN_PROD])
                pool.submit(commit_when_somebody_waits)
            begin(*args)

        monkeypatch.setattr(assignments.Difference, "begin", beside_the_read_back)
        assert read().state == "complete"
    assert "bob" in holders(ADMIN_IN_PROD)


_READ_BACK = """
    INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
    SELECT p.connection_id, p.id, e.id, tstzrange(now(), NULL), false, '{}'
    FROM inventory_principal p, inventory_entitlement e WHERE p.external_id = 'bob' AND e.external_id = %s
"""

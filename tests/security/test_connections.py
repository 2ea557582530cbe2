"""What the web process may do with connections: begin one that only looks, and nothing that makes one write elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.inventory.models import ChangeFeed, ChangeMark, Connection, ConnectionTest
from tests.factories.inventory import ConnectionFactory
from tests.factories.users import UserFactory
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db


def denied(act: Any) -> str:
    with pytest.raises(DatabaseError) as refused, transaction.atomic():
        act()
    return str(refused.value)


def test_the_web_process_adds_connections_that_only_look(acting: Acting) -> None:
    erin = UserFactory(administrator=True)
    now = timezone.now()
    with acting("web"):
        row = Connection.objects.create(name="acme", region="eu-west-1")
        assert not row.is_writable
        for wrong in ({"baselined_at": now, "baselined_by": erin}, {"kind": "fake"}):
            assert "observe-only" in denied(lambda wrong=wrong: Connection.objects.create(name="other", **wrong))
        assert "unique" in denied(lambda: Connection.objects.create(name="twin", external_id=row.external_id))
        denied(lambda: row.delete())


def test_the_web_process_moves_nothing_that_was_baselined(acting: Acting) -> None:
    fixed, free = ConnectionFactory(baselined=True, kind="aws", options={}), ConnectionFactory(kind="aws", options={})
    one = Connection.objects.filter(pk=fixed.pk)
    with acting("web"):
        for change in (
            {"region": "eu-west-1"},
            {"options": {"provisioner_role": "Admin"}},
            {"options": {"change_queue": "q", "reader_role": "Admin"}},
            {"baselined_at": None},
        ):
            assert "stays where it is" in denied(lambda change=change: one.update(**change))
        one.update(options={"change_queue": "q"}, drop_percent=10)
        Connection.objects.filter(pk=free.pk).update(region="eu-west-1", options={"reader_role": "audit/Reader"})
        for column in ({"external_id": "x"}, {"kind": "fake"}, {"name": "x"}):
            assert "permission denied" in denied(lambda column=column: one.update(**column))


def test_the_web_process_asks_for_tests_and_invents_no_result(acting: Acting) -> None:
    row = ConnectionFactory()
    with acting("web"):
        test = ConnectionTest.objects.create(connection=row)
        for made in ({"state": "done"}, {"findings": [{"state": "ok"}]}):
            assert "workers do it" in denied(lambda made=made: ConnectionTest.objects.create(connection=row, **made))
        assert "permission denied" in denied(lambda: ConnectionTest.objects.filter(pk=test.pk).update(state="done"))


def test_only_workers_say_what_changed(acting: Acting) -> None:
    row = ConnectionFactory()
    mark = {"connection": row, "kind": "account", "event_id": "1", "event_name": "x", "event_at": timezone.now()}
    with acting("web"):
        assert "permission denied" in denied(lambda: ChangeMark.objects.create(**mark))
        assert "permission denied" in denied(lambda: ChangeFeed.objects.create(connection=row))
        assert not ChangeMark.objects.exists()
    for process in ("broker", "ender"):
        with acting(process):
            assert "permission denied" in denied(lambda: ChangeMark.objects.exists())
    with acting("worker"):
        ChangeMark.objects.create(**mark)

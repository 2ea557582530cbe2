"""What the web process may do with connections: begin one that only looks, and nothing that makes one write elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
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


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([1], id="a list"),
        pytest.param("x", id="a word"),
        pytest.param({"start_url": {"a": "b"}}, id="an object inside"),
        pytest.param({"start_url": ["b"]}, id="a list inside"),
        pytest.param({"start_url": None}, id="nothing"),
        pytest.param({"start_url": True}, id="yes"),
        pytest.param({"start_url": "x" * 4000}, id="much"),
    ],
)
def test_no_row_holds_options_that_break_who_reads_it(acting: Acting, options: Any) -> None:
    """Every process reads them to know what it writes to: one connection must not stop what is done in all others."""
    fixed = ConnectionFactory(
        baselined=True, kind="aws", options={"provisioner_role": "our/Own", "rules_per_group": 60}
    )
    with acting("web"):
        assert "options_are_flat" in denied(lambda: Connection.objects.create(name="aaa", options=options))
        denied(lambda: Connection.objects.filter(pk=fixed.pk).update(options=options))


def test_who_types_them_is_told(caplog: pytest.LogCaptureFixture) -> None:
    row = ConnectionFactory.build(kind="fake", options={"start_url": "x" * 4000})
    with pytest.raises(ValidationError, match="texts and numbers"):
        row.full_clean()
    with pytest.raises(ValidationError, match="start_url: The address"):
        ConnectionFactory.build(kind="aws", options={"start_url": "https://example.com/" + "x" * 4000}).clean()
    assert not caplog.records  # the table itself was asked


def test_no_option_is_a_number_that_python_cannot_hold(acting: Acting) -> None:
    """All of what was baselined would be read as empty, and roles of the default names be used."""
    fixed = ConnectionFactory(baselined=True, kind="aws", options={"provisioner_role": "our/Own"})
    table, digits = Connection._meta.db_table, "1" * 4100
    with acting("web"), connection.cursor() as cursor:
        added = f"UPDATE {table} SET options = options || %s::jsonb WHERE id = %s"
        for number in (digits, "1e4100"):
            values = [f'{{"start_url": {number}}}', fixed.pk]
            assert "options_are_flat" in denied(lambda values=values: cursor.execute(added, values))


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

"""What an event says, when it may be written, and in which order consumers see it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent, ref
from tests.factories.users import UserFactory


@pytest.fixture
def other() -> Iterator[Any]:
    slow = connection.copy()
    slow.set_autocommit(False)
    yield slow
    slow.close()


def write(on: Any) -> int:
    with on.cursor() as sql:
        sql.execute(
            "INSERT INTO audit_auditevent "
            "(event, actor_kind, actor_id, actor_name, subject, subject_name, refs, data, origin) "
            "VALUES ('tests.thing.done', 'clock', '', 'the clock', 'tests.thing:1', '', '{}', '{}', '{}') RETURNING id"
        )
        return sql.fetchone()[0]


# ---- writing


@pytest.mark.django_db(transaction=True)
def test_an_event_outside_the_transaction_of_its_change_is_refused() -> None:
    alice = UserFactory(name="Alice")
    with pytest.raises(audit.NotInTransaction):
        audit.record("users.user.invited", by=audit.COMMAND, subject=alice)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_event_vanishes_with_the_change_it_tells_about() -> None:
    alice = UserFactory(name="Alice")
    with transaction.atomic():
        audit.record("users.user.invited", by=audit.COMMAND, subject=alice)
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db
def test_an_event_names_its_actor_its_subject_and_all_it_touches() -> None:
    alice, erin = UserFactory(name="Alice"), UserFactory(name="Erin")
    with audit.origin(address="192.0.2.7"):
        event = audit.record("users.user.invited", by=erin, subject=alice, about=[alice], data={"email": "a@b.c"})
    event.refresh_from_db()
    assert (event.actor_kind, event.actor_id, event.actor_name) == ("person", str(erin.pk), "Erin")
    assert (event.subject, event.subject_name) == (f"users.user:{alice.pk}", "Alice")
    assert event.refs == [ref(alice), ref(erin)]
    assert event.origin == {"address": "192.0.2.7"}
    assert AuditEvent.objects.about(ref(erin)).get() == event


@pytest.mark.django_db
def test_a_name_that_is_too_long_is_cut_and_stops_nothing() -> None:
    alice = UserFactory(name="x" * 200)
    alice.name = "x" * 5000
    event = audit.record("users.user.invited", by=alice, subject=alice)
    event.refresh_from_db()
    assert (len(event.actor_name), len(event.subject_name)) == (200, 300)


@pytest.mark.django_db
def test_a_machine_actor_is_named_as_what_it_is() -> None:
    event = audit.record("users.user.invited", by=audit.CLOCK, subject=UserFactory())
    assert (event.actor_kind, event.actor_id, event.actor_name) == ("clock", "", "the clock")


# ---- the feed


@pytest.mark.django_db(transaction=True)
def test_nothing_is_settled_while_an_older_writer_runs(other: Any) -> None:
    slow = write(other)
    fast = write(connection)
    assert list(AuditEvent.objects.settled()) == []
    other.commit()
    assert set(AuditEvent.objects.settled().values_list("pk", flat=True)) == {slow, fast}


@pytest.mark.django_db(transaction=True)
def test_the_feed_runs_by_transaction_then_id_and_goes_on_after_a_cursor(other: Any) -> None:
    older = write(other)  # the older transaction, the lower id
    younger = write(connection)
    late = write(other)  # the older transaction again, the highest id
    other.commit()
    feed = list(AuditEvent.objects.after((0, 0)))
    assert [event.pk for event in feed] == [older, late, younger]
    for place, event in enumerate(feed):
        assert [row.pk for row in AuditEvent.objects.after(event.cursor)] == [row.pk for row in feed[place + 1 :]]


@pytest.mark.django_db(transaction=True)
def test_the_feed_enters_its_index_where_the_cursor_stands() -> None:
    write(connection)
    with transaction.atomic(), connection.cursor() as sql:
        sql.execute("SET LOCAL enable_seqscan = off")
        plan = AuditEvent.objects.after((5, 5))[:10].explain()
    assert "audit_feed" in plan and "xid >= " in plan.split("Filter:")[0]


@pytest.mark.django_db
def test_a_period_includes_its_beginning_and_not_its_end() -> None:
    event = audit.record("users.user.invited", by=audit.COMMAND, subject=UserFactory())
    event.refresh_from_db()
    tick = timedelta(microseconds=1)
    assert AuditEvent.objects.between(event.at, event.at + tick).exists()
    assert not AuditEvent.objects.between(event.at - tick, event.at).exists()
    assert not AuditEvent.objects.between(event.at + tick, timezone.now() + timedelta(days=1)).exists()

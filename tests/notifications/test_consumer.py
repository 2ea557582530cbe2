"""The log is the outbox: nothing is lost, nothing is told twice, whatever commits late or dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.notifications import consumer, periodic, services
from apps.notifications.models import Cursor, Delivery, Notification
from apps.notifications.notes import Note
from apps.users.models import User
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
DONE = "tests.thing.done"


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch) -> User:
    """Told about every event of a kind that only this module knows."""
    user = UserFactory(name="Alice")
    monkeypatch.setitem(consumer.TELLERS, DONE, lambda event: [Note(to=user, title=event.subject_name, url="/")])
    return user


@pytest.fixture
def other() -> Iterator[Any]:
    """A second connection, for a writer that takes its time."""
    slow = connection.copy()
    slow.set_autocommit(False)
    yield slow
    slow.close()


def write(on: Any, name: str) -> None:
    with on.cursor() as sql:
        sql.execute(
            "INSERT INTO audit_auditevent "
            "(event, actor_kind, actor_id, actor_name, subject, subject_name, refs, data, origin) "
            "VALUES (%s, 'clock', '', 'the clock', 'tests.thing:1', %s, '{tests.thing:1}', '{}', '{}')",
            [DONE, name],
        )


def titles() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("title", flat=True))


def test_a_slow_writer_that_commits_late_is_still_told_and_in_its_turn(alice: User, other: Any) -> None:
    write(other, "slow")  # a lower id and a lower transaction than all that follow
    write(connection, "fast")
    consumer.follow()
    assert titles() == []  # held back: something could still slip in before
    other.commit()
    write(connection, "later")
    consumer.follow()
    assert titles() == ["slow", "fast", "later"]


def test_a_writer_that_began_before_and_wrote_after_is_not_skipped(alice: User, other: Any) -> None:
    with other.cursor() as sql:
        sql.execute("SELECT pg_current_xact_id()")  # its transaction is older, its rows will have higher ids
    write(connection, "first id, younger transaction")
    write(other, "second id, older transaction")
    consumer.follow()
    assert titles() == []
    other.commit()
    consumer.follow()
    assert sorted(titles()) == ["first id, younger transaction", "second id, older transaction"]


def test_many_interleaved_writers_lose_and_double_nothing(alice: User) -> None:
    slow = [connection.copy() for _ in range(4)]
    expected = []
    try:
        for writer in slow:
            writer.set_autocommit(False)
        for step in range(24):
            writer = slow[step * 7 % 4]
            write(writer, f"event {step}")
            expected.append(f"event {step}")
            if step % 3 == 2:
                slow[step % 4].commit()
            consumer.follow()
        for writer in slow:
            writer.commit()
            consumer.follow()
    finally:
        for writer in slow:
            writer.close()
    assert sorted(titles()) == sorted(expected)


def test_what_was_rolled_back_is_never_told(alice: User, other: Any) -> None:
    write(other, "it did not happen")
    other.rollback()
    consumer.follow()
    assert titles() == []


def test_following_again_tells_nothing_again(alice: User) -> None:
    write(connection, "once")
    assert consumer.follow() == 1
    assert consumer.follow() == 0
    assert titles() == ["once"]


@pytest.mark.parametrize(("window", "batch"), [(3, 100), (100, 3), (4, 2), (1, 1), (2, 3)])
def test_batches_leave_nothing_between_them(
    alice: User, monkeypatch: pytest.MonkeyPatch, window: int, batch: int
) -> None:
    monkeypatch.setattr(consumer, "WINDOW", window)
    monkeypatch.setattr(consumer, "BATCH", batch)
    with transaction.atomic():
        for number in range(7):  # one transaction, so the batches are cut inside it
            write(connection, str(number))
            audit.record("tests.thing.of_no_concern", by=audit.CLOCK, subject=alice)
    assert consumer.follow() == 14
    assert titles() == [str(number) for number in range(7)]


def test_a_crash_before_the_commit_tells_nothing_and_loses_nothing(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(connection, "it")

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Cursor, "save", die)
        with pytest.raises(KeyboardInterrupt):
            consumer.follow()
    assert titles() == [] and not Delivery.objects.exists()
    consumer.follow()
    assert titles() == ["it"] and Delivery.objects.count() == 1


def test_a_lost_cursor_tells_nothing_twice(alice: User) -> None:
    write(connection, "once")
    consumer.follow()
    Cursor.objects.all().delete()
    consumer.follow()
    assert titles() == ["once"] and Delivery.objects.count() == 1


def test_one_consumer_at_a_time(alice: User, other: Any) -> None:
    write(connection, "it")
    Cursor.objects.create(consumer=consumer.NAME)
    with other.cursor() as sql:
        sql.execute("SELECT 1 FROM notifications_cursor FOR UPDATE")
    assert consumer.follow() == 0
    other.rollback()
    assert consumer.follow() == 1


def test_the_database_refuses_a_second_note_for_one_person_and_event(alice: User) -> None:
    values = {"event": 1, "recipient": alice, "kind": DONE, "subject": "tests.thing:1", "title": "x", "url": "/"}
    note = Notification.objects.create(**values)
    Delivery.objects.create(notification=note, channel="email")
    with pytest.raises(IntegrityError, match="notification_once"):
        Notification.objects.create(**values)
    with pytest.raises(IntegrityError, match="delivery_once"):
        Delivery.objects.create(notification=note, channel="email")


@pytest.mark.parametrize("url", ["https://evil.example", "//evil.example", "javascript:alert(1)", ""])
def test_the_database_refuses_a_link_that_leads_elsewhere(alice: User, url: str) -> None:
    with pytest.raises(IntegrityError, match="notification_leads_to_this_portal"):
        Notification.objects.create(event=1, recipient=alice, kind=DONE, subject="s", title="x", url=url)


# ---- after a restore


def test_after_a_restore_nothing_is_told_until_somebody_says_from_where(alice: User) -> None:
    write(connection, "before the dump")
    Cursor.objects.create(consumer=consumer.NAME, xid=10**12, event=1)
    with pytest.raises(consumer.NeedsRebase, match="rebase_cursor"):
        consumer.follow()
    call_command("rebase_cursor")
    write(connection, "after the restore")
    consumer.follow()
    assert titles() == ["after the restore"]


def test_after_a_restore_the_clock_says_what_to_do_and_mails_still_leave(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    note = Notification.objects.create(event=1, recipient=alice, kind=DONE, subject="s", title="x", url="/")
    Delivery.objects.create(notification=note, channel="email")
    Cursor.objects.create(consumer=consumer.NAME, xid=10**12, event=1)
    periodic.tell()
    assert "rebase_cursor" in caplog.text
    assert not Delivery.objects.waiting().exists()


def test_old_events_with_transaction_ids_of_another_cluster_are_never_told_as_new(alice: User) -> None:
    with connection.cursor() as sql:
        sql.execute("SELECT pg_current_xact_id()::text::bigint")
        [now] = sql.fetchone()
    with transaction.atomic(), connection.cursor() as sql:
        write(connection, "old, from another cluster")
        sql.execute("SET LOCAL session_replication_role = replica")
        sql.execute("UPDATE audit_auditevent SET xid = %s", [now + 6])  # this cluster will come past it
    call_command("rebase_cursor")
    for _ in range(12):
        write(connection, "new")
    consumer.follow()
    assert titles() == ["new"] * 12


def test_rebasing_is_on_the_record(alice: User) -> None:
    write(connection, "it")
    services.rebase_cursor(consumer.NAME, by=audit.COMMAND)
    event = AuditEvent.objects.get(event="notifications.cursor.rebased")
    assert event.data["from"] == [0, 0] and event.data["floor"] > 0


# ---- bounded


def test_an_inbox_is_kept_half_a_year(alice: User) -> None:
    write(connection, "old")
    consumer.follow()
    Notification.objects.update(created_at=timezone.now() - timedelta(days=181))
    write(connection, "new")
    consumer.follow()
    services.forget_old(now=timezone.now())
    assert titles() == ["new"]
    assert Delivery.objects.count() == 1

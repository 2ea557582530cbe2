"""Celery is a wake-up call: revocations go first, and a lost broker fails no decision."""

import re

import pytest
from celery import shared_task
from django.conf import settings

from config.celery import CLOCK, QUEUES, app


@shared_task(name="tests.nothing")
def nothing() -> None: ...


def test_access_ends_before_it_begins() -> None:
    assert (
        [queue.name for queue in app.conf.task_queues] == QUEUES == ["urgent", "revoke", "default", "changes", "sync"]
    )
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"


def test_everything_on_the_clock_exists() -> None:
    app.loader.import_default_modules()
    assert [entry["task"] for entry in CLOCK.values() if entry["task"] not in app.tasks] == []


def test_every_task_goes_to_a_queue_that_workers_read() -> None:
    app.loader.import_default_modules()
    router = app.amqp.router
    queues = {name: router.route({}, name)["queue"].name for name in app.tasks if name.startswith("apps.")}
    assert set(queues.values()) <= set(QUEUES)


@pytest.mark.parametrize(
    ("task", "queue"),
    [("listen", "changes"), ("sync_changes", "changes"), ("sync_connection", "sync"), ("test_connection", "sync")],
)
def test_a_change_does_not_wait_behind_a_full_reading(task: str, queue: str) -> None:
    assert app.amqp.router.route({}, f"apps.inventory.tasks.{task}")["queue"].name == queue


def test_the_composed_workers_read_every_queue() -> None:
    composed = (settings.BASE_DIR / "docker-compose.yml").read_text()
    read = re.findall(r'-Q, "?([a-z,]+[a-z])', composed)
    assert sorted(",".join(read).split(",")) == sorted(QUEUES)


def test_results_are_not_kept() -> None:
    assert app.conf.task_ignore_result
    assert app.conf.task_acks_late


@pytest.mark.broker
def test_without_a_broker_the_caller_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = app.connection_for_write("redis+socket:///nonexistent/valkey.sock?virtual_host=0")
    assert nothing.apply_async(connection=nowhere) is None
    assert "waits for the clock" in caplog.text


@pytest.mark.broker
def test_with_a_broker_it_is_sent() -> None:
    assert nothing.delay() is not None
    with app.connection_for_read() as connection:
        assert connection.default_channel.queue_purge("default") == 1
    assert settings.CELERY_TASK_DEFAULT_QUEUE == "default"

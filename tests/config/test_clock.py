"""The clock's table: without these lines nothing ends on time, and nobody would notice at once."""

import pytest

from config.celery import CLOCK, QUEUES, ROUTES, app

NEEDED = {
    "apps.grants.periodic.sweep": 15,
    "apps.grants.periodic.follow_people": 15,
    "apps.reviews.periodic.follow_movers": 300,
    "apps.grants.periodic.write_ledger": 60,
    "apps.grants.periodic.reconcile": 60,
    "apps.access.periodic.lapse_requests": 300,
    "apps.inventory.periodic.sync_due": 300,
    "apps.inventory.periodic.end_departed": 300,
    "apps.scim.periodic.link_waiting": 900,
    "apps.inventory.periodic.follow_changes": 60,
    "apps.inventory.periodic.test_asked": 300,
    "apps.inventory.tasks.forget_changes": 86400,
    "apps.inventory.periodic.read_trails_due": 300,
    "apps.inventory.periodic.read_last_accesses": 3600,
    "apps.inventory.periodic.prune_usage": 86400,
    "apps.inventory.tasks.sync_prune_scans": 86400,
    "apps.notifications.periodic.tell": 15,
    "apps.users.tasks.follow_passkeys": 15,
    "apps.inventory.tasks.follow_responsibilities": 60,
    "apps.inventory.periodic.trace_due": 300,
    "apps.insights.periodic.inspect_due": 300,
    "apps.grants.periodic.forget_changes": 86400,
}


@pytest.mark.parametrize(("task", "at_least_every"), NEEDED.items())
def test_the_clock_does_it_often_enough(task: str, at_least_every: int) -> None:
    assert any(line["task"] == task and line["schedule"] <= at_least_every for line in CLOCK.values())


def test_every_line_names_a_task_that_exists() -> None:
    app.loader.import_default_modules()
    assert {line["task"] for line in CLOCK.values()} <= set(app.tasks)


def test_ends_do_not_wait_behind_anything_else() -> None:
    assert ROUTES["apps.grants.periodic.*"] == {"queue": "urgent"}
    assert ROUTES["apps.grants.tasks.deprovision"] == {"queue": "revoke"}


@pytest.mark.parametrize("task", ["deny", "write_stop"])
def test_one_write_that_denies_does_not_wait_behind_removals(task: str) -> None:
    assert app.amqp.router.route({}, f"apps.grants.tasks.{task}")["queue"].name == QUEUES[0] == "urgent"

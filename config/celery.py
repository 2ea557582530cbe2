"""The Celery application: workers carry out what services decided, the clock wakes up what is due.

Celery is only a wake-up call. The database says what is to be done, so every task may come late, twice or never.
"""

import logging
import os
from typing import Any

from celery import Celery
from celery.contrib.django.task import DjangoTask
from celery.result import AsyncResult
from celery.signals import setup_logging
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

log = logging.getLogger(__name__)

# What the clock does, and how often in seconds. `expires` drops a tick that no worker took before the next one.
CLOCK: dict[str, dict[str, Any]] = {
    "end": {"task": "apps.grants.periodic.sweep", "schedule": 5.0, "options": {"expires": 5}},
    "people": {"task": "apps.grants.periodic.follow_people", "schedule": 10.0, "options": {"expires": 10}},
    "move": {"task": "apps.reviews.periodic.follow_movers", "schedule": 60.0, "options": {"expires": 55}},
    "reconcile": {"task": "apps.grants.periodic.reconcile", "schedule": 15.0, "options": {"expires": 15}},
    "outside": {"task": "apps.grants.periodic.forget_changes", "schedule": 86400.0, "options": {"expires": 3600}},
    "ledger": {"task": "apps.grants.periodic.write_ledger", "schedule": 60.0, "options": {"expires": 55}},
    "lapse": {"task": "apps.access.periodic.lapse_requests", "schedule": 60.0, "options": {"expires": 55}},
    "inspect": {"task": "apps.insights.periodic.inspect_due", "schedule": 60.0, "options": {"expires": 55}},
    "sync": {"task": "apps.inventory.periodic.sync_due", "schedule": 60.0, "options": {"expires": 55}},
    "trace": {"task": "apps.inventory.periodic.trace_due", "schedule": 60.0, "options": {"expires": 55}},
    "hear": {"task": "apps.inventory.periodic.follow_changes", "schedule": 20.0, "options": {"expires": 20}},
    "test": {"task": "apps.inventory.periodic.test_asked", "schedule": 60.0, "options": {"expires": 55}},
    "unmark": {"task": "apps.inventory.tasks.forget_changes", "schedule": 86400.0, "options": {"expires": 3600}},
    "remove": {"task": "apps.reviews.periodic.carry_out_revocations", "schedule": 60.0, "options": {"expires": 55}},
    "trail": {"task": "apps.inventory.periodic.read_trails_due", "schedule": 60.0, "options": {"expires": 55}},
    "accesses": {"task": "apps.inventory.periodic.read_last_accesses", "schedule": 600.0, "options": {"expires": 500}},
    "prune": {"task": "apps.inventory.periodic.prune_usage", "schedule": 86400.0, "options": {"expires": 3600}},
    "scans": {"task": "apps.inventory.tasks.sync_prune_scans", "schedule": 86400.0, "options": {"expires": 3600}},
    "answer": {"task": "apps.inventory.tasks.follow_responsibilities", "schedule": 15.0, "options": {"expires": 14}},
    "depart": {"task": "apps.inventory.periodic.end_departed", "schedule": 60.0, "options": {"expires": 55}},
    "persons": {"task": "apps.scim.periodic.link_waiting", "schedule": 300.0, "options": {"expires": 280}},
    "keys": {"task": "apps.users.tasks.follow_passkeys", "schedule": 5.0, "options": {"expires": 5}},
    "tell": {"task": "apps.notifications.periodic.tell", "schedule": 5.0, "options": {"expires": 5}},
    "watch": {"task": "apps.notifications.periodic.watch", "schedule": 60.0, "options": {"expires": 55}},
    "forget": {"task": "apps.notifications.periodic.forget_old", "schedule": 3600.0, "options": {"expires": 3000}},
}

# A worker empties them in this order: access ends before it begins, and both go before long reads of AWS. `urgent` has what
# bites with one write, and the clock's own look at what is due: neither may wait behind ten thousand removals. `changes`
# has what change feeds say: seconds of reading, which may not wait behind the hours of `sync`.
QUEUES = ["urgent", "revoke", "default", "changes", "sync"]

# The first pattern that a task's name matches is its queue; the others go to `default`.
ROUTES = {
    "apps.grants.tasks.deny": {"queue": "urgent"},
    "apps.grants.tasks.write_stop": {"queue": "urgent"},
    "apps.grants.periodic.*": {"queue": "urgent"},
    "apps.grants.tasks.deprovision": {"queue": "revoke"},
    "apps.grants.tasks.repair*": {"queue": "revoke"},
    "apps.grants.tasks.compare*": {"queue": "sync"},
    "apps.insights.tasks.inspect": {"queue": "sync"},
    "apps.inventory.tasks.listen": {"queue": "changes"},
    "apps.inventory.tasks.sync_changes": {"queue": "changes"},
    "apps.inventory.tasks.sync*": {"queue": "sync"},
    "apps.inventory.tasks.test_connection": {"queue": "sync"},
}


class WakeUpCall(DjangoTask):
    """A task whose message may get lost: without a broker the decision stands, and the clock finds it later."""

    def apply_async(self, *args: Any, **kwargs: Any) -> AsyncResult | None:  # type: ignore[override]
        try:
            return super().apply_async(*args, **kwargs)
        except OperationalError:
            log.warning("The broker cannot be reached: %s waits for the clock.", self.name)
            return None


app = Celery("gatehouse", task_cls=WakeUpCall)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in QUEUES]
app.conf.task_routes = ROUTES
app.conf.beat_schedule = CLOCK
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="periodic")


@setup_logging.connect
def _leave_logging_alone(**_: Any) -> None:
    """Django's LOGGING holds for workers too."""

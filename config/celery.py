"""The Celery application: workers carry out what services decided, the clock wakes up what is due.

Celery is only a wake-up call. The database says what is to be done, so every task may come late, twice or never.
"""

import os
from typing import Any

from celery import Celery
from celery.schedules import crontab  # noqa: F401

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("gatehouse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

"""What the clock does about requests."""

from __future__ import annotations

import contextlib

from celery import shared_task
from django.utils import timezone

from apps.access.models import AccessRequest
from apps.access.services import requests
from apps.core.lifecycle import Conflict


@shared_task
def lapse_requests() -> None:
    """Let requests lapse that nobody decided in time."""
    for request in AccessRequest.objects.lapsed(timezone.now()).with_names()[:500]:
        with contextlib.suppress(Conflict):  # somebody decided just now
            requests.lapse(request)

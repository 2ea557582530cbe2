"""What the clock does about identity providers."""

from __future__ import annotations

from celery import shared_task

from apps.scim.models import Source
from apps.scim.services import people


@shared_task
def link_waiting() -> None:
    """Link users whom Identity Center came to know after their identity provider spoke of them. Every five minutes."""
    for source in Source.objects.all():
        people.link_waiting(source)

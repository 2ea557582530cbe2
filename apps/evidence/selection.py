"""Which audit events a filter means, and how an event is written down outside the portal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Q

from apps.audit.models import AuditEvent, AuditEventQuerySet

COLUMNS = (
    "id",
    "at",
    "event",
    "actor_kind",
    "actor_id",
    "actor_name",
    "subject",
    "subject_name",
    "refs",
    "data",
    "origin",
    "written_as",
    "xid",
)
CHUNK = 2000


def midnight(day: date) -> datetime:
    """The instant a day begins, in UTC."""
    return datetime.combine(day, time(), UTC)


def chosen(wanted: Mapping[str, Any]) -> AuditEventQuerySet:
    """The events of a cleaned `FilterForm`. Days are whole, in UTC, both included."""
    events = AuditEvent.objects.all()
    if wanted["start"]:
        events = events.filter(at__gte=midnight(wanted["start"]))
    if wanted["end"]:
        events = events.filter(at__lt=midnight(wanted["end"] + timedelta(days=1)))
    if wanted["kind"]:
        events = events.filter(event__startswith=f"{wanted['kind']}.")
    if wanted["actor"]:
        events = events.filter(actor_id=wanted["actor"])
    if wanted["ref"]:
        events = events.about(wanted["ref"])
    if wanted["q"]:
        events = events.filter(Q(subject_name__icontains=wanted["q"]) | Q(actor_name__icontains=wanted["q"]))
    return events


def records(events: AuditEventQuerySet) -> Iterator[dict[str, Any]]:
    """Every event as it is handed out, read in chunks from a cursor of the database. Inside a transaction."""
    yield from events.values(*COLUMNS).iterator(chunk_size=CHUNK)

"""Deciding whether this database is trusted to remember everything."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.grants import narrowing
from apps.grants.models import Home, Reconciliation
from apps.grants.models.homes import name_here
from apps.inventory.models import Connection


@transaction.atomic
def notice() -> Home:
    """Know the database that answers now. The first one ever is trusted; any other was restored, so it is doubted: nothing
    opens from it before AWS was compared with it."""
    name, now = name_here(), timezone.now()
    known = Home.objects.filter(name=name).first()
    if known:
        return known
    is_first = not Home.objects.exists()
    home = Home.objects.create(
        name=name,
        first_seen_at=now,
        trusted_at=now if is_first else None,
        doubted_at=None if is_first else now,
        doubt="" if is_first else "The database was restored, or moved to another server.",
    )
    event = "grants.home.found" if is_first else "grants.home.changed"
    audit.record(event, by=audit.CLOCK, subject=home, data={"before": _before(home)})
    return home


def _before(home: Home) -> list[str]:
    return list(Home.objects.exclude(pk=home.pk).values_list("name", flat=True)[:10])


@transaction.atomic
def doubt(*, by: Any, reason: str) -> Home:
    """Open nothing from now on until AWS was compared. For a restore that no name of the database shows, and for whenever
    somebody is not sure what it remembers."""
    home = Home.objects.select_for_update().get(pk=notice().pk)
    home.doubted_at, home.trusted_at, home.doubt = timezone.now(), None, reason[:500]
    home.save(update_fields=["doubted_at", "trusted_at", "doubt"])
    audit.record("grants.home.doubted", by=by, subject=home, data={"reason": home.doubt})
    return home


@transaction.atomic
def trust() -> bool:
    """Trust the database again, once every connection that Gatehouse may change was compared from it, completely, and
    there was nothing left to take away. One that is paused is changed by nobody; when somebody resumes it, the database is
    doubted until it was compared like the others. Returns whether the database is trusted now."""
    home = Home.objects.here().select_for_update().first()
    if home is None or home.doubted_at is None:
        return home is not None
    if home.trusted_at and not narrowing.is_resumed(home):
        return True
    if home.trusted_at:
        home.trusted_at, home.doubt = None, "A connection was resumed that was paused while AWS was compared."
        home.save(update_fields=["trusted_at", "doubt"])
        audit.record("grants.home.doubted", by=audit.CLOCK, subject=home, data={"reason": home.doubt})
    if not all(_is_compared(connection, home) for connection in Connection.objects.writable()):
        return False
    home.trusted_at = timezone.now()
    home.save(update_fields=["trusted_at"])
    audit.record("grants.home.trusted", by=audit.CLOCK, subject=home, data={"doubted_at": home.doubted_at.isoformat()})
    return True


def _is_compared(connection: Connection, home: Home) -> bool:
    """The last comparison that came to an end had nothing to repair, it rests on a complete sync, both began after the
    doubt did, and nothing waits."""
    runs = Reconciliation.objects.filter(connection=connection)
    if runs.held().exists():
        return False
    ended = runs.settled().filter(finished_at__isnull=False, problems=[])  # not only by what its state says
    last = ended.filter(database=home.name, started_at__gte=home.doubted_at).first()
    if last is None or last.only_reports or last.repairs:
        return False
    read = connection.runs.complete().filter(started_at__gte=home.doubted_at, finished_at__lte=last.started_at)
    return read.exists()

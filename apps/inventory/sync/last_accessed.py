"""AWS's own reports of last accesses, read principal by principal and never two at once (reference/aws.md §4).

Asked for again only when a principal's last use changed since, and at most weekly: a report costs three calls and more.
The lock is on the reading, not on something in AWS: nobody waits for it, so it is held while AWS makes a report.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.connectors import registry
from apps.connectors.errors import ConnectorError, Denied, Throttled
from apps.connectors.trail import LastUse
from apps.core import locks
from apps.inventory.models import AccessReport, Connection, LastAccess, Principal
from apps.inventory.models.holders import CALLERS, PrincipalQuerySet
from apps.inventory.sync import rows as as_rows

log = logging.getLogger(__name__)

EVERY = timedelta(days=7)
AGAIN = timedelta(hours=6)  # after a report that failed
MOST = 500  # principals in one call of `read`; the clock comes again


def due(connection: Connection, now: datetime) -> PrincipalQuerySet:
    """Principals whose report is due: used, and never reported on or used since the last report, a week ago or more."""
    mine = Principal.objects.present().filter(connection=connection, kind__in=CALLERS, resource__ended_at=None)
    mine = (
        mine.exclude(resource=None).exclude(last_used_at=None).exclude(attributes__contains={"is_service_linked": True})
    )
    never = Q(access_report=None) | Q(access_report__read_at=None, access_report__tried_at__lt=now - AGAIN)
    changed = Q(access_report__read_at__lt=now - EVERY, access_report__tried_at__lt=now - AGAIN) & ~Q(
        access_report__used_at=F("last_used_at")
    )
    return mine.filter(never | changed)


def read(connection_id: int) -> int:
    """Read the reports that are due, up to `MOST`. Returns how many were read; another call meanwhile does nothing."""
    connection = Connection.objects.readable().filter(pk=connection_id).first()
    if connection is None or not registry.has_access_reports(connection.kind):
        return 0
    now = timezone.now()
    waiting = list(due(connection, now).select_related("resource").order_by("resource", "pk")[:MOST])
    if not waiting:
        return 0
    try:
        with locks.exclusive("last accesses", str(connection.pk), wait_ms=1):
            return _read_all(connection, waiting)
    except locks.Taken:
        return 0


def _read_all(connection: Connection, waiting: Iterable[Principal]) -> int:
    reports = registry.access_reports(connection.kind, connection.config)
    closed: set[int] = set()  # accounts that do not let us in: the others need not wait for each of their principals
    done = 0
    for principal in waiting:
        assert principal.resource is not None
        if principal.resource_id in closed:
            continue
        if not Connection.objects.readable().filter(pk=connection.pk).exists():
            break  # it was paused meanwhile
        try:
            uses = reports.of(principal.resource.external_id, principal.external_id)
        except ConnectorError as error:
            _note(principal, str(error))
            if isinstance(error, Denied):
                _note_all(due(connection, timezone.now()).filter(resource=principal.resource), str(error))
            if isinstance(error, Denied | Throttled):
                closed.add(principal.resource.pk)
            continue
        keep(principal, uses)
        done += 1
    return done


def _note(principal: Principal, problem: str) -> None:
    said = {"tried_at": timezone.now(), "problem": as_rows.text(problem, 500)}
    AccessReport.objects.update_or_create(principal=principal, defaults=said)


def _note_all(waiting: PrincipalQuerySet, problem: str) -> None:
    """The whole account waits: or its principals would come first again each time, and no other account ever."""
    now, said = timezone.now(), as_rows.text(problem, 500)
    AccessReport.objects.bulk_create(
        [AccessReport(principal_id=pk, tried_at=now, problem=said) for pk in waiting.values_list("pk", flat=True)],
        batch_size=5_000,
        update_conflicts=True,
        unique_fields=["principal"],
        update_fields=["tried_at", "problem"],
    )


@transaction.atomic
def keep(principal: Principal, uses: Iterable[LastUse]) -> None:
    """Store one whole report in place of the earlier one."""
    now = timezone.now()
    found: dict[tuple[str, str], datetime | None] = {}
    for use in uses:
        key = as_rows.text(use.service, 64), as_rows.text(use.action, 200)
        found[key] = max((at for at in (found.get(key), use.at) if at), default=None)
    LastAccess.objects.filter(principal=principal).delete()
    LastAccess.objects.bulk_create(
        [
            LastAccess(principal=principal, service=service, action=action, last_at=at)
            for (service, action), at in found.items()
        ]
    )
    AccessReport.objects.update_or_create(
        principal=principal,
        defaults={"read_at": now, "tried_at": now, "used_at": principal.last_used_at, "problem": ""},
    )


def forget(principals: Collection[int]) -> None:
    """These were deleted and made again under their names: what AWS said of the old ones says nothing about them. They are
    asked about anew."""
    LastAccess.objects.filter(principal__in=principals).delete()
    AccessReport.objects.filter(principal__in=principals).delete()

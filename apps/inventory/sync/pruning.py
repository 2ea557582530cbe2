"""Letting go of what long finished runs said of each scope: a thousand rows a run would grow for ever."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.inventory import extensions
from apps.inventory.models import Connection, ScopeScan, SyncRun


def prune(now: datetime) -> int:
    """Drop scans of runs that began more than `SCANS_KEPT_DAYS` ago, and return how many. One statement or two a run, each
    committed by itself, so that it can be stopped at any time and holds up nobody.

    What stays however old it is: the runs themselves; a scope's latest scan and its latest complete one, which say what
    is known of it and as of when; all of each connection's last run, which its page shows; all of the runs that upper
    apps show as evidence. History needs none: assignments carry their own periods."""
    since = now - timedelta(days=settings.SCANS_KEPT_DAYS)
    shown = [run.pk for connection in Connection.objects.all() if (run := connection.latest_run)]
    old = SyncRun.objects.finished().filter(Exists(ScopeScan.objects.filter(run=OuterRef("pk"))), started_at__lt=since)
    for runs in extensions.kept_runs():
        old = old.exclude(pk__in=runs)
    gone = 0
    for pk, connection_id in old.exclude(pk__in=shown).order_by("pk").values_list("pk", "connection_id"):
        scans, later = ScopeScan.objects.filter(run=pk), ScopeScan.objects.filter(started_at__gt=OuterRef("started_at"))
        gone += _drop(scans.exclude(resource=None), later.filter(resource=OuterRef("resource")))
        gone += _drop(scans.filter(resource=None), later.filter(resource=None, run__connection=connection_id))
    return gone


def _drop(scans: QuerySet[ScopeScan], later: QuerySet[ScopeScan]) -> int:
    """Drop scans that are neither their scope's latest nor its latest complete one."""
    is_complete = Q(state=ScopeScan.State.COMPLETE)
    gone, _ = scans.filter(Q(Exists(later.filter(is_complete))) | ~is_complete & Q(Exists(later))).delete()
    return gone

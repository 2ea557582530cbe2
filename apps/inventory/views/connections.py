"""Connections: how far we trust what stands there, what the last readings said, and reading again."""

from __future__ import annotations

from typing import Any

from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.inventory import permissions, services
from apps.inventory.models import Assignment, Connection, Identity, ScopeScan, SyncRun
from apps.inventory.views.common import freshness, key_of, manager_only, try_to, user_of

MOST_RUNS = 20
MOST_HELD = 200


@require_safe
def connections(request: HttpRequest) -> HttpResponse:
    """Every connection with its state."""
    _require_viewer(request)
    rows = list(Connection.objects.annotate(accounts=Count("resources")))
    return render(request, "inventory/connections.html", {"connections": rows, "freshness": freshness(rows)})


@require_safe
def connection(request: HttpRequest, name: str) -> HttpResponse:
    """One connection: the steps to letting Gatehouse write, the readings, and what one of them said about each scope."""
    row = _load(request, name)
    runs = list(row.runs.all()[:MOST_RUNS])
    shown = _chosen(request, row, runs)
    scopes = list(shown.scopes.select_related("resource").defer("would_end_rows").order_by("pk")) if shown else []
    user = user_of(request)
    context: dict[str, Any] = {
        "connection": row,
        "runs": runs,
        "shown": shown,
        "scopes": scopes,
        "unwell": [scan for scan in scopes if scan.state != ScopeScan.State.COMPLETE],
        "freshness": freshness([row]),
        "can_manage": permissions.can_manage(user),
        "is_proposer": row.write_proposed_by_id == user.pk,
        **_progress(request, row),
    }
    if shown and shown.waits_for_confirmation:
        context["held"] = _held(shown)
    return render(request, "inventory/connection.html", context)


@require_safe
def progress(request: HttpRequest, name: str) -> HttpResponse:
    """How far the running sync is; asked every two seconds while one runs. Reloads the page when it is over."""
    row = _load(request, name)
    context = {"connection": row, **_progress(request, row)}
    response = render(request, "inventory/connection.html#progress", context)
    if not context["polls"]:
        response["HX-Refresh"] = "true"
    return response


@require_POST
def sync(request: HttpRequest, name: str) -> HttpResponse:
    """Read it now."""
    by, row = manager_only(request), _load(request, name)
    last = row.runs.order_by("-pk").values_list("pk", flat=True).first() or 0
    if try_to(request, lambda: services.request_sync(row, by=by), f"{row} is read as soon as a worker is free."):
        return redirect(f"{row.get_absolute_url()}?after={last}")
    return redirect(row)


@require_POST
def baseline(request: HttpRequest, name: str) -> HttpResponse:
    """Take what stands there as standing."""
    by, row = manager_only(request), _load(request, name)
    try_to(request, lambda: services.baseline(row, by=by), f"What stands in {row} is its baseline now.")
    return redirect(row)


@require_POST
def propose_writing(request: HttpRequest, name: str) -> HttpResponse:
    """The first of two people."""
    by, row = manager_only(request), _load(request, name)
    try_to(request, lambda: services.propose_writing(row, by=by), "Proposed. Another administrator approves it.")
    return redirect(row)


@require_POST
def approve_writing(request: HttpRequest, name: str) -> HttpResponse:
    """The second."""
    by, row = manager_only(request), _load(request, name)
    try_to(request, lambda: services.approve_writing(row, by=by), f"Gatehouse may change {row} from now on.")
    return redirect(row)


@require_POST
def pause(request: HttpRequest, name: str) -> HttpResponse:
    by, row = manager_only(request), _load(request, name)
    try_to(request, lambda: services.pause(row, by=by), f"{row} is paused: nothing is read or changed there.")
    return redirect(row)


@require_POST
def resume(request: HttpRequest, name: str) -> HttpResponse:
    by, row = manager_only(request), _load(request, name)
    try_to(request, lambda: services.resume(row, by=by), f"{row} is read again.")
    return redirect(row)


@require_POST
def confirm_drop(request: HttpRequest, name: str, run_id: int) -> HttpResponse:
    """An administrator says that what a held run would end is really gone."""
    by, row = manager_only(request), _load(request, name)
    run = get_object_or_404(row.runs, pk=run_id)
    try_to(request, lambda: services.confirm_drop(run, by=by), f"{row} is read again, and what is gone then ends.")
    return redirect(row)


def _require_viewer(request: HttpRequest) -> None:
    if not permissions.can_view_connections(user_of(request)):
        raise Http404


def _load(request: HttpRequest, name: str) -> Connection:
    _require_viewer(request)
    rows = Connection.objects.select_related("baselined_by", "write_proposed_by", "write_approved_by")
    return get_object_or_404(rows, name=name)


def _chosen(request: HttpRequest, row: Connection, runs: list[SyncRun]) -> SyncRun | None:
    """The run whose scopes are shown: the one asked for, else the last that ended."""
    asked = key_of(request.GET.get("run", ""))
    if asked is not None:
        return get_object_or_404(row.runs, pk=asked)
    return next((run for run in runs if not run.is_running), None)


def _progress(request: HttpRequest, row: Connection) -> dict[str, Any]:
    """The running sync, or one that somebody just asked for and no worker has begun. `polls`: ask again soon."""
    running = row.runs.running().exclude(pk__in=row.runs.silent(timezone.now())).first()
    after = key_of(request.GET.get("after", ""))
    is_waiting = running is None and after is not None and not row.runs.filter(pk__gt=after).exists()
    url = reverse("inventory:progress", args=[row.name])
    return {
        "running": running,
        "is_waiting": is_waiting,
        "polls": running is not None or is_waiting,
        "progress_url": f"{url}?after={after}" if is_waiting else url,
    }


def _held(run: SyncRun) -> dict[str, Any]:
    """What a held run would end, so that an administrator can judge it."""
    scans = list(run.scopes.filter(state=ScopeScan.State.HELD).select_related("resource"))
    assignments = [pk for scan in scans for pk in scan.would_end_rows.get("assignments", ())]
    leaving = [pk for scan in scans for pk in scan.would_end_rows.get("identities", ())]
    rows = Assignment.objects.filter(pk__in=assignments[:MOST_HELD]).with_names()
    return {
        "scans": scans,
        "assignments": list(rows.order_by("entitlement__resource__name", "entitlement__name", "pk")),
        "assignment_count": len(assignments),
        "identities": list(Identity.objects.filter(pk__in=leaving[:MOST_HELD]).order_by("name", "pk")),
        "identity_count": len(leaving),
    }

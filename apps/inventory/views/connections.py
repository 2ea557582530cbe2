"""Connections: how far we trust what stands there, what the last readings said, and reading again."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.core import paging
from apps.inventory import permissions, services
from apps.inventory.forms import ConnectionForm
from apps.inventory.models import Assignment, ChangeFeed, Connection, Identity, Resource, ScopeScan, SyncRun
from apps.inventory.views.common import freshness, key_of, manager_only, part, try_to, user_of

MOST_RUNS = 20
MOST_HELD = 200
MOST_NAMED = 20  # accounts
# What `SyncRun.changes` calls its tables, as people do.
TABLES = {
    "resource": "Accounts",
    "identity": "Identities",
    "principal": "Principals",
    "entitlement": "Entitlements",
    "assignment": "Assignments",
    "credential": "Credentials",
}
WORST_FIRST = (ScopeScan.State.FAILED, ScopeScan.State.HELD, ScopeScan.State.INCOMPLETE, ScopeScan.State.COMPLETE)


@require_safe
def connections(request: HttpRequest) -> HttpResponse:
    """Every connection with its state."""
    require_viewer(request)
    rows = list(Connection.objects.annotate(accounts=Count("resources")))
    context = {
        "connections": rows,
        "freshness": freshness(rows),
        "can_manage": permissions.can_manage(user_of(request)),
    }
    return render(request, "inventory/connections.html", context)


@require_safe
def connection(request: HttpRequest, name: str) -> HttpResponse:
    """One connection: the steps to letting Gatehouse write, the readings, and what one of them said about each scope."""
    row = load(request, name)
    runs = list(row.runs.all()[:MOST_RUNS])
    shown = _chosen(request, row, runs)
    user = user_of(request)
    context: dict[str, Any] = {
        "connection": row,
        "runs": runs,
        "shown": shown,
        **(_scopes(request, shown) if shown else {}),
        "tests": list(row.tests.all()[:1]),
        **(_feed(row) if row.change_queue else {}),
        "freshness": freshness([row]),
        "can_manage": permissions.can_manage(user),
        "is_proposer": row.write_proposed_by_id == user.pk,
        **_progress(request, row),
    }
    if shown:
        context["changes"] = [
            (words, shown.changes[table]) for table, words in TABLES.items() if table in shown.changes
        ]
    if shown and shown.waits_for_confirmation:
        context["held"] = _held(shown)
    return render(request, part(request, "inventory/connection.html", "scopes"), context)


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """A new connection, observe-only; its page then shows the external id that the roles must ask for."""
    by = manager_only(request)
    form = ConnectionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            row = services.add_connection(
                name=given["name"],
                region=given["region"],
                drop_percent=given["drop_percent"],
                options=form.options,
                by=by,
            )
        except services.NotPossible as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{row} is added. Deploy its roles with the external id below, then test it.")
            return redirect(row)
    return render(request, "inventory/connection_form.html", {"form": form})


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """Change what may still be changed."""
    by, row = manager_only(request), load(request, name)
    form = ConnectionForm(request.POST or None, connection=row)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            services.change_connection(
                row, region=given["region"], drop_percent=given["drop_percent"], options=form.options, by=by
            )
        except services.NotPossible as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{row} is changed.")
            return redirect(row)
    return render(request, "inventory/connection_form.html", {"form": form, "connection": row})


@require_safe
def progress(request: HttpRequest, name: str) -> HttpResponse:
    """How far the running sync is; asked every two seconds while one runs. Reloads the page when it is over."""
    row = load(request, name)
    context = {"connection": row, **_progress(request, row)}
    response = render(request, "inventory/connection.html#progress", context)
    if not context["polls"]:
        response["HX-Refresh"] = "true"
    return response


@require_POST
def sync(request: HttpRequest, name: str) -> HttpResponse:
    """Read it now."""
    by, row = manager_only(request), load(request, name)
    last = row.runs.order_by("-pk").values_list("pk", flat=True).first() or 0
    if try_to(request, lambda: services.request_sync(row, by=by), f"{row} is read as soon as a worker is free."):
        return redirect(f"{row.get_absolute_url()}?after={last}")
    return redirect(row)


@require_POST
def baseline(request: HttpRequest, name: str) -> HttpResponse:
    """Take what stands there as standing."""
    by, row = manager_only(request), load(request, name)
    try_to(request, lambda: services.baseline(row, by=by), f"What stands in {row} is its baseline now.")
    return redirect(row)


@require_POST
def propose_writing(request: HttpRequest, name: str) -> HttpResponse:
    """The first of two people."""
    by, row = manager_only(request), load(request, name)
    try_to(request, lambda: services.propose_writing(row, by=by), "Proposed. Another administrator approves it.")
    return redirect(row)


@require_POST
def approve_writing(request: HttpRequest, name: str) -> HttpResponse:
    """The second."""
    by, row = manager_only(request), load(request, name)
    try_to(request, lambda: services.approve_writing(row, by=by), f"Gatehouse may change {row} from now on.")
    return redirect(row)


@require_POST
def pause(request: HttpRequest, name: str) -> HttpResponse:
    by, row = manager_only(request), load(request, name)
    try_to(request, lambda: services.pause(row, by=by), f"{row} is paused: nothing is read or changed there.")
    return redirect(row)


@require_POST
def resume(request: HttpRequest, name: str) -> HttpResponse:
    by, row = manager_only(request), load(request, name)
    try_to(request, lambda: services.resume(row, by=by), f"{row} is read again.")
    return redirect(row)


@require_POST
def confirm_drop(request: HttpRequest, name: str, run_id: int) -> HttpResponse:
    """An administrator says that what a held run would end is really gone."""
    by, row = manager_only(request), load(request, name)
    run = get_object_or_404(row.runs, pk=run_id)
    try_to(request, lambda: services.confirm_drop(run, by=by), f"{row} is read again, and what is gone then ends.")
    return redirect(row)


def require_viewer(request: HttpRequest) -> None:
    if not permissions.can_view_connections(user_of(request)):
        raise Http404


def load(request: HttpRequest, name: str) -> Connection:
    require_viewer(request)
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
    running = row.runs.alive(timezone.now()).first()
    after = key_of(request.GET.get("after", ""))
    is_waiting = running is None and after is not None and not row.runs.filter(pk__gt=after).exists()
    url = reverse("inventory:progress", args=[row.name])
    return {
        "running": running,
        "is_waiting": is_waiting,
        "polls": running is not None or is_waiting,
        "progress_url": f"{url}?after={after}" if is_waiting else url,
    }


def _feed(row: Connection) -> dict[str, Any]:
    """What is heard of changes there."""
    feed = ChangeFeed.objects.filter(connection=row).first()
    is_heard = feed is not None and feed.is_heard(timezone.now())
    return {
        "feed": feed,
        "feed_is_heard": is_heard,
        "marks_waiting": row.marks.unread().count(),
        "full_every": row.full_reading_every(is_heard),
    }


def _scopes(request: HttpRequest, run: SyncRun) -> dict[str, Any]:
    """A page of what a run read, whatever went wrong first."""
    scopes = run.scopes.all()
    counts = dict(scopes.order_by().values_list("state").annotate(Count("pk")))
    if request.GET.get("state") in ScopeScan.State.values:
        scopes = scopes.filter(state=request.GET["state"])
    query = paging.searched(request.GET)
    if query:
        scopes = scopes.filter(Q(resource__name__icontains=query) | Q(resource__external_id__startswith=query))
    worst_first = Case(
        *(When(state=state, then=Value(place)) for place, state in enumerate(WORST_FIRST)), output_field=IntegerField()
    )
    found = scopes.select_related("resource").defer("would_end_rows").annotate(place=worst_first)
    return {
        "scopes": paging.page(found, request.GET, order=("place", "pk")),
        "scope_states": [
            (state.value, f"{state.label} ({counts[state]:,})") for state in WORST_FIRST if state in counts
        ],
        "scope_count": sum(counts.values()),
    }


def _held(run: SyncRun) -> dict[str, Any]:
    """What a held run would end, so that an administrator can judge it."""
    scans = list(run.scopes.filter(state=ScopeScan.State.HELD).select_related("resource"))
    assignments = [pk for scan in scans for pk in scan.would_end_rows.get("assignments", ())]
    leaving = [pk for scan in scans for pk in scan.would_end_rows.get("identities", ())]
    accounts = {pk for scan in scans for pk in scan.would_end_rows.get("accounts", ())}
    rows = Assignment.objects.filter(pk__in=assignments[:MOST_HELD]).with_names()
    return {
        "scans": scans[:MOST_NAMED],
        "scan_count": len(scans),
        "accounts": list(Resource.objects.filter(pk__in=accounts).order_by("name", "pk")[:MOST_NAMED]),
        "account_count": len(accounts),
        "assignments": list(rows.order_by("entitlement__resource__name", "entitlement__name", "pk")),
        "assignment_count": len(assignments),
        "identities": list(Identity.objects.filter(pk__in=leaving[:MOST_HELD]).order_by("name", "pk")),
        "identity_count": len(leaving),
    }

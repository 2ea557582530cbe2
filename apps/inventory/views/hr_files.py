"""The people team's file: look at what it would change, then apply exactly that."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Func, JSONField, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from apps.inventory.forms import HrFileForm
from apps.inventory.models import Connection, HrFile, Identity
from apps.inventory.services import OrgChartError, hr_files
from apps.inventory.views.common import manager_only, try_to, user_of

MOST_SHOWN = 200
TITLES = {"last_day": "Last day", "manager": "Manager", "department": "Department", "title": "Title"}


@require_http_methods(["GET", "POST"])
def hr_file(request: HttpRequest, name: str) -> HttpResponse:
    """Upload a file, and see what it would change. Nothing changes before somebody applies it."""
    by = manager_only(request)
    connection = get_object_or_404(Connection, name=name)
    form = HrFileForm(request.POST or None, request.FILES or None)
    problems: list[str] = []
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            hr_files.look_at(connection, file.chunks(), name=file.name, by=by)
        except OrgChartError as error:
            problems = str(error).splitlines()
        else:
            return redirect("inventory:hr_file", name=connection.name)
    status = 422 if problems or form.errors else 200
    context = {"problems": problems, **_page(request, connection, form)}
    return render(request, "inventory/hr_file.html", context, status=status)


@require_POST
def apply_hr_file(request: HttpRequest, name: str, pk: int) -> HttpResponse:
    """Do what was looked at."""
    by = manager_only(request)
    file = _load(name, pk)
    done = f"{file.name} is applied: {file.counts['changed']:,} people changed."
    try_to(request, lambda: hr_files.apply(file, by=by), done)
    return redirect("inventory:hr_file", name=name)


@require_POST
def discard_hr_file(request: HttpRequest, name: str, pk: int) -> HttpResponse:
    """Throw away what was looked at."""
    by = manager_only(request)
    file = _load(name, pk)
    try_to(request, lambda: hr_files.discard(file, by=by), f"{file.name} is thrown away. Nothing was changed.")
    return redirect("inventory:hr_file", name=name)


def _page(request: HttpRequest, connection: Connection, form: HrFileForm) -> dict[str, Any]:
    files = connection.hr_files.select_related("looked_by", "applied_by")
    waiting = files.open().defer("changes").first()
    entries = [entry for entry in _first_changes(waiting) if entry["facts"]] if waiting else []
    people = Identity.objects.in_bulk([entry["identity"] for entry in entries])
    rows = [
        (people.get(entry["identity"]), entry, [(TITLES[fact], *pair) for fact, pair in entry["facts"].items()])
        for entry in entries
    ]
    return {
        "connection": connection,
        "form": form,
        "file": waiting,
        "rows": rows,
        "is_mine": waiting is not None and waiting.looked_by_id == user_of(request).pk,
        "applied": list(files.exclude(applied_at=None).defer("changes", "joiners")[:10]),
    }


def _first_changes(file: HrFile) -> list[dict[str, Any]]:
    """Those that are shown: there may be as many as people, so the rest stays in the database."""
    path = Value(f"$[0 to {MOST_SHOWN - 1}]")
    first = Func(
        F("changes"),
        path,
        function="jsonb_path_query_array",
        template="%(function)s(%(expressions)s::jsonpath)",
        output_field=JSONField(),
    )
    return HrFile.objects.filter(pk=file.pk).values_list(first, flat=True).get()


def _load(name: str, pk: int) -> HrFile:
    return get_object_or_404(HrFile.objects.select_related("connection").defer("changes"), pk=pk, connection__name=name)

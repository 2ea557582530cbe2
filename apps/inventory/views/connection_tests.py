"""Testing a connection: asking for it, watching it, and what is missing where."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from apps.inventory import permissions, services
from apps.inventory.models import Connection, ConnectionTest
from apps.inventory.views.common import manager_only, try_to, user_of
from apps.inventory.views.connections import load


@require_POST
def test(request: HttpRequest, name: str) -> HttpResponse:
    """Ask a worker to try every right."""
    by, row = manager_only(request), load(request, name)
    try_to(request, lambda: services.request_test(row, by=by), f"{row} is tested as soon as a worker is free.")
    latest = row.tests.first()
    return redirect(_url(row, latest)) if latest else redirect(row)


@require_safe
def result(request: HttpRequest, name: str, pk: int) -> HttpResponse:
    """What a test found: what is missing first, then every line of every place."""
    row = load(request, name)
    found = get_object_or_404(row.tests.select_related("asked_by"), pk=pk)
    return render(request, "inventory/connection_test.html", _context(request, row, found))


@require_safe
def progress(request: HttpRequest, name: str, pk: int) -> HttpResponse:
    """How far it is; asked every two seconds while it runs. Reloads the page when it is over."""
    row = load(request, name)
    found = get_object_or_404(row.tests, pk=pk)
    response = render(request, "inventory/connection_test.html#progress", {"connection": row, "test": found})
    if not found.is_open:
        response["HX-Refresh"] = "true"
    return response


def _context(request: HttpRequest, row: Connection, found: ConnectionTest) -> dict[str, Any]:
    lines = found.findings
    wrong = [line for line in lines if line["state"] != "ok"]
    places = [
        (place, list(mine)) for place, mine in groupby(lines, key=lambda line: (line["account_id"], line["name"]))
    ]
    return {
        "connection": row,
        "test": found,
        "wrong": wrong,
        "statements": _statements(row, wrong),
        "places": [
            {"name": name, "account_id": account_id, "lines": mine, "ok": sum(line["state"] == "ok" for line in mine)}
            for (account_id, name), mine in places
        ],
        "can_manage": permissions.can_manage(user_of(request)),
    }


def _statements(row: Connection, wrong: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is missing, as statements to copy: the same ones for every account that lacks the same."""
    by_place: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in wrong:
        if line["statement"]:
            by_place.setdefault((line["account_id"], line["name"]), []).append(line)
    holders = {"sts": "what the worker runs as", "sqs": row.config["feed_role"]}
    alike: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for place, lines in by_place.items():
        actions = sorted(line["action"] for line in lines)
        resource = lines[0]["statement"]["Resource"]
        text = json.dumps({"Effect": "Allow", "Action": actions, "Resource": resource}, indent=2)
        role = holders.get(lines[0]["action"].partition(":")[0], row.config["reader_role"])
        alike.setdefault((text, role), []).append(place)
    return [
        {
            "text": text,
            "role": role,
            "name": places[0][1] if len(places) == 1 else f"{len(places)} accounts",
            "account_ids": [account_id for account_id, _ in places if account_id],
        }
        for (text, role), places in alike.items()
    ]


def _url(row: Connection, found: ConnectionTest) -> str:
    return reverse("inventory:connection_test", args=[row.name, found.pk])

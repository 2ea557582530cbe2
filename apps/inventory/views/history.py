"""Who held what on a day, and what changed between two: a tab of a person, an entitlement, an account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any, NamedTuple

from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.core import paging, sheets
from apps.inventory import extensions, history, permissions
from apps.inventory.extensions import Reason
from apps.inventory.forms import HistoryForm
from apps.inventory.history import Day, Found, Held, Looked
from apps.inventory.models import Connection
from apps.inventory.statements import BEGAN, ENDED, STAYED, Subject
from apps.inventory.views.common import NOT_BASELINED, address, reason_of, risk, user_of, why

LAST_PAGE = 100_000
GAP = timedelta(hours=36)  # readings further apart than this are worth a word


class Row(NamedTuple):
    """One line of the table. What is the same in many lines is written once: badges, and why it is there."""

    held: Held
    reason: Reason
    why: str
    risk: str
    who_url: str
    what_url: str
    via_url: str


@dataclass(frozen=True)
class Seen:
    """A day, and what Gatehouse saw around it."""

    day: Day
    looked: Looked

    @property
    def is_known(self) -> bool:
        return self.looked.had_begun(self.day)

    @property
    def is_between_readings(self) -> bool:
        """Nothing was read completely for long around that day, so what came and went meanwhile is not known."""
        before, after = self.looked.before, self.looked.after
        return (
            self.is_known and before is not None and (after or self.day.end) - before > GAP and before < self.day.start
        )


@require_safe
def of_identity(request: HttpRequest, pk: int) -> HttpResponseBase:
    """What a person or machine held."""
    visible = permissions.visible_identities(user_of(request))
    return _history(request, get_object_or_404(visible.select_related("connection"), pk=pk), "identities")


@require_safe
def of_entitlement(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Who held an entitlement; for those who may see who holds it."""
    visible = permissions.visible_entitlements(user_of(request)).select_related("connection", "resource", "group")
    row = get_object_or_404(visible, pk=pk)
    if not permissions.can_view_holders(user_of(request), row):
        raise Http404
    return _history(request, row, "entitlements")


@require_safe
def of_account(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Who held what in an account; for those who may see what is inside."""
    visible = permissions.visible_resources(user_of(request))
    row = get_object_or_404(visible.select_related("connection"), pk=pk)
    if not permissions.can_view_contents(user_of(request), row):
        raise Http404
    return _history(request, row, "accounts")


def _history(request: HttpRequest, row: Subject, listed: str) -> HttpResponseBase:
    form = HistoryForm({"on": history.today().isoformat()} | request.GET.dict())
    context: dict[str, Any] = {
        "row": row,
        "list": listed,
        "form": form,
        "tabs": extensions.tabs_of(request, row),
        "sees_all": permissions.can_see_everything(user_of(request)),
        "quick": _quick(history.today()),
        "seen": None,
        "before": None,
        "compares": False,  # only days of which both are known
    }
    if not form.is_valid():
        return render(request, "inventory/history.html", context, status=422)
    on, since = Day(form.cleaned_data["on"]), form.cleaned_data["since"]
    seen = Seen(on, history.looked(row.connection, on))
    if request.GET.get("as") == "csv" and seen.is_known:
        return _as_csv(row, seen)
    number = paging.number_of(request.GET, last=LAST_PAGE)
    start = number * history.SIZE
    change = request.GET["show"] if request.GET.get("show") in (ENDED, STAYED) else BEGAN
    if since:
        context["before"] = Seen(Day(since), history.looked(row.connection, Day(since)))
        context["compares"] = context["before"].is_known
    if context["compares"]:
        found = history.compared(row, Day(since), on, change=change, start=start)
        shown = found.counts[change]
    else:
        found = history.held(row, on, start=start)
        shown = found.total
    context |= {
        "seen": seen,
        "found": found,
        "change": change,
        "changes": [(name, name.title(), found.counts.get(name, 0)) for name in (BEGAN, ENDED, STAYED)],
        "page": paging.numbered(
            _rows(found, row.connection, sees_all=context["sees_all"]),
            request.GET,
            number,
            has_next=(number + 1) * history.SIZE < shown,
        ),
        "shown": shown,
    }
    return render(request, "inventory/history.html", context)


def _rows(found: Found, connection: Connection, *, sees_all: bool) -> list[Row]:
    """Each path with why it was there, as far as anybody knows."""
    reasons = extensions.reasons_for({fact.pk: fact for held in found.rows for fact in held.facts()}.values())
    told, rated = cache(why), cache(risk)
    person, entitlement = address("inventory:identity"), address("inventory:entitlement")
    rows = []
    for held in found.rows:
        reason = _reason(held, reasons, connection)
        rows.append(
            Row(
                held,
                reason,
                told(reason),
                rated(held.privilege, held.can_escalate, held.is_sensitive_read),
                person(held.identity_id),
                entitlement(held.entitlement_id) if sees_all or not held.is_ours else "",
                entitlement(held.via_entitlement_id),
            )
        )
    return rows


def _reason(held: Held, reasons: dict[int, Reason], connection: Connection) -> Reason:
    """Like for what is held now; but what ended before the baseline was never anybody's to decide about."""
    baselined_at = connection.baselined_at
    reason = reason_of(held, reasons, is_baselined=baselined_at is not None)
    if baselined_at and held.until and held.until <= baselined_at and held.removable_id not in reasons:
        return reason if held.is_ours else NOT_BASELINED
    return reason


def _as_csv(row: Subject, seen: Seen) -> StreamingHttpResponse:
    lines = sheets.csv_lines(history.COLUMNS, history.records(row, seen.day, read_at=seen.looked.before))
    name = f"held-{row._meta.model_name}-{row.pk}-{seen.day.date.isoformat()}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


def _quick(today: date) -> list[tuple[str, str]]:
    """Days that people ask for: (in words, as the address wants it)."""
    quarter = today.replace(month=today.month - (today.month - 1) % 3, day=1) - timedelta(days=1)
    days = {
        "Today": today,
        "A week ago": today - timedelta(days=7),
        "A month ago": today - timedelta(days=30),
        "Last quarter's end": quarter,
        "A year ago": today - timedelta(days=365),
    }
    return [(words, day.isoformat()) for words, day in days.items()]

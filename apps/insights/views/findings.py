"""Pages about what does not look right, and what people decide about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_POST, require_safe

from apps.audit.models import AuditEvent, ref
from apps.core import paging
from apps.core.refusals import NotPossible
from apps.insights import permissions, services
from apps.insights.detectors import ADVICE, CLOSE_AT_ONCE
from apps.insights.forms import AcceptForm, ResolveForm
from apps.insights.models import Finding, FindingQuerySet, Inspection, Severity
from apps.inventory.models import Resource
from apps.inventory.permissions import can_look_up, can_see_everything, can_view_identity, identity_of
from apps.inventory.views.common import connections_of, freshness
from apps.users.models import User

INSTANTS = {"created", "last used", "password last used", "key last used", "made", "since"}  # of what detectors say
SHOWS = [("accepted", "Accepted"), ("resolved", "Said to be done"), ("closed", "Gone")]


@require_safe
def findings(request: HttpRequest) -> HttpResponse:
    """What is to be done, the worst first."""
    user = _visitor(request)
    visible, now = permissions.visible_findings(user), timezone.now()
    show = request.GET.get("show", "")
    rows = _shown(visible, show, now)
    query = paging.searched(request.GET)
    if query:
        # asked first, so that both halves are looks into indexes of one table
        accounts = Resource.objects.filter(name__icontains=query).values_list("pk", flat=True)
        rows = rows.filter(Q(name__icontains=query) | Q(resource__in=[*accounts]))
    if request.GET.get("kind") in Finding.Kind.values:
        rows = rows.filter(kind=request.GET["kind"])
    if request.GET.get("severity", "") in {*map(str, Severity.values)}:
        rows = rows.filter(severity=request.GET["severity"])
    me = identity_of(user)
    if request.GET.get("mine") and me:
        rows = rows.filter(owner=me)
    order = ("-closed_at", "-pk") if show == "closed" else ("-severity", "pk")
    context = {
        "page": paging.page(rows.listed(), request.GET, order=order),
        "counts": _counts(visible.to_do(now)),
        "kinds": Finding.Kind.choices,
        "severities": Severity.choices,
        "shows": SHOWS,
        "show": show,
        "freshness": freshness(connections_of(user)),
        "sees_all": can_see_everything(user),
        "inspections": _last_inspections() if permissions.can_see_insights(user) else [],
    }
    template = "insights/findings.html"
    return render(request, f"{template}#rows" if request.htmx else template, context)  # type: ignore[attr-defined]


def _shown(visible: FindingQuerySet, show: str, now: Any) -> FindingQuerySet:
    """The rows of one of the lists."""
    lists = {
        "accepted": visible.accepted(now),
        "resolved": visible.open().exclude(resolved_at=None),
        "closed": visible.exclude(closed_at=None),
    }
    return lists.get(show, visible.to_do(now))


def _counts(to_do: FindingQuerySet) -> list[tuple[Severity, int]]:
    """How many of each severity, the worst first; none is a number too."""
    found = dict(to_do.order_by().values_list("severity").annotate(Count("pk")))
    return [(severity, found.get(severity, 0)) for severity in Severity]


def _last_inspections() -> list[Inspection]:
    last = Inspection.objects.order_by("connection_id", "-pk").distinct("connection_id")
    return list(last.select_related("connection"))


@require_safe
def finding(request: HttpRequest, pk: int) -> HttpResponse:
    """One finding: what it is about, the evidence, what can be done, and what people decided."""
    return _page(request, _load(request, pk))


@require_POST
def accept(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it stay until a day, with a reason."""
    row = _load(request, pk)
    if not permissions.can_accept(_visitor(request), row):
        raise Http404
    form = AcceptForm(request.POST)
    if not form.is_valid():
        return _page(request, row, accept_form=form, status=422)
    until = timezone.now() + timedelta(days=form.cleaned_data["days"])
    reason = form.cleaned_data["reason"]
    return _try(request, lambda: services.accept(row, by=request.user, until=until, reason=reason), row)


@require_POST
def resolve(request: HttpRequest, pk: int) -> HttpResponse:
    """Say that it is done."""
    row = _load(request, pk)
    if not permissions.can_resolve(_visitor(request), row):
        raise Http404
    form = ResolveForm(request.POST)
    if not form.is_valid():
        return _page(request, row, resolve_form=form, status=422)
    reason = form.cleaned_data["reason"]
    return _try(request, lambda: services.resolve(row, by=request.user, reason=reason), row)


def _try(request: HttpRequest, decide: Callable[[], object], row: Finding) -> HttpResponse:
    try:
        decide()
    except NotPossible as refusal:
        messages.error(request, str(refusal))
    return redirect(row)


def _page(request: HttpRequest, row: Finding, status: int = 200, **forms: Any) -> HttpResponse:
    user = _visitor(request)
    context = {
        "finding": row,
        "facts": _facts(row.evidence),
        "freshness": freshness([row.connection]),
        "advice": ADVICE[Finding.Kind(row.kind)],
        "closes_at_once": row.kind in CLOSE_AT_ONCE,
        "events": AuditEvent.objects.about(ref(row)).order_by("pk")[:100],
        "accept_form": forms.get("accept_form", AcceptForm(auto_id="accept_%s")),
        "resolve_form": forms.get("resolve_form", ResolveForm(auto_id="resolve_%s")),
        "sees_all": can_see_everything(user),
        "can_open": row.identity and can_view_identity(user, row.identity),
        "can_accept": row.is_open and permissions.can_accept(user, row),
        "can_resolve": row.is_open and permissions.can_resolve(user, row),
    }
    return render(request, "insights/finding.html", context, status=status)


def _facts(evidence: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the evidence says, instants as such and what is wrong before its details: JSON keeps neither."""
    said = {name: fact for name, fact in evidence.items() if fact is not None and fact != ""}
    said |= {name: parse_datetime(said[name]) or said[name] for name in INSTANTS & said.keys()}
    return sorted(said.items(), key=lambda one: (one[0] != "what is wrong", one[0] == "and also"))


def _load(request: HttpRequest, pk: int) -> Finding:
    return get_object_or_404(permissions.visible_findings(_visitor(request)).with_names(), pk=pk)


def _visitor(request: HttpRequest) -> User:
    """Somebody who may look things up; for everybody else there is no such page."""
    user = request.user
    if not isinstance(user, User) or not can_look_up(user):
        raise Http404
    return user

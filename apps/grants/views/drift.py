"""Pages about differences between grants and AWS: what differs, what was done about it, and letting the brake go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.audit.models import AuditEvent, ref
from apps.core import paging
from apps.grants import outside, permissions
from apps.grants.forms import AcceptForm
from apps.grants.models import Drift, Home, Reconciliation
from apps.grants.services import NotPossible
from apps.grants.services import drift as deciding
from apps.inventory.models import Connection
from apps.users.models import User

MOST_HELD = 200  # differences shown of one held comparison

# What a person does about a difference that Gatehouse leaves alone.
ADVICE = {
    Drift.Kind.ROGUE: "Nobody here made it. Find out who did, and delete it in AWS.",
    Drift.Kind.TAMPERED: "It denies more than was decided. The next write of a grant there puts it right.",
    Drift.Kind.UNINTENDED: "Remove it in AWS, adopt it in a review, or offer it for a time.",
}


@require_safe
def every(request: HttpRequest) -> HttpResponse:
    """What differs now, what waits for two people, and when each connection was compared."""
    user = _overseer(request)
    kind, which = request.GET.get("kind", ""), request.GET.get("show", "open")
    rows = Drift.objects.with_names()
    held = _held_runs()
    rows = rows.exclude(closed_at=None) if which == "closed" else rows.open().exclude(held_in__in=held)
    if kind in Drift.Kind.values:
        rows = rows.filter(kind=kind)
    order = ("-closed_at", "-pk") if which == "closed" else ("-is_critical", "-pk")
    context = {
        "page": paging.page(rows, request.GET, order=order),
        "kinds": Drift.Kind.choices,
        "every": timedelta(minutes=settings.RECONCILE_EVERY_MINUTES),
        "empty_title": "Nothing else differs" if held or kind else "AWS shows what was decided",
        "shows": [("closed", "Gone")],
        "critical": Drift.objects.open().critical().unaccepted(timezone.now()).count(),
        "held": [_Held.of(run, user) for run in held],
        "connections": _connections(),
        "doubted": Home.objects.here().filter(trusted_at=None).first(),
    }
    return render(request, "grants/drift.html#rows" if request.htmx else "grants/drift.html", context)  # type: ignore[attr-defined]


@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One difference with its evidence, and what became of it."""
    user = _overseer(request)
    row = get_object_or_404(Drift.objects.with_names(), pk=pk)
    return _detail(request, user, row, AcceptForm())


@require_POST
def accept(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it stay until a day, with a reason."""
    user = _administrator(request)
    row = get_object_or_404(Drift.objects.with_names(), pk=pk)
    form = AcceptForm(request.POST)
    if not form.is_valid():
        return _detail(request, user, row, form, status=422)
    until = timezone.now() + timedelta(days=form.cleaned_data["days"])
    try:
        deciding.accept(row, by=user, until=until, reason=form.cleaned_data["reason"])
    except NotPossible as refusal:
        messages.error(request, str(refusal))
    return redirect("drift:detail", pk=pk)


@require_POST
def propose_release(request: HttpRequest, pk: int) -> HttpResponse:
    """The first of two says that what the brake holds is real."""
    return _decide_held(request, pk, deciding.propose_release)


@require_POST
def release(request: HttpRequest, pk: int) -> HttpResponse:
    """The second lets it go."""
    return _decide_held(request, pk, deciding.release)


def _decide_held(request: HttpRequest, pk: int, verb: Callable[..., Reconciliation]) -> HttpResponse:
    user = _administrator(request)
    run = get_object_or_404(Reconciliation, pk=pk)
    try:
        verb(run, by=user)
    except NotPossible as refusal:
        messages.error(request, str(refusal))
    return redirect("drift:every")


def _detail(request: HttpRequest, user: User, row: Drift, form: AcceptForm, status: int = 200) -> HttpResponse:
    context = {
        "drift": row,
        "events": AuditEvent.objects.about(ref(row)).order_by("pk")[:100],
        "advice": "" if row.is_repairable else ADVICE.get(Drift.Kind(row.kind), ""),
        "author": outside.author_of(row.assignment) if row.assignment else None,
        "form": form if row.is_open and permissions.can_accept(user) else None,
    }
    return render(request, "grants/drift_detail.html", context, status=status)


@dataclass(frozen=True)
class _Held:
    """A comparison that the brake stopped, and what this user can do about it."""

    run: Reconciliation
    rows: list[Drift]
    count: int
    can_propose: bool
    can_release: bool

    @classmethod
    def of(cls, run: Reconciliation, user: User) -> _Held:
        rows = Drift.objects.open().filter(held_in=run).with_names().order_by("pk")
        return cls(
            run=run,
            rows=list(rows[:MOST_HELD]),
            count=rows.count(),
            can_propose=permissions.can_propose_release(user, run),
            can_release=permissions.can_let_go(user, run),
        )


def _held_runs() -> list[Reconciliation]:
    return list(Reconciliation.objects.held().select_related("connection", "proposed_by").order_by("pk"))


def _connections() -> list[Connection]:
    last = Reconciliation.objects.order_by("connection_id", "-pk").distinct("connection_id")
    known = Connection.objects.exclude(baselined_at=None)
    return list(known.prefetch_related(Prefetch("reconciliations", queryset=last, to_attr="last_compared")))


def _overseer(request: HttpRequest) -> User:
    """An administrator or auditor; for everybody else there is no such page."""
    user = request.user
    if not isinstance(user, User) or not permissions.can_see_drift(user):
        raise Http404
    return user


def _administrator(request: HttpRequest) -> User:
    user = _overseer(request)
    if not permissions.can_accept(user):
        raise Http404
    return user

"""Emergency stops: what would happen, ordering one, how far AWS has followed, and lifting it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, F, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging
from apps.grants import lifting, permissions
from apps.grants.forms import OrderForm, StopForm
from apps.grants.models import EndReason, Grant, Scope, State, Stop
from apps.grants.services import NotPossible, stops
from apps.users import passkeys, stepup
from apps.users.models import User

DRAFT = "grants.stop"  # in the session: what was typed before a step-up
PARTS = ("#live", "#lifting")  # of its page, which are asked for by themselves
FRESH = timedelta(minutes=15)  # how fresh the passkey must be
MOST_WRITES = 500  # rows on a page; those that are not read back come first


@require_safe
def every(request: HttpRequest) -> HttpResponse:
    """The stops in force, those that were lifted, and for administrators what another one would do."""
    user = _overseer(request)
    asked = StopForm(request.GET if "scope" in request.GET else None)
    context: dict[str, Any] = {
        "in_force": list(Stop.objects.in_force().with_names()),
        "past": paging.page(Stop.objects.exclude(lifted_at=None).with_names(), request.GET, order=("-pk",), size=25),
        "can_stop": permissions.can_stop(user),
        "form": asked,
    }
    if context["can_stop"] and asked.is_bound and asked.is_decided:
        scope = Scope(asked.cleaned_data["scope"])
        draft = request.session.pop(DRAFT, {})
        is_mine = draft.get("page") == request.get_full_path()
        context["foreseen"] = stops.foresee(scope=scope, subject=asked.subject)
        context["stop"] = stops.imagine(scope=scope, subject=asked.subject)
        context["order_form"] = OrderForm(initial=draft if is_mine else {})
    return render(request, "grants/stops.html", context)


@require_POST
def order(request: HttpRequest) -> HttpResponse:
    """Stop it, with a fresh passkey."""
    user = _administrator(request)
    asked, form = StopForm(request.POST), OrderForm(request.POST)
    if not asked.is_decided:
        raise Http404
    scope = Scope(asked.cleaned_data["scope"])
    page = stops.imagine(scope=scope, subject=asked.subject).preview_url
    if not form.is_valid():
        messages.error(request, "Say in a few words why. Whoever finds this stop was not there.")
        return redirect(page)
    if not stepup.has_fresh(request, within=FRESH, privileged=True):
        request.session[DRAFT] = {"page": page, **form.cleaned_data}
        return stepup.ask(request, privileged=True)
    try:
        stop = stops.order(
            scope=scope,
            subject=asked.subject,
            by=user,
            step_up=stepup.proof(request, within=FRESH, privileged=True),
            **form.cleaned_data,
        )
    except NotPossible as refusal:
        messages.error(request, str(refusal))
        return redirect(page)
    return redirect(stop)


@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One stop: what it ended, where AWS was read back to deny it, and where not yet."""
    user = _overseer(request)
    stop = _load(pk)
    writes = list(stop.writes.with_names().order_by(F("read_at").asc(nulls_first=True), "pk")[:MOST_WRITES])
    ended = Grant.objects.filter(stop.covers(), end_reason=EndReason.EMERGENCY, revoking_at__gte=stop.ordered_at)
    counts = ended.aggregate(
        ended=Count("pk"),
        denied=Count("pk", filter=Q(denied_at__isnull=False) | Q(state=State.REVOKED)),
        gone=Count("pk", filter=Q(state=State.REVOKED)),
    )
    can_lift = permissions.can_lift(user, stop) and not stop.is_lift_asked
    can_propose = can_lift and not stop.is_lift_proposed
    can_lift = can_lift and stop.is_lift_proposed and permissions.can_lift_after(user, stop)
    foreseen = stops.foresee(scope=Scope(stop.scope), subject=stop.subject)
    context = {
        "stop": stop,
        "now": timezone.now(),
        "writes": writes,
        "total": stop.writes.count(),
        "read": stop.writes.exclude(read_at=None).count(),
        "unsettled": stop.writes.unsettled().count(),
        "counts": counts,
        "unproven": ended.exclude(state=State.REVOKED).with_names()[:50],
        "standing": foreseen.standing,
        "survives": stops.survivals(ended),
        "looks_again": stop.writes.unsettled().exists() or counts["gone"] < counts["ended"],
        "can_propose": can_propose,
        "can_lift": can_lift,
        "asked": lifting.ask(stop, user) if can_propose or can_lift else None,
        "waiting": passkeys.waiting(user),
    }
    part = f"#{request.htmx.target or 'live'}" if request.htmx else ""  # type: ignore[attr-defined]
    return render(request, f"grants/stop.html{part if part in PARTS else ''}", context)


@require_POST
def propose_lift(request: HttpRequest, pk: int) -> HttpResponse:
    """The first of two, whose passkey signed it in the browser."""
    user, stop = _administrator(request), _load(pk)
    reason, signed = request.POST.get("reason", ""), lifting.said_in(request.POST)
    return _do(request, stop, lambda: stops.propose_lift(stop, by=user, reason=reason, signed=signed))


@require_POST
def lift(request: HttpRequest, pk: int) -> HttpResponse:
    """The second, whose passkey signed it too."""
    user, stop = _administrator(request), _load(pk)
    signed = lifting.said_in(request.POST)
    return _do(request, stop, lambda: stops.lift(stop, by=user, signed=signed))


def _do(request: HttpRequest, stop: Stop, act: Callable[[], object]) -> HttpResponse:
    try:
        act()
    except NotPossible as refusal:
        messages.error(request, str(refusal))
    return redirect(stop)


def _load(pk: int) -> Stop:
    stop = Stop.objects.with_names().filter(pk=pk).first()
    if stop is None:
        raise Http404
    return stop


def _overseer(request: HttpRequest) -> User:
    """Whoever may look at everything; for everybody else there is no such page."""
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    if not permissions.can_see_all(request.user):
        raise Http404
    return request.user


def _administrator(request: HttpRequest) -> User:
    user = _overseer(request)
    if not permissions.can_stop(user):
        raise Http404
    return user

"""One request: its state, confirming it, approving or denying it, taking it back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.access import permissions
from apps.access.forms import DecideForm
from apps.access.models import AccessRequest
from apps.access.services import requests, signing
from apps.access.services.offers import NotAllowed
from apps.access.views.people import place_of, user_of
from apps.core import paging
from apps.core.lifecycle import Conflict
from apps.grants.services import NotPossible
from apps.users import passkeys, stepup

DRAFT = "access.decision"  # in the session: what was typed before a step-up
FRESH = timedelta(minutes=15)  # how fresh a step-up must be to confirm or approve


@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One request. Approvers decide here, the requester confirms here or takes it back."""
    asked = _load(request, pk)
    user = user_of(request)
    place = place_of(request, within=FRESH)
    draft = request.session.pop(DRAFT, {}) if not request.htmx else {}  # type: ignore[attr-defined]
    can_decide = asked.state == "waiting" and permissions.can_decide(user, asked)
    signs = can_decide and asked.entitlement.is_privileged
    context = {
        "asked": asked,
        "reason": draft.get("reason", "") if draft.get("request") == asked.pk else "",
        "can_decide": can_decide,
        "signs": signs,
        "passkey": signing.options(asked, user) if signs else {},
        "waiting": passkeys.waiting(user) if signs else [],
        "can_confirm": asked.state == "confirming" and permissions.can_confirm(user, asked),
        "can_withdraw": asked.is_undecided and permissions.can_withdraw(user, asked),
        "is_elsewhere": place.is_elsewhere(asked),
        "approvers": asked.approvers.all(),
    }
    return render(request, "access/detail.html#live" if request.htmx else "access/detail.html", context)  # type: ignore[attr-defined]


@require_safe
def approvals(request: HttpRequest) -> HttpResponse:
    """What waits for my yes or no, and what I decided."""
    user = user_of(request)
    waiting = AccessRequest.objects.waiting_for(user).with_names().order_by("asked_at")[:50]
    decided = AccessRequest.objects.filter(approvals__user=user).with_names()
    context = {"waiting": list(waiting), "decided": paging.page(decided, request.GET, order=("-pk",), size=25)}
    return render(request, "access/approvals.html", context)


@require_POST
def confirm(request: HttpRequest, pk: int) -> HttpResponse:
    """The requester's own confirmation, out of band."""
    asked = _load(request, pk)
    if not permissions.can_confirm(user_of(request), asked):
        raise Http404
    needs_passkey = not place_of(request, within=FRESH).is_elsewhere(asked)
    place = place_of(request, within=FRESH, privileged=needs_passkey)
    if not place.stepped_up_since(asked.asked_at):
        return stepup.ask(request, privileged=needs_passkey)
    return _do(request, asked, lambda: requests.confirm(asked, by=user_of(request), place=place))


@require_POST
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    """Approve or deny. A yes takes a fresh step-up; for privileged access the passkey signs the request itself, which comes
    with the form."""
    asked = _load(request, pk)
    user = user_of(request)
    form = DecideForm(request.POST)
    if not permissions.can_decide(user, asked) or not form.is_valid():
        raise Http404
    reason = form.cleaned_data["reason"]
    if form.cleaned_data["choice"] == "deny":
        return _do(request, asked, lambda: requests.deny(asked, by=user, reason=reason))
    if not asked.entitlement.is_privileged and not stepup.has_fresh(request, within=FRESH, privileged=False):
        request.session[DRAFT] = {"request": asked.pk, "reason": reason}
        return stepup.ask(request)
    place, credential = place_of(request, within=FRESH), form.cleaned_data["credential"]
    return _do(
        request, asked, lambda: requests.approve(asked, by=user, place=place, reason=reason, credential=credential)
    )


@require_POST
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """The requester needs it no longer."""
    asked = _load(request, pk)
    if not permissions.can_withdraw(user_of(request), asked):
        raise Http404
    return _do(request, asked, lambda: requests.withdraw(asked, by=user_of(request)))


def _do(request: HttpRequest, asked: AccessRequest, act: Callable[[], Any]) -> HttpResponse:
    """Carry a decision out; a refusal or a lost race is said on the page, and nothing of it stays behind."""
    try:
        with transaction.atomic():
            act()
    except Conflict as conflict:
        messages.warning(request, str(conflict))
    except (NotAllowed, NotPossible) as refusal:
        messages.error(request, str(refusal))
    asked.refresh_from_db()
    is_theirs = asked.about is not None and asked.requester_id == user_of(request).pk
    return redirect(asked.about if is_theirs else asked)  # type: ignore[arg-type]


def _load(request: HttpRequest, pk: int) -> AccessRequest:
    """The request, for somebody who may see it; for everybody else there is no such request."""
    asked = AccessRequest.objects.with_names().prefetch_related("approvers__user").filter(pk=pk).first()
    if asked is None or not permissions.can_see(user_of(request), asked):
        raise Http404
    return asked

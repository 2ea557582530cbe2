"""Being one of the demo's people with one click. These addresses exist in demo mode only."""

from __future__ import annotations

from typing import cast as typed

from allauth.account.internal.flows.login import clear_authentication_records, record_authentication
from allauth.account.signals import user_logged_in
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from apps.demo import cast, safety
from apps.users import stepup
from apps.users.models import User

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via")  # what a proxy says of itself


@login_not_required
@require_GET
def people(request: HttpRequest) -> HttpResponse:
    """Everybody one can be, also from inside a session."""
    _only_here(request)
    return render(request, "demo/switch.html")


@login_not_required
@require_POST
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in as somebody, without a password or code. The audit log calls this method "demo"."""
    _only_here(request)
    user = get_object_or_404(cast.everybody(), email=request.POST.get("email", ""))
    clear_authentication_records(request)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    record_authentication(request, user, "demo")
    # allauth's own last step of a sign-in: the session is listed, the sign-in is recorded.
    user_logged_in.send(sender=User, request=request, response=None, user=typed("User", request.user))
    return redirect(stepup.safe_next(request))


def _only_here(request: HttpRequest) -> None:
    """404 unless demo mode is on and the browser is on this machine, with no proxy in between."""
    is_forwarded = any(name in request.headers for name in FORWARDED)
    if not settings.DEMO or is_forwarded or not safety.is_local(request.META.get("REMOTE_ADDR", "")):
        raise Http404

"""One's own settings, the step-up, and the people of the portal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from allauth.socialaccount.models import SocialAccount
from django import forms
from django.conf import settings
from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.core import paging
from apps.users import freshness, permissions, roles, services, stepup
from apps.users.forms import CodeForm, InviteForm, PasskeyForm, RoleForm, ShortcutsForm, SwitchForm
from apps.users.models import PortalRole, User

RECENTLY = timedelta(minutes=15)

View = Callable[..., HttpResponse]


# One's own settings


@require_http_methods(["GET", "POST"])
def settings_page(request: HttpRequest) -> HttpResponse:
    user = cast("User", request.user)
    form = ShortcutsForm(request.POST if request.method == "POST" else None, initial={"single_keys": user.single_keys})
    if request.method == "POST" and form.is_valid():
        services.set_single_keys(user=user, single_keys=form.cleaned_data["single_keys"])
        messages.success(request, "Saved")
        return redirect("users:settings")
    context = {
        "form": form,
        "roles": roles.held_by(user),
        "enrolled": stepup.methods(user),
        "waiting_time": settings.STEP_UP_WAITING_TIME,
        "accounts": _accounts(user),
        "may_use_password": permissions.can_use_password(user),
        "sso": settings.OIDC_ISSUER and settings.OIDC_NAME,
    }
    return render(request, "users/settings.html", context)


# Step-up


@never_cache
@require_http_methods(["GET", "POST"])
def step_up(request: HttpRequest) -> HttpResponse:
    """Choose a passkey or a code; both come back here and then go on to `next`. `passkey=1` says that what follows is
    privileged, so that no code is offered in vain."""
    error = ""
    if request.method == "POST":
        error = _step_up(request)
        if not error:
            return redirect(stepup.safe_next(request))
    enrolled = stepup.methods(cast("User", request.user))
    counting = [each for each in enrolled if not each.is_waiting]
    has_passkey = any(each.method is stepup.Method.PASSKEY for each in counting)
    needs_passkey = "passkey" in request.GET
    context = {
        "next": stepup.safe_next(request),
        "error": error,
        "needs_passkey": needs_passkey,
        "options": {"request_options": stepup.begin_passkey(request)} if has_passkey else None,
        "passkey_form": PasskeyForm(),
        "code_form": CodeForm(),
        "offers_code": not needs_passkey and any(each.method is stepup.Method.TOTP for each in counting),
        "waiting": [each for each in enrolled if each.is_waiting],
    }
    return render(request, "users/step_up.html", context, status=422 if error else 200)


def _step_up(request: HttpRequest) -> str:
    """What went wrong, for the person; empty if nothing did."""
    try:
        if "credential" in request.POST:
            passkey = PasskeyForm(request.POST)
            if not passkey.is_valid() or not isinstance(passkey.cleaned_data["credential"], dict):
                return "The browser sent no passkey. Try again."
            stepup.by_passkey(request, passkey.cleaned_data["credential"])
        else:
            code = CodeForm(request.POST)
            if not code.is_valid():
                return "Type the six digits that your authenticator app shows."
            stepup.by_code(request, code.cleaned_data["code"])
    except stepup.Failed as failed:
        return str(failed)
    return ""


@require_GET
def sign_in_again(request: HttpRequest) -> HttpResponse:
    """Before an authenticator changes, for those who cannot confirm with a password."""
    url = freshness.sso_url(stepup.safe_next(request)) if settings.OIDC_ISSUER else ""
    return render(request, "users/sign_in_again.html", {"sso_url": url, "sso": settings.OIDC_NAME})


# People, for administrators


def administrators(view: View) -> View:
    """Others do not learn that the page exists."""

    @wraps(view)
    def administered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not permissions.can_administer(cast("User", request.user)):
            raise Http404
        return view(request, *args, **kwargs)

    return administered


@require_GET
@administrators
def people(request: HttpRequest) -> HttpResponse:
    return render(request, "users/people.html", _list(request))


@require_GET
@administrators
def person(request: HttpRequest, pk: int) -> HttpResponse:
    them = get_object_or_404(User, pk=pk)
    context = _facts(request, them)
    if getattr(request, "htmx", False):
        return render(request, "users/people.html#person", context)
    return render(request, "users/people.html", {**_list(request), **context})


@require_http_methods(["GET", "POST"])
@administrators
def invite(request: HttpRequest) -> HttpResponse:
    form = InviteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            them = services.invite_user(**form.cleaned_data, by=cast("User", request.user))
        except services.Refused as refused:
            form.add_error(None, str(refused))
        else:
            messages.success(request, f"Invited {them.name}. The mail is on its way to {them.email}.")
            return redirect("users:person", pk=them.pk)
    status = 422 if form.errors else 200
    return render(request, "users/invite.html", {"form": form, "sso": settings.OIDC_ISSUER}, status=status)


@require_POST
@administrators
@stepup.required(within=RECENTLY)
def role(request: HttpRequest, pk: int) -> HttpResponse:
    def decide(them: User, answer: dict[str, Any]) -> None:
        act = services.give_role if answer["give"] else services.take_role
        act(user=them, role=answer["role"], by=cast("User", request.user))

    return _change(request, pk, RoleForm, decide)


@require_POST
@administrators
def active(request: HttpRequest, pk: int) -> HttpResponse:
    """Keeping somebody out is never delayed by a step-up. Letting them in again gives no role."""

    def decide(them: User, answer: dict[str, Any]) -> None:
        act = services.reactivate_user if answer["on"] else services.deactivate_user
        act(user=them, by=cast("User", request.user))

    return _change(request, pk, SwitchForm, decide)


@require_POST
@administrators
@stepup.required(within=RECENTLY)
def emergency(request: HttpRequest, pk: int) -> HttpResponse:
    def decide(them: User, answer: dict[str, Any]) -> None:
        services.set_emergency(user=them, is_emergency=answer["on"], by=cast("User", request.user))

    return _change(request, pk, SwitchForm, decide)


@require_POST
@administrators
def invite_again(request: HttpRequest, pk: int) -> HttpResponse:
    def decide(them: User, _: dict[str, Any]) -> None:
        services.invite_again(user=them, by=cast("User", request.user))
        messages.success(request, f"The mail is on its way to {them.email}.")

    return _change(request, pk, forms.Form, decide)


@require_POST
@administrators
@stepup.required(within=RECENTLY)
def reset_authenticators(request: HttpRequest, pk: int) -> HttpResponse:
    def decide(them: User, _: dict[str, Any]) -> None:
        services.reset_authenticators(user=them, by=cast("User", request.user))

    return _change(request, pk, forms.Form, decide)


def _change(
    request: HttpRequest, pk: int, form_class: type[forms.Form], decide: Callable[[User, dict[str, Any]], None]
) -> HttpResponse:
    them = get_object_or_404(User, pk=pk)
    form = form_class(request.POST)
    if not form.is_valid():
        messages.error(request, "That was not understood. Try again from this page.")
    elif not permissions.can_change(cast("User", request.user), them):
        messages.error(request, "Nobody changes this for themselves. Ask another administrator.")
    else:
        try:
            decide(them, form.cleaned_data)
        except services.Refused as refused:
            messages.error(request, str(refused))
    return redirect("users:person", pk=pk)


def _list(request: HttpRequest) -> dict[str, Any]:
    q = paging.searched(request.GET)
    found = User.objects.prefetch_related("portal_roles", "authenticator_set", "socialaccount_set")
    if q:
        found = found.filter(Q(name__icontains=q) | Q(email__icontains=q))
    role = request.GET.get("role", "")
    if role in PortalRole.Role.values:
        found = found.filter(portal_roles__role=role)
    state = request.GET.get("state", "")
    if state in STATES:
        found = found.filter(STATES[state][1])
    page = paging.page(found, request.GET, order=("name", "pk"))
    return {
        "page": page,
        "rows": [(row, stepup.among(row.authenticator_set.all())) for row in page],
        "them": None,
        "total": User.objects.count(),
        "is_filtered": bool(q or role or state),
        "role_choices": PortalRole.Role.choices,
        "state_choices": [(value, label) for value, (label, _) in STATES.items()],
        "sso": settings.OIDC_ISSUER and settings.OIDC_NAME,
    }


STATES = {
    "active": ("Can sign in", Q(is_active=True)),
    "invited": ("Invited", Q(is_active=True, last_login=None)),
    "emergency": ("For emergencies", Q(is_emergency=True)),
    "out": ("Kept out", Q(is_active=False)),
}


def _facts(request: HttpRequest, them: User) -> dict[str, Any]:
    return {
        "them": them,
        "their_roles": roles.held_by(them),
        "enrolled": stepup.methods(them),
        "accounts": _accounts(them),
        "may_change": permissions.can_change(cast("User", request.user), them),
        "changeable": [
            {"value": value, "label": label, "is_held": value in them.roles} for value, label in PortalRole.Role.choices
        ],
        "sso": settings.OIDC_ISSUER and settings.OIDC_NAME,
    }


def _accounts(user: User) -> list[SocialAccount]:
    return list(SocialAccount.objects.filter(user=user).order_by("pk"))

"""Was this sign-in a moment ago? Enrolling or changing an authenticator needs that.

Who came with single sign-on signs in there again, and the identity provider says when that was (`auth_time`, OpenID
Connect Core 1.0 §2). Who came with a password or passkey confirms it through allauth's reauthentication. allauth alone
would let people pass who have neither a password nor an authenticator, which is everybody new with single sign-on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate, get_reauthentication_flows
from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from apps.users import oidc
from apps.users.models import User

SSO = "users.sso_at"  # in the session: when the identity provider saw the person, seconds since 1970
CLOCK_SKEW = 60  # seconds the provider's clock may be ahead of ours

View = Callable[..., HttpResponse]


def remember_sso(request: HttpRequest, token: Mapping[str, Any]) -> None:
    """A sign-in through the identity provider. If the person was there just now it counts as reauthentication too."""
    auth_time = token.get("auth_time")
    request.session[SSO] = int(auth_time) if auth_time is not None else int(time.time())
    if is_fresh(request):
        record_authentication(request, cast("User", request.user), "socialaccount", reauthenticated=True)


def came_with_sso(request: HttpRequest) -> bool:
    return SSO in request.session


def is_fresh(request: HttpRequest) -> bool:
    """Whether the person signed in, or confirmed who they are, within ACCOUNT_REAUTHENTICATION_TIMEOUT seconds."""
    if came_with_sso(request):
        age = time.time() - request.session[SSO]
        return -CLOCK_SKEW <= age <= settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    user = cast("User", request.user)
    return bool(get_reauthentication_flows(user)) and did_recently_reauthenticate(request)


def required(view: View) -> View:
    """For views that change authenticators."""

    @wraps(view)
    def fresh(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_fresh(request):
            return view(request, *args, **kwargs)
        if get_reauthentication_flows(cast("User", request.user)) and not came_with_sso(request):
            raise ReauthenticationRequired  # allauth's middleware asks for it
        return redirect(f"{reverse('users:sign_in_again')}?{urlencode({'next': request.get_full_path()})}")

    return fresh


def sso_url(next_url: str) -> str:
    """Where a POST sends the person to the identity provider, which is told to ask again (§3.1.2.1)."""
    login = reverse("openid_connect_login", kwargs={"provider_id": oidc.provider_id(settings.OIDC_ISSUER)})
    again = urlencode({"prompt": "login", "max_age": "0"})
    return f"{login}?{urlencode({'process': 'login', 'next': next_url, 'auth_params': again})}"

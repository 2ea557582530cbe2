"""allauth's addresses. What nobody here may do answers 404; what changes an authenticator needs a fresh sign-in."""

from __future__ import annotations

from typing import Any

from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path

from apps.users import freshness


@login_not_required
def closed(_request: HttpRequest, **_: Any) -> HttpResponse:
    raise Http404


urlpatterns: list[URLPattern | URLResolver] = [
    path("email/", closed, name="account_email"),
    path("login/code/confirm/", closed, name="account_confirm_login_code"),
    path("3rdparty/", closed, name="socialaccount_connections"),
    path("3rdparty/signup/", closed, name="socialaccount_signup"),
    path("social/<path:legacy>", closed),
    path("2fa/totp/activate/", freshness.required(totp.activate_totp), name="mfa_activate_totp"),
    path("2fa/totp/deactivate/", freshness.required(totp.deactivate_totp), name="mfa_deactivate_totp"),
    path("2fa/webauthn/add/", freshness.required(webauthn.add_webauthn), name="mfa_add_webauthn"),
    path(
        "2fa/webauthn/keys/<int:pk>/remove/", freshness.required(webauthn.remove_webauthn), name="mfa_remove_webauthn"
    ),
    path("2fa/webauthn/keys/<int:pk>/edit/", freshness.required(webauthn.edit_webauthn), name="mfa_edit_webauthn"),
    path("2fa/recovery-codes/", freshness.required(codes.view_recovery_codes), name="mfa_view_recovery_codes"),
    path(
        "2fa/recovery-codes/generate/",
        freshness.required(codes.generate_recovery_codes),
        name="mfa_generate_recovery_codes",
    ),
    path(
        "2fa/recovery-codes/download/",
        freshness.required(codes.download_recovery_codes),
        name="mfa_download_recovery_codes",
    ),
    path("", include("allauth.urls")),
]

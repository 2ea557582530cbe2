"""What holds for every request and every response, whoever makes it."""

from collections.abc import Callable
from typing import cast
from urllib.parse import parse_qs, urlencode, urlsplit

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django_htmx.middleware import HtmxDetails

GetResponse = Callable[[HttpRequest], HttpResponseBase]

PERMISSIONS = (
    "publickey-credentials-create=(self), publickey-credentials-get=(self), clipboard-write=(self), "
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
)


class NoNulInAddress:
    """Takes the NUL out of what is typed into an address: no text in PostgreSQL can hold one, so each filter of each page
    would fail on it. Stands before everything that reads the query."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.META["QUERY_STRING"] = request.META.get("QUERY_STRING", "").replace("%00", "")
        return self.get_response(request)


class HtmxAuthRedirect:
    """An htmx request that is sent to sign in or to confirm itself: the whole page goes there, not the fragment, and
    comes back to the page that the person sees. Without this, htmx would follow the redirect and show a sign-in form
    inside a list. Stands after HtmxMiddleware."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        htmx: HtmxDetails | None = getattr(request, "htmx", None)
        if not htmx or not 300 <= response.status_code < 400:
            return response
        to = urlsplit(response.headers.get("Location", ""))
        if to.netloc not in {"", request.get_host()} or not to.path.startswith(accounts_prefix()):
            return response
        query = parse_qs(to.query) | {"next": [htmx.current_url_abs_path or "/"]}
        redirect = HttpResponse(status=204)
        redirect["HX-Redirect"] = f"{to.path}?{urlencode(query, doseq=True)}"
        redirect.cookies = cast("HttpResponse", response).cookies
        return redirect


def accounts_prefix() -> str:
    """Where allauth's pages live, for example /accounts/."""
    return reverse("account_login").removesuffix("login/")


class PermissionsPolicy:
    """The browser features that pages may use: passkeys and writing the clipboard."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response


class NoStore:
    """Nothing that a signed-in person sees stays in a cache: not in the browser's after signing out, not in a proxy's.
    A view that sets Cache-Control itself is left alone. Stands after AuthenticationMiddleware."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        was_signed_in = request.user.is_authenticated
        response = self.get_response(request)
        if was_signed_in or request.user.is_authenticated:
            response.headers.setdefault("Cache-Control", "no-store")
        return response

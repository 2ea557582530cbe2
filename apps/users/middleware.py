"""What every request carries with it."""

from collections.abc import Callable
from typing import cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from apps.audit import services as audit
from apps.users import devices


class RequestContext:
    """Everything a request records says where it came from, and a browser that signs in gets its device cookie.
    Stands after AuthenticationMiddleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with audit.origin(**devices.origin(request)):
            response = self.get_response(request)
        # A request that never looked at its session did not sign anybody in, and is not made to look.
        if devices.of(request).is_new and request.session.accessed and request.user.is_authenticated:
            devices.remember(request, cast("HttpResponse", response))
        return response

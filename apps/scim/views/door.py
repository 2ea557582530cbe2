"""The door that identity providers call: a bearer token, then scim2-server's protocol over our storage."""

from __future__ import annotations

import json
import logging

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from scim2_models import InvalidValueException, PayloadTooLargeException, SCIMException, UnauthorizedException
from scim2_server.handler import ScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse

from apps.scim.models import Token
from apps.scim.protocol import MOST_BYTES, SERVICE
from apps.scim.services import sources
from apps.scim.storage import Storage
from apps.users import devices

log = logging.getLogger(__name__)

MOST_REFUSALS = 20  # from one address
FORGET_SECONDS = 300
LONGEST_QUERY = 4_000  # characters; a filter is a line


class TooOften(SCIMException):
    """RFC 6585: this address showed too many tokens that open nothing."""

    status = 429
    _default_detail = "Too many refused tokens from this address. Wait five minutes"


@csrf_exempt  # no cookie opens this door, so no other site can borrow one
@login_not_required  # a bearer token opens it
@never_cache
def door(request: HttpRequest, path: str = "") -> HttpResponse:
    """Any SCIM request. Whatever goes wrong is said in SCIM's own shape."""
    try:
        token = _token(request)
        storage = Storage(token, only_reads=request.method == "GET")
        answer = ScimHandler(SERVICE, storage).handle(_read(request, path))
    except SCIMException as error:
        answer = SERVICE.error_response(error)
    except Exception as error:
        log.exception("A SCIM request failed")
        answer = SERVICE.error_response(error)
    return _answer(answer)


def _token(request: HttpRequest) -> Token:
    """The token that a request shows. A good one is always let in, however many bad ones came from its address: leavers
    must not wait because somebody else guesses."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    token = sources.token_of(secret) if scheme.lower() == "bearer" else None
    if token:
        sources.note_use(token)
        return token
    address = devices.address(request)
    key = f"scim:refused:{address}"
    cache.add(key, 0, FORGET_SECONDS)
    count = cache.incr(key)
    if count > MOST_REFUSALS:
        raise TooOften
    is_ours = bool(secret) and sources.note_refusal(secret)
    log.warning(
        "A SCIM request from %s showed no token that works%s.", address, "; it is one of ours" if is_ours else ""
    )
    raise UnauthorizedException(detail="Show a bearer token that works. An administrator of Gatehouse makes one")


def _read(request: HttpRequest, path: str) -> ScimRequest:
    try:
        query = request.GET.dict()
        body = request.read(MOST_BYTES + 1)
    except (SuspiciousOperation, UnreadablePostError):
        raise InvalidValueException(detail="The request cannot be read") from None
    if len(body) > MOST_BYTES:
        raise PayloadTooLargeException(detail=f"A request has at most {MOST_BYTES:,} bytes here")
    if len(request.META.get("QUERY_STRING", "")) > LONGEST_QUERY:
        raise InvalidValueException(detail=f"A query has at most {LONGEST_QUERY:,} characters here")
    return ScimRequest(
        method=request.method or "GET",
        base_url=f"{settings.BASE_URL}/scim/v2",
        path=path.removesuffix(".scim"),
        query={name: str(value) for name, value in query.items()},
        headers=dict(request.headers.items()),
        body=body,
    )


def _answer(answer: ScimResponse) -> HttpResponse:
    body = b"" if answer.body is None else json.dumps(answer.body).encode()
    response = HttpResponse(body, status=int(answer.status), headers=answer.headers)
    if response.status_code == TooOften.status:
        response.headers["Retry-After"] = str(FORGET_SECONDS)
    return response

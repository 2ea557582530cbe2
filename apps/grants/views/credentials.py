"""Sessions for a grant that a broker makes: shown once, or opened in the console. Nothing of them is kept here."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from apps.grants import permissions
from apps.grants.broker import client, signing
from apps.grants.broker.client import NoBroker, Refused, Session
from apps.grants.models import Grant, Minting
from apps.users import assertions, devices, passkeys, stepup
from apps.users.models import User

FRESH = timedelta(minutes=15)  # how fresh a step-up must be


@sensitive_variables()  # also an error report of a debug server shows none of them
@never_cache
@require_POST
def session(request: HttpRequest, pk: int) -> HttpResponse:
    """A session of the grant for its holder: on this page alone for the command line, or straight into the console."""
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    grant = get_object_or_404(Grant.objects.with_names(), pk=pk)
    kind = request.POST.get("kind", "")
    if not permissions.can_ask_for_session(request.user, grant) or kind not in Minting.Kind.values:
        raise Http404
    proof: dict[str, Any] = {}
    signed: dict[str, Any] = {}
    if grant.entitlement.is_privileged:
        signed = _signed(request)
        if not signed:
            return _to_sign(request, grant, kind)
    else:
        proof = stepup.proof(request, within=FRESH)
        if not proof:
            return stepup.ask(request)
    try:
        given = client.ask(
            grant,
            by=request.user,
            kind=Minting.Kind(kind),
            origin=devices.origin(request),
            step_up=proof,
            signed=signed,
        )
    except (NoBroker, Refused) as problem:
        status = 503 if isinstance(problem, NoBroker) else 409
        return render(request, "grants/session.html", {"grant": grant, "problem": str(problem)}, status=status)
    if given.console_url:
        return HttpResponse(status=303, headers={"Location": given.console_url})
    context = {
        "grant": grant,
        "problem": "",
        "expires_at": given.expires_at,
        "access_key_id": given.access_key_id,
        "session_name": given.session_name,
        "exports": _exports(given),
        "process": _process(given),
    }
    return render(request, "grants/session.html", context)


def _signed(request: HttpRequest) -> dict[str, Any]:
    """What the holder's passkey signed, for the broker to judge; empty when nothing did yet."""
    try:
        assertion = assertions.kept(json.loads(request.POST.get("credential") or "null"))
    except (assertions.Invalid, ValueError):
        return {}
    return {"assertion": assertion, **{name: request.POST.get(name, "")[:64] for name in ("nonce", "expires")}}


def _to_sign(request: HttpRequest, grant: Grant, kind: str) -> HttpResponse:
    """The page on which the holder's passkey signs that they want this session."""
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    waiting = passkeys.waiting(request.user)
    context = {"grant": grant, "kind": kind, "waiting": waiting, **signing.asked_of(grant, request.user)}
    return render(request, "grants/sign_session.html", context)


def _exports(given: Session) -> str:
    """Lines for a shell. Where AWS is not at its usual address, that too."""
    values = {
        "AWS_ACCESS_KEY_ID": given.access_key_id,
        "AWS_SECRET_ACCESS_KEY": given.secret_access_key,
        "AWS_SESSION_TOKEN": given.session_token,
        "AWS_ENDPOINT_URL": given.endpoint_url,
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items() if value)


def _process(given: Session) -> str:
    """What a `credential_process` of the AWS command line prints (AWS SDKs and Tools reference, "Process credential
    provider")."""
    values = {
        "Version": 1,
        "AccessKeyId": given.access_key_id,
        "SecretAccessKey": given.secret_access_key,
        "SessionToken": given.session_token,
        "Expiration": given.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return json.dumps(values, indent=2)

"""Step-up: is the person of this session here now?

A yes needs, in this session and a short time ago, a passkey assertion with user verification; where nothing privileged
is at stake, a code of an authenticator app will do. A password never counts, nor a recovery code, nor a sign-in.
Nobody enrolled means no. (allauth's own check lets people without password and authenticator through, so it is not
used here.)

An authenticator counts only after a waiting time since its enrolment (STEP_UP_WAITING_TIME), **the first one too**:
a stolen session of somebody who never enrolled is exactly where an attacker would enrol first. The price is that a new
user can do nothing sensitive on the first day; administrators see who is waiting, and until when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.internal.flows import check_rate_limit
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.internal import auth as webauthn
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from fido2.server import Fido2Server
from fido2.webauthn import PublicKeyCredentialRpEntity, UserVerificationRequirement

from apps.users import services, totp
from apps.users.models import User
from apps.users.oidc import LOOPBACK

PROOFS = "users.stepup.proofs"  # in the session: method → proof
CHALLENGE = "users.stepup.challenge"
CHALLENGE_LIFETIME = timedelta(minutes=5)

View = Callable[..., HttpResponse]


class Method(StrEnum):
    PASSKEY = "passkey"
    TOTP = "totp"


METHODS = {Authenticator.Type.WEBAUTHN: Method.PASSKEY, Authenticator.Type.TOTP: Method.TOTP}


class Failed(Exception):
    """The step-up did not succeed. The message is for the person."""


@dataclass(frozen=True)
class Enrolled:
    """An authenticator that can step up, once its waiting time is over."""

    authenticator: Authenticator
    method: Method

    @property
    def kind(self) -> str:
        return "Passkey" if self.method is Method.PASSKEY else "Authenticator app"

    @property
    def name(self) -> str:
        """A passkey has the name its owner gave it."""
        return str(self.authenticator) if self.method is Method.PASSKEY else self.kind

    @property
    def counts_at(self) -> datetime:
        return self.authenticator.created_at + settings.STEP_UP_WAITING_TIME

    @property
    def is_waiting(self) -> bool:
        return timezone.now() < self.counts_at


def methods(user: User) -> list[Enrolled]:
    """What the user has enrolled, passkeys first, those that still wait included. Recovery codes are none."""
    return among(_authenticators(user))


def among(authenticators: Iterable[Authenticator]) -> list[Enrolled]:
    """Those of `authenticators` that can step up, passkeys first."""
    enrolled = [Enrolled(row, METHODS[row.type]) for row in authenticators if row.type in METHODS]
    return sorted(enrolled, key=lambda each: (each.method is not Method.PASSKEY, each.authenticator.pk))


def has_fresh(request: HttpRequest, *, within: timedelta, privileged: bool) -> bool:
    """Whether the person stepped up in this session within `within`; with a passkey if it is `privileged`."""
    return bool(proof(request, within=within, privileged=privileged))


def proof(request: HttpRequest, *, within: timedelta | None = None, privileged: bool = False) -> dict[str, Any]:
    """The newest step-up of this session that stands: {method, authenticator, at}, for the audit log and the warrant;
    empty if there is none. `at` is ISO 8601 in UTC. One stands while its authenticator exists, had waited, and nothing
    was enrolled since."""
    user = cast("User", request.user)
    proofs = request.session.get(PROOFS, {})
    if not proofs or not user.is_authenticated:
        return {}
    authenticators = _authenticators(user)
    enrolled = {each.authenticator.pk: each for each in among(authenticators)}
    changed_at = max((row.created_at for row in authenticators), default=timezone.now())

    def stands(given: dict[str, Any]) -> bool:
        each, at = enrolled.get(given["authenticator"]), datetime.fromisoformat(given["at"])
        return (
            each is not None
            and each.method == given["method"]
            and (each.method is Method.PASSKEY or not privileged)
            and max(each.counts_at, changed_at) <= at <= timezone.now()
            and (within is None or timezone.now() - at <= within)
        )

    standing = [given for given in proofs.values() if stands(given)]
    return max(standing, key=lambda given: str(given["at"]), default={})


def required(*, within: timedelta, privileged: bool = False) -> Callable[[View], View]:
    """For views: ask for a step-up first, then come back to the page."""

    def decorate(view: View) -> View:
        @wraps(view)
        def stepped_up(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if has_fresh(request, within=within, privileged=privileged):
                return view(request, *args, **kwargs)
            return ask(request, privileged=privileged)

        return stepped_up

    return decorate


def ask(request: HttpRequest, *, privileged: bool = False) -> HttpResponse:
    """Send the person to the step-up page, and from there back to the page they see now."""
    query = {"next": _page_of(request), **({"passkey": "1"} if privileged else {})}
    url = f"{reverse('users:step_up')}?{urlencode(query)}"
    if getattr(request, "htmx", False):
        return HttpResponse(status=204, headers={"HX-Redirect": url})
    return redirect(url)


def safe_next(request: HttpRequest) -> str:
    """Where to go afterwards: a path of ours from `next`, or the start page."""
    url = request.POST.get("next") or request.GET.get("next") or "/"
    is_ours = url_has_allowed_host_and_scheme(url, allowed_hosts=None, require_https=request.is_secure())
    return url if is_ours and url.startswith("/") else "/"


def clear(request: HttpRequest) -> None:
    """Forget every step-up of this session."""
    for key in (PROOFS, CHALLENGE):
        request.session.pop(key, None)


# Stepping up


def begin_passkey(request: HttpRequest) -> dict[str, Any]:
    """A fresh challenge for the browser, kept in the session until it is answered once. Only passkeys that count."""
    credentials = [_credential(each) for each in _counting(cast("User", request.user), Method.PASSKEY)]
    options, state = _server(request).authenticate_begin(
        credentials=credentials, user_verification=UserVerificationRequirement.REQUIRED
    )
    request.session[CHALLENGE] = {"state": state, "at": timezone.now().isoformat()}
    return dict(options)


def by_passkey(request: HttpRequest, credential: dict[str, Any]) -> None:
    """Step up with the browser's answer to `begin_passkey`. Raises `Failed`."""
    user = cast("User", request.user)
    done = _rate_limited(user)
    found = _asserted(request, credential, _counting(user, Method.PASSKEY))
    if found is None:
        services.note_step_up(user=user, method=Method.PASSKEY, is_success=False)
        raise Failed("The passkey was not accepted. Try again and confirm with your fingerprint, face or PIN.")
    done()
    _keep(request, found)


def by_code(request: HttpRequest, code: str) -> None:
    """Step up with the code that an authenticator app shows. Raises `Failed`."""
    user = cast("User", request.user)
    done = _rate_limited(user)
    found = next((each for each in _counting(user, Method.TOTP) if totp.spend(each.authenticator, code)), None)
    if found is None:
        services.note_step_up(user=user, method=Method.TOTP, is_success=False)
        raise Failed("This code was not accepted. A code counts once: wait for the next one.")
    done()
    _keep(request, found)


def _rate_limited(user: User) -> Callable[[], None]:
    """Counts this try together with those at sign-in; what it returns forgives them after a success."""
    try:
        return check_rate_limit(user)
    except ValidationError:
        raise Failed("Too many tries. Wait five minutes.") from None


def _asserted(request: HttpRequest, credential: dict[str, Any], passkeys: list[Enrolled]) -> Enrolled | None:
    """The passkey that signed the challenge of this session, with the person verified (the UV flag, WebAuthn §6.1)."""
    challenge = request.session.pop(CHALLENGE, None)  # it counts once, answered well or badly
    if not challenge or timezone.now() - datetime.fromisoformat(challenge["at"]) > CHALLENGE_LIFETIME:
        return None
    try:
        answer = webauthn.parse_authentication_response(credential)
        used = _server(request).authenticate_complete(challenge["state"], [_credential(p) for p in passkeys], answer)
    except (ValidationError, ValueError, TypeError, KeyError):
        return None
    if not answer.response.authenticator_data.is_user_verified():
        return None
    return next((each for each in passkeys if _credential(each).credential_id == used.credential_id), None)


def _keep(request: HttpRequest, used: Enrolled) -> None:
    used.authenticator.record_usage()
    given = {"method": used.method.value, "authenticator": used.authenticator.pk, "at": timezone.now().isoformat()}
    request.session[PROOFS] = {**request.session.get(PROOFS, {}), used.method.value: given}
    services.note_step_up(
        user=cast("User", request.user), method=used.method, is_success=True, authenticator=used.authenticator
    )


def _counting(user: User, method: Method) -> list[Enrolled]:
    return [each for each in methods(user) if each.method is method and not each.is_waiting]


def _authenticators(user: User) -> list[Authenticator]:
    return list(Authenticator.objects.filter(user=user))


def _credential(enrolled: Enrolled) -> Any:
    return enrolled.authenticator.wrap().authenticator_data.credential_data


def _server(request: HttpRequest) -> Fido2Server:
    rp = PublicKeyCredentialRpEntity(**get_adapter().get_public_key_credential_rp_entity())

    def is_ours(origin: str) -> bool:
        parts = urlsplit(origin)
        return parts.netloc == request.get_host() and (parts.scheme == "https" or parts.hostname in LOOPBACK)

    return Fido2Server(rp, verify_origin=is_ours)


def _page_of(request: HttpRequest) -> str:
    """The page a person sees: this one, or for what only answers to POST or htmx the one that holds the button."""
    htmx = getattr(request, "htmx", None)
    if htmx:
        return htmx.current_url_abs_path or "/"
    if request.method == "GET":
        return request.get_full_path()
    referrer = urlsplit(request.headers.get("Referer", ""))
    if referrer.netloc == request.get_host():
        return referrer._replace(scheme="", netloc="").geturl() or "/"
    return "/"

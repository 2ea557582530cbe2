"""Which browser, and which session, a request comes from.

The self tier lets a requester confirm from another device: another browser *and* another session. A session that was
stolen by its cookie has the same session; a second sign-in on a stolen laptop has the same device. Somebody who throws
the device cookie away gets a new device, which is why its age is known too: a device that is younger than the request
it confirms proves nothing.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac

LIFETIME = 400 * 24 * 3600  # seconds; browsers keep no cookie for longer
SALT = "users.device"
LONGEST_AGENT = 200


@dataclass(frozen=True)
class Device:
    """One browser profile. `since` is when it first signed in here, whoever it was."""

    id: str
    since: datetime
    is_new: bool = False


def of(request: HttpRequest) -> Device:
    """The device of a request: that of its cookie, or a new one, which the middleware gives it at sign-in."""
    if not hasattr(request, "_gatehouse_device"):
        request._gatehouse_device = _read(request) or Device(secrets.token_hex(16), timezone.now(), is_new=True)  # type: ignore[attr-defined]
    return request._gatehouse_device  # type: ignore[attr-defined]


def device_id(request: HttpRequest) -> str:
    """A random id, 32 characters."""
    return of(request).id


def device_since(request: HttpRequest) -> datetime:
    """Since when we know it. For a new device that is now, so it can confirm nothing that was asked before."""
    return of(request).since


def session_digest(request: HttpRequest) -> str:
    """Names a session without letting anybody into it, 32 characters; empty without a session."""
    key = request.session.session_key
    return salted_hmac("users.session", key, algorithm="sha256").hexdigest()[:32] if key else ""


def origin(request: HttpRequest) -> dict[str, Any]:
    """What the audit log keeps of where a request came from."""
    return {
        "address": address(request),
        "device": device_id(request),
        "session": session_digest(request),
        "agent": _printable(request.headers.get("User-Agent", ""))[:LONGEST_AGENT],
    }


def address(request: HttpRequest) -> str:
    """The client's IP address: of the connection, or what the outermost trusted proxy saw (TRUSTED_PROXY_COUNT)."""
    proxies = settings.ALLAUTH_TRUSTED_PROXY_COUNT
    seen = request.META.get("REMOTE_ADDR", "")
    if proxies:
        hops = request.headers.get("X-Forwarded-For", "").split(",")
        seen = hops[-proxies] if len(hops) >= proxies else ""
    try:
        return str(ipaddress.ip_address(seen.strip()))
    except ValueError:
        return ""


def remember(request: HttpRequest, response: HttpResponse) -> None:
    """Give a new device its cookie."""
    device = of(request)
    response.set_cookie(
        settings.DEVICE_COOKIE_NAME,
        signing.dumps([device.id, int(device.since.timestamp())], salt=SALT),
        max_age=LIFETIME,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read(request: HttpRequest) -> Device | None:
    try:
        name, since = signing.loads(request.COOKIES.get(settings.DEVICE_COOKIE_NAME, ""), salt=SALT, max_age=LIFETIME)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return Device(str(name), datetime.fromtimestamp(min(since, time.time()), UTC))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)

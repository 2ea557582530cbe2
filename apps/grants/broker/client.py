"""Asking the broker for a session. All that the web process has of it: a socket's name and a key.

What comes back is shown once and kept nowhere.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from django.conf import settings

from apps.grants.broker import wire
from apps.grants.models import Grant, Minting
from apps.users.models import User

ANSWER_WITHIN = 40.0  # seconds: STS and the console's sign-in, each with its retries


class NoBroker(Exception):
    """Nobody answers for sessions. The text says what to do."""


class Refused(Exception):
    """The broker makes no session for this. The text is for the holder."""


@dataclass(frozen=True)
class Session:
    """What the holder is shown. Only `console_url` is there for the console, and only the keys for the command line."""

    expires_at: datetime
    session_name: str
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    console_url: str = field(default="", repr=False)
    endpoint_url: str = ""

    def __reduce__(self) -> NoReturn:
        raise TypeError("A session is shown once and is never stored.")


def ask(
    grant: Grant,
    *,
    by: User,
    kind: Minting.Kind,
    origin: Mapping[str, Any],
    step_up: Mapping[str, Any] | None = None,
    signed: Mapping[str, Any] | None = None,
) -> Session:
    """A session of this grant for `by`, who stepped up, or for privileged access `signed` exactly this.

    Raises `NoBroker`, and `Refused` with the broker's own reason.
    """
    if not settings.BROKER_SOCKET or len(settings.BROKER_KEY) < wire.SHORTEST_KEY:
        raise NoBroker("Sessions are not set up here. An administrator sets BROKER_KEY and BROKER_SOCKET.")
    nonce = secrets.token_hex(16)
    proofs = {"step_up": dict(step_up or {}), "signed": dict(signed or {})}
    said = {"grant": grant.reference, "user": str(by.pk), "kind": str(kind), **proofs}
    request = {"nonce": nonce, "at": time.time(), "origin": dict(origin), **said}
    line = _exchange(wire.seal(request, settings.BROKER_KEY, wire.REQUEST))
    if not line:
        raise NoBroker("The broker gave no answer. Try again. If it stays so, its log says why.")
    try:
        answer = wire.unseal(line, settings.BROKER_KEY, wire.ANSWER)
        if answer["nonce"] != nonce:
            raise wire.Rejected("It answers something else.")
        problem, given = answer["problem"], answer["session"]
        if problem:
            raise Refused(str(problem))
        return Session(**{**given, "expires_at": datetime.fromisoformat(given["expires_at"])})
    except (wire.Rejected, KeyError, TypeError, ValueError):
        raise NoBroker(
            "What answers is not the broker, or has another key. An administrator compares BROKER_KEY of both."
        ) from None


def _exchange(request: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_WITHIN)
            line.connect(settings.BROKER_SOCKET)
            line.sendall(request)
            with line.makefile("rb") as answer:
                return answer.readline(wire.MOST_ANSWERED + 1)
    except OSError:
        raise NoBroker(
            "The broker does not answer, so no session can be made. Your access is not affected. "
            "An administrator starts it (manage.py broker), then try again."
        ) from None

"""What web and broker say to each other: one line each way, of JSON, authenticated with a key that both were given.

A request carries a nonce and its time, so none counts twice; an answer repeats the nonce of its request, so that nobody who
got hold of the socket's name can hand out credentials of their own making.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

MOST_ASKED = 24 * 1024  # bytes of a request, with a passkey's signature
MOST_ANSWERED = 64 * 1024
FRESH_FOR = 30.0  # seconds a request may be old, or early
SHORTEST_KEY = 32  # characters
REQUEST, ANSWER = "gatehouse broker request", "gatehouse broker answer"


class Rejected(Exception):
    """This was not said by whoever has the key, or not now. Nothing of it is believed."""


def seal(body: Mapping[str, Any], key: str, purpose: str) -> bytes:
    """One line that only somebody with the key could write."""
    text = json.dumps(body, separators=(",", ":"))
    return json.dumps({"body": text, "mac": _mac(text, key, purpose)}, separators=(",", ":")).encode() + b"\n"


def unseal(line: bytes, key: str, purpose: str) -> dict[str, Any]:
    """What a line says. Raises `Rejected` before anything but its authentication is looked at."""
    try:
        outer = json.loads(line)
        text, mac = outer["body"], outer["mac"]
        if not isinstance(text, str) or not isinstance(mac, str) or not line.endswith(b"\n"):
            raise Rejected("It is not a sealed message.")
        if not hmac.compare_digest(mac.encode(), _mac(text, key, purpose).encode()):
            raise Rejected("It was not sealed with this key.")
        body = json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Rejected("It is not a sealed message.") from None
    if not isinstance(body, dict):
        raise Rejected("It is not a sealed message.")
    return body


class Nonces:
    """The requests of the last minute. One that comes a second time, too late or from the future is rejected."""

    MOST = 10_000

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._seen: dict[str, float] = {}

    def spend(self, nonce: object, at: object) -> None:
        """Let this request count, once. Raises `Rejected`. Not safe between threads: the server has a lock."""
        now = self._now()
        if not isinstance(nonce, str) or not 16 <= len(nonce) <= 64:
            raise Rejected("It has no nonce.")
        if isinstance(at, bool) or not isinstance(at, int | float) or not abs(now - at) <= FRESH_FOR:
            raise Rejected("It is too old, or from a clock that is wrong.")
        if nonce in self._seen:
            raise Rejected("It came before.")
        self._seen = {one: seen for one, seen in self._seen.items() if now - seen <= 2 * FRESH_FOR}
        if len(self._seen) >= self.MOST:
            raise Rejected("There are too many requests.")
        self._seen[nonce] = now


def _mac(text: str, key: str, purpose: str) -> str:
    return hmac.new(key.encode(), f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()

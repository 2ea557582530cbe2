"""How much we ask of a provider, shared by all processes: ending access goes before opening it, and both before reading.

Who calls says what for (`purpose`) and takes a *lease* from a pool (`leases.py`). Without Redis every process keeps leases
of its own, of a share of everything: slower, never faster than the provider allows. Nothing here may
stop a revocation for good: a wait is bounded, then `Throttled`, and the clock asks again.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from apps.connectors.errors import Throttled
from apps.connectors.leases import LOOK_AGAIN, PURPOSES, Counts, Leases, Local, Pool, Purpose, Shared

LONGEST_WAIT: Mapping[Purpose, float] = {"revoke": 20, "grant": 4, "sync": 60}  # seconds; an AWS object may be locked
LONGEST_PAUSE = 60.0  # seconds that we believe a provider which tells us to stay away
NO_LIMIT = 1_000_000_000
WITHOUT_REDIS_FOR = 5.0  # seconds until a Redis that did not answer is asked again

logger = logging.getLogger(__name__)

_purpose: ContextVar[Purpose] = ContextVar("purpose", default="sync")


@contextmanager
def purpose(name: Purpose) -> Iterator[None]:
    """What the calls made inside are for. Also a decorator. Outside of any block they read ("sync")."""
    token = _purpose.set(name)
    try:
        yield
    finally:
        _purpose.reset(token)


def current() -> Purpose:
    """What calls made now are for."""
    return _purpose.get()


@dataclass(slots=True)
class Spent:
    """What one piece of work asked of the provider. `waited`: seconds in our own queue; `throttles`: answers that it was
    too much, those that a second try made good included."""

    calls: int = 0
    throttles: int = 0
    waited: float = 0.0

    def add(self, other: Spent) -> None:
        self.calls += other.calls
        self.throttles += other.throttles
        self.waited += other.waited


_spent: ContextVar[Spent | None] = ContextVar("spent", default=None)


@contextmanager
def counting(spent: Spent | None = None) -> Iterator[Spent]:
    """Count what is asked inside the block into `spent`. Threads started inside count only what is handed to them."""
    counted = Spent() if spent is None else spent
    token = _spent.set(counted)
    try:
        yield counted
    finally:
        _spent.reset(token)


def spending() -> Spent:
    """Where calls made now are counted; a count that nobody reads outside of `counting`."""
    return _spent.get() or Spent()


class Budget:
    """What a caller asks before it calls: the shared leases, or, while nobody answers there, its `own`.

    One that is not limited only counts: for an AWS that is none (a test server, the demo's).
    """

    def __init__(
        self,
        shared: Leases | None = None,
        own: Leases | None = None,
        is_limited: bool = True,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._own = own or Local()
        self._is_limited = is_limited
        self._sleep = sleep
        self._clock = clock
        self._shared_again_at = 0.0

    def take(self, pool: Pool, of: str, purpose: Purpose | None = None) -> str:
        """Wait for a lease and return its name; "" where none is needed. Raises `Throttled` when it takes too long."""
        purpose = purpose or current()
        if purpose not in pool.limits or not (self._is_limited or pool.is_counted):
            return ""
        lease = secrets.token_hex(8)
        if not self._is_limited:
            pool = replace(pool, limits=dict.fromkeys(PURPOSES, NO_LIMIT))
        waited = 0.0
        while True:
            wait = self._ask(lambda leases: leases.take(pool, of, purpose, lease))
            if not wait:
                return lease
            if waited >= LONGEST_WAIT[purpose]:
                raise Throttled(
                    f"Too much is asked of {pool.name} at once; what ends access goes first. It will be tried again."
                )
            wait = min(wait, LOOK_AGAIN)
            (self._sleep or time.sleep)(wait)
            waited += wait
            spending().waited += wait

    def give_back(self, pool: Pool, of: str, lease: str) -> None:
        """What was taken is free again."""
        if lease and self._is_limited:
            self._ask(lambda leases: leases.give_back(pool, of, lease))

    def rename(self, pool: Pool, of: str, lease: str, name: str) -> None:
        """Somebody else, who knows only `name`, will give it back."""
        if lease:
            self._ask(lambda leases: leases.rename(pool, of, lease, name))

    def pause(self, pool: Pool, of: str, seconds: float, purpose: Purpose | None = None) -> None:
        """The provider refused a call as too many: everybody stays away for `seconds`."""
        seconds = min(max(seconds, 0.0), LONGEST_PAUSE) if self._is_limited else 0.0
        self._ask(lambda leases: leases.pause(pool, of, purpose or current(), seconds))

    def counts(self) -> Counts:
        """Calls and throttles of all processes, or of this one without Redis."""
        return self._ask(lambda leases: leases.counts())

    def note_skew(self, process: str, seconds: float) -> None:
        """How far the clock of this process is ahead of the provider's."""
        self._ask(lambda leases: leases.note_skew(process, seconds))

    def skews(self) -> list[float]:
        """What all processes noted lately."""
        return list(self._ask(lambda leases: leases.skews()))

    def _ask(self, question: Callable[[Leases], Any]) -> Any:
        if self._shared and self._clock() >= self._shared_again_at:
            try:
                return question(self._shared)
            except RedisError as error:
                self._shared_again_at = self._clock() + WITHOUT_REDIS_FOR
                logger.warning("The shared budget cannot be asked, so this process keeps to a share: %s", error)
        return question(self._own)


# ---- the one this process uses ------------------------------------------------------------------------------------


# Shared by all processes; a share of its own for this one (when Redis is not to be trusted); only counted.
KINDS = ("shared", "own", "none")

_here = Budget()


def here() -> Budget:
    """The budget that this process asks."""
    return _here


def use(budget: Budget) -> None:
    """Ask this one from now on."""
    global _here  # noqa: PLW0603  one budget a process
    _here = budget


def begin(kind: str, redis: Callable[[], Redis]) -> None:
    """Called once, when the process starts. `kind` is one of `KINDS`; `redis` connects, where it is shared."""
    if kind not in KINDS:
        raise ValueError(f"A budget is one of {', '.join(KINDS)}, not {kind!r}.")
    use(Budget(shared=None if kind == "own" else Shared(redis()), is_limited=kind != "none"))

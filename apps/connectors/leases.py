"""Where leases are kept: in Redis for all processes, or in this process alone.

A pool is something of which only so much may be in use: calls a second, operations outstanding, requests at a time. A
lease on a rate lasts one second by itself; a lease on an operation lasts until it is given back. Each purpose has its own
limit on all the leases that are out, so that something is always left for the purpose above it, and whoever waits keeps
everybody below them waiting too. In Redis that is decided by one script with Redis's own clock.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from redis import Redis

Purpose = Literal["revoke", "grant", "sync"]

PURPOSES: tuple[Purpose, ...] = ("revoke", "grant", "sync")  # the first goes before the others
LOOK_AGAIN = 0.25  # seconds: a lease may be given back before its time
HEARTBEAT = 0.05  # seconds longer than until they look again, for which somebody counts as waiting
ASSUMED_PROCESSES = 4  # that share a budget which they cannot ask each other about
SKEW_KEPT_FOR = 600  # seconds


@dataclass(frozen=True, slots=True)
class Pool:
    """Something of which only so much may be in use at a time.

    `limits`: how many leases of all purposes together may be out once one more of this purpose is. A purpose that is not
    there is not limited and takes none. `lasts_for`: seconds after which a lease that nobody gave back ends.
    """

    name: str
    limits: Mapping[Purpose, int]
    lasts_for: float = 1.0
    is_counted: bool = True  # whether a lease is a call, for `counts`


@dataclass(frozen=True, slots=True)
class Counts:
    """How many calls were let through, and how many the provider refused as too many, by (pool, purpose)."""

    calls: Mapping[tuple[str, str], int]
    throttles: Mapping[tuple[str, str], int]


class Leases(Protocol):
    """Where leases are kept. `of` says whose pool it is: an AWS account."""

    def take(self, pool: Pool, of: str, purpose: Purpose, lease: str) -> float:
        """0 when it was taken, else the seconds until one may be free."""

    def give_back(self, pool: Pool, of: str, lease: str) -> None:
        """It is free again. One that ended already is no error."""

    def rename(self, pool: Pool, of: str, lease: str, name: str) -> None:
        """The same lease goes by another name from now on, with a full time to run."""

    def pause(self, pool: Pool, of: str, purpose: Purpose, seconds: float) -> None:
        """The provider said that it is too much: nobody takes any for so long."""

    def counts(self) -> Counts:
        """Since the counting began."""

    def note_skew(self, process: str, seconds: float) -> None:
        """Keep it for `SKEW_KEPT_FOR` seconds."""

    def skews(self) -> list[float]:
        """What is kept."""


# ---- kept in this process -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    leases: dict[str, float] = field(default_factory=dict)  # name → when it ends
    waits_until: dict[int, float] = field(default_factory=dict)  # rank → until when somebody is known to wait
    paused_until: float = 0.0


class Local:
    """Leases of this process alone: a share of everything, at least one. `clock` counts seconds."""

    def __init__(self, processes: int = ASSUMED_PROCESSES, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[tuple[str, str], _State] = defaultdict(_State)
        self._calls: Counter[tuple[str, str]] = Counter()
        self._throttles: Counter[tuple[str, str]] = Counter()
        self._skews: dict[str, float] = {}

    def take(self, pool: Pool, of: str, purpose: Purpose, lease: str) -> float:
        limit = max(1, pool.limits[purpose] // self._processes)
        rank = PURPOSES.index(purpose)
        with self._lock:
            now, state = self._clock(), self._states[pool.name, of]
            state.leases = {name: ends_at for name, ends_at in state.leases.items() if ends_at > now}
            above = [until for other, until in state.waits_until.items() if other < rank]
            free_at = max([now, state.paused_until, *above])
            if len(state.leases) >= limit:
                free_at = max(free_at, heapq.nsmallest(len(state.leases) - limit + 1, state.leases.values())[-1])
            if free_at > now:
                until = now + min(free_at - now, LOOK_AGAIN) + HEARTBEAT
                state.waits_until[rank] = max(until, state.waits_until.get(rank, 0.0))
                return free_at - now
            state.leases[lease] = now + pool.lasts_for
            if pool.is_counted:
                self._calls[pool.name, purpose] += 1
            return 0.0

    def give_back(self, pool: Pool, of: str, lease: str) -> None:
        with self._lock:
            self._states[pool.name, of].leases.pop(lease, None)

    def rename(self, pool: Pool, of: str, lease: str, name: str) -> None:
        with self._lock:
            leases = self._states[pool.name, of].leases
            leases.pop(lease, None)
            leases[name] = self._clock() + pool.lasts_for

    def pause(self, pool: Pool, of: str, purpose: Purpose, seconds: float) -> None:
        with self._lock:
            state = self._states[pool.name, of]
            state.paused_until = max(state.paused_until, self._clock() + seconds)
            self._throttles[pool.name, purpose] += 1

    def counts(self) -> Counts:
        with self._lock:
            return Counts(dict(self._calls), dict(self._throttles))

    def note_skew(self, process: str, seconds: float) -> None:
        self._skews[process] = seconds

    def skews(self) -> list[float]:
        return list(self._skews.values())


# ---- shared by all processes --------------------------------------------------------------------------------------

PREFIX = "gatehouse:budget"

# All times are whole microseconds of Redis's own clock, or of ARGV[1] where a test stops it.
_CLOCK = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local function text(number) return string.format('%.0f', number) end
"""

# KEYS: leases (sorted by when they end), state, counts. ARGV: now, limit, lasts for, rank, lease, field to count,
# look again after, heartbeat. Answers 0, or the microseconds until one may be free.
_TAKE = f"""{_CLOCK}
local limit, rank = tonumber(ARGV[2]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
local free_at = math.max(now, tonumber(redis.call('HGET', KEYS[2], 'paused') or 0))
for above = 0, rank - 1 do
  free_at = math.max(free_at, tonumber(redis.call('HGET', KEYS[2], 'waits:' .. above) or 0))
end
local used = redis.call('ZCARD', KEYS[1])
if used >= limit then
  local first = redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')
  free_at = math.max(free_at, tonumber(first[2]))
end
if free_at > now then
  local until_ = now + math.min(free_at - now, tonumber(ARGV[7])) + tonumber(ARGV[8])
  if until_ > tonumber(redis.call('HGET', KEYS[2], 'waits:' .. rank) or 0) then
    redis.call('HSET', KEYS[2], 'waits:' .. rank, text(until_))
  end
  redis.call('EXPIRE', KEYS[2], 120)
  return math.ceil(free_at - now)
end
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[3])), ARGV[5])
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[3]) / 1000000) + 1)
if ARGV[6] ~= '' then redis.call('HINCRBY', KEYS[3], ARGV[6], 1) end
return 0
"""

# KEYS: state, counts. ARGV: now, for how long, field to count.
_PAUSE = f"""{_CLOCK}
local until_ = now + tonumber(ARGV[2])
if until_ > tonumber(redis.call('HGET', KEYS[1], 'paused') or 0) then
  redis.call('HSET', KEYS[1], 'paused', text(until_))
end
redis.call('EXPIRE', KEYS[1], 120)
redis.call('HINCRBY', KEYS[2], ARGV[3], 1)
"""

# KEYS: leases. ARGV: now, lasts for, old name, new name.
_RENAME = f"""{_CLOCK}
redis.call('ZREM', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), ARGV[4])
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2]) / 1000000) + 1)
"""


class Shared:
    """Leases of everybody who uses the same Redis. `clock` is for tests: microseconds in place of Redis's own."""

    def __init__(self, redis: Redis, clock: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._clock = clock
        self._take = redis.register_script(_TAKE)
        self._pause = redis.register_script(_PAUSE)
        self._rename = redis.register_script(_RENAME)

    def take(self, pool: Pool, of: str, purpose: Purpose, lease: str) -> float:
        field_ = f"calls|{pool.name}|{purpose}" if pool.is_counted else ""
        args = [self._now(), pool.limits[purpose], _micro(pool.lasts_for), PURPOSES.index(purpose), lease, field_]
        keys = [_key(pool, of, "leases"), _key(pool, of, "state"), f"{PREFIX}:counts"]
        return float(self._take(keys=keys, args=[*args, _micro(LOOK_AGAIN), _micro(HEARTBEAT)])) / 1_000_000

    def give_back(self, pool: Pool, of: str, lease: str) -> None:
        self._redis.zrem(_key(pool, of, "leases"), lease)

    def rename(self, pool: Pool, of: str, lease: str, name: str) -> None:
        self._rename(keys=[_key(pool, of, "leases")], args=[self._now(), _micro(pool.lasts_for), lease, name])

    def pause(self, pool: Pool, of: str, purpose: Purpose, seconds: float) -> None:
        keys = [_key(pool, of, "state"), f"{PREFIX}:counts"]
        self._pause(keys=keys, args=[self._now(), _micro(seconds), f"throttles|{pool.name}|{purpose}"])

    def counts(self) -> Counts:
        found: dict[str, dict[tuple[str, str], int]] = {"calls": {}, "throttles": {}}
        rows: Any = self._redis.hgetall(f"{PREFIX}:counts")
        for name, number in rows.items():
            kind, pool, of = (name.decode() if isinstance(name, bytes) else name).split("|")
            found[kind][pool, of] = int(number)
        return Counts(found["calls"], found["throttles"])

    def note_skew(self, process: str, seconds: float) -> None:
        self._redis.set(f"{PREFIX}:skew:{process}", str(seconds), ex=SKEW_KEPT_FOR)

    def skews(self) -> list[float]:
        names = list(self._redis.scan_iter(f"{PREFIX}:skew:*", count=1000))
        found: Any = self._redis.mget(names) if names else []
        return [float(value) for value in found if value is not None]

    def _now(self) -> int | str:
        return self._clock() if self._clock else ""


def _key(pool: Pool, of: str, what: str) -> str:
    return f"{PREFIX}:{pool.name}:{of}:{what}"


def _micro(seconds: float) -> int:
    return round(seconds * 1_000_000)

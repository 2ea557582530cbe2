"""Several workers at one AWS that has limits, in time that passes only when all of them wait.

One worker runs at a time, until it sleeps; then the one whose sleep ends first goes on, and the clock stands there. So a
run is the same every time and nobody really waits. The database, the locks and the budget in Redis are real.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import time_machine
from django.db import connections

from apps.connectors import budget
from apps.connectors.aws import pacing
from apps.connectors.base import Look, Proof, Target, Ticket
from apps.connectors.errors import Throttled, Unreachable
from apps.connectors.fake import pair_of
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.connectors.fake_world import Fault, Pair, Request, World
from apps.core.locks import Taken, exclusive

HUB = "999999999999"
CALLS_A_SECOND, OUTSTANDING = 20, 10  # what AWS allows


class Stopped(BaseException):
    """The simulation is over; a worker that sleeps wakes up to this."""


class Simulation:
    """Workers that take turns, and the time they take."""

    def __init__(self, start: datetime) -> None:
        self.now = start
        self._start = start
        self._sleepers: list[tuple[datetime, int, threading.Event]] = []
        self._turns = 0
        self._back = threading.Event()
        self._workers: dict[int, threading.Thread] = {}
        self._errors: list[BaseException] = []
        self._held: set[tuple[str, ...]] = set()
        self._is_over = False

    def micro(self) -> int:
        return round(self.now.timestamp() * 1_000_000)

    def seconds(self) -> float:
        """Since the beginning."""
        return (self.now - self._start).total_seconds()

    def spawn(self, work: Callable[[], object]) -> None:
        """Let a worker do this, beginning now."""
        mine = threading.Event()

        def run() -> None:
            mine.wait()
            try:
                if not self._is_over:
                    work()
            except Stopped:
                pass
            except BaseException as error:
                self._errors.append(error)
            finally:
                connections.close_all()
                self._back.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._workers[thread.ident or 0] = thread
        self._queue(0.0, mine)

    def sleep(self, seconds: float) -> None:
        """What `time.sleep` is for a worker. Everybody else goes on at once."""
        if threading.get_ident() not in self._workers:
            return
        mine = threading.Event()
        self._queue(max(seconds, 1e-6), mine)
        self._back.set()
        mine.wait()
        if self._is_over:
            raise Stopped

    def run(self, is_done: Callable[[], bool], longest: timedelta = timedelta(hours=1)) -> None:
        """Let them work until `is_done`, asked whenever the clock has moved. Fails when a worker failed, or after
        `longest`."""
        moment = self.now
        with time_machine.travel(self.now, tick=False) as traveller:
            try:
                while self._sleepers and not self._errors:
                    at, _, event = heapq.heappop(self._sleepers)
                    self.now = max(self.now, at)
                    traveller.move_to(self.now)
                    if self.now != moment and is_done():
                        heapq.heappush(self._sleepers, (at, 0, event))
                        break
                    moment = self.now
                    assert self.now - self._start < longest, "It never came to an end."
                    self._turn(event)
            finally:
                self._stop()
        if self._errors:
            raise self._errors[0]

    def _queue(self, seconds: float, event: threading.Event) -> None:
        self._turns += 1
        heapq.heappush(self._sleepers, (self.now + timedelta(seconds=seconds), self._turns, event))

    def _turn(self, event: threading.Event) -> None:
        self._back.clear()
        event.set()
        assert self._back.wait(60), "A worker waits for something that only another worker can give."

    def _stop(self) -> None:
        self._is_over = True
        while self._sleepers:
            self._turn(heapq.heappop(self._sleepers)[2])
        for thread in self._workers.values():
            thread.join(60)

    @contextmanager
    def exclusive(self, *key: str, wait_ms: int = 10_000) -> Iterator[None]:
        """The real lock; waiting for it takes simulated time."""
        until = self.now + timedelta(milliseconds=wait_ms)
        while key in self._held:
            if self.now >= until:
                raise Taken(f"{' '.join(key)} is being changed by another process")
            self.sleep(0.1)
        self._held.add(key)
        try:
            with exclusive(*key, wait_ms=1):
                yield
        finally:
            self._held.discard(key)


@dataclass
class Limits:
    """AWS's side: what it lets through, what it refuses, and how long it works on an assignment."""

    time: Simulation
    latency: float = 3.0  # seconds that it works on one
    calls: list[tuple[float, str, str]] = field(default_factory=list)  # when, for what purpose, which operation
    refused: int = 0
    most_outstanding: int = 0
    due: dict[int, float] = field(default_factory=dict)  # id of a request → when it is through
    chaos: Random | None = None  # decides what goes wrong
    faults: int = 0

    def spend(self, operation: str, purpose: str) -> None:
        """One call arrives."""
        now = self.time.seconds()
        if sum(at > now - 1 + 1e-5 for at, _, _ in self.calls[-CALLS_A_SECOND:]) >= CALLS_A_SECOND:
            self.refused += 1
            raise Throttled("Rate exceeded.")
        self.calls.append((now, purpose, operation))

    def outstanding(self, world: World) -> int:
        now = self.time.seconds()
        return sum(
            request.state == "pending" and self.due.get(id(request), 0) > now for request in world.requests.values()
        )

    def require_room(self, world: World) -> None:
        if self.outstanding(world) >= OUTSTANDING:
            self.refused += 1
            raise Throttled("Too many assignments are being worked on.")

    def progress(self, world: World, pair: Pair) -> None:
        """Time, not questions, moves what AWS works on."""
        for request in world.about(pair):
            if request.state == "pending":
                request.polls = 0 if self.time.seconds() >= self.due[id(request)] else 99

    def is_new(self, world: World, pair: Pair) -> bool:
        """Whether a read may still show what was before: AWS catches up within seconds."""
        return any(0 <= self.time.seconds() - self.due.get(id(request), -99) < 10 for request in world.about(pair))

    def accepted(self, request: Request) -> None:
        self.due.setdefault(id(request), self.time.seconds() + self.latency)

    def fault(self, operation: str) -> Fault:
        """What the next call of this operation meets."""
        polls = 99 if operation in ("open", "close") else 0
        fine = Fault(polls=polls)
        if self.chaos is None or self.chaos.random() < 0.75:
            return fine
        self.faults += 1
        return self.chaos.choice(
            [
                Fault(error=Throttled("Slow down."), happens=False),
                Fault(error=Unreachable("The answer was lost."), polls=polls),
                Fault(error=Unreachable("The request was lost."), happens=False),
                *([Fault(happens=False, polls=polls)] if polls else []),  # it lies
                *([Fault(happens=False, polls=polls, reason="Internal error")] if operation == "close" else []),
                *([Fault(is_stale=True)] if operation in ("look", "enforce") else []),
            ]
        )


LIMITS: dict[str, Limits] = {}  # by the world's name


class PacedProvisioner(FakeProvisioner):
    """The fake, reached as AWS is: within the budget, over a network that takes its time, to limits that refuse."""

    @property
    def limits(self) -> Limits:
        return LIMITS[self.world.name]

    def check(self, target: Target, windows: Any) -> None:
        self._reach("check", "DescribePermissionSet")
        super().check(target, windows)

    def enforce(self, target: Target, windows: Any) -> Proof:
        budget.here().take(pacing.RATES["iam"], target.account_id)  # another budget: it is IAM that is written
        self.limits.time.sleep(0.3)
        self.world.script("enforce", self.limits.fault("enforce"))
        return super().enforce(target, windows)

    def open(self, target: Target) -> Ticket:
        return self._start("open", "create_account_assignment", target)

    def close(self, target: Target) -> Ticket:
        return self._start("close", "delete_account_assignment", target)

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        with pacing.room(HUB, "sso-admin", "describe_account_assignment_creation_status") as answered:
            self._reach("status", "DescribeAccountAssignmentCreationStatus")
            self.limits.progress(self.world, pair_of(target))
            found = super().status(target, ticket)
            answered(_answer(found))
        return found

    def look(self, target: Target) -> Look:
        pair = pair_of(target)
        self._reach("look", "ListAccountAssignments")
        self.limits.progress(self.world, pair)
        fault = self.limits.fault("look")
        self.world.script("look", Fault() if fault.is_stale and not self.limits.is_new(self.world, pair) else fault)
        return super().look(target)

    def _start(self, operation: str, call: str, target: Target) -> Ticket:
        pair, verb = pair_of(target), "Create" if operation == "open" else "Delete"
        self._reach("look", "ListAccountAssignments")
        self.limits.progress(self.world, pair)
        with pacing.room(HUB, "sso-admin", call) as answered:
            self._reach(operation, f"{verb}AccountAssignment")
            self.limits.require_room(self.world)
            self.world.script(operation, self.limits.fault(operation))
            try:
                ticket = (super().open if operation == "open" else super().close)(target)
            finally:
                for request in self.world.about(pair):
                    if request.state == "pending":
                        self.limits.accepted(request)
                self.limits.most_outstanding = max(self.limits.most_outstanding, self.limits.outstanding(self.world))
            answered(_answer(ticket))
        return ticket

    def _reach(self, operation: str, name: str) -> None:
        """One call to Identity Center: its turn, the way there, and what AWS says to it."""
        purpose = "revoke" if name in pacing.FIRST else budget.current()
        budget.here().take(pacing.RATES["sso-admin"], HUB, purpose)
        self.limits.spend(operation, purpose)
        self.limits.time.sleep(0.1)


def _answer(ticket: Ticket) -> dict[str, Any]:
    states = {"pending": "IN_PROGRESS", "done": "SUCCEEDED", "failed": "FAILED"}
    return {"AccountAssignmentStatus": {"Status": states[ticket.state], "RequestId": ticket.reference}}


def read_all(world: World, pages: int) -> None:
    """A reading of Identity Center that takes so many calls."""
    limits = LIMITS[world.name]
    for _ in range(pages):
        budget.here().take(pacing.RATES["sso-admin"], HUB, "sync")
        limits.spend("page", "sync")
        limits.time.sleep(0.1)

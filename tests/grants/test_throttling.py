"""An AWS that allows 20 calls a second and works on 10 assignments at a time, with many grants, removals and a reading at
once: removals go first, nothing is lost, and nothing is reported before it was read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import time_machine
from django.conf import settings
from redis import Redis

from apps.connectors import budget, registry
from apps.connectors.budget import Budget
from apps.connectors.leases import LOOK_AGAIN, PREFIX, PURPOSES, Leases, Pool, Purpose, Shared
from apps.core import lifecycle
from apps.grants import periodic, provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import ending, enforcing, opening
from tests.grants.simulation import LIMITS, Limits, Simulation, read_all
from tests.grants.system import ACCOUNT, START, System

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS = 20  # threads, of several processes
ENDING, BEGINNING = 16, 10


class Witness:
    """Looks on while leases are taken: who had to wait, and who was let in while somebody above them did."""

    def __init__(self, leases: Leases, time: Simulation) -> None:
        self._leases, self._time = leases, time
        self._waiting: dict[str, tuple[str, int, float]] = {}  # lease → pool, rank, when it asked last
        self.overtaken: list[str] = []
        self.waited: Counter[str] = Counter()

    def take(self, pool: Pool, of: str, purpose: Purpose, lease: str) -> float:
        wait = self._leases.take(pool, of, purpose, lease)
        rank, now = PURPOSES.index(purpose), self._time.seconds()
        if wait:
            self.waited[purpose] += lease not in self._waiting
            self._waiting[lease] = (f"{pool.name} {of}", rank, now)
            return wait
        self._waiting.pop(lease, None)
        for name, above, asked_at in self._waiting.values():
            if name == f"{pool.name} {of}" and above < rank and now - asked_at <= LOOK_AGAIN:
                self.overtaken.append(f"{purpose} was let in at {now:.2f} s before {PURPOSES[above]}")
        return wait

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)


class Company:
    """Many people, who begin and end together, and workers that carry it out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
        with time_machine.travel(START, tick=False):
            self.system = System()
        self.world = self.system.world
        self.world.guard_capacity = 1000
        self.time = Simulation(START + timedelta(minutes=10))
        self.limits = LIMITS[self.world.name] = Limits(self.time)
        self.queue: list[tuple[str, int | str]] = []
        self.mine: set[int] = set()
        self.reports: list[str] = []
        self.witness = Witness(Shared(redis, self.time.micro), self.time)
        budget.use(Budget(shared=self.witness))
        self.patch = monkeypatch
        monkeypatch.setattr("time.sleep", self.time.sleep)
        for module in (ending, enforcing, opening):
            monkeypatch.setattr(module, "exclusive", self.time.exclusive)
        for module in (ending, opening):
            monkeypatch.setattr(module, "move", self.checked)

    @property
    def overtaken(self) -> list[str]:
        return self.witness.overtaken

    @property
    def waited(self) -> Counter[str]:
        return self.witness.waited

    def people(self, name: str, number: int) -> list[Grant]:
        """So many people who each are given something; decided, not carried out."""
        with time_machine.travel(START, tick=False):
            return [self.system.issue(self.system.person(f"{name}{n}")) for n in range(number)]

    def active(self, number: int) -> list[Grant]:
        """People who hold something; from then on AWS is slow and has limits."""
        self.patch.setitem(
            registry.PROVISIONERS, ("fake", "idc_assignment"), "apps.connectors.fake_provisioners:FakeProvisioner"
        )
        grants = self.people("old", number)
        with time_machine.travel(START, tick=False):
            for grant in grants:
                provisioning.provision(grant.pk)
        self.patch.setitem(
            registry.PROVISIONERS, ("fake", "idc_assignment"), "tests.grants.simulation:PacedProvisioner"
        )
        self.world.calls.clear()
        self.reports.clear()
        assert self.system.connection.grants.filter(state=State.ACTIVE).count() == number
        return grants

    def end(self, grants: list[Grant]) -> None:
        """All of them, at the instant the simulation begins."""
        with time_machine.travel(self.time.now, tick=False):
            chosen = Grant.objects.filter(pk__in=[grant.pk for grant in grants])
            services.end_many(chosen, reason=EndReason.REVOKED, by=grants[0].requested_by)

    def checked(self, grant: Grant, to: str, **fields: Any) -> Any:
        """Whatever is reported is so in AWS at that moment."""
        if to == State.ACTIVE:
            assert pair(grant) in self.world.assignments
            assert pair(grant) in self.world.guards[ACCOUNT]
        if to == State.REVOKED:
            assert pair(grant) not in self.world.assignments
        self.reports.append(to)
        return lifecycle.move(grant, to, **fields)

    def clock(self) -> None:
        """Wakes workers for what is due, every five seconds."""
        while True:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(periodic.tasks, "enqueue", self.enqueue)
                periodic.wake_workers()
            self.time.sleep(5)

    def enqueue(self, task: Any, key: int | str) -> None:
        name = task.__name__
        is_mine = self.world.name in key if isinstance(key, str) else key in self.mine
        if is_mine and (name, key) not in self.queue:
            self.queue.append((name, key))

    def work(self) -> None:
        """A worker: empties the queue of removals before it takes anything else."""
        while True:
            task = min(self.queue, key=lambda task: not task[0].startswith("de"), default=None)
            if task is None:
                self.time.sleep(0.5)
                continue
            self.queue.remove(task)
            getattr(provisioning, task[0])(task[1])

    def last_removal_accepted(self) -> float:
        """Seconds until AWS had accepted every removal."""
        return max(at for at, _, operation in self.limits.calls if operation == "close")

    def read(self) -> None:
        while True:
            read_all(self.world, 50)

    def run(self, *grants: Grant, workers: int = WORKERS, reading: bool = False) -> float:
        """Until all these grants are settled; the seconds it took."""
        keys = [grant.pk for grant in grants]
        unsettled = Grant.objects.filter(pk__in=keys, state__in={State.PENDING, State.PROVISIONING, State.REVOKING})
        self.mine = set(self.system.connection.grants.values_list("pk", flat=True))
        self.time.spawn(self.clock)
        for _ in range(workers):
            self.time.spawn(self.work)
        if reading:
            self.time.spawn(self.read)
        self.time.run(lambda: not unsettled.exists())
        return self.time.seconds()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[Callable[[], Company]]:
    before = budget.here()
    redis = Redis.from_url(settings.REDIS_URL)

    def forget() -> None:
        names = list(redis.scan_iter(f"{PREFIX}:*"))
        if names:
            redis.delete(*names)

    def begin() -> Company:
        forget()
        return Company(monkeypatch, redis)

    yield begin
    budget.use(before)
    LIMITS.clear()
    forget()
    redis.close()


def most_in_a_second(calls: list[tuple[float, str, str]]) -> int:
    at = [when for when, _, _ in calls]
    return max(sum(0 <= other - start < 1 - 1e-5 for other in at) for start in at)


def pair(grant: Grant) -> tuple[str, str]:
    return grant.principal.external_id, grant.entitlement.external_id


def test_removals_go_before_everything_else_and_aws_never_has_to_refuse(start: Callable[[], Company]) -> None:
    took = {}
    for others in (False, True):
        company = start()
        going = company.active(ENDING)
        coming = company.people("new", BEGINNING) if others else []
        company.end(going)
        company.run(*going, reading=others)
        took[others] = company.last_removal_accepted()
        assert company.overtaken == []
        assert company.limits.refused == 0
        assert most_in_a_second(company.limits.calls) <= 20
        assert company.limits.most_outstanding <= 10
        assert not {pair(grant) for grant in going} & set(company.world.assignments)
        assert not coming or company.waited["revoke"], "Nothing had to wait, so nothing was shown."
    # What others already spent of the first second is spent, and a removal asks again after three seconds at most.
    assert took[True] <= took[False] + 4


def test_grants_go_before_reading_and_all_of_them_are_opened(start: Callable[[], Company]) -> None:
    company = start()
    company.active(0)
    coming = company.people("new", BEGINNING)
    company.run(*coming, reading=True)
    assert company.overtaken == []
    assert company.limits.refused == 0
    assert most_in_a_second([call for call in company.limits.calls if call[1] != "revoke"]) <= 15  # but for questions
    assert company.limits.most_outstanding <= 7
    assert {pair(grant) for grant in coming} == set(company.world.assignments)
    assert company.reports.count(State.ACTIVE) == BEGINNING


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_and_nothing_is_reported_early_whatever_aws_answers(
    start: Callable[[], Company], seed: int
) -> None:
    company = start()
    going = company.active(6)
    coming = company.people("new", 6)
    company.end(going)
    company.limits.chaos = Random(seed)
    company.run(*going, *coming, reading=True)
    for grant in (*going, *coming):
        grant.refresh_from_db()
    assert {grant.state for grant in going} == {State.REVOKED}
    assert {grant.state for grant in coming} <= {State.ACTIVE, State.REVOKED, State.FAILED}
    assert {pair(grant) for grant in coming if grant.state == State.ACTIVE} == set(company.world.assignments)
    assert all(grant.receipt for grant in going)
    assert company.limits.faults > 10

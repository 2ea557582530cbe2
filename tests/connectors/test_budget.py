"""The rate budget: never more than the limit in any second, whoever ends access goes first, and no Redis is no excuse."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from redis import Redis
from redis.exceptions import ConnectionError as NoRedis

from apps.connectors import budget
from apps.connectors.budget import Budget
from apps.connectors.errors import Throttled
from apps.connectors.leases import LOOK_AGAIN, PREFIX, PURPOSES, Leases, Local, Pool, Purpose, Shared

CALLS = Pool("calls", {"sync": 10, "grant": 15, "revoke": 20})
WORK = Pool("work", {"sync": 7, "grant": 7, "revoke": 10}, lasts_for=120, is_counted=False)
ORG = "111122223333"


class Time:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def micro(self) -> int:
        return round(self.now * 1_000_000)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = Redis.from_url(settings.REDIS_URL)
    yield client
    names = list(client.scan_iter(f"{PREFIX}:*"))
    if names:
        client.delete(*names)
    client.close()


@pytest.fixture(params=["shared", "local"])
def leases(request: pytest.FixtureRequest, time: Time, redis: Redis) -> Leases:
    """Both ways to keep leases keep the same promises."""
    return Shared(redis, time.micro) if request.param == "shared" else Local(1, lambda: time.now)


@pytest.fixture
def mine(leases: Leases, time: Time) -> Budget:
    return Budget(shared=leases, sleep=time.sleep, clock=lambda: time.now)


def take(leases: Leases, purpose: Purpose, times: int = 1, pool: Pool = CALLS) -> int:
    """How many of so many leases are given."""
    return sum(leases.take(pool, ORG, purpose, f"{purpose}-{number}") == 0 for number in range(times))


@pytest.mark.parametrize(("purpose", "limit"), [("sync", 10), ("grant", 15), ("revoke", 20)])
def test_each_purpose_has_its_limit(leases: Leases, purpose: Purpose, limit: int) -> None:
    assert take(leases, purpose, 30) == limit


def test_all_purposes_together_stay_below_the_limit_and_something_is_left_for_those_above(leases: Leases) -> None:
    assert (take(leases, "sync", 30), take(leases, "grant", 30), take(leases, "revoke", 30)) == (10, 5, 5)


def test_reading_gets_nothing_of_a_second_that_removals_fill(leases: Leases) -> None:
    assert (take(leases, "revoke", 30), take(leases, "grant", 30), take(leases, "sync", 30)) == (20, 0, 0)


def test_no_second_sees_more_than_the_limit_wherever_it_begins(mine: Budget, time: Time) -> None:
    at = []
    for _ in range(100):
        mine.take(CALLS, ORG, "revoke")
        at.append(time.micro())
        time.now += 0.007
    assert max(sum(0 <= other - start < 999_999 for other in at) for start in at) == 20


def test_one_organization_does_not_wait_for_another(leases: Leases) -> None:
    take(leases, "revoke", 20)
    assert leases.take(CALLS, "999999999999", "sync", "other") == 0


def test_while_a_removal_waits_nobody_else_is_let_in(leases: Leases, time: Time) -> None:
    take(leases, "revoke", 20)
    time.now += 0.95
    assert leases.take(CALLS, ORG, "revoke", "waits") > 0
    time.now += 0.06  # all leases are over now; the removal looks again in a moment
    assert leases.take(CALLS, ORG, "grant", "later") > 0
    assert leases.take(CALLS, ORG, "sync", "later") > 0
    assert leases.take(CALLS, ORG, "revoke", "waits") == 0


def test_a_waiting_grant_goes_before_reading_and_not_before_a_removal(leases: Leases, time: Time) -> None:
    take(leases, "grant", 15)
    time.now += 0.95
    assert leases.take(CALLS, ORG, "grant", "waits") > 0
    time.now += 0.06
    assert leases.take(CALLS, ORG, "sync", "later") > 0
    assert leases.take(CALLS, ORG, "revoke", "first") == 0


def test_whoever_stopped_waiting_is_not_waited_for(leases: Leases, time: Time) -> None:
    take(leases, "revoke", 20)
    leases.take(CALLS, ORG, "revoke", "gave up")
    time.now += 1
    time.now += LOOK_AGAIN
    assert leases.take(CALLS, ORG, "sync", "now") == 0


def test_openings_leave_room_for_removals_among_what_aws_works_on(leases: Leases) -> None:
    assert take(leases, "grant", 10, WORK) == 7
    assert take(leases, "revoke", 10, WORK) == 3


def test_room_is_kept_until_it_is_given_back(leases: Leases, time: Time) -> None:
    take(leases, "revoke", 10, WORK)
    time.now += 60
    assert take(leases, "grant", 1, WORK) == 0
    time.now += 1
    for number in range(10):
        leases.give_back(WORK, ORG, f"revoke-{number}")
    assert take(leases, "grant", 1, WORK) == 1


def test_room_that_nobody_gave_back_is_free_after_a_while(leases: Leases, time: Time) -> None:
    take(leases, "revoke", 10, WORK)
    time.now += 120
    assert take(leases, "revoke", 1, WORK) == 1


def test_room_is_given_back_under_the_name_that_aws_gave_it(leases: Leases) -> None:
    take(leases, "revoke", 10, WORK)
    leases.rename(WORK, ORG, "revoke-0", "request-77")
    leases.give_back(WORK, ORG, "revoke-0")
    assert leases.take(WORK, ORG, "revoke", "next") > 0
    leases.give_back(WORK, ORG, "request-77")
    assert leases.take(WORK, ORG, "revoke", "next") == 0


def test_when_aws_says_wait_everybody_does_and_removals_go_first_after_it(leases: Leases, time: Time) -> None:
    leases.pause(CALLS, ORG, "sync", 3.0)
    assert leases.take(CALLS, ORG, "revoke", "waits") == pytest.approx(3.0, abs=0.001)
    time.now += 2.9
    assert leases.take(CALLS, ORG, "revoke", "waits") > 0
    time.now += 0.11
    assert leases.take(CALLS, ORG, "grant", "later") > 0
    assert leases.take(CALLS, ORG, "revoke", "waits") == 0


def test_a_shorter_wait_does_not_end_a_longer_one(leases: Leases) -> None:
    leases.pause(CALLS, ORG, "sync", 5.0)
    leases.pause(CALLS, ORG, "sync", 1.0)
    assert leases.take(CALLS, ORG, "revoke", "waits") == pytest.approx(5.0, abs=0.001)


def test_a_provider_is_not_believed_when_it_sends_us_away_for_hours(mine: Budget, leases: Leases) -> None:
    mine.pause(CALLS, ORG, 86_400, "sync")
    assert leases.take(CALLS, ORG, "revoke", "waits") <= budget.LONGEST_PAUSE


def test_waiting_ends(mine: Budget, leases: Leases, time: Time) -> None:
    leases.pause(CALLS, ORG, "sync", 50.0)
    for purpose in PURPOSES[:2]:
        begun = time.slept
        with pytest.raises(Throttled, match="tried again"):
            mine.take(CALLS, ORG, purpose)
        assert time.slept - begun <= budget.LONGEST_WAIT[purpose] + LOOK_AGAIN


def test_whoever_waits_gets_their_turn(mine: Budget, leases: Leases, time: Time) -> None:
    take(leases, "grant", 15)
    assert mine.take(CALLS, ORG, "grant")
    assert time.slept == pytest.approx(1.0, abs=LOOK_AGAIN)


def test_a_purpose_without_a_limit_takes_nothing(mine: Budget) -> None:
    assert [mine.take(Pool("reading", {"sync": 1}), ORG, "revoke") for _ in range(3)] == ["", "", ""]


def test_calls_and_refusals_are_counted_by_purpose(mine: Budget, leases: Leases) -> None:
    take(leases, "revoke", 3)
    take(leases, "sync", 2)
    take(leases, "grant", 2, WORK)
    mine.pause(CALLS, ORG, 1, "sync")
    assert dict(leases.counts().calls) == {("calls", "revoke"): 3, ("calls", "sync"): 2}
    assert dict(leases.counts().throttles) == {("calls", "sync"): 1}


def test_clocks_that_processes_noted_are_known(leases: Leases) -> None:
    leases.note_skew("a:1", 0.5)
    leases.note_skew("b:2", -40.0)
    leases.note_skew("a:1", 0.7)
    assert sorted(leases.skews()) == [-40.0, 0.7]


def test_an_aws_that_is_none_is_counted_and_not_limited(leases: Leases) -> None:
    free = Budget(shared=leases, sleep=pytest.fail, is_limited=False)
    free.pause(CALLS, ORG, 60, "sync")
    for _ in range(50):
        free.take(CALLS, ORG, "sync")
        free.take(WORK, ORG, "sync")
    assert leases.counts().calls["calls", "sync"] == 50


# Purposes


def test_calls_are_for_reading_unless_somebody_says_otherwise() -> None:
    @budget.purpose("revoke")
    def end() -> str:
        with budget.purpose("grant"):
            assert budget.current() == "grant"
        return budget.current()

    assert (budget.current(), end(), budget.current()) == ("sync", "revoke", "sync")


def test_a_thread_of_a_reading_reads(mine: Budget) -> None:
    seen: list[str] = []
    with budget.purpose("revoke"):
        thread = threading.Thread(target=lambda: seen.append(budget.current()))
        thread.start()
        thread.join()
    assert seen == ["sync"]


# Without Redis


class Dead:
    """A Redis that does not answer, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        def ask(*_: object) -> None:
            self.asked += 1
            raise NoRedis

        return ask


def test_without_redis_each_process_keeps_to_a_share(time: Time) -> None:
    dead: Any = Dead()
    mine = Budget(shared=dead, own=Local(4, lambda: time.now), sleep=time.sleep, clock=lambda: time.now)
    for _ in range(5):
        mine.take(CALLS, ORG, "revoke")
    assert time.slept == 0
    mine.take(CALLS, ORG, "revoke")
    assert time.slept > 0


def test_a_redis_that_is_down_is_not_asked_at_every_call_and_is_asked_again(time: Time) -> None:
    dead: Any = Dead()
    mine = Budget(shared=dead, own=Local(1, lambda: time.now), sleep=time.sleep, clock=lambda: time.now)
    for _ in range(3):
        mine.take(CALLS, ORG, "revoke")
    assert dead.asked == 1
    time.now += budget.WITHOUT_REDIS_FOR
    mine.take(CALLS, ORG, "revoke")
    assert dead.asked == 2


def test_even_the_smallest_share_is_one(time: Time) -> None:
    own = Local(4, lambda: time.now)
    pool = Pool("few", {"revoke": 1, "grant": 1, "sync": 1})
    assert take(own, "revoke", 3, pool) == 1


# Real Redis, several at once


def test_threads_get_no_more_than_the_limit(redis: Redis, time: Time) -> None:
    shared, got = Shared(redis, time.micro), []
    barrier = threading.Barrier(8)

    def worker(number: int) -> None:
        barrier.wait()
        got.extend(shared.take(CALLS, ORG, "revoke", f"{number}-{turn}") == 0 for turn in range(10))

    threads = [threading.Thread(target=worker, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 20


PROCESS = """
import sys
from redis import Redis
from apps.connectors.leases import Pool, Shared
pool = Pool("calls", {"sync": 10, "grant": 15, "revoke": 20})
shared = Shared(Redis.from_url(sys.argv[1]), lambda: 1_795_000_000_000_000)
print("ready", flush=True)
sys.stdin.readline()
print(sum(shared.take(pool, "111122223333", "grant", f"{sys.argv[2]}-{n}") == 0 for n in range(20)))
"""


def test_processes_get_no_more_than_the_limit(redis: Redis) -> None:
    project = Path(__file__).resolve().parents[2]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, settings.REDIS_URL, str(number)],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    got = [int(process.communicate("\n", timeout=60)[0]) for process in running]
    assert sum(got) == 15


def test_the_clock_is_that_of_redis(redis: Redis) -> None:
    before = redis.time()
    Shared(redis).take(CALLS, ORG, "revoke", "one")
    [(_, ends_at)] = redis.zrange(f"{PREFIX}:calls:{ORG}:leases", 0, -1, withscores=True)
    after = redis.time()
    assert before[0] * 1_000_000 + before[1] <= ends_at - 1_000_000 <= after[0] * 1_000_000 + after[1]


def test_nothing_stays_in_redis_for_ever(redis: Redis) -> None:
    shared = Shared(redis)
    for number in range(25):
        shared.take(CALLS, ORG, "revoke", str(number))
    shared.pause(CALLS, ORG, "revoke", 5)
    shared.take(WORK, ORG, "revoke", "x")
    shared.note_skew("a:1", 0.0)
    lasting = {name for name in redis.scan_iter(f"{PREFIX}:*") if redis.ttl(name) < 0}
    assert lasting == {f"{PREFIX}:counts".encode()}


def test_a_process_asks_the_budget_that_its_settings_name() -> None:
    before = budget.here()
    try:
        with pytest.raises(ValueError, match="one of shared, own, none"):
            budget.begin("most", lambda: pytest.fail("no Redis is needed"))
        budget.begin("own", lambda: pytest.fail("no Redis is needed"))
        assert budget.here() is not before
    finally:
        budget.use(before)

"""How long it takes until access that ends together is denied and gone: `python -m benchmarks.ending [grants]`.

By default 10,000 grants in 500 accounts end at the same second. AWS is the fake, with AWS's own limits: 20 calls a second
and 10 assignments that are worked on, 3 seconds each, 0.1 seconds to reach it. Time passes only when all 24 workers wait
for AWS, so its numbers are seconds as they would pass, not seconds on this machine; database and locks are real. They
are compared with the floor: what the same calls take when nothing but AWS's limits holds them up.

Then how many grants 1, 2 and 4 worker processes open and end in a second when AWS answers at once. More than AWS allows
(5 removals a second at 4 calls each) is enough.
"""

import logging
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.portal import portal

GRANTS = 10_000
IN_AN_ACCOUNT = 20
WORKERS = 24
START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
CALLS_A_REMOVAL = 4  # list, delete, ask once, list again
LIMITS = {"until all are gone, against the floor": 1.6, "calls, against the floor": 2.0}
AWS_ALLOWS = 5.0  # removals a second
THROUGHPUT = 120  # grants for each number of worker processes
PROCESSES = (1, 2, 4)


def main() -> int:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else GRANTS
    with portal(LOG_LEVEL="ERROR"):
        logging.disable(logging.WARNING)
        ratios = _ending(size)
        ratios |= _throughput()
    for name, ratio in ratios.items():
        _say(f"{name}: ratio {ratio:.2f}")
    return int(max(ratios.values()) > 1)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# ---- ten thousand at once -----------------------------------------------------------------------------------------


def _ending(size: int) -> dict[str, float]:
    from unittest import mock

    from apps.connectors import budget, registry
    from apps.connectors.budget import Budget
    from apps.connectors.leases import Local
    from apps.grants import periodic, provisioning, tasks
    from apps.grants.models import Grant, State
    from apps.grants.provisioning import ending, enforcing
    from benchmarks.paced import CountingLimits
    from tests.grants.simulation import LIMITS as AT
    from tests.grants.simulation import Simulation

    world = _world(size)
    simulated = Simulation(START)
    AT[world.name] = limits = CountingLimits(simulated)
    queue = _Queue()

    def clock() -> None:
        while True:
            periodic.expire()
            periodic.wake_workers()
            simulated.sleep(5)

    def work() -> None:
        while True:
            task = queue.take()
            if task is None:
                simulated.sleep(0.5)
            else:
                getattr(provisioning, task[0])(task[1])

    budget.use(Budget(own=Local(1, simulated.seconds)))
    began = time.perf_counter()
    with (
        mock.patch.object(tasks, "enqueue", queue.put),
        mock.patch.object(time, "sleep", simulated.sleep),
        mock.patch.dict(registry.PROVISIONERS, {("fake", "idc_assignment"): "benchmarks.paced:CountingProvisioner"}),
        mock.patch.object(enforcing, "exclusive", simulated.exclusive),
        mock.patch.object(ending, "exclusive", simulated.exclusive),
    ):
        simulated.spawn(clock)
        for _ in range(WORKERS):
            simulated.spawn(work)
        simulated.run(_once_a_second(simulated, Grant.objects.exclude(state=State.REVOKED)), timedelta(days=1))
    return _report(size, world, limits, time.perf_counter() - began)


def _once_a_second(simulated: Any, left: Any) -> Callable[[], bool]:
    """Whether nothing is left; the database is asked only so often."""
    asked_at = START

    def is_done() -> bool:
        nonlocal asked_at
        if simulated.now < asked_at:
            return False
        asked_at = simulated.now + timedelta(seconds=1)
        return not left.exists()

    return is_done


def _report(size: int, world: Any, limits: Any, took: float) -> dict[str, float]:
    import time_machine
    from django.db.models import Max

    from apps.grants.models import Grant

    with time_machine.travel(START, tick=False):
        usable = sum(world.can_use(*pair, START) for pair in world.pairs)
    last = Grant.objects.aggregate(denied=Max("denied_at"), gone=Max("revoked_at"))
    denied, gone = ((last[name] - START).total_seconds() for name in ("denied", "gone"))
    spent = Counter(operation for _, _, operation in limits.calls)
    calls = sum(spent.values())
    by_calls, by_room = size * CALLS_A_REMOVAL / 20, size * limits.latency / 10
    floor = max(by_calls, by_room)
    tried = Grant.objects.filter(attempt__gt=2).count()  # opened once, ended once
    _say(
        f"{size:,} grants in {len(world.accounts):,} accounts end at once; {WORKERS} workers; {took:.0f} s on this machine"
    )
    _say(f"usable at that second: {usable} (each guard's date had been written before the access opened)")
    _say(f"denied, read back: {denied:.0f} s, {limits.guards:,} guard writes")
    _say(f"gone, read back: {gone:.0f} s; floor {floor:.0f} s (calls {by_calls:.0f} s, assignments {by_room:.0f} s)")
    _say(f"calls to Identity Center: {calls:,}; floor {size * CALLS_A_REMOVAL:,}; {dict(spent)}")
    _say(f"refused by AWS as too many: {limits.refused}; removals tried more than once: {tried:,}")
    assert not usable
    assert not limits.refused
    return {
        "until all are gone, against 1.6 floors": gone / floor / LIMITS["until all are gone, against the floor"],
        "calls, against 2 floors": calls / (size * CALLS_A_REMOVAL) / LIMITS["calls, against the floor"],
    }


class _Queue:
    """What workers were woken for, each thing once, in the order of the queues that `config.celery` sends it to."""

    def __init__(self) -> None:
        from config.celery import QUEUES, app

        self._route = app.amqp.router.route
        self._tasks: dict[str, dict[tuple[str, Any], None]] = {name: {} for name in QUEUES}

    def put(self, task: Any, key: Any) -> None:
        queue = self._route({}, task.name)["queue"].name
        self._tasks[queue].setdefault((task.__name__, key))

    def take(self) -> tuple[str, Any] | None:
        for tasks in self._tasks.values():
            if tasks:
                task = next(iter(tasks))
                del tasks[task]
                return task
        return None


def _world(size: int) -> Any:
    """The accounts, people, grants that are active, and what AWS shows of them."""
    from apps.connectors import fake_world
    from apps.connectors.base import whole_second
    from apps.connectors.fake_world import Line
    from benchmarks.paced import IndexedWorld
    from tests.factories.inventory import ConnectionFactory

    org = ConnectionFactory(writable=True)
    world: Any = IndexedWorld(org.name)
    fake_world._worlds[org.name] = world
    accounts = -(-size // IN_AN_ACCOUNT)
    _rows(_ENDING, org=org.pk, world=org.name, size=size, accounts=accounts)
    _grants(org, world.name)
    for number in range(accounts):
        world.add_account(f"{number + 1:012}")
        world.add_permission_set("Read", f"{number + 1:012}")
    world.pairs = []
    for number in range(size):
        account = f"{number // IN_AN_ACCOUNT + 1:012}"
        world.add_user(f"p{number + 1}")
        pair = (f"p{number + 1}", f"Read@{account}")
        world.pairs.append(pair)
        world.assignments[pair] = {}
        world.guards[account][pair] = Line(whole_second(START), True, False)
    return world


def _grants(org: Any, world: str) -> None:
    """One for each person, active for an hour, and over at `START`."""
    from apps.grants.models import Grant, State
    from apps.inventory.models import Entitlement, Principal

    began = START - timedelta(hours=1)
    in_account = list(Entitlement.objects.order_by("resource__external_id").select_related("resource"))
    people = sorted(Principal.objects.all(), key=lambda person: int(person.external_id[1:]))
    Grant.objects.bulk_create(
        (
            Grant(
                connection=org,
                identity_id=person.identity_id,
                principal=person,
                entitlement=in_account[number // IN_AN_ACCOUNT],
                origin=Grant.Origin.REQUEST,
                provisioner="idc_assignment",
                state=State.ACTIVE,
                reason="A benchmark.",
                duration=timedelta(hours=1),
                created_at=began,
                claimed_at=began,
                active_at=began,
                narrowed_at=began,
                not_after=START,
                ends_at=START,
                next_try_at=began,
                attempt=1,
                shared_key=f"fake:{world}:guard:{in_account[number // IN_AN_ACCOUNT].resource.external_id}",
            )
            for number, person in enumerate(people)
        ),
        batch_size=1000,
    )


def _rows(statements: tuple[str, ...], **values: Any) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, values)
        cursor.execute("ANALYZE")


_ENDING = (
    """INSERT INTO inventory_resource (connection_id, external_id, name, path, email, provider_state, is_management,
           environment, environment_source, tags, owner_source, digest, first_seen_at)
       SELECT %(org)s, lpad(n::text, 12, '0'), format('account-%%s', n), '', '', 'active', false, 'production',
           'organization', '{}', '', '', now() FROM generate_series(1, %(accounts)s) n""",
    """INSERT INTO inventory_identity (connection_id, kind, external_id, name, email, title, department, classification,
           evidence, manager_source, owner_source, user_source, digest, first_seen_at)
       SELECT %(org)s, 'human', 'p' || n, format('Person %%s', n), '', 'Engineer', 'Platform', '', '', '', '', '', '', now()
       FROM generate_series(1, %(size)s) n""",
    """INSERT INTO inventory_principal (connection_id, identity_id, kind, external_id, name, is_externally_owned,
           is_reserved, attributes, digest, first_seen_at)
       SELECT %(org)s, id, 'idc_user', external_id, name, false, false, '{}'::jsonb, '', now() FROM inventory_identity""",
    """INSERT INTO inventory_entitlement (connection_id, resource_id, kind, external_id, name, description, privilege,
           privilege_reason, can_escalate, is_sensitive_read, documents, attributes, is_ours, digest, first_seen_at,
           session_for)
       SELECT %(org)s, id, 'permission_set', 'Read@' || external_id, 'Read', '', 'read', 'It reads.', false, false, '[]',
           '{}', false, '', now(), interval '1 hour' FROM inventory_resource""",
)


# ---- throughput ---------------------------------------------------------------------------------------------------


def _throughput() -> dict[str, float]:
    """Grants opened and ended in a second by 1, 2 and 4 worker processes, when AWS answers at once."""
    from unittest import mock

    from apps.grants import tasks

    with mock.patch.object(tasks, "enqueue"):
        slowest = min(min(_processes(count)) for count in PROCESSES)
        opening, ending = _statements()
    _say(f"statements for each grant: {opening} to open, {ending} to end, without those of the locks")
    return {f"the slowest, against {AWS_ALLOWS:.0f} a second that AWS allows": AWS_ALLOWS / slowest}


def _processes(count: int) -> tuple[float, float]:
    """Opened and ended in a second by so many processes. Each organization belongs to one of them, since its fake AWS
    lives in that process's memory; the database and the locks are everybody's."""
    from django.db import connections

    from apps.grants import services
    from apps.grants.models import EndReason, Grant, State
    from tests.grants.system import System

    places = [System() for _ in range(max(PROCESSES))]
    for place in places:
        place.world.guard_capacity = 10_000
    issued = [[place.issue(place.person(f"w{n}")) for n in range(THROUGHPUT // len(places))] for place in places]
    keys = [[grant.pk for grant in grants] for grants in issued]
    mine = Grant.objects.filter(pk__in=[key for some in keys for key in some])
    connections.close_all()  # a connection cannot be shared with a child
    forked = multiprocessing.get_context("fork")
    barrier, answers = forked.Barrier(count + 1), forked.SimpleQueue()
    workers = [
        forked.Process(target=_work, args=([key for some in keys[n::count] for key in some], barrier, answers))
        for n in range(count)
    ]
    for worker in workers:
        worker.start()
    opened = _timed(barrier, answers, count)
    assert not mine.exclude(state=State.ACTIVE).exists()
    services.end_many(mine, reason=EndReason.REVOKED, by=issued[0][0].requested_by)
    ended = _timed(barrier, answers, count)
    assert not mine.exclude(state=State.REVOKED).exists()
    for worker in workers:
        worker.join()
    _say(f"{count} worker processes: {_words('opened', opened)}; {_words('ended', ended)}")
    return opened[0], ended[0]


def _work(keys: list[int], barrier: Any, answers: Any) -> None:
    """A worker process: opens its grants, and ends them when it is told to. Answers with the seconds of each."""
    from apps.grants import provisioning

    for step in (provisioning.provision, provisioning.deprovision):
        barrier.wait()
        took = []
        for key in keys:
            began = time.perf_counter()
            step(key)
            took.append(time.perf_counter() - began)
        answers.put(took)


def _timed(barrier: Any, answers: Any, count: int) -> tuple[float, float, float]:
    """How many a second; the median and the 95th of 100 in seconds."""
    barrier.wait()
    began = time.perf_counter()
    took = [seconds for _ in range(count) for seconds in answers.get()]
    whole = time.perf_counter() - began
    return len(took) / whole, statistics.median(took), statistics.quantiles(took, n=20)[-1]


def _statements() -> tuple[int, int]:
    """What one grant asks of the database to be opened, and to be ended."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from apps.grants import provisioning, services
    from apps.grants.models import EndReason, Grant
    from tests.grants.system import System

    grant = System().issue()
    with CaptureQueriesContext(connection) as opening:
        provisioning.provision(grant.pk)
    services.end(Grant.objects.get(pk=grant.pk), reason=EndReason.REVOKED, by=grant.requested_by)
    with CaptureQueriesContext(connection) as ending:
        provisioning.deprovision(grant.pk)
    return len(opening), len(ending)


def _words(verb: str, measured: tuple[float, float, float]) -> str:
    rate, median, high = measured
    return f"{verb} {rate:.1f} a second (median {median * 1000:.0f} ms, 95 of 100 {high * 1000:.0f} ms)"


if __name__ == "__main__":
    sys.exit(main())

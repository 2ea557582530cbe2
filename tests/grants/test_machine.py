"""Random histories: overlapping grants, ends, lost answers, tasks delivered at any time, twice, never or killed half way.

Invariants, whatever happened: nobody can use what no live grant says they may, the system ends everything by itself, and
once the dust settles access is held exactly while some live grant says so.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from inspect import signature
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from apps.audit import services as audit
from apps.connectors import fake_world as fake
from apps.grants import provisioning, services
from apps.grants.models import COMMITTED, EndReason, Grant, State
from apps.inventory import sync
from tests.grants.system import START, YES, System, make_due

FAULTS = (
    fake.fine(),
    fake.throttled(),
    fake.busy(),
    fake.lost_request(),
    fake.lost_response(),
    fake.lies(),
    fake.pending(2),
    fake.pending(12),
    fake.stale(),
)
ACTS = (
    *("ask", "ask", "end", "end", "deliver", "deliver", "deliver_and_kill", "break_something", "break_something"),
    *("time_passes", "work", "work", "settle", "extend", "extend", "scan", "deny_together"),
)
DRAWN: dict[str, Sequence[Any]] = {
    "who": ("alice", "bob"),
    "index": range(8),
    "task": ("provision", "deprovision", "narrow", "clear"),
    "minutes": range(5, 121),
    "at": range(10),
    "call": ("enforce", "open", "close", "look"),
    "fault": FAULTS,
    "is_prompt": (True, False),
}


class Killed(BaseException):
    """The process died here."""


class Grants(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = time_machine.travel(START, tick=False)
        self.now = self.clock.start()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.system = System()
        self.ids: list[int] = []

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)
        self.clock.stop()

    def pick(self, index: int) -> Grant:
        return Grant.objects.get(pk=self.ids[index % len(self.ids)])

    @property
    def is_moving(self) -> bool:
        """Something is to be done now, by the clock or by a worker."""
        rows, now = Grant.objects, timezone.now()
        return (rows.unfinished().exclude(state=State.ACTIVE) | rows.expired(now)).exists()

    @initialize(who=st.sampled_from(DRAWN["who"]))
    def begin(self, who: str) -> None:
        self.ask(who, 60, is_prompt=True)

    @rule(act=st.sampled_from(ACTS), **{name: st.sampled_from(values) for name, values in DRAWN.items()})
    def step(self, act: str, **drawn: Any) -> None:
        """One of `ACTS`, with what it takes of `DRAWN`."""
        method = getattr(self, act)
        method(**{name: drawn[name] for name in signature(method).parameters})

    def ask(self, who: str, minutes: int, is_prompt: bool) -> None:
        grant = self.system.issue(getattr(self.system, who), duration=timedelta(minutes=minutes))
        self.ids.append(grant.pk)
        if is_prompt:
            provisioning.provision(grant.pk)

    def deliver(self, index: int, task: str, is_prompt: bool) -> None:
        if not is_prompt:
            make_due()
        getattr(provisioning, task)(self.pick(index).pk)

    def deliver_and_kill(self, index: int, task: str, at: int) -> None:
        left = at

        def die(when: str, call: fake.Call) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        make_due()
        self.system.world.hook = die
        try:
            getattr(provisioning, task)(self.pick(index).pk)
        except Killed:
            pass
        finally:
            self.system.world.hook = None

    def end(self, index: int, is_prompt: bool) -> None:
        grant = self.pick(index)
        services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
        if is_prompt:
            provisioning.deprovision(grant.pk)

    def extend(self, index: int, minutes: int, is_prompt: bool) -> None:
        grant = self.pick(index)
        if not services.can_extend(grant):
            return
        try:
            with transaction.atomic():
                extension = services.extend(
                    grant, longer=timedelta(minutes=minutes), by=grant.requested_by, authority=YES
                )
        except services.NotPossible:  # past the cap of the rule
            return
        if is_prompt:
            provisioning.extend(extension.pk)

    def scan(self) -> None:
        sync.run(self.system.connection.pk, by=audit.WORKER)

    def deny_together(self, index: int) -> None:
        provisioning.deny(self.pick(index).shared_key)

    def break_something(self, call: str, fault: fake.Fault) -> None:
        self.system.world.script(call, fault)

    def time_passes(self, minutes: int) -> None:
        self.now.shift(timedelta(minutes=minutes))

    def work(self) -> None:
        """The clock and the workers run for a while, whatever is broken."""
        if self.is_moving:
            make_due()
            self.system.run_clock(1)

    def settle(self) -> None:
        """Everything works for a while: the truth in the system and the rows must meet."""
        self.system.world.faults.clear()
        for _ in range(15):
            if not self.is_moving:
                break
            make_due()
            self.system.run_clock(1)
        assert not self.is_moving
        for who in (self.system.alice, self.system.bob):
            live = Grant.objects.live().filter(principal=who).exists()
            assert self.system.can_use(who) == live, who

    @invariant()
    def check(self) -> None:
        self.nobody_uses_what_no_grant_allows()
        self.whatever_is_there_is_somebodys_to_remove()
        self.the_system_ends_everything_by_itself()
        self.what_is_reported_removed_is_gone_or_held_by_another_grant()

    def nobody_uses_what_no_grant_allows(self) -> None:
        now = timezone.now()
        for who in (self.system.alice, self.system.bob):
            if self.system.can_use(who):
                mine: Any = Grant.objects.filter(principal=who, not_after__gt=now)
                assert mine.filter(state__in=[State.PROVISIONING, State.ACTIVE, State.REVOKING]).exists(), who

    def whatever_is_there_is_somebodys_to_remove(self) -> None:
        for who in (self.system.alice, self.system.bob):
            if (who.external_id, self.system.read.external_id) in self.system.world.assignments:
                looked_after = COMMITTED | Q(state=State.REVOKED, cleared_at=None)
                assert Grant.objects.filter(looked_after, principal=who).exists(), who

    def the_system_ends_everything_by_itself(self) -> None:
        for who in (self.system.alice, self.system.bob):
            assert not self.system.can_use(who, at=timezone.now() + timedelta(days=1)), who

    def what_is_reported_removed_is_gone_or_held_by_another_grant(self) -> None:
        for who in (self.system.alice, self.system.bob):
            mine = Grant.objects.filter(principal=who)
            if mine.exists() and not mine.exclude(state__in=[State.REVOKED, State.CANCELLED, State.FAILED]).exists():
                assert not self.system.can_use(who), who


@pytest.fixture
def _nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.django_db
@pytest.mark.usefixtures("_nobody_sleeps")
def test_any_history_keeps_the_invariants() -> None:
    run_state_machine_as_test(
        Grants,
        settings=settings(
            max_examples=6,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


@pytest.mark.django_db
@pytest.mark.usefixtures("_nobody_sleeps")
@pytest.mark.parametrize("seed", range(8))
def test_a_long_history_keeps_the_invariants(seed: int) -> None:
    """Hypothesis finds the shortest history, and begins with short ones. These are long from the first, so that ends and
    openings of the same access meet."""
    draw, machine = random.Random(seed), Grants()
    try:
        machine.begin("alice")
        for _ in range(40):
            machine.step(draw.choice(ACTS), **{name: draw.choice(values) for name, values in DRAWN.items()})
            machine.check()
        machine.settle()
        machine.time_passes(180)
        machine.settle()
        machine.check()
    finally:
        machine.teardown()


STEPS = [(when, operation) for operation in ("check", "enforce", "open", "look") for when in ("before", "after")]
END_STEPS = [(when, operation) for operation in ("enforce", "close", "look") for when in ("before", "after")]


@pytest.mark.parametrize(("when", "operation"), STEPS)
def test_killed_at_any_step_of_opening_leaves_bounded_access_and_converges(
    system: System, clock, when, operation
) -> None:
    grant = system.issue()
    kill_at(system, when, operation)
    with pytest.raises(Killed):
        provisioning.provision(grant.pk)
    system.world.hook = None
    assert not system.can_use(at=START + Grant.ALLOWANCE + timedelta(hours=1))
    make_due()
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    clock.shift(timedelta(hours=2))
    assert not system.can_use()
    make_due()
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.REVOKED


@pytest.mark.parametrize(("when", "operation"), END_STEPS)
def test_killed_at_any_step_of_ending_converges(system: System, when, operation) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    kill_at(system, when, operation)
    with pytest.raises(Killed):
        provisioning.deprovision(grant.pk)
    system.world.hook = None
    make_due()
    system.run_clock()
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert not system.can_use()


def kill_at(system: System, when: str, operation: str) -> None:
    def die(now: str, call: fake.Call) -> None:
        if (now, call.operation) == (when, operation):
            raise Killed

    system.world.hook = die

"""What the row says at each step of an opening: a worker that dies there leaves exactly this to the next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors.errors import Gone, Refused
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import turns
from tests.grants.system import START, System, make_due

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def row_before(system: System, operation: str, *names: str) -> dict[str, Any]:
    """The row's fields when the system first hears of `operation`; filled in when it happens."""
    found: dict[str, Any] = {}

    def look(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", operation) and not found:
            found.update(Grant.objects.values(*names).get())

    system.world.hook = look
    return found


def opened(grant: Grant) -> Grant:
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    return grant


def test_the_intent_and_its_latest_end_are_in_the_row_before_the_system_hears_of_it(system: System) -> None:
    grant = system.issue()
    found = row_before(
        system,
        "check",
        "state",
        "claimed_at",
        "not_after",
        "attempt",
        "next_try_at",
        "ticket",
        "active_at",
        "shared_key",
    )
    opened(grant)
    assert found == {
        "state": "provisioning",
        "claimed_at": START,
        "not_after": START + Grant.ALLOWANCE + HOUR,
        "attempt": 1,
        "next_try_at": START + MINUTE,
        "ticket": {},
        "active_at": None,
        "shared_key": grant.shared_key,
    }
    assert grant.shared_key


@pytest.mark.parametrize("operation", ["enforce", "open"])
def test_the_row_says_that_the_system_was_asked_before_it_is(system: System, operation: str) -> None:
    grant = system.issue()
    found = row_before(system, operation, "ticket", "accepted_at")
    opened(grant)
    asked = {"verb": "open", "state": "asked", "reference": "", "reason": ""}
    assert found == {"ticket": asked, "accepted_at": None}


def test_the_answer_is_kept_with_its_time(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.pending(polls=9))
    opened(grant)
    assert (grant.ticket["verb"], grant.ticket["state"]) == ("open", "pending")
    assert grant.accepted_at == START
    assert grant.next_try_at == START + 5 * SECOND


def test_when_it_is_active_nothing_of_its_troubles_is_left(system: System, clock: Any) -> None:
    grant = system.issue()
    system.world.script("check", fake.throttled())
    opened(grant)
    assert grant.problem and grant.problem_count == 1
    clock.shift(10 * SECOND)
    opened(grant)
    now = START + 10 * SECOND
    assert (grant.state, grant.active_at, grant.ends_at) == (State.ACTIVE, now, now + HOUR)
    assert (grant.ticket, grant.problem, grant.problem_count, grant.attempt) == ({}, "", 0, 2)
    assert (grant.deny_left_out, grant.narrowed_at, grant.not_after) == (False, now, now + HOUR)


def test_its_timeline_carries_the_proofs(system: System) -> None:
    opened(system.issue())
    told = dict(AuditEvent.objects.filter(event__startswith="grants.grant.").values_list("event", "data"))
    assert {"grants.grant.claimed", "grants.grant.end_written", "grants.grant.active"} <= set(told)
    for event in ("grants.grant.end_written", "grants.grant.active"):
        assert set(told[event]["proof"]) == {"what", "read_at", "facts"}


def test_every_step_is_told_by_the_worker_of_its_holder_and_its_access(system: System) -> None:
    for who, fault in ((system.alice, None), (system.bob, fake.raises(Refused("There is no room.")))):
        if fault:
            system.world.script("check", fault)
        grant = opened(system.issue(who))
        steps = [step for step in AuditEvent.objects.order_by("pk") if step.subject == audit.ref(grant)][1:]
        assert [step.event.rpartition(".")[2] for step in steps] == (
            ["claimed", "failed"] if fault else ["claimed", "end_written", "active"]
        )
        for step in steps:
            assert step.actor_kind == AuditEvent.ActorKind.WORKER
            assert step.refs == [audit.ref(one) for one in (grant, grant.identity, grant.entitlement)]


# ---- its time


@pytest.mark.parametrize(("early", "state"), [(SECOND, State.ACTIVE), (timedelta(0), State.PENDING)])
def test_what_nobody_began_in_its_time_is_left_to_the_clock(
    system: System, clock: Any, early: timedelta, state: State
) -> None:
    grant = system.issue()
    clock.shift(Grant.ALLOWANCE + HOUR - early)
    assert opened(grant).state == state
    assert bool(system.world.calls) is (state == State.ACTIVE)


@pytest.mark.parametrize("left", [SECOND, timedelta(0)])
def test_it_becomes_active_to_its_last_second(system: System, clock: Any, left: timedelta) -> None:
    grant = system.issue()

    def slow(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "look"):
            clock.move_to(START + Grant.ALLOWANCE + HOUR - left)

    system.world.hook = slow
    assert opened(grant).state == (State.ACTIVE if left else State.PROVISIONING)


# ---- what ends an attempt


def test_what_was_refused_before_the_system_was_asked_has_failed(system: System) -> None:
    grant = system.issue()
    system.world.script("check", fake.raises(Refused("The guard of this account is full. " * 99)))
    opened(grant)
    assert (grant.state, grant.end_reason, grant.revoking_at) == (State.FAILED, EndReason.FAILED, None)
    assert grant.end_note == grant.problem == ("The guard of this account is full. " * 99)[:1000]
    told = AuditEvent.objects.get(event="grants.grant.failed")
    assert told.data["problem"].startswith("The guard")


def test_what_was_refused_after_the_system_was_asked_is_taken_back_at_once(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.raises(Gone("There is no such person.")))
    opened(grant)
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.FAILED)
    assert (grant.revoking_at, grant.next_try_at) == (START, START)


def test_what_fails_because_its_people_left_says_so(system: System) -> None:
    grant = system.issue()
    identity = system.alice.identity
    identity.ended_at = timezone.now()  # type: ignore[union-attr]
    identity.save()  # type: ignore[union-attr]
    opened(grant)
    assert (grant.state, grant.end_reason) == (State.FAILED, EndReason.LEAVER)
    assert "has left" in grant.end_note


def test_a_warrant_that_does_not_hold_raises_an_alarm_of_its_own(system: System) -> None:
    grant = system.issue()
    Grant.objects.filter(pk=grant.pk).update(reason="Something else.")
    assert opened(grant).state == State.FAILED
    assert AuditEvent.objects.filter(event="grants.grant.warrant_refused").count() == 1
    assert not AuditEvent.objects.filter(event="grants.grant.failed").exists()


# ---- trying again


def test_waiting_grows_from_three_seconds_to_a_minute_and_never_ends(system: System) -> None:
    grant = system.issue()
    waits = []
    for _ in range(7):
        system.world.script("check", fake.throttled())
        opened(grant)
        waits.append((grant.next_try_at - timezone.now()).total_seconds())
        make_due()
    assert waits == [3, 6, 12, 24, 48, 60, 60]
    assert grant.problem_count == 7
    Grant.objects.update(problem_count=5000)
    system.world.script("check", fake.throttled())
    opened(grant)
    assert grant.next_try_at == timezone.now() + MINUTE


def test_a_turn_begins_when_the_last_one_is_over_and_not_before(system: System) -> None:
    grant = system.issue()
    system.world.script("check", fake.throttled())
    opened(grant)
    Grant.objects.update(next_try_at=timezone.now() + SECOND)
    assert turns.take_over(Grant.objects.get()) is None
    Grant.objects.update(next_try_at=timezone.now())
    stale = Grant.objects.get()
    turn = turns.take_over(Grant.objects.get())
    grant.refresh_from_db()
    assert turn and turn.grant.attempt == grant.attempt == 2
    assert grant.next_try_at == timezone.now() + MINUTE
    make_due()
    assert turns.take_over(stale) is None  # somebody else had a turn since it was read


# ---- narrowing


def unnarrowed(system: System, **fields: Any) -> Grant:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(**{"narrowed_at": None, "not_after": START + 2 * HOUR, **fields})
    system.world.calls.clear()
    return grant


def test_an_end_is_narrowed_once(system: System) -> None:
    grant = unnarrowed(system)
    for _ in range(2):
        provisioning.narrow(grant.pk)
    grant.refresh_from_db()
    assert (grant.not_after, grant.narrowed_at) == (START + HOUR, START)
    assert len(system.world.calls_of("enforce")) == 1


def test_only_the_end_that_was_written_is_called_narrowed(system: System) -> None:
    other = unnarrowed(system, shared_key="one that the worker does not write")
    grant = system.active(who=system.bob)
    Grant.objects.filter(pk=grant.pk).update(narrowed_at=None)
    provisioning.narrow(grant.pk)
    grant.refresh_from_db()
    assert grant.narrowed_at
    assert Grant.objects.get(pk=other.pk).narrowed_at is None


@pytest.mark.parametrize("fields", [{"narrowed_at": START}, {"shared_key": ""}, {"ends_at": None}], ids=str)
def test_there_is_nothing_to_narrow_where_nothing_says_until_when(system: System, fields: dict[str, Any]) -> None:
    grant = unnarrowed(system, **fields)
    provisioning.narrow(grant.pk)
    assert not system.world.calls


def test_an_end_that_cannot_be_narrowed_now_is_tried_in_a_minute(system: System) -> None:
    grant = unnarrowed(system)
    system.world.script("enforce", fake.throttled())
    provisioning.narrow(grant.pk)
    grant.refresh_from_db()
    assert (grant.narrowed_at, grant.next_try_at) == (None, START + MINUTE)
    assert grant.not_after == START + 2 * HOUR


def test_only_the_one_that_was_asked_about_is_said_to_be_narrowed(system: System) -> None:
    grant, other = system.active(), system.active(system.bob)
    Grant.objects.update(narrowed_at=None, not_after=START + 2 * HOUR)
    provisioning.narrow(grant.pk)
    other.refresh_from_db()
    assert (other.narrowed_at, other.not_after) == (None, START + 2 * HOUR)


def test_what_ends_meanwhile_is_not_said_to_be_narrowed(system: System) -> None:
    grant = unnarrowed(system)

    def ended(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "enforce"):
            services.end(grant, by=grant.requested_by, reason=EndReason.DONE)

    system.world.hook = ended
    provisioning.narrow(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.narrowed_at, grant.not_after) == (State.REVOKING, None, START + 2 * HOUR)
    system.world.calls.clear()
    provisioning.narrow(grant.pk)
    assert not system.world.calls


def test_an_answer_that_comes_late_says_nothing_about_what_is_settled(system: System) -> None:
    grant = system.issue()

    def settled(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "open"):
            Grant.objects.filter(pk=grant.pk).update(state=State.ACTIVE, active_at=START, attempt=2, ticket={})

    system.world.hook = settled
    system.world.script("open", fake.pending(polls=9))
    assert opened(grant).ticket == {}
    assert grant.accepted_at is None

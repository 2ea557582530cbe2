"""Grants that need the same thing in AWS, and openings that meet endings: no order of events leaves access behind, and
no grant takes away what another one gives."""

from contextlib import AbstractContextManager
from datetime import timedelta
from types import ModuleType

import pytest
from django.db.models import F
from django.utils import timezone

from apps.connectors import fake_world as fake
from apps.connectors.errors import Refused
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State, Warrant
from apps.grants.provisioning import ending, enforcing, opening, turns
from apps.grants.windows import windows_of
from tests.grants.system import System, make_due


def end(grant: Grant) -> None:
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)


def is_assigned(system: System) -> bool:
    return ("alice", system.read.external_id) in system.world.assignments


def take_over_at(system: System, grant: Grant, operation: str) -> None:
    """Another worker takes the grant over just before the first one calls this."""

    def overtaken(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", operation):
            system.world.hook = None
            Grant.objects.filter(pk=grant.pk).update(attempt=F("attempt") + 1)

    system.world.hook = overtaken


def settle(system: System, *grants: Grant) -> None:
    for _ in range(4):
        make_due()
        system.run_clock(1)
    for grant in grants:
        grant.refresh_from_db()


def test_nothing_is_left_to_a_grant_that_may_still_fail(system: System) -> None:
    first, second = system.active(), system.issue()
    system.world.script("check", fake.throttled(), fake.raises(Refused("The guard of this account is full.")))
    provisioning.provision(second.pk)
    end(first)
    provisioning.deprovision(first.pk)
    make_due()
    provisioning.provision(second.pk)
    for grant in (first, second):
        grant.refresh_from_db()
    assert (first.state, second.state) == (State.REVOKED, State.FAILED)
    assert not is_assigned(system)


def test_what_another_grant_asked_for_already_is_left_to_it_and_removed_by_it(system: System) -> None:
    first, second = system.active(), system.issue()
    system.world.script("open", fake.lost_response())
    provisioning.provision(second.pk)
    end(first)
    provisioning.deprovision(first.pk)
    first.refresh_from_db()
    assert first.state == State.REVOKED
    assert second.number in first.proofs[-1][0]
    end(second)
    settle(system, second)
    assert second.state == State.REVOKED
    assert not is_assigned(system)


def test_what_is_being_removed_is_not_taken_for_opened(system: System) -> None:
    first = system.active()
    end(first)
    system.world.script("close", fake.pending(polls=9))
    provisioning.deprovision(first.pk)
    again = system.issue()
    system.world.calls.clear()
    provisioning.provision(again.pk)
    again.refresh_from_db()
    assert not system.world.calls_of("open")
    assert f"removing the same access for {first.number}" in again.problem
    settle(system, first, again)
    assert (first.state, again.state) == (State.REVOKED, State.ACTIVE)
    assert system.can_use()


def test_a_removal_whose_answer_was_lost_is_still_under_way(system: System) -> None:
    first = system.active()
    end(first)
    system.world.script("close", fake.lost_request())
    provisioning.deprovision(first.pk)
    again = system.issue()
    system.world.calls.clear()
    provisioning.provision(again.pk)
    assert not system.world.calls_of("open")
    settle(system, first, again)
    assert "does not hold" in first.proofs[-1][0]
    assert again.state == State.ACTIVE


def test_a_removal_that_was_refused_leaves_the_way_free(system: System) -> None:
    first = system.active()
    end(first)
    system.world.script("close", fake.throttled())
    provisioning.deprovision(first.pk)
    assert system.active().state == State.ACTIVE
    settle(system, first)
    assert first.state == State.REVOKED
    assert system.can_use()


def test_an_end_waits_for_an_opening_that_aws_still_works_on(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.pending(polls=9))
    provisioning.provision(grant.pk)
    end(grant)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    assert "still opening it" in grant.problem
    assert not system.world.calls_of("close")
    for _ in range(9):
        make_due()
        provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert not is_assigned(system)


def test_what_aws_answered_to_a_worker_that_lost_its_turn_is_not_forgotten(system: System) -> None:
    grant = system.issue()

    def ended(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "open"):
            system.world.hook = None
            end(grant)
            Grant.objects.filter(pk=grant.pk).update(attempt=2)

    system.world.hook = ended
    system.world.script("open", fake.pending(polls=3))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.ticket["verb"], grant.ticket["state"]) == (State.REVOKING, "open", "pending")


def test_an_opening_that_failed_does_not_put_off_the_end_that_was_decided_meanwhile(system: System) -> None:
    grant = system.issue()

    def ended(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "open"):
            system.world.hook = None
            end(grant)

    system.world.hook = ended
    system.world.script("open", fake.throttled())
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.problem) == (State.REVOKING, "")
    assert grant.next_try_at <= timezone.now()


def test_a_row_without_a_warrant_keeps_nothing_open(system: System) -> None:
    grant, forged = system.active(), system.active()
    Warrant.objects.filter(grant=forged).delete()
    end(grant)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert not is_assigned(system)


def test_it_is_not_called_denied_while_another_grant_keeps_it_open(system: System) -> None:
    grant = system.active()
    system.active(duration=timedelta(hours=2))
    end(grant)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert grant.denied_at is None
    assert system.can_use()


def test_the_shared_object_counts_in_only_what_was_checked(system: System) -> None:
    real = system.active(system.alice)
    other = system.issue(system.bob)

    def looked_at(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "check"):
            seen.extend(window.target.principal_name for window in windows_of(real.shared_key))

    seen: list[str] = []
    system.world.hook = looked_at
    provisioning.provision(other.pk)
    assert seen == ["alice"]
    assert {window.target.principal_name for window in windows_of(real.shared_key)} == {"alice", "bob"}


@pytest.mark.parametrize("fault", [fake.lost_response(), fake.lost_request()])
def test_a_grant_fails_only_when_aws_was_asked_for_nothing(system: System, fault) -> None:
    grant = system.issue()
    system.world.script("enforce", fault)
    provisioning.provision(grant.pk)
    make_due()
    system.world.script("check", fake.raises(Refused("The guard of this account is full.")))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.REVOKING, EndReason.FAILED)
    settle(system, grant)
    assert grant.state == State.REVOKED


@pytest.mark.parametrize("refusal", ["limit", "warrant"])
def test_a_worker_that_takes_over_knows_what_the_last_one_asked(
    system: System, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    grant = system.issue()
    system.world.script("enforce", fake.lost_request())
    provisioning.provision(grant.pk)
    make_due()
    Grant.objects.filter(pk=grant.pk).update(ticket={})
    real = turns.take_over

    def late(row: Grant) -> turns.Turn | None:
        Grant.objects.filter(pk=row.pk).update(
            ticket={"verb": "open", "state": "asked"}
        )  # after this one had loaded it
        return real(row)

    monkeypatch.setattr(opening, "take_over", late)
    if refusal == "warrant":
        Warrant.objects.filter(grant=grant).delete()
    system.world.script("check", fake.raises(Refused("The guard of this account is full.")))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING


def test_a_worker_whose_turn_was_taken_over_puts_nothing_off(system: System) -> None:
    grant = system.issue()
    take_over_at(system, grant, "enforce")
    system.world.script("enforce", fake.throttled())
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert (grant.problem, grant.problem_count) == ("", 0)


def test_a_worker_whose_turn_was_taken_over_gives_nothing_up(system: System) -> None:
    grant = system.issue()
    take_over_at(system, grant, "check")
    system.world.script("check", fake.raises(Refused("The guard of this account is full.")))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.PROVISIONING


def test_a_worker_whose_turn_was_taken_over_reports_nothing_removed(system: System) -> None:
    grant = system.active()
    end(grant)
    system.world.script("enforce", fake.throttled())
    provisioning.deprovision(grant.pk)  # gone, and not denied yet
    make_due()
    take_over_at(system, grant, "look")
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING


def test_a_refused_warrant_ends_nobody_elses_running_turn(system: System) -> None:
    grant = system.issue()

    def meanwhile(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "check"):
            system.world.hook = None
            Warrant.objects.filter(grant=grant).delete()
            provisioning.provision(grant.pk)

    system.world.hook = meanwhile
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state != State.FAILED  # it was opened a moment later
    settle(system, grant)
    assert not system.can_use()


@pytest.mark.parametrize(("lock", "forbidden"), [("shared", "check"), ("object", "open")])
@pytest.mark.parametrize("how", ["ended", "taken over"])
def test_whoever_waited_for_a_lock_looks_again_whether_it_is_still_their_turn_to_open(
    system: System, monkeypatch: pytest.MonkeyPatch, lock: str, forbidden: str, how: str
) -> None:
    grant = system.issue()
    lose_turn_at(opening, lock, grant, how, monkeypatch)
    provisioning.provision(grant.pk)
    assert not system.world.calls_of(forbidden)


@pytest.mark.parametrize(("lock", "forbidden"), [("shared", "enforce"), ("object", "close")])
def test_whoever_waited_for_a_lock_looks_again_whether_it_is_still_their_turn_to_remove(
    system: System, monkeypatch: pytest.MonkeyPatch, lock: str, forbidden: str
) -> None:
    grant = system.active()
    end(grant)
    system.world.calls.clear()
    lose_turn_at(ending, lock, grant, "taken over", monkeypatch)
    provisioning.deprovision(grant.pk)
    assert not system.world.calls_of(forbidden)


def lose_turn_at(module: ModuleType, lock: str, grant: Grant, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a worker waits for this lock, the grant is ended, or another worker takes it over."""
    module = enforcing if lock == "shared" else module
    real = module.exclusive

    def exclusive(*key: str) -> AbstractContextManager[None]:
        if key[0] == lock:
            if how == "ended":
                end(grant)
            else:
                Grant.objects.filter(pk=grant.pk).update(attempt=F("attempt") + 1)
        return real(*key)

    monkeypatch.setattr(module, "exclusive", exclusive)

"""Scripted races with real connections: both sides are past their checks before either writes. One wins, one is told,
and AWS ends up with what the winner decided."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.db import connections

from apps.audit import services as audit
from apps.connectors.fake import FakeConnector
from apps.core.lifecycle import Conflict
from apps.grants import periodic, provisioning, services
from apps.grants.models import EndReason, Extension, Grant, State
from apps.grants.provisioning import enforcing, extending, opening
from apps.grants.services import grants as deciding
from apps.inventory import sync
from apps.inventory.models import Assignment
from tests.grants.system import START, YES, System, make_due

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def now() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as clock:
        yield clock


@pytest.fixture
def raced(now: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr("apps.grants.warrants.ask_rules_again", lambda *_: None)
    return System()


def in_another_thread(act: Callable[[], object]) -> object:
    """Let somebody else do it to the end, on a connection of their own; what they returned or raised."""
    outcome: list[object] = [None]

    def run() -> None:
        try:
            outcome[0] = act()
        except Exception as error:
            outcome[0] = error
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "both wait for each other"
    return outcome[0]


def meanwhile(monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], object]) -> None:
    """Just before the first call of `module.name`, somebody else does `act`."""
    real = getattr(module, name)

    def first_they(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(module, name, real)
        in_another_thread(act)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, first_they)


def extension_of(grant: Grant) -> Extension:
    return services.extend(grant, longer=HOUR, by=grant.requested_by, authority=YES)


def settle(system: System) -> None:
    make_due()
    system.run_clock()


def test_an_end_that_comes_before_the_later_end_is_agreed_wins(
    raced: System, now, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = raced.active()
    extension = extension_of(grant)
    meanwhile(monkeypatch, extending, "_move_the_end", lambda: (now.shift(HOUR), periodic.expire()))
    provisioning.extend(extension.pk)
    grant.refresh_from_db()
    extension.refresh_from_db()
    assert grant.state == State.REVOKING
    assert extension.refused_at and "over" in extension.problem
    settle(raced)
    assert not raced.can_use()
    assert not raced.world.assignments


def test_a_later_end_that_was_agreed_first_is_not_expired_at_the_old_one(
    raced: System, now, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = raced.active()
    extension = extension_of(grant)
    now.shift(HOUR)

    def extended_in_the_last_second() -> None:
        now.shift(timedelta(seconds=-1))
        provisioning.extend(extension.pk)
        now.shift(timedelta(seconds=1))

    meanwhile(monkeypatch, periodic.services, "end_many", extended_in_the_last_second)
    periodic.expire()
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert grant.ends_at == START + 2 * HOUR
    assert raced.can_use()


def test_two_workers_extend_once(raced: System, now, monkeypatch: pytest.MonkeyPatch) -> None:
    extension = extension_of(raced.active())
    meanwhile(monkeypatch, enforcing, "exclusive", lambda: provisioning.extend(extension.pk))
    provisioning.extend(extension.pk)
    assert Grant.objects.get().ends_at == START + 2 * HOUR
    assert not raced.can_use(at=START + 2 * HOUR)


def test_of_two_people_who_extend_at_once_one_is_told(raced: System, now) -> None:
    grant = raced.active()
    seen = Grant.objects.get(pk=grant.pk)
    extension_of(grant)
    outcome = in_another_thread(lambda: extension_of(seen))
    assert isinstance(outcome, services.NotPossible)


def test_two_workers_open_it_once(raced: System, now, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = raced.issue()
    meanwhile(monkeypatch, opening, "_claim", lambda: provisioning.provision(grant.pk))
    provisioning.provision(grant.pk)
    assert len(raced.world.calls_of("open")) == 1
    assert Grant.objects.get().state == State.ACTIVE
    assert Grant.objects.get().attempt == 1


def test_an_end_while_it_is_being_opened_is_not_lost(raced: System, now, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = raced.issue()
    end = lambda: services.end(grant, by=grant.requested_by, reason=EndReason.DONE)  # noqa: E731
    meanwhile(monkeypatch, opening, "_settle_active", end)
    provisioning.provision(grant.pk)
    assert Grant.objects.get().state == State.REVOKING
    settle(raced)
    assert Grant.objects.get().state == State.REVOKED
    assert not raced.can_use()


def test_cancelling_against_the_first_claim_has_one_winner(raced: System, now, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = raced.issue()
    outcome: list[object] = []
    end = lambda: outcome.append(services.end(grant, by=grant.requested_by, reason=EndReason.DONE))  # noqa: E731
    meanwhile(monkeypatch, opening, "move", end)
    provisioning.provision(grant.pk)
    assert Grant.objects.get().state == State.CANCELLED
    assert not raced.world.calls_of("open")


def test_ending_against_a_claim_tells_the_loser(raced: System, now, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = raced.issue()
    meanwhile(monkeypatch, deciding, "move", lambda: provisioning.provision(grant.pk))
    with pytest.raises(Conflict):
        services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    assert Grant.objects.get().state == State.ACTIVE


def test_a_sync_that_began_before_a_removal_does_not_bring_the_access_back(
    raced: System, now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read AWS before the removal and writes after it."""
    grant = raced.active()
    read = FakeConnector.scan_directory

    def read_and_then_removed(self, *args):
        scan = read(self, *args)
        now.shift(timedelta(minutes=1))
        in_another_thread(lambda: services.end(grant, by=grant.requested_by, reason=EndReason.DONE))
        in_another_thread(lambda: provisioning.deprovision(grant.pk))
        return scan

    monkeypatch.setattr(FakeConnector, "scan_directory", read_and_then_removed)
    sync.run(raced.connection.pk, by=audit.WORKER)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert not Assignment.objects.open().filter(principal=raced.alice, entitlement=raced.read).exists()
    settle(raced)
    assert Grant.objects.get().state == State.REVOKED

"""Whatever is changed in AWS is changed under the lock of its object, so no two processes ever work at one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors import budget, registry
from apps.connectors.fake_world import Call
from apps.core.locks import Taken, exclusive
from apps.grants import provisioning, reconciling, services
from apps.grants.models import EndReason, Grant, Scope
from apps.grants.services import stops
from tests.factories.users import UserFactory
from tests.grants.system import YES, System, make_due
from tests.grants.test_drift import compare, compared, tamper  # noqa: F401
from tests.grants.test_second_ends import move
from tests.security.test_differences import found

HOUR = timedelta(hours=1)


@pytest.fixture
def changes(system: System) -> Iterator[list[str]]:
    """The changes the system was asked for. Each must have come from somebody who holds the object's lock."""
    seen: list[str] = []
    provisioner = registry.provisioner("fake", "idc_assignment", system.connection.config)

    def check(when: str, call: Call) -> None:
        if when != "before" or call.operation not in ("enforce", "write_second_end", "open", "close"):
            return
        assert call.target
        if call.operation in ("enforce", "write_second_end"):
            key = ("shared", provisioner.shared_key(call.target))
        else:
            key = ("object", provisioner.lock_key(call.target))
        seen.append(call.operation)
        with pytest.raises(Taken), exclusive(*key, wait_ms=1):
            pass

    system.world.hook = check
    yield seen
    system.world.hook = None


def end(grant: Grant) -> None:
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    make_due()


def test_opening_and_narrowing(system: System, changes: list[str]) -> None:
    grant = system.active()
    Grant.objects.update(narrowed_at=None)
    make_due()
    provisioning.narrow(grant.pk)
    assert changes == ["enforce", "open", "enforce", "enforce"]


def test_extending(system: System, changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.grants.warrants.ask_rules_again", lambda *_: None)
    grant = system.active()
    changes.clear()
    provisioning.extend(services.extend(grant, longer=HOUR, by=grant.requested_by, authority=YES).pk)
    assert changes == ["enforce"]


def test_ending_and_taking_it_out_of_the_shared_object(system: System, clock: Any, changes: list[str]) -> None:
    grant = system.active()
    end(grant)
    changes.clear()
    provisioning.deprovision(grant.pk)
    assert changes == ["enforce", "close"]
    clock.shift(HOUR)
    make_due()
    changes.clear()
    provisioning.clear(grant.pk)
    assert changes == ["enforce"]


def test_denying_many_at_once(system: System, changes: list[str]) -> None:
    grant = system.active()
    end(grant)
    changes.clear()
    provisioning.deny(grant.shared_key)
    assert changes == ["enforce"]


def test_removing_again_what_came_back(system: System, clock: Any, changes: list[str]) -> None:
    grant = system.active()
    end(grant)
    provisioning.deprovision(grant.pk)
    system.world.assign("alice", system.read.external_id)
    clock.shift(HOUR)
    make_due()
    changes.clear()
    provisioning.clear(grant.pk)
    assert changes == ["close"]


def test_writing_a_stop(system: System, changes: list[str]) -> None:
    system.active()
    changes.clear()
    erin = UserFactory(name="Erin", administrator=True)
    passkey = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
    stop = stops.order(scope=Scope.ALL, reason="Alice's laptop was stolen.", by=erin, step_up=passkey)
    for row in stop.writes.exclude(shared_key=""):
        provisioning.write_stop(row.pk)
    assert changes == ["enforce"]


@pytest.mark.parametrize(
    ("kind", "done"),
    [("tampered", ["enforce"]), ("unscheduled", ["write_second_end"]), ("resurrected", ["enforce", "close"])],
)
def test_repairing(system: System, changes: list[str], kind: str, done: list[str]) -> None:
    grant = system.active()
    if kind == "resurrected":
        end(grant)
        provisioning.deprovision(grant.pk)
        system.world.assign("alice", system.read.external_id)
    changes.clear()
    reconciling.repair(found(system, kind, grant=grant, decided_at=timezone.now()).pk)
    assert changes == done


@pytest.mark.parametrize(
    ("operation", "spoil"),
    [("examine", tamper), ("examine_second_end", lambda system: move(system, None))],
    ids=["guard", "schedule"],
)
def test_what_differs_is_read_once_more_under_the_lock_and_before_other_reading(
    compared: System,  # noqa: F811
    clock: Any,
    operation: str,
    spoil: Callable[[System], None],
) -> None:
    """What ends access may wait for that lock."""
    grant = compared.active(duration=2 * HOUR)
    clock.shift(HOUR)
    spoil(compared)
    seen: list[tuple[str, bool]] = []

    def look(when: str, call: Call) -> None:
        if (when, call.operation) == ("before", operation):
            seen.append((budget.current(), is_locked(grant.shared_key)))

    compared.world.hook = look
    compare(compared)
    assert seen == [("sync", False), ("grant", True)]


def is_locked(shared_key: str) -> bool:
    try:
        with exclusive("shared", shared_key, wait_ms=1):
            return False
    except Taken:
        return True

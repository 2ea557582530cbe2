"""Whatever is changed in AWS is changed under the lock of its object, so no two processes ever work at one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.connectors import registry
from apps.connectors.fake_world import Call
from apps.core.locks import Taken, exclusive
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, Scope
from apps.grants.services import stops
from tests.factories.users import UserFactory
from tests.grants.system import YES, System, make_due

HOUR = timedelta(hours=1)


@pytest.fixture
def changes(system: System) -> Iterator[list[str]]:
    """The changes the system was asked for. Each must have come from somebody who holds the object's lock."""
    seen: list[str] = []
    provisioner = registry.provisioner("fake", "idc_assignment", system.connection.config)

    def check(when: str, call: Call) -> None:
        if when != "before" or call.operation not in ("enforce", "open", "close"):
            return
        assert call.target
        if call.operation == "enforce":
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

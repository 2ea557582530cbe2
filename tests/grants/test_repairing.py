"""A worker removes again what came back, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from apps.audit.models import AuditEvent, ref
from apps.connectors import fake_world as fake
from apps.connectors.errors import Gone
from apps.grants import provisioning, reconciling, services
from apps.grants.models import Drift, EndReason, State
from apps.grants.provisioning.turns import HANDOVER
from tests.grants.system import System
from tests.security.test_differences import found


@pytest.fixture
def back(system: System) -> Drift:
    """Alice's grant has ended, somebody gives her the same again, and it is decided that it goes."""
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    system.world.assign("alice", system.read.external_id)
    drift = found(system, "resurrected", grant=grant)
    Drift.objects.update(decided_at=drift.seen_at)
    return drift


def repair(drift: Drift) -> str:
    """What was read back, as the timeline tells it; "" when it is to be tried again."""
    reconciling.repair(drift.pk)
    drift.refresh_from_db()
    told = AuditEvent.objects.about(ref(drift)).filter(event="grants.drift.repaired").first()
    assert bool(told) == bool(drift.repaired_at)
    return told.data["proof"]["what"] if told else ""


def test_what_a_newer_grant_gives_again_is_left_to_that_one(system: System, back: Drift) -> None:
    newer = system.active()
    system.world.calls.clear()
    assert repair(back) == "Another grant gives the same access now, and takes it away when it ends."
    assert not system.world.calls_of("close")
    newer.refresh_from_db()
    assert newer.state == State.ACTIVE
    assert system.can_use()


@pytest.mark.parametrize("operation", ["look", "close"])
def test_what_is_gone_with_its_holder_needs_no_removal(system: System, back: Drift, operation: str) -> None:
    system.world.script(operation, fake.raises(Gone("Alice is gone.")))
    assert repair(back) == "Alice is gone."


def test_what_aws_still_shows_after_its_removal_is_removed_once_more(system: System, back: Drift, clock: Any) -> None:
    system.world.script("close", fake.lies())
    assert not repair(back)
    assert back.problem == "AWS still shows it. It is removed once more."
    clock.shift(HANDOVER)
    assert repair(back)
    assert not system.world.assignments

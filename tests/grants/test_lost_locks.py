"""A worker that stands still while it writes loses its lock. What it then writes late does not stay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from apps.connectors import fake_world as fake
from apps.connectors.errors import Denied
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.core.locks import Taken, exclusive
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import enforcing
from tests.grants.system import ACCOUNT, YES, System

Step = Callable[[Grant], None]


def lose_locks() -> None:
    """A failover, or a network that drops connections."""
    with connection.cursor() as sql:
        sql.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_locks JOIN pg_database d ON d.oid = database "
            "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND datname = current_database()"
        )


@pytest.fixture
def stands_still(system: System, monkeypatch: pytest.MonkeyPatch) -> Callable[[Grant], None]:
    """Before the next write reaches AWS, its lock is lost, and others end the grant and settle it."""
    real = FakeProvisioner.enforce

    def arrange(grant: Grant) -> None:
        def late(self: FakeProvisioner, target: Any, windows: Any) -> Any:
            monkeypatch.setattr(FakeProvisioner, "enforce", real)
            lose_locks()
            services.end(grant, by=grant.requested_by, reason=EndReason.REVOKED)
            provisioning.deny(grant.shared_key)
            provisioning.deprovision(grant.pk)
            return real(self, target, windows)

        monkeypatch.setattr(FakeProvisioner, "enforce", late)

    return arrange


def _extend(grant: Grant) -> None:
    extension = services.extend(grant, longer=timedelta(hours=1), by=grant.requested_by, authority=YES)
    provisioning.extend(extension.pk)


def _narrow(grant: Grant) -> None:
    Grant.objects.update(narrowed_at=None)
    provisioning.narrow(grant.pk)


def _deny_another(grant: Grant) -> None:
    other = Grant.objects.exclude(pk=grant.pk).get()
    services.end(other, by=other.requested_by, reason=EndReason.DONE)
    provisioning.deny(grant.shared_key)


@pytest.mark.parametrize("step", [_extend, _narrow, _deny_another])
def test_a_late_write_takes_back_no_deny_that_others_read_back(
    system: System, stands_still: Callable[[Grant], None], step: Step
) -> None:
    grant = system.active()
    system.active(who=system.bob)
    stands_still(grant)
    step(grant)
    grant.refresh_from_db()
    assert (grant.state, bool(grant.denied_at)) == (State.REVOKED, True)
    assert not system.world.guards[ACCOUNT]["alice", system.read.external_id].is_open


def test_an_opening_that_comes_too_late_leaves_no_open_line(
    system: System, stands_still: Callable[[Grant], None]
) -> None:
    grant = system.issue()
    stands_still(grant)
    provisioning.provision(grant.pk)
    assert Grant.objects.get().state == State.REVOKED
    line = system.world.guards[ACCOUNT].get(("alice", system.read.external_id))
    assert line is None or not line.is_open


def test_what_cannot_be_written_once_more_is_told_as_a_lost_lock(
    system: System, stands_still: Callable[[Grant], None], caplog: pytest.LogCaptureFixture
) -> None:
    grant = system.active()
    stands_still(grant)
    system.world.script("enforce", fake.Fault(), fake.Fault(), fake.raises(Denied("No right.")))
    _narrow(grant)
    assert "could not be written once more" in caplog.text
    assert "did not last" in caplog.text


def test_what_is_written_once_more_is_written_under_the_objects_lock(
    system: System, stands_still: Callable[[Grant], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = system.active()
    stands_still(grant)
    real, held = enforcing.windows_of, []

    def looked_up(key: str) -> Any:
        with pytest.raises(Taken), exclusive("shared", key, wait_ms=1):
            pass
        held.append(key)
        return real(key)

    monkeypatch.setattr(enforcing, "windows_of", looked_up)
    _narrow(grant)
    assert held == [grant.shared_key]

"""What ends together is denied with one write, and every receipt says so."""

from dataclasses import replace
from datetime import timedelta

import pytest

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.grants import periodic, provisioning, services, tasks
from apps.grants.models import EndReason, Grant, State
from tests.grants.system import System, make_due


def two_ending(system: System) -> list[Grant]:
    grants = [system.active(system.alice), system.active(system.bob)]
    system.world.calls.clear()
    services.end_many(Grant.objects.all(), reason=EndReason.EMERGENCY, by=system.alice.identity.user)
    return grants


def test_one_write_denies_all_of_them_at_once(system: System) -> None:
    alice, bob = two_ending(system)
    provisioning.deny(alice.shared_key)
    assert len(system.world.calls_of("enforce")) == 1
    for grant, who in ((alice, system.alice), (bob, system.bob)):
        grant.refresh_from_db()
        assert grant.denied_at
        assert grant.state == State.REVOKING
        assert not system.can_use(who)
    assert AuditEvent.objects.filter(event="grants.grant.denied").count() == 2


def test_the_removals_afterwards_write_it_no_more_and_the_receipt_has_it(system: System) -> None:
    for grant in two_ending(system):
        provisioning.deny(grant.shared_key)
        make_due()
        provisioning.deprovision(grant.pk)
        grant.refresh_from_db()
        assert grant.state == State.REVOKED
        assert "guard" in grant.proofs[0][0]
        assert "does not hold" in grant.proofs[-1][0]
    assert len(system.world.calls_of("enforce")) == 1


def test_a_removal_that_had_trouble_writes_it_again(system: System) -> None:
    grant, _ = two_ending(system)
    provisioning.deny(grant.shared_key)
    system.world.script("close", fake.throttled())
    for _ in range(2):
        make_due()
        provisioning.deprovision(grant.pk)
    assert len(system.world.calls_of("enforce")) == 2


def test_what_cannot_be_written_is_denied_by_each_removal(system: System) -> None:
    grant, _ = two_ending(system)
    system.world.script("enforce", fake.throttled())
    provisioning.deny(grant.shared_key)
    grant.refresh_from_db()
    assert grant.denied_at is None
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert grant.denied_at


def test_an_access_that_another_grant_keeps_open_is_not_said_to_be_denied(system: System) -> None:
    first, second = system.active(), system.active()
    services.end(first, by=first.requested_by, reason=EndReason.DONE)
    provisioning.deny(first.shared_key)
    first.refresh_from_db()
    assert first.denied_at is None
    provisioning.deprovision(first.pk)
    first.refresh_from_db()
    assert first.state == State.REVOKED
    assert first.denied_at is None
    assert second.number in first.proofs[-1][0]
    assert system.can_use()


def test_a_row_nobody_may_have_opened_keeps_nothing_open(system: System) -> None:
    grant, other = system.active(), system.active()
    other.warrant.delete()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deny(grant.shared_key)
    assert not system.can_use()


def test_the_clock_wakes_one_worker_for_each_object_before_the_removals(
    system: System, monkeypatch, django_capture_on_commit_callbacks
) -> None:
    woken: list[tuple[str, object]] = []
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "enqueue", lambda task, key: woken.append((task.name.rsplit(".", 1)[-1], key)))
        with django_capture_on_commit_callbacks(execute=True):
            grants = two_ending(system)
        assert [name for name, _ in woken if name in ("deny", "deprovision")] == ["deny", "deprovision", "deprovision"]
        woken.clear()
        make_due()
        periodic.wake_workers()
    assert [name for name, _ in woken] == ["deny", "deprovision", "deprovision"]
    assert woken[0][1] == grants[0].shared_key


def test_nothing_is_written_where_nothing_ends(system: System) -> None:
    grant = system.active()
    system.world.calls.clear()
    provisioning.deny(grant.shared_key)
    provisioning.deny("no such object")
    assert not system.world.calls
    assert system.can_use(at=grant.ends_at - timedelta(seconds=1))


def test_every_denial_is_told_by_the_worker_with_its_proof(system: System) -> None:
    for grant in two_ending(system):
        provisioning.deny(grant.shared_key)
        grant.refresh_from_db()
        told = AuditEvent.objects.get(event="grants.grant.denied", subject=audit.ref(grant))
        assert told.actor_kind == AuditEvent.ActorKind.WORKER
        assert told.refs == [audit.ref(one) for one in (grant, grant.identity, grant.entitlement)]
        assert grant.receipt == [told.data["proof"]]


def test_what_lasts_until_it_is_removed_is_not_said_to_be_denied(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant, _ = two_ending(system)
    monkeypatch.setattr(Grant, "promise", replace(grant.promise, denies=False))
    provisioning.deny(grant.shared_key)
    assert not system.world.calls
    make_due()
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.denied_at) == (State.REVOKED, None)

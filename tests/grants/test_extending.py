"""Holding a grant longer: on a warrant of its own, moved in AWS, never past what its authority covers."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors.errors import Denied, Throttled
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.grants import periodic, provisioning, services
from apps.grants.models import EndReason, Extension, Grant, State
from apps.inventory.models import Identity
from tests.grants.system import START, YES, System, make_due

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def the_rules_say_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rules say when a worker asks them again is tested with the warrants."""
    monkeypatch.setattr("apps.grants.warrants.ask_rules_again", lambda *_: None)


def extended(grant: Grant, longer: timedelta = HOUR, **fields: Any) -> Extension:
    """A decision, not carried out yet."""
    return services.extend(grant, longer=longer, by=grant.requested_by, **{"authority": YES, **fields})


def carry_out(extension: Extension) -> Grant:
    make_due()
    provisioning.extend(extension.pk)
    extension.refresh_from_db()
    return Grant.objects.get(pk=extension.grant_id)


def test_the_end_moves_here_and_in_aws(system: System, clock) -> None:
    grant = system.active()
    grant = carry_out(extended(grant))
    assert grant.ends_at == grant.not_after == START + 2 * HOUR
    assert system.can_use(at=START + 2 * HOUR - timedelta(seconds=1))
    assert not system.can_use(at=START + 2 * HOUR)
    assert grant.narrowed_at


def test_until_a_worker_was_there_the_old_end_holds(system: System, clock) -> None:
    grant = system.active()
    extended(grant)
    grant.refresh_from_db()
    assert grant.ends_at == START + HOUR
    assert not system.can_use(at=START + HOUR)
    clock.shift(HOUR)
    periodic.expire()
    grant.refresh_from_db()
    assert grant.state == State.REVOKING


def test_two_extensions_add_up_and_the_cap_holds_for_the_whole_time(system: System, clock) -> None:
    grant = system.active()
    for _ in range(2):
        grant = carry_out(extended(grant))
    assert grant.ends_at == START + 3 * HOUR
    with pytest.raises(services.NotPossible, match="for so long"):
        extended(grant, timedelta(hours=6))  # 3 + 6 of 8


def test_only_one_extension_is_under_way(system: System) -> None:
    grant = system.active()
    extension = extended(grant)
    with pytest.raises(services.NotPossible):
        extended(grant)
    with pytest.raises(IntegrityError), transaction.atomic():
        Extension.objects.create(
            grant=grant, duration=HOUR, spec=extension.spec, digest=extension.digest, requester="1", verdict={}
        )


@pytest.mark.parametrize(
    "change", [{"spec": {}}, {"digest": "0" * 64}, {"verdict": {"tier": "auto"}}, {"duration": 9 * HOUR}]
)
def test_what_it_says_can_never_be_changed(system: System, change: dict[str, Any]) -> None:
    extension = extended(system.active())
    with pytest.raises(Exception, match="Cannot update"), transaction.atomic():
        Extension.objects.filter(pk=extension.pk).update(**change)


@pytest.mark.parametrize(
    "forged",
    [
        {"duration": 5 * HOUR},
        {"digest": "0" * 64},
        {"verdict": {"tier": "auto", "cap_seconds": 60}},
        {"verdict": {}},
        {"requester": "42"},
        {"spec": {"seconds": 3600}},
    ],
)
def test_a_forged_extension_moves_nothing_and_raises_the_alarm(system: System, clock, forged: dict[str, Any]) -> None:
    grant = system.active()
    good = extended(grant)
    values = {name: getattr(good, name) for name in ("duration", "spec", "digest", "requester", "verdict", "approvals")}
    good.delete()
    extension = Extension.objects.create(grant=grant, **{**values, **forged})
    grant = carry_out(extension)
    assert grant.ends_at == START + HOUR
    assert not system.can_use(at=START + HOUR)
    assert extension.refused_at and not extension.applied_at
    assert AuditEvent.objects.filter(event="grants.grant.warrant_refused").count() == 1


def test_what_the_rules_no_longer_give_is_not_extended(system: System, clock, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = system.active()
    extension = extended(grant)
    monkeypatch.undo()  # now the rules in force are asked
    clock.move_to(START)
    Identity.objects.update(department="Catering")
    grant = carry_out(extension)
    assert grant.ends_at == START + HOUR
    assert extension.refused_at
    assert not system.can_use(at=START + HOUR)


def test_where_aws_has_no_room_the_old_end_holds_again(system: System, clock) -> None:
    grant = system.active()
    extension = extended(grant)
    system.world.guard_capacity = 0
    grant = carry_out(extension)
    assert grant.ends_at == grant.not_after == START + HOUR
    assert extension.refused_at and "full" in extension.problem
    assert not system.can_use(at=START + HOUR)


@pytest.mark.parametrize("fault", [fake.throttled(), fake.busy(), fake.lost_request(), fake.lost_response()])
def test_trouble_on_the_way_never_lets_it_last_longer_than_agreed(system: System, clock, fault: fake.Fault) -> None:
    grant = system.active()
    extension = extended(grant)
    system.world.script("enforce", fault)
    grant = carry_out(extension)
    assert not system.can_use(at=START + 2 * HOUR)
    make_due()
    system.run_clock()
    grant.refresh_from_db()
    assert grant.ends_at == START + 2 * HOUR
    assert system.can_use(at=START + 2 * HOUR - timedelta(seconds=1))
    assert not system.can_use(at=START + 2 * HOUR)


def test_nobody_is_promised_a_later_end_that_aws_does_not_have(system: System, clock) -> None:
    grant = system.active()
    extension = extended(grant)
    system.world.script("enforce", fake.raises(Denied("No right.")))
    grant = carry_out(extension)
    assert grant.ends_at == grant.not_after == START + HOUR
    assert not extension.applied_at and not extension.refused_at  # it is tried again
    assert not AuditEvent.objects.filter(event="grants.grant.extended").exists()


def test_a_later_end_that_could_not_be_checked_is_not_written(
    system: System, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = system.active()
    extension = extended(grant)

    def busy(*_: object) -> None:
        raise Throttled("Too much at once.")

    with monkeypatch.context() as now:
        now.setattr(FakeProvisioner, "check", busy)
        carry_out(extension)
        make_due()
        system.run_clock()
    assert not system.can_use(at=START + HOUR)
    system.world.guard_capacity = 0
    grant = carry_out(extension)
    assert extension.refused_at and grant.ends_at == START + HOUR
    assert not system.can_use(at=START + HOUR)


def test_what_ends_while_aws_is_asked_stays_ended(system: System, clock, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = system.active()
    extension = extended(grant)
    real = FakeProvisioner.enforce

    def ended_meanwhile(provisioner: FakeProvisioner, *args: Any) -> Any:
        monkeypatch.setattr(FakeProvisioner, "enforce", real)
        proof = real(provisioner, *args)
        services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
        return proof

    monkeypatch.setattr(FakeProvisioner, "enforce", ended_meanwhile)
    grant = carry_out(extension)
    assert grant.state == State.REVOKING and grant.ends_at == START + HOUR
    assert extension.refused_at and "over" in extension.problem
    system.run_clock()
    assert not system.can_use()


def test_a_worker_killed_anywhere_leaves_an_end_and_the_clock_converges(system: System, clock) -> None:
    class Killed(BaseException):
        pass

    for call in ("check", "enforce"):
        for happens in (True, False):
            grant = system.active()
            extension = extended(grant)
            system.world.script(call, fake.Fault(error=Killed(), happens=happens))  # type: ignore[arg-type]
            make_due()
            with pytest.raises(Killed):
                provisioning.extend(extension.pk)
            grant.refresh_from_db()
            assert grant.ends_at is not None
            assert not system.can_use(at=START + 2 * HOUR)
            make_due()
            system.run_clock()
            grant.refresh_from_db()
            assert system.can_use(at=grant.ends_at - timedelta(seconds=1))
            services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
            system.run_clock()


def test_it_cannot_be_extended_after_its_end(system: System, clock) -> None:
    grant = system.active()
    extension = extended(grant)
    clock.shift(HOUR)
    grant = carry_out(extension)
    assert grant.ends_at == START + HOUR
    assert extension.refused_at
    with pytest.raises(services.NotPossible):
        extended(grant)


def test_ending_beats_an_extension_that_is_on_its_way(system: System, clock) -> None:
    grant = system.active()
    extension = extended(grant)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    grant = carry_out(extension)
    assert grant.state == State.REVOKING
    system.run_clock()
    assert not system.can_use()
    assert not system.world.assignments


def test_narrowing_late_does_not_bring_back_the_old_end(system: System, clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension that lands between narrowing's first look and its lock."""
    grant = system.issue()
    with monkeypatch.context() as late:
        late.setattr("apps.grants.provisioning.opening.narrow", lambda _pk: None)
        provisioning.provision(grant.pk)
    grant.refresh_from_db()
    extension = extended(grant)
    from apps.grants.provisioning import enforcing

    real = enforcing.exclusive

    def extended_first(*key: str) -> Any:
        monkeypatch.setattr(enforcing, "exclusive", real)
        carry_out(extension)
        return real(*key)

    monkeypatch.setattr(enforcing, "exclusive", extended_first)
    provisioning.narrow(grant.pk)
    grant.refresh_from_db()
    assert grant.not_after == grant.ends_at == START + 2 * HOUR
    assert system.can_use(at=START + 2 * HOUR - timedelta(seconds=1))


def test_doing_it_twice_extends_once(system: System, clock) -> None:
    extension = extended(system.active())
    for _ in range(2):
        grant = carry_out(extension)
    assert grant.ends_at == START + 2 * HOUR

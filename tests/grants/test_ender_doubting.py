"""The ender beside workers that lie and a database that has forgotten: it goes by warrants, by AWS, and by the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.grants import ledger, provisioning, services
from apps.grants.models import Drift, EndReason, Grant, Reconciliation, State, Warrant
from apps.grants.provisioning import ender as module
from apps.grants.provisioning.ender import Ender
from apps.inventory.models import Assignment
from tests.factories.inventory import ConnectionFactory
from tests.grants.system import YES, System

LATE = timedelta(hours=1, minutes=3)  # after a grant of an hour should have ended


@pytest.mark.parametrize("state", [State.PROVISIONING, State.ACTIVE, State.REVOKING])
def test_a_row_that_says_later_than_its_warrant_is_not_believed(system: System, clock: Any, state: State) -> None:
    grant = system.active()
    clock.shift(timedelta(hours=2, minutes=33))
    far = timezone.now() + timedelta(days=300)
    reason = EndReason.DONE if state == State.REVOKING else ""
    Grant.objects.filter(pk=grant.pk).update(
        state=state, ends_at=far, not_after=far, claimed_at=far, created_at=far, revoking_at=far, end_reason=reason
    )
    assert Ender().round().ended == [grant.number]


def test_what_was_begun_late_and_extended_has_all_its_time(system: System, clock: Any) -> None:
    grant = system.issue()
    clock.shift(timedelta(hours=1, minutes=14))
    provisioning.provision(grant.pk)
    for _ in range(2):
        grant.refresh_from_db()
        extension = services.extend(grant, longer=timedelta(hours=1), by=grant.requested_by, authority=YES)
        provisioning.extend(extension.pk)
    grant.refresh_from_db()
    clock.move_to(grant.ends_at)
    assert Ender().round().overdue == 0
    clock.shift(timedelta(minutes=2))
    assert Ender().round().ended == [grant.number]


def test_an_extension_that_nobody_carried_out_gives_no_time(system: System, clock: Any) -> None:
    grant = system.active()
    services.extend(grant, longer=timedelta(hours=3), by=grant.requested_by, authority=YES)
    clock.shift(timedelta(hours=2, minutes=33))
    far = timezone.now() + timedelta(days=300)
    Grant.objects.filter(pk=grant.pk).update(ends_at=far, not_after=far)
    assert Ender().round().ended == [grant.number]


@pytest.mark.parametrize("seconds", ["1e400", -5, None, 10**30, {"a": 1}, "9" * 20])
def test_a_warrant_that_names_no_sensible_time_gives_none(system: System, clock: Any, seconds: Any) -> None:
    grant, _ = system.active(), system.active(who=system.bob)
    warrant_for(grant, seconds)
    clock.shift(timedelta(minutes=33))
    report = Ender().round()
    assert (report.source, report.ended) == ("database", [grant.number])


def warrant_for(grant: Grant, seconds: Any) -> None:
    """Give it another one that allows it for so long."""
    warrant = Warrant.objects.get(grant=grant)
    warrant.delete()
    facts = {"digest": warrant.digest, "requester": warrant.requester, "verdict": warrant.verdict}
    Warrant.objects.create(grant=grant, spec={**warrant.spec, "seconds": seconds}, **facts)


def test_a_row_that_lies_keeps_nothing_for_others(system: System, clock: Any) -> None:
    first, liar = system.active(), system.active()
    clock.shift(timedelta(hours=3))
    far = timezone.now() + timedelta(days=300)
    Grant.objects.filter(pk=liar.pk).update(ends_at=far, not_after=far)
    assert Ender().round().ended == [first.number]


@pytest.mark.parametrize("state", [State.REVOKED, State.CANCELLED, State.FAILED, State.PENDING])
def test_what_is_said_to_be_gone_is_looked_at(system: System, clock: Any, state: State) -> None:
    grant = system.active()
    clock.shift(timedelta(hours=3))
    Grant.objects.filter(pk=grant.pk).update(
        state=state, end_reason=EndReason.DONE, revoked_at=timezone.now(), receipt=[{"what": "It is gone, honestly."}]
    )
    report = Ender().round()
    assert (report.overdue, report.ended) == (0, [grant.number])
    assert not system.world.assignments


def test_of_what_is_said_to_be_gone_few_are_looked_at_and_each_has_its_turn(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSED_BATCH", 2)
    for name in ("zoe", "yan", "xia"):
        grant = system.active(who=system.person(name))
        services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.run_clock()
    ender = Ender()

    def looks() -> int:
        system.world.calls.clear()
        assert ender.round().overdue == 0
        return len(system.world.calls_of("look"))

    assert [looks() for _ in range(3)] == [2, 1, 0]
    clock.shift(module.LOOK_AGAIN)
    assert looks() == 0
    clock.shift(module.CLOSED_AGAIN)
    assert [looks() for _ in range(3)] == [2, 1, 0]
    clock.shift(module.CLOSED_FOR + timedelta(hours=3))
    assert looks() == 0


def test_what_is_overdue_and_found_gone_is_looked_at_again_soon(system: System, clock: Any) -> None:
    system.active()
    clock.shift(LATE)
    system.world.assignments.clear()
    ender = Ender()
    assert ender.round().ended == []
    clock.shift(module.LOOK_AGAIN)
    system.world.calls.clear()
    ender.round()
    assert len(system.world.calls_of("look")) == 1


def test_what_is_said_to_be_gone_is_listed_every_five_minutes(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[object] = []
    monkeypatch.setattr(module, "_closed", lambda now: listed.append(now) or [])
    ender = Ender()
    for shift in (timedelta(0), module.CLOSED_LISTED - timedelta(seconds=1), timedelta(seconds=1)):
        clock.shift(shift)
        ender.round()
    assert len(listed) == 2


def test_what_is_overdue_does_not_wait_for_a_list_of_what_is_gone(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> Any:
        raise OperationalError("canceling statement due to statement timeout")

    grant = system.active()
    clock.shift(LATE)
    monkeypatch.setattr(module, "_closed", fail)
    report = Ender().round()
    assert (report.source, report.ended) == ("database", [grant.number])


def test_what_was_allowed_for_a_month_is_looked_at_for_a_week_after_it(system: System, clock: Any) -> None:
    grant, month = system.active(), timedelta(days=30)
    warrant_for(grant, int(month.total_seconds()))
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.run_clock()
    clock.shift(module.CLOSED_FOR + month - timedelta(minutes=1))
    assert module._closed(timezone.now()) == [grant.reference]
    clock.shift(timedelta(minutes=2))
    assert module._closed(timezone.now()) == []


def test_dated_policies_take_up_no_place_among_what_is_looked_at(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.run_clock()
    assert module._closed(timezone.now()) == [grant.reference]
    monkeypatch.setattr("apps.connectors.registry.ENDERS", {("fake", "group_membership"): ""})
    assert module._closed(timezone.now()) == []


# What a worker writes into a row so that the ender has no hand for it
ANOTHERS = {
    "a dated policy": {"provisioner": "iam_timeboxed_policy"},
    "a role of its own": {"provisioner": "iam_jit_role"},
    "no such thing": {"provisioner": "nonsense"},
    "an owner's task": {"provisioner": "", "origin": "found", "remover": "owner"},
}


@pytest.mark.parametrize("said", ANOTHERS.values(), ids=ANOTHERS)
@pytest.mark.parametrize("state", [State.ACTIVE, State.FAILED])
def test_what_ended_it_is_read_in_its_warrant(system: System, clock: Any, state: State, said: dict[str, Any]) -> None:
    grant = system.active()
    known = system.holds(system.bob, system.read) if "origin" in said else None
    Grant.objects.filter(pk=grant.pk).update(state=state, assignment=known, **said)
    clock.shift(timedelta(hours=2, minutes=33))
    assert Ender().round().ended == [grant.number]
    assert not system.can_use()


def test_standing_access_that_is_removed_is_left_to_the_remover(system: System, clock: Any) -> None:
    user = system.alice.identity.user  # type: ignore[union-attr]
    found = services.remove_standing(system.holds(system.bob, system.read), by=user, reason="Not needed.")
    clock.shift(LATE)
    assert Ender().round().overdue == 0
    assert found.state == State.REVOKING


@pytest.mark.parametrize(
    ("is_kept", "fields"),
    [
        (True, {}),
        (True, {"state": State.PROVISIONING, "ticket": {"verb": "open"}}),
        (False, {"state": State.PROVISIONING, "ticket": {}}),  # AWS was not asked yet
        (False, {"state": State.PENDING}),
        (False, {"state": State.REVOKING, "end_reason": EndReason.DONE}),
    ],
)
def test_what_is_overdue_is_kept_by_what_else_is_open_for_the_same(
    system: System, clock: Any, django_assert_num_queries: Any, is_kept: bool, fields: dict[str, Any]
) -> None:
    overdue, other = system.active(), system.active(duration=timedelta(hours=2))
    elsewhere = ledger.entry_of(system.active(who=system.bob))
    Grant.objects.filter(pk=other.pk).update(**fields)
    clock.shift(LATE)
    entry = ledger.entry_of(overdue)
    with django_assert_num_queries(1):
        assert module._is_kept(entry, timezone.now()) is is_kept
    assert not module._is_kept(elsewhere, timezone.now())


def test_nobody_else_keeps_or_explains_what_a_grant_has_for_itself_alone(system: System, clock: Any) -> None:
    first = system.active()
    system.active()
    shared, now = ledger.entry_of(first), timezone.now()
    assert module._is_kept(shared, now)
    Assignment.objects.update(is_standing=True)
    assert module._is_explained(shared, now)
    alone = replace(shared, is_alone=True)
    assert not module._is_kept(alone, now)
    assert not module._is_explained(alone, now)


@pytest.mark.parametrize(("minutes", "ends"), [(151, False), (153, True)])
def test_a_row_that_lies_has_what_its_warrant_gives_and_two_minutes(
    system: System, clock: Any, minutes: int, ends: bool
) -> None:
    """An hour in which it may begin, an hour to hold it, and a quarter of an hour more for each."""
    grant, pending = system.active(), system.issue(who=system.bob)
    far = timezone.now() + timedelta(days=300)
    Grant.objects.filter(pk=grant.pk).update(ends_at=far, not_after=far)
    clock.shift(timedelta(minutes=minutes))
    assert module._closed(timezone.now()) == ([pending.reference] if ends else [])
    assert bool(Ender().round().ended) is ends


def test_what_came_back_for_a_known_reason_stays(system: System, clock: Any) -> None:
    """Ended grants of what is held again: by another grant, all the time, or as somebody said that it may stay."""
    for who in (system.alice, system.bob, system.person("zoe")):
        grant = system.active(who=who)
        services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    system.run_clock()
    system.active()
    system.holds(system.bob, system.read)
    system.world.assign("zoe", system.read.external_id)
    drift = came_back(grant)
    ender = Ender()
    assert ender.round().ended == []
    assert {who for who, _ in system.world.assignments} == {"alice", "bob", "zoe"}
    drift.accepted_until = timezone.now() + timedelta(minutes=5)
    drift.save()
    clock.shift(timedelta(minutes=10))
    assert ender.round().ended == [grant.number]


def came_back(grant: Grant) -> Drift:
    """A comparison found it, and somebody said that it may stay for an hour."""
    now = timezone.now()
    run = Reconciliation.objects.create(connection=grant.connection, started_at=now, next_at=now, beat_at=now)
    return Drift.objects.create(
        connection=grant.connection,
        kind=Drift.Kind.RESURRECTED,
        key="k",
        grant=grant,
        what="It came back.",
        first_seen_at=now,
        seen_at=now,
        seen_in=run,
        accepted_until=now + timedelta(hours=1),
        accepted_by=grant.requested_by,
        accepted_reason="It is needed.",
    )


@pytest.mark.parametrize("is_same", [True, False])
def test_what_somebody_comes_to_need_while_we_wait_for_the_lock_stays(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    """By another grant, or by this one, to which a worker that holds the lock gives a later end."""
    grant = system.active()
    clock.shift(LATE)
    later = system.issue()

    @contextmanager
    def taken_by_a_worker(_: Any) -> Iterator[None]:
        if is_same:
            end = timezone.now() + timedelta(minutes=20)
            Grant.objects.filter(pk=grant.pk).update(ends_at=end, not_after=end)
        else:
            provisioning.provision(later.pk)
        yield

    monkeypatch.setattr(module, "_alone_if_possible", taken_by_a_worker)
    assert Ender().round().ended == []
    assert not system.world.calls_of("close")


def test_a_row_that_breaks_stops_no_other(system: System, clock: Any) -> None:
    broken, fine = system.active(), system.active(who=system.bob)
    clock.shift(LATE)
    Grant.objects.filter(pk=broken.pk).update(connection=ConnectionFactory(kind="nonsense"))
    report = Ender().round()
    assert report.ended == [fine.number]
    assert len(report.unproven) == 1


# What the database forgot


def test_what_only_the_ledger_remembers_is_ended(system: System, clock: Any, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    lost, known = system.active(), system.active(who=system.bob)
    ledger.write(path, timezone.now())
    Grant.objects.filter(pk=lost.pk).delete()
    assert Ender(path).round().ended == []
    clock.shift(LATE)
    assert set(Ender(path).round().ended) == {lost.number, known.number}


@pytest.mark.parametrize("whose", ["alice", "bob"])
def test_nobody_takes_the_place_of_what_only_the_ledger_remembers(
    system: System, clock: Any, tmp_path: Path, whose: str
) -> None:
    """Whoever may ask for a grant may choose its reference."""
    path = tmp_path / "ledger.jsonl"
    lost = system.active()
    ledger.write(path, timezone.now())
    Grant.objects.filter(pk=lost.pk).delete()
    Assignment.objects.all().delete()
    forged = system.issue(who=getattr(system, whose))
    Grant.objects.filter(pk=forged.pk).update(reference=lost.reference)
    ledger.write(path, timezone.now())
    assert lost.number in [entry.number for entry in ledger.read(path).entries]
    clock.shift(LATE)
    assert Ender(path).round().ended == [lost.number]


def test_what_only_the_ledger_remembers_stays_while_a_grant_needs_it(
    system: System, clock: Any, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    lost = system.active()
    ledger.write(path, timezone.now())
    Grant.objects.filter(pk=lost.pk).delete()
    Assignment.objects.all().delete()
    clock.shift(LATE)
    system.active()
    assert Ender(path).round().ended == []
    assert system.can_use()


def test_an_older_ledgers_word_about_a_grant_that_the_database_knows_does_not_count(
    system: System, clock: Any, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    grant = system.active()
    ledger.write(path, timezone.now())
    extension = services.extend(grant, longer=timedelta(hours=1), by=grant.requested_by, authority=YES)
    provisioning.extend(extension.pk)
    clock.shift(LATE)
    report = Ender(path).round()
    assert (report.overdue, report.ended, report.unproven) == (0, [], {})
    assert system.can_use()

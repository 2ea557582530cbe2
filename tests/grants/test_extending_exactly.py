"""What a worker writes down of a later end, or of why there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors.errors import Refused
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Extension, Grant, State
from apps.grants.provisioning import extending
from apps.grants.windows import windows_of
from tests.grants.system import ACCOUNT, START, YES, System, make_due

HOUR = timedelta(hours=1)
FULL = "The guard of this account is full. End another grant in it first."


@pytest.fixture(autouse=True)
def the_rules_say_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rules say when a worker asks them again is tested with the warrants."""
    monkeypatch.setattr("apps.grants.warrants.ask_rules_again", lambda *_: None)


def extended(grant: Grant, longer: timedelta = HOUR) -> Extension:
    """A decision, not carried out yet."""
    return services.extend(grant, longer=longer, by=grant.requested_by, authority=YES)


def carry_out(extension: Extension) -> Extension:
    make_due()
    provisioning.extend(extension.pk)
    extension.refresh_from_db()
    return extension


def told(grant: Grant, event: str) -> dict[str, Any]:
    """What the one event of this name says. It is about the grant, its holder and what they hold, and by a worker."""
    found = AuditEvent.objects.get(event=event)
    assert (found.actor_name, found.subject) == ("a worker", f"grants.grant:{grant.pk}")
    whom, what = f"inventory.identity:{grant.identity_id}", f"inventory.entitlement:{grant.entitlement_id}"
    assert {whom, what} <= set(found.refs)
    return found.data


def test_a_later_end_is_told_with_the_old_one_and_with_what_aws_says(system: System, clock: Any) -> None:
    grant = system.active()
    extension = extended(grant)
    clock.shift(timedelta(minutes=5))
    carry_out(extension)
    now = START + timedelta(minutes=5)
    assert (extension.applied_at, extension.refused_at, extension.problem) == (now, None, "")
    ends = {"from": (START + HOUR).isoformat(), "to": (START + 2 * HOUR).isoformat()}
    assert told(grant, "grants.grant.extended") == ends
    proof = told(grant, "grants.grant.end_moved")["proof"]
    assert (proof["what"], proof["read_at"]) == (f"The guard of account {ACCOUNT} holds 1 lines", now.isoformat())
    grant.refresh_from_db()
    assert grant.narrowed_at == now
    assert not Grant.objects.unnarrowed(now + HOUR).exists()


def test_it_is_checked_against_what_the_object_would_say_with_it(system: System) -> None:
    grant = system.active()
    other = system.active(who=system.bob)
    seen: list[str] = []
    system.world.hook = lambda when, call: seen.append(call.operation) if when == "before" else None
    carry_out(extended(grant))
    assert seen[:2] == ["check", "enforce"]
    lines = {window.target.principal_name: window for window in system.world.calls_of("enforce")[-1].detail["windows"]}
    assert lines["alice"].not_after == START + 2 * HOUR
    assert lines["bob"].not_after == other.ends_at


def test_nobody_elses_row_is_touched(system: System) -> None:
    extension, other = extended(system.active()), system.active(who=system.bob)
    before = Grant.objects.filter(pk=other.pk).values("ends_at", "not_after", "narrowed_at").get()
    system.world.script("enforce", fake.lost_response())
    for _ in range(2):
        carry_out(extension)
        assert Grant.objects.filter(pk=other.pk).values("ends_at", "not_after", "narrowed_at").get() == before
    assert extension.applied_at


@pytest.mark.parametrize(("longer", "is_given"), [(HOUR, True), (6 * HOUR, False)])
def test_a_worker_asks_the_rules_in_force_for_as_long_as_it_becomes(
    system: System, clock: Any, monkeypatch: pytest.MonkeyPatch, longer: timedelta, is_given: bool
) -> None:
    """A row says that the rules give it for eight hours at once."""
    grant = system.active()
    extension = extended(grant, longer)
    monkeypatch.undo()  # now they are asked
    clock.move_to(START)
    carry_out(extension)
    assert (extension.applied_at is not None, extension.refused_at is not None) == (is_given, not is_given)
    assert system.can_use(at=START + HOUR) is is_given
    if not is_given:
        assert extension.problem == "By the rules in force this takes more than was given. Ask again."
        assert told(grant, "grants.grant.warrant_refused") == {"problem": extension.problem}


@pytest.mark.parametrize("operation", ["check", "enforce"])
def test_why_aws_has_no_room_is_kept_and_told_once(system: System, clock: Any, operation: str) -> None:
    grant = system.active()
    extension = extended(grant)
    system.world.script(operation, fake.raises(Refused(FULL)))
    clock.shift(timedelta(minutes=5))
    carry_out(extension)
    assert (extension.applied_at, extension.refused_at) == (None, START + timedelta(minutes=5))
    assert extension.problem == FULL
    assert told(grant, "grants.grant.extension_refused") == {"problem": FULL}
    calls = len(system.world.calls)
    carry_out(extension)
    assert len(system.world.calls) == calls
    assert AuditEvent.objects.filter(event="grants.grant.extension_refused").count() == 1
    grant.refresh_from_db()
    assert grant.ends_at == START + HOUR
    assert not system.can_use(at=START + HOUR)


def test_a_long_reason_is_cut_where_it_is_kept(system: System) -> None:
    extension = extended(system.active())
    system.world.script("check", fake.raises(Refused("x" * 1200)))
    assert carry_out(extension).problem == "x" * 1000


def test_what_is_over_is_not_extended_and_the_person_is_told(system: System, clock: Any) -> None:
    grant = system.active()
    extension = extended(grant)
    calls = len(system.world.calls)
    clock.move_to(START + HOUR)
    carry_out(extension)
    assert extension.problem == "It was over before it could be extended."
    assert told(grant, "grants.grant.extension_refused") == {"problem": extension.problem}
    assert len(system.world.calls) == calls


def test_who_holds_it_longer_by_another_grant_loses_nothing(system: System) -> None:
    extension = extended(system.active())
    system.active(duration=4 * HOUR)
    carry_out(extension)
    [window] = system.world.calls_of("enforce")[-1].detail["windows"]
    assert (window.not_after, window.lapses_at) == (START + 4 * HOUR, START + 4 * HOUR)


def test_sessions_dated_with_it_may_live_as_long_too(system: System) -> None:
    carry_out(extended(system.active()))
    [window] = system.world.calls_of("enforce")[-1].detail["windows"]
    assert (window.not_after, window.lapses_at) == (START + 2 * HOUR, START + 2 * HOUR)


@pytest.mark.parametrize("closed", [True, False])
def test_what_the_shared_object_does_not_open_is_not_extended(
    system: System, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    grant = system.active()
    extension = extended(grant)
    said = [replace(window, is_open=False) for window in windows_of(grant.shared_key) if closed]
    monkeypatch.setattr(extending, "windows_of", lambda _: said)
    calls = len(system.world.calls)
    assert carry_out(extension).problem == "It was over before it could be extended."
    assert len(system.world.calls) == calls


@pytest.mark.parametrize("change", [{"state": State.REVOKING, "end_reason": "done"}, {"ends_at": START + HOUR / 2}])
def test_what_changes_while_it_is_checked_is_left_as_it_is(system: System, change: dict[str, Any]) -> None:
    grant = system.active()
    extension = extended(grant)
    written = len(system.world.calls_of("enforce"))

    def meanwhile(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "check"):
            Grant.objects.filter(pk=grant.pk).update(**change)

    system.world.hook = meanwhile
    assert carry_out(extension).problem == "It was over before it could be extended."
    assert len(system.world.calls_of("enforce")) == written


def test_while_aws_is_written_the_row_says_that_it_may_differ(system: System) -> None:
    grant = system.active()
    extension = extended(grant)
    seen: list[tuple[Any, Any]] = []

    def look(when: str, call: fake.Call) -> None:
        if call.operation == "enforce":
            seen.append(Grant.objects.values_list("narrowed_at", "ends_at").get(pk=grant.pk))

    system.world.hook = look
    carry_out(extension)
    assert seen == [(None, START + HOUR)] * 2


@pytest.mark.parametrize("change", [{"state": State.REVOKING, "end_reason": "done"}, {"ends_at": START + HOUR / 2}])
def test_what_changes_while_aws_is_written_is_not_promised(system: System, change: dict[str, Any]) -> None:
    grant, other = system.active(), system.active(who=system.bob)
    extension = extended(grant)

    def meanwhile(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("after", "enforce"):
            Grant.objects.filter(pk=grant.pk).update(**change)

    system.world.hook = meanwhile
    assert carry_out(extension).problem == "It was over before it could be extended."
    assert not AuditEvent.objects.filter(event="grants.grant.extended").exists()
    other.refresh_from_db()
    assert other.ends_at == START + HOUR


def test_up_to_its_last_second_it_can_be_extended(system: System, clock: Any) -> None:
    extension = extended(system.active())
    clock.move_to(START + HOUR - timedelta(seconds=1))
    assert carry_out(extension).applied_at


def test_what_was_ended_meanwhile_is_refused_and_stays_ended(system: System) -> None:
    grant = system.active()
    extension = extended(grant)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    carry_out(extension)
    assert extension.refused_at == START
    assert not extension.applied_at
    grant.refresh_from_db()
    assert grant.ends_at == START + HOUR


def test_what_was_ended_is_not_even_asked_for_while_another_grant_gives_the_same(system: System) -> None:
    grant = system.active()
    extension = extended(grant)
    system.active(duration=4 * HOUR)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    calls = len(system.world.calls)
    assert carry_out(extension).problem == "It was over before it could be extended."
    assert len(system.world.calls) == calls


def test_a_row_without_an_end_is_not_extended(system: System) -> None:
    grant = system.active()
    extension = extended(grant)
    Grant.objects.filter(pk=grant.pk).update(ends_at=None)
    assert carry_out(extension).problem == "It was over before it could be extended."


def test_trouble_refuses_nothing_and_is_tried_again_in_a_minute(system: System) -> None:
    grant = system.active()
    extension = extended(grant)
    system.world.script("check", fake.throttled())
    carry_out(extension)
    assert (extension.applied_at, extension.refused_at, extension.problem) == (None, None, "")
    grant.refresh_from_db()
    assert grant.next_try_at == START + timedelta(minutes=1)
    assert carry_out(extension).applied_at == START


def test_what_is_refused_by_others_while_it_is_looked_at_is_told_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension = extended(system.active())

    def meanwhile(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "check"):
            Extension.objects.filter(pk=extension.pk).update(refused_at=START, problem="Somebody else was quicker.")

    system.world.hook = meanwhile
    system.world.script("check", fake.raises(Refused(FULL)))
    assert carry_out(extension).problem == "Somebody else was quicker."
    assert not AuditEvent.objects.filter(event="grants.grant.extension_refused").exists()

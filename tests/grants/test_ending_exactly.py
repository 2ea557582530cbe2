"""What an ending writes down: each proof once, the end of sessions, who keeps the access, and nothing of old troubles."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.connectors import fake_world as fake
from apps.connectors import journal
from apps.connectors.errors import Denied, Gone
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.inventory.models import Assignment
from tests.factories.inventory import SyncRunFactory
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, START, System, make_due

HOUR = timedelta(hours=1)
GUARD = f"The guard of account {ACCOUNT} holds 1 lines"
GONE = "alice does not hold Read"


def end(grant: Grant) -> Grant:
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    return grant


def deprovision(grant: Grant) -> Grant:
    make_due()
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    return grant


def said(grant: Grant) -> list[str]:
    return [what for what, _ in grant.proofs]


# ---- each proof once


def test_the_deny_and_the_removal_are_on_the_receipt_once_each(system: System) -> None:
    grant = deprovision(end(system.active()))
    assert said(grant) == [GUARD, GONE]
    assert grant.denied_at == START


def test_what_aws_was_asked_for_is_on_the_receipt_also_when_it_did_not_get_through(system: System) -> None:
    grant = end(system.active())

    def ask(when: str, call: fake.Call) -> None:
        if (when, call.operation) == ("before", "close"):
            journal.note("sso:DeleteAccountAssignment", ACCOUNT, f"request {len(system.world.calls)}", "Throttled")

    system.world.hook = ask
    system.world.script("close", fake.throttled())
    deprovision(grant)
    assert [change["call"] for change in grant.changes] == ["sso:DeleteAccountAssignment"]
    assert grant.problem == "The fake system asks us to slow down."
    deprovision(grant)
    assert len(grant.changes) == 2


def test_a_deny_written_again_after_trouble_is_not_on_the_receipt_again(system: System) -> None:
    grant = end(system.active())
    system.world.script("close", fake.throttled())
    deprovision(grant)
    deprovision(grant)
    assert len(system.world.calls_of("enforce")) == 4  # opened, narrowed, denied, and again to be sure
    assert said(grant) == [GUARD, GONE]


def test_what_was_denied_with_others_is_not_denied_again(system: System) -> None:
    grant = end(system.active())
    provisioning.deny(grant.shared_key)
    system.world.calls.clear()
    deprovision(grant)
    assert not system.world.calls_of("enforce")
    assert said(grant) == [GUARD, GONE]


def test_an_end_that_denies_nothing_is_on_the_receipt_too(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProvisioner, "promise", replace(FakeProvisioner.promise, denies=False))
    grant = deprovision(end(system.active()))
    assert said(grant) == [GUARD, GONE]
    assert grant.denied_at is None


def test_a_shared_object_that_was_deleted_is_said_and_keeps_nothing_waiting(system: System) -> None:
    grant = end(system.active())
    system.world.script("enforce", fake.raises(Gone("The role of alice was deleted.")))
    deprovision(grant)
    assert grant.state == State.REVOKED
    assert grant.proofs == [("The role of alice was deleted.", START), (GONE, START)]


# ---- the removal


def test_what_was_deleted_before_it_could_be_removed_is_read_back_all_the_same(system: System) -> None:
    grant = end(system.active())
    system.world.unassign("alice", system.read.external_id)
    system.world.script("close", fake.raises(Gone("There is no such assignment.")))
    deprovision(grant)
    assert (grant.state, said(grant)[-1]) == (State.REVOKED, GONE)
    assert grant.removal_accepted_at == START


def test_a_removal_that_takes_long_is_asked_for_once(system: System, clock: Any) -> None:
    grant = end(system.active())
    system.world.script("close", fake.pending(polls=20))
    for _ in range(5):
        deprovision(grant)
        clock.shift(timedelta(seconds=5))
    assert grant.state == State.REVOKED
    assert len(system.world.calls_of("close")) == 1
    assert grant.removal_accepted_at == START


def test_a_removal_that_did_not_happen_keeps_nobody_else_waiting(system: System) -> None:
    grant = end(system.active())
    system.world.script("close", fake.lies())
    deprovision(grant)
    assert (grant.state, grant.ticket, grant.sessions_until) == (State.REVOKING, {}, None)
    other = system.active()
    deprovision(grant)
    assert (grant.state, system.can_use()) == (State.REVOKED, True)
    assert other.number in said(grant)[-1]


def test_what_was_asked_to_be_removed_is_read_back_whoever_claims_it_meanwhile(system: System) -> None:
    grant = end(system.active())
    system.world.script("close", fake.lost_response())
    deprovision(grant)
    other = system.issue()
    Grant.objects.filter(pk=other.pk).update(
        state=State.ACTIVE, active_at=START, claimed_at=START, ends_at=START + HOUR, not_after=START + HOUR
    )
    assert said(deprovision(grant))[-1] == GONE


def test_nothing_of_its_troubles_is_left_when_it_is_gone(system: System) -> None:
    grant = end(system.active())
    system.world.script("close", fake.throttled())
    assert deprovision(grant).problem
    deprovision(grant)
    assert (grant.state, grant.problem, grant.problem_count, grant.ticket) == (State.REVOKED, "", 0, {})
    assert grant.revoked_at == START


def test_its_timeline_and_its_holders_tell_that_it_is_gone_with_every_proof(system: System) -> None:
    grant = deprovision(end(system.active()))
    event = AuditEvent.objects.get(event="grants.grant.revoked")
    assert (event.actor_name, event.subject) == ("a worker", f"grants.grant:{grant.pk}")
    assert [proof["what"] for proof in event.data["proofs"]] == [GONE]  # the Deny has an event of its own
    whom, what = f"inventory.identity:{grant.identity_id}", f"inventory.entitlement:{grant.entitlement_id}"
    assert {whom, what} <= set(event.refs)


def test_what_its_owner_removes_by_hand_is_left_to_them(system: System) -> None:
    held = system.holds(system.alice, system.admin)
    grant = services.remove_standing(held, by=UserFactory(), reason="A review said so.")
    Grant.objects.filter(pk=grant.pk).update(remover=Grant.BY_OWNER, task_owner=system.bob.identity)
    deprovision(grant)
    assert (grant.state, grant.attempt, system.world.calls) == (State.REVOKING, 0, [])


# ---- who keeps it


def test_the_receipt_names_the_one_that_keeps_it_longest(system: System) -> None:
    first, _, longest, _ = (system.active(duration=hours * HOUR) for hours in (1, 2, 4, 3))
    deprovision(end(first))
    assert said(first)[-1] == f"Nothing was removed: {longest.number} holds the same access until 13:00 UTC."
    assert first.receipt[-2]["facts"] == {"other": longest.number}  # the last line is about other ways in


def test_it_is_kept_until_the_end_that_was_asked_not_the_one_aws_was_told_first(system: System) -> None:
    first = system.active()
    system.world.script("enforce", fake.fine(), fake.throttled())  # the end, then narrowing it
    second = system.active(duration=2 * HOUR)
    assert second.not_after > second.ends_at
    deprovision(end(first))
    assert "until 11:00 UTC" in said(first)[-1]


# ---- sessions


def test_sessions_live_as_long_as_aws_says_rather_than_the_last_scan(system: System) -> None:
    system.read.session_for = 8 * HOUR
    system.read.save()
    assert deprovision(end(system.active())).sessions_until == START + HOUR


def test_sessions_of_what_was_found_standing_live_as_long_as_the_last_scan_says(system: System) -> None:
    system.admin.session_for = 8 * HOUR
    system.admin.save()
    held = system.holds(system.alice, system.admin)
    grant = services.remove_standing(held, by=UserFactory(), reason="A review said so.")
    assert deprovision(grant).sessions_until == START + 8 * HOUR
    assert grant.state == State.REVOKED


def test_sessions_are_counted_from_the_first_time_it_was_gone(system: System, clock: Any) -> None:
    grant = end(system.active())
    system.world.script("enforce", *[fake.raises(Denied("The account is closed."))] * 3)
    deprovision(grant)
    clock.shift(timedelta(minutes=20))
    deprovision(grant)
    assert grant.sessions_until == START + HOUR
    clock.shift(timedelta(minutes=40))
    deprovision(grant)
    assert said(grant) == [
        GONE,
        "No Deny could be written. Sessions ended by themselves by 10:00 UTC. The account is closed.",
    ]


def test_taking_it_out_of_the_shared_object_leaves_the_ends_of_others_in_it(system: System, clock: Any) -> None:
    grant, other = end(system.active()), system.active(who=system.bob, duration=4 * HOUR)
    deprovision(grant)
    clock.shift(HOUR)
    make_due()
    provisioning.clear(grant.pk)
    lines = system.world.guards[ACCOUNT]
    assert {person: line.not_after for (person, _), line in lines.items()} == {"bob": other.ends_at}


def test_what_came_back_counts_as_being_removed_before_aws_has_answered(system: System, clock: Any) -> None:
    grant = deprovision(end(system.active()))
    system.world.assign("alice", system.read.external_id)
    clock.shift(HOUR)
    make_due()
    system.world.script("close", fake.lost_request())
    provisioning.clear(grant.pk)
    grant.refresh_from_db()
    assert grant.ticket["verb"] == "close"


# ---- the inventory


def test_the_inventory_shows_it_gone_when_the_last_of_several_objects_is(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProvisioner, "promise", replace(FakeProvisioner.promise, is_per_grant=True))
    logs = system.permission_set("Logs", "read")
    first, second = system.active(), system.active()
    system.active(who=system.bob)
    system.active(what=logs)
    held = Assignment.objects.get(principal=system.alice, entitlement=system.read)
    deprovision(end(first))
    held.refresh_from_db()
    assert held.is_open
    deprovision(end(second))
    held.refresh_from_db()
    assert not held.is_open


def test_other_ways_in_are_told_with_the_age_of_the_inventory(system: System) -> None:
    grant, other = system.active(), system.active(what=system.permission_set("Logs", "read"))
    deprovision(end(grant))
    assert grant.paths_left == {"paths": ["Logs, held directly"], "as_of": None}
    SyncRunFactory(connection=system.connection, started_at=START - HOUR)
    deprovision(end(other))
    assert other.paths_left == {"paths": [], "as_of": START - HOUR}

"""Nothing is given to somebody who left, however far it was: the row is asked once more right before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent, ref
from apps.grants import leaving as steps
from apps.grants import periodic, provisioning, services
from apps.grants.broker.minting import NotGiven, hand_out
from apps.grants.models import EndReason, Extension, Grant, Leaving, Minting, State
from apps.grants.provisioning import extending, opening
from apps.grants.services import NotPossible, leaving
from apps.inventory.models import Identity
from apps.users.models import User
from tests.grants.system import START, YES, System, make_due
from tests.grants.test_broker import FakeMinter, _minter, asking  # noqa: F401  a fixture

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def the_rules_say_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is the question about the person alone that stands in the way."""
    monkeypatch.setattr("apps.grants.warrants.ask_rules_again", lambda *_: None)


def leave(system: System) -> None:
    Identity.objects.filter(pk=system.alice.identity_id).update(ended_at=timezone.now())


def be_shut_out(system: System) -> None:
    User.objects.filter(identity=system.alice.identity_id).update(is_active=False)


GOING = [leave, be_shut_out]


@pytest.mark.parametrize("go", GOING)
def test_who_left_between_the_yes_and_the_opening_gets_nothing(system: System, go: Callable[[System], None]) -> None:
    grant = system.issue()
    go(system)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == (State.FAILED, EndReason.LEAVER)
    assert not system.world.assignments


@pytest.mark.parametrize("go", GOING)
def test_who_left_while_the_worker_wrote_the_end_gets_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch, go: Callable[[System], None]
) -> None:
    """After every check, and before the one call that opens."""
    grant = system.issue()
    real = opening._open

    def after_they_left(turn: Any) -> None:
        go(system)
        real(turn)

    monkeypatch.setattr(opening, "_open", after_they_left)
    provisioning.provision(grant.pk)
    assert not system.world.assignments
    system.run_clock()
    grant.refresh_from_db()
    assert grant.end_reason == EndReason.LEAVER and not grant.is_live
    assert not system.can_use()


def test_who_asked_for_a_machine_and_left_gets_nothing_for_it(system: System) -> None:
    bob = system.bob.identity
    grant = system.issue(requester=bob.user)
    Identity.objects.filter(pk=bob.pk).update(ended_at=timezone.now())
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED and not system.world.assignments


@pytest.mark.parametrize("go", GOING)
@pytest.mark.parametrize("when", ["before", "under the lock"])
def test_who_left_between_an_extension_and_its_application_keeps_the_old_end(
    system: System, monkeypatch: pytest.MonkeyPatch, go: Callable[[System], None], when: str
) -> None:
    grant = system.active()
    extension = services.extend(grant, longer=HOUR, by=grant.requested_by, authority=YES)
    make_due()
    if when == "before":
        go(system)
    else:
        real = extending._move_the_end
        monkeypatch.setattr(extending, "_move_the_end", lambda *both: (go(system), real(*both))[1])
    provisioning.extend(extension.pk)
    extension.refresh_from_db()
    assert extension.refused_at and not extension.applied_at and "has left" in extension.problem
    assert Grant.objects.get(pk=grant.pk).ends_at == START + HOUR
    assert not system.can_use(at=START + HOUR)


@pytest.mark.parametrize("go", GOING)
def test_who_left_while_a_session_was_made_never_sees_it(system: System, go: Callable[[System], None]) -> None:
    grant = system.active()
    FakeMinter.during = lambda: go(system)
    with pytest.raises(NotGiven, match="has left"):
        hand_out(asking(grant))
    assert not Minting.objects.exists()


def test_nothing_is_issued_or_extended_for_who_left(system: System) -> None:
    grant = system.active()
    leave(system)
    with pytest.raises(NotPossible, match="has left"):
        system.issue()
    with pytest.raises(NotPossible, match="has left"):
        services.extend(grant, longer=HOUR, by=grant.requested_by, authority=YES)
    assert not Extension.objects.exists() and Grant.objects.count() == 1


def test_who_takes_over_and_what_ended_is_kept_and_told(system: System) -> None:
    alice, bob = system.alice.identity, system.bob.identity
    assert alice and bob
    Identity.objects.filter(pk=alice.pk).update(manager=bob)
    system.issue()
    leave(system)
    row = leaving.notice(alice, by=audit.CLOCK)
    alice.refresh_from_db()
    assert row
    assert (row.user, row.passes_to, row.left_at) == (alice.user, bob, alice.ended_at)
    assert row.ended == {"portal sign-in": 1, "grants": 1}
    told = AuditEvent.objects.get(event="grants.leaving.noticed")
    assert told.data == {"ended": row.ended, "left_at": row.left_at.isoformat(), "passes_to": str(bob)}
    assert {ref(one) for one in (alice, alice.user, bob)} <= set(told.refs)


def test_a_login_that_becomes_theirs_later_goes_with_all_that_the_first_took_along(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = system.alice.identity, system.bob.identity
    assert alice and bob
    Identity.objects.filter(pk=alice.pk).update(manager=bob)
    theirs, of_bob = system.issue(), system.issue(who=system.bob)
    Grant.objects.filter(pk=of_bob.pk).update(identity=None)
    leave(system)
    row = Leaving.objects.create(identity=alice, left_at=timezone.now())
    seen: list[steps.Gone] = []
    monkeypatch.setattr(steps, "end", lambda gone, _by: seen.append(gone) or {})
    leaving.notice_login(row, by=audit.CLOCK)
    assert seen == [steps.Gone(identity=alice, user=alice.user, to=bob)]
    ended = {grant.pk: grant.end_reason for grant in Grant.objects.all()}
    assert ended == {theirs.pk: EndReason.LEAVER, of_bob.pk: ""}


@pytest.mark.parametrize(
    "meanwhile",
    [{"here": True}, {"back": True}, {"known": True}, {"known": True, "unlinked": True}],
    ids=["they are here again", "it was noted that they are", "another worker shut it out", "and it was unlinked"],
)
def test_a_login_of_a_leaver_is_shut_out_only_while_they_are_gone_and_only_once(
    system: System, meanwhile: dict[str, bool]
) -> None:
    """The clock's list may be older than what others did about it."""
    leave(system)
    person = Identity.objects.get(pk=system.alice.identity_id)
    login, now = person.user, timezone.now()
    assert login
    row = Leaving.objects.create(identity=person, left_at=now)
    Leaving.objects.update(user=login if meanwhile.get("known") else None)
    Leaving.objects.update(returned_at=now if meanwhile.get("back") else None)
    if meanwhile.get("here"):
        Identity.objects.filter(pk=person.pk).update(ended_at=None)
    if meanwhile.get("unlinked"):
        Identity.objects.filter(pk=person.pk).update(user=None)
    before = Leaving.objects.values_list("user", "returned_at").get()
    leaving.notice_login(row, by=audit.CLOCK)
    login.refresh_from_db()
    assert login.is_active
    assert Leaving.objects.values_list("user", "returned_at").get() == before


def test_who_comes_back_does_not_get_back_what_ended(system: System) -> None:
    """Every state a grant can be in when its holder leaves, and the same holder a day later."""
    active, pending = system.active(), system.issue(what=system.permission_set("Write", "write"))
    leave(system)
    periodic.end_of_leavers()
    system.run_clock()
    Identity.objects.filter(pk=system.alice.identity_id).update(ended_at=None)
    system.run_clock()
    for grant in (active, pending):
        grant.refresh_from_db()
        assert grant.end_reason == EndReason.LEAVER and not grant.is_live
    assert not system.world.assignments

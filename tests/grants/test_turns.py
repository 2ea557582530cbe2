"""A worker's turn is at one grant, in one state, for one attempt; nothing that it writes falls on any other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import create_autospec

import pytest
from django.utils import timezone

from apps.connectors import fake_world as fake
from apps.connectors import journal
from apps.connectors.base import Look, Proof, Remover, Target
from apps.connectors.errors import Refused, Throttled
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.grants.provisioning import turns
from tests.grants.system import ACCOUNT, START, System, make_due

MINUTE = timedelta(minutes=1)
SIMPLE = Target(ACCOUNT, "idc_user", "alice", "alice", "permission_set", "Read", "Read")


@pytest.fixture
def two(system: System) -> tuple[Grant, Grant]:
    """Two grants that are being opened, each in its first attempt."""
    for who in (system.alice, system.bob):
        system.world.script("check", fake.throttled())
        provisioning.provision(system.issue(who).pk)
    Grant.objects.update(problem="", problem_count=0, next_try_at=START)
    mine, other = Grant.objects.order_by("pk")
    return mine, other


def row_of(grant: Grant) -> dict[str, Any]:
    return Grant.objects.values().get(pk=grant.pk)


@pytest.mark.parametrize(
    "change", [{"state": State.ACTIVE, "active_at": START}, {"attempt": 2}], ids=["moved on", "taken over"]
)
def test_a_turn_is_over_when_its_grant_moved_on_whatever_others_do(
    two: tuple[Grant, Grant], change: dict[str, Any]
) -> None:
    mine, other = two
    turn, before = turns.Turn(mine), row_of(other)
    turn.still(State.PROVISIONING)
    Grant.objects.filter(pk=mine.pk).update(**change)
    after = row_of(mine)
    with pytest.raises(turns.OutOfTurn):
        turn.still(State.PROVISIONING)
    with pytest.raises(turns.OutOfTurn):
        turn.save(problem="It is throttled.")
    assert turns.take_over(mine) is None
    assert (row_of(mine), row_of(other)) == (after, before)


def test_what_a_turn_writes_falls_on_its_own_grant(two: tuple[Grant, Grant]) -> None:
    mine, other = two
    before = row_of(other)
    turn = turns.take_over(mine)
    assert turn
    turn.save(problem="It is throttled.")
    turns.postpone(turn, Throttled("Slow down." * 101))
    assert row_of(mine)["problem"] == ("Slow down." * 101)[:1000]
    turns.leave_for_later(mine, "it is not tidied up", Throttled("Slow down."))
    assert row_of(mine)["next_try_at"] == timezone.now() + MINUTE
    assert row_of(other) == before


def test_opening_one_leaves_the_row_of_another_alone(two: tuple[Grant, Grant]) -> None:
    mine, other = two
    before = row_of(other)
    provisioning.provision(mine.pk)
    assert (row_of(mine)["state"], row_of(other)) == (State.ACTIVE, before)


def test_a_tidying_up_that_failed_does_not_put_off_the_end_that_was_decided_meanwhile(system: System) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    stale = Grant.objects.get(pk=grant.pk)
    stale.state = State.ACTIVE
    turns.leave_for_later(stale, "its end in AWS is not narrowed yet", Throttled("Slow down."))
    assert row_of(grant)["next_try_at"] == START


def test_a_slow_change_is_looked_at_less_and_less_often_and_then_left_to_the_clock(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    system.world.script("open", fake.pending(polls=99))
    provisioning.provision(system.issue().pk)
    assert slept == list(turns.POLLS) == sorted(slept)
    assert len(system.world.calls_of("status")) == len(slept)


def test_an_opening_that_comes_late_takes_no_turn_at_the_removal(system: System) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    make_due()
    before = row_of(grant)
    provisioning.provision(grant.pk)
    assert row_of(grant) == before


def test_what_was_asked_stands_on_the_receipt_in_order_also_when_it_failed(two: tuple[Grant, Grant]) -> None:
    mine, other = two
    before = row_of(other)

    def ask(*requests: str) -> None:
        with turns.on_the_receipt(turns.Turn(mine)):
            for request in requests:
                journal.note("iam:PutRolePolicy", ACCOUNT, request, "Throttled")
            raise Throttled("Slow down.")

    for requests in (["first", "second"], [], ["third"]):
        with pytest.raises(Throttled):
            ask(*requests)
    mine.refresh_from_db()
    asked = {"call": "iam:PutRolePolicy", "account_id": ACCOUNT, "outcome": "Throttled", "at": START}
    assert mine.changes == [{**asked, "request_id": request} for request in ("first", "second", "third")]
    assert row_of(other) == before


# ---- what AWS answered, without a database


@pytest.mark.parametrize(
    ("ticket", "is_awaited"),
    [
        ({}, False),
        ({"verb": "open", "state": "pending"}, True),
        ({"verb": "open", "state": "done"}, False),
        ({"verb": "close", "state": "pending"}, False),
    ],
    ids=str,
)
def test_only_a_change_of_its_kind_that_aws_works_on_is_awaited(ticket: dict[str, str], is_awaited: bool) -> None:
    assert turns.Turn(Grant(ticket=ticket)).awaits("open") is is_awaited


@pytest.mark.parametrize(
    ("state", "answer", "is_present", "is_refused"),
    [
        (State.PROVISIONING, "failed", False, True),
        (State.PROVISIONING, "failed", True, False),
        (State.PROVISIONING, "done", False, False),
        (State.REVOKING, "failed", False, False),
    ],
)
def test_only_an_opening_that_failed_and_does_not_show_is_refused(
    state: State, answer: str, is_present: bool, is_refused: bool
) -> None:
    turn = turns.Turn(Grant(state=state, ticket={"verb": "open", "state": answer, "reason": "It is broken"}))
    look, hand = Look(is_present, Proof("It was read.", START)), create_autospec(Remover, instance=True)
    turn.target, hand.look.return_value = SIMPLE, look  # type: ignore[misc]
    if is_refused:
        with pytest.raises(Refused, match="It is broken"):
            turns.read_back(turn, hand)
    else:
        assert turns.read_back(turn, hand) is look
    hand.look.assert_called_once_with(SIMPLE)

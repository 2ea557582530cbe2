"""Which lines of a shared object may differ from the rows for a moment, because somebody is at it. Any other is missed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors.base import Examination, Proof, Window
from apps.grants.models import Grant, Scope, State, Stop, StopWrite
from apps.grants.reconciling.objects import SETTLE, _only_moves, moving_in
from apps.grants.services import stops
from tests.factories.users import UserFactory
from tests.grants.system import START, System
from tests.grants.test_stops import PASSKEY
from tests.grants.test_windows import target

SECOND = timedelta(seconds=1)
LATELY, BEFORE, LATER = START - SETTLE + SECOND, START - SETTLE, START + SECOND
NONE = dict.fromkeys(("narrowed_at", "denied_at", "revoking_at", "cleared_at", "sessions_until"))


@pytest.mark.parametrize(
    ("state", "said", "moves"),
    [
        (State.PROVISIONING, {}, True),
        (State.ACTIVE, {}, True),
        (State.ACTIVE, {"narrowed_at": BEFORE}, False),
        (State.ACTIVE, {"narrowed_at": LATELY}, True),
        (State.REVOKING, {"narrowed_at": BEFORE}, True),
        (State.REVOKING, {"denied_at": BEFORE}, False),
        (State.REVOKING, {"denied_at": LATELY}, True),
        (State.REVOKING, {"denied_at": BEFORE, "revoking_at": LATELY}, True),
        (State.REVOKED, {}, True),
        (State.REVOKED, {"sessions_until": START}, True),
        (State.REVOKED, {"sessions_until": LATER}, False),
        (State.REVOKED, {"sessions_until": LATER, "revoked_at": LATELY}, True),
        (State.REVOKED, {"cleared_at": BEFORE}, False),
        (State.REVOKED, {"cleared_at": LATELY}, True),
        (State.FAILED, {}, False),
    ],
    ids=str,
)
def test_a_grant_moves_while_its_own_turn_is_about_to_write_it_and_shortly_after(
    system: System, state: State, said: dict[str, Any], moves: bool
) -> None:
    grant = system.issue()
    facts = {"not_after": START, "active_at": BEFORE, "revoked_at": BEFORE, "receipt": [{"what": "x"}]}
    Grant.objects.update(state=state, shared_key="guard", end_reason="done", **{**NONE, **facts, **said})
    pair = (grant.principal.external_id, grant.entitlement.external_id)
    assert moving_in("guard", START) == ({pair} if moves else set())
    assert moving_in("another guard", START) == set()


@pytest.mark.parametrize(("read_at", "moves"), [(None, True), (LATELY, True), (BEFORE, False)])
def test_a_stop_moves_until_it_was_read_back_a_while_ago(system: System, read_at: Any, moves: bool) -> None:
    erin = UserFactory(administrator=True)
    stop = stops.order(scope=Scope.ACCOUNT, subject=system.account, reason="An incident.", by=erin, step_up=PASSKEY)
    StopWrite.objects.update(read_at=read_at)
    key = stop.writes.get().shared_key
    assert moving_in(key, START) == ({("*", "*")} if moves else set())
    assert moving_in("another guard", START) == set()
    Stop.objects.update(lifted_at=timezone.now(), lifted_by=erin, lift_proposed_by=UserFactory())
    assert moving_in(key, START) == set()


@pytest.mark.parametrize(
    ("weaker", "stricter", "moving", "only"),
    [
        ("", "", "", False),  # it differs in something that is about nobody
        ("a", "", "a", True),
        ("", "a", "a", True),
        ("a", "b", "a", False),
        ("a", "b", "ab", True),
        ("a", "", "", False),
    ],
)
def test_it_only_moves_where_all_that_differs_moves(weaker: str, stricter: str, moving: str, only: bool) -> None:
    def windows(names: str) -> tuple[Window, ...]:
        return tuple(Window(target(principal_external_id=name), START) for name in names)

    found = Examination(Proof("It was read.", START), windows(weaker), windows(stricter))
    assert _only_moves(found, {(name, "Read") for name in moving}) is only

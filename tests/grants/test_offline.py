"""Ending what a ledger names, call by call: what is written into each shared object, how long is waited, what is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine

from apps.connectors import budget, registry
from apps.connectors import fake_world as fake
from apps.connectors.base import Target, Window
from apps.connectors.errors import Denied, Gone
from apps.grants.provisioning import offline
from tests.grants.lines import entry, small_world
from tests.grants.system import ACCOUNT, START

NOW = START + timedelta(microseconds=250_000)


@pytest.fixture
def world(sleeps: list[float]) -> Iterator[fake.World]:
    with small_world() as made, time_machine.travel(NOW, tick=False):
        yield made


def written(world: fake.World) -> list[tuple[Target | None, Sequence[Window]]]:
    return [(call.target, call.detail["windows"]) for call in world.calls_of("enforce")]


# ---- what is written into a shared object


def test_a_guard_denies_each_pair_once_and_then_everybody_everything(world: fake.World) -> None:
    alice = entry(target=replace(entry().target, reference="abc"))
    bob = entry("bob", state="revoking", revoking_at=START - timedelta(minutes=2))
    offline.end_all([alice, bob, replace(alice, number="G-again")])
    everybody = replace(
        alice.target,
        principal_external_id="*",
        principal_name="everybody",
        entitlement_external_id="*",
        entitlement_name="everything",
        entitlement_attributes={"permission_set_name": "*"},
        reference="",
    )
    assert (everybody.principal_kind, everybody.entitlement_kind) == ("idc_user", "permission_set")
    [(target, windows)] = written(world)
    assert target == everybody
    assert list(windows) == [
        Window(alice.target, START, is_open=False, lapses_at=alice.not_after),
        Window(bob.target, START - timedelta(minutes=2), is_open=False, lapses_at=bob.not_after),
        Window(everybody, START, is_open=False),
    ]


def test_a_document_that_is_no_guard_names_only_what_the_ledger_names(world: fake.World) -> None:
    robot = entry("robot", "logs", provisioner="iam_timeboxed_policy", shared_key="policy:robot")
    offline.end_all([robot])
    assert written(world) == [(robot.target, (Window(robot.target, START, is_open=False, lapses_at=robot.not_after),))]


def test_objects_of_the_same_name_in_two_systems_are_two(world: fake.World) -> None:
    first, second = entry(), entry("bob", connection="Other")
    world.script("enforce", fake.raises(Denied("No right.")), fake.fine())
    outcomes = offline.end_all([first, second])
    assert sorted((one.denied != "", one.problem) for one in outcomes) == [
        (False, "Not denied: No right."),
        (True, ""),
    ]


def test_what_ended_already_is_denied_and_not_removed_again(world: fake.World) -> None:
    over = entry(state="revoked", revoking_at=START - timedelta(hours=1))
    assert offline.end_all([over]) == []
    assert len(written(world)) == 1
    assert not world.calls_of("close", "look")


def test_it_all_counts_as_revoking_before_the_budget(world: fake.World, monkeypatch: pytest.MonkeyPatch) -> None:
    purposes: set[str] = set()
    world.hook = lambda *_: purposes.add(budget.current())
    offline.end_all([entry()])
    assert purposes == {"revoke"}


# ---- what is said of each


def test_what_is_proven_says_what_was_read_back(world: fake.World) -> None:
    alice, bob = entry(), entry("bob", provisioner="", remover="permission_set", shared_key="")
    outcomes = offline.end_all(iter([alice, bob]))
    assert outcomes == [
        offline.Outcome(alice, f"The guard of account {ACCOUNT} holds 2 lines", "alice does not hold Read"),
        offline.Outcome(bob, "", "bob does not hold Read"),
    ]
    assert all(one.is_proven for one in outcomes)
    assert not world.assignments


def test_an_object_that_is_gone_has_nothing_left_to_deny(world: fake.World) -> None:
    alice = entry()
    world.script("enforce", fake.raises(Gone("There is no such role.")))
    [outcome] = offline.end_all([alice])
    assert outcome == offline.Outcome(alice, "There is no such role.", "alice does not hold Read")
    assert outcome.is_proven


def test_what_was_removed_and_could_not_be_denied_is_not_proven(world: fake.World) -> None:
    alice = entry()
    world.script("enforce", fake.raises(Denied("No right.")))
    [outcome] = offline.end_all([alice])
    assert outcome == offline.Outcome(alice, "", "alice does not hold Read", "Not denied: No right.")
    assert not outcome.is_proven


def test_what_could_not_be_removed_is_said_with_the_deny_that_holds(world: fake.World) -> None:
    alice = entry()
    world.script("close", fake.raises(Denied("No right.")))
    [outcome] = offline.end_all([alice])
    said = f"The guard of account {ACCOUNT} holds 2 lines"
    assert outcome == offline.Outcome(alice, said, "", "Not removed: No right.")
    assert not outcome.is_proven


def test_a_line_that_makes_no_sense_stops_no_other(world: fake.World) -> None:
    odd, alice = entry("bob", provisioner="teleport", shared_key="odd"), entry()
    said, fine = offline.end_all([odd, alice])
    assert said.problem == "Not denied: ('fake', 'teleport') Not removed: ('fake', 'teleport')"
    assert fine.is_proven


def test_what_still_shows_says_what_aws_said(world: fake.World) -> None:
    world.script("close", fake.fails_late("AWS had enough."))
    [outcome] = offline.end_all([entry()])
    assert outcome.problem == "Not removed: alice holds Read AWS says: AWS had enough."
    world.script("close", fake.lies())
    world.script("look", *[fake.fine()] * 9)
    [outcome] = offline.end_all([entry()])
    assert outcome.problem == "Not removed: alice holds Read"


# ---- how long is waited


def test_a_removal_under_way_is_looked_at_less_and_less_often(world: fake.World, sleeps: list[float]) -> None:
    alice = entry()
    world.script("close", fake.pending(3))
    offline.end_all([alice])
    assert sleeps == [0.5, 1, 2, 4]
    assert [call.detail["reference"] for call in world.calls_of("status")] == ["close:1"] * 4


def test_a_removal_that_never_ends_is_not_waited_for_for_ever(world: fake.World, sleeps: list[float]) -> None:
    world.script("close", fake.pending(99))
    [outcome] = offline.end_all([entry()])
    assert sleeps == list(offline.POLLS)
    assert sum(sleeps) < 120
    assert not outcome.is_proven


@pytest.mark.parametrize("operation", ["enforce", "close", "status", "look"])
def test_what_cannot_be_done_just_now_is_asked_again_for_half_a_minute(
    world: fake.World, sleeps: list[float], operation: str
) -> None:
    world.script("close", *([fake.pending(9)] if operation == "status" else []))
    world.script(operation, *[fake.throttled()] * 9)
    [outcome] = offline.end_all([entry()])
    assert len(world.calls_of(operation)) == 6
    assert sleeps[-5:] == [1, 2, 4, 8, 16]
    assert not outcome.is_proven


def test_what_is_refused_is_not_asked_again(world: fake.World, sleeps: list[float]) -> None:
    world.script("close", fake.raises(Denied("No right.")))
    offline.end_all([entry()])
    assert (len(world.calls_of("close")), sleeps) == (1, [])


# ---- what removes it


def test_what_a_provisioner_opened_it_removes_and_what_was_found_its_remover(world: fake.World) -> None:
    opened, found = entry(), entry(provisioner="", remover="permission_set")
    assert type(offline.hand_of(opened)) is type(registry.provisioner("fake", "idc_assignment", opened.config))
    assert type(offline.hand_of(found)) is type(registry.remover("fake", "permission_set", found.config))

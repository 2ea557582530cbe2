"""What every provisioner and remover promises, checked the same way over the fake and over AWS.

A test module subclasses the suites and gives a `bench` fixture. The oracle and the counter of a bench look at the
provider by themselves: they never ask the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from apps.connectors.base import EndsTwice, Proof, Provisioner, Remover, Target, Ticket, Window
from apps.connectors.errors import Refused

START = datetime(2031, 3, 5, 9, 0, tzinfo=UTC)
END = START + timedelta(hours=2)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Bench:
    """A provisioner and two targets that share one object: Alice's and Bob's, or two entitlements of one principal. Where
    every grant has an object of its own, they are two grants, and `too_many` is one window that is too large for one."""

    config: Mapping[str, Any]
    provisioner: Provisioner
    alice: Target
    bob: Target
    too_many: Sequence[Window]  # more than the shared object holds
    can_use: Callable[[Target, datetime], bool]
    copies: Callable[[Target], int]  # how many times the provider holds this assignment (0, 1, or a bug)
    is_shared: bool = True  # False: each (principal, entitlement) has an object of its own, which its grants share


@dataclass(frozen=True)
class RemoverBench:
    """A remover with one thing that Alice and Bob both hold standing."""

    remover: Remover
    alice: Target
    bob: Target
    copies: Callable[[Target], int]


def settle(remover: Remover, target: Target, ticket: Ticket) -> Ticket:
    """Poll until the provider has made up its mind."""
    for _ in range(20):
        if ticket.state != "pending":
            return ticket
        ticket = remover.status(target, ticket)
    raise AssertionError("still pending after 20 polls")


def shares_nothing(bench: Bench) -> bool:
    """Whether each grant has an object of its own, which no other grant's windows are written into."""
    return bench.provisioner.shared_key(bench.alice) != bench.provisioner.shared_key(bench.bob)


def enforced(bench: Bench, target: Target, windows: Sequence[Window]) -> Proof:
    """Enforce for `target` what shares its object: all windows, or its own where every grant has an object of its own."""
    if shares_nothing(bench):
        key = bench.provisioner.shared_key
        windows = [window for window in windows if key(window.target) == key(target)]
    return bench.provisioner.enforce(target, windows)


def opened(bench: Bench, *windows: Window) -> None:
    """Enforce and open all of them, as grants do."""
    for window in windows if shares_nothing(bench) else windows[:1]:
        enforced(bench, window.target, windows)
    for window in windows:
        assert settle(bench.provisioner, window.target, bench.provisioner.open(window.target)).state == "done"


class ProvisionerContract:
    """Access opens after its end is written, ends by itself, and ends for one person only."""

    def test_it_says_what_ends_it(self, bench: Bench) -> None:
        promise = bench.provisioner.promise
        told = (promise.ends_by, promise.ends_early_by, promise.read_back_by, promise.survives)
        assert all(sentence.endswith(".") for sentence in (*told, *promise.limits, *promise.failures))
        assert promise.limits and promise.failures and promise.holders and promise.opens

    def test_it_can_be_provisioned(self, bench: Bench) -> None:
        bench.provisioner.check(bench.alice, [Window(bench.alice, END)])

    def test_nothing_is_there_before(self, bench: Bench) -> None:
        assert not bench.provisioner.look(bench.alice).is_present
        assert not bench.can_use(bench.alice, START)

    def test_open_makes_it_usable_until_the_last_second_before_the_end(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END))
        assert bench.provisioner.look(bench.alice).is_present
        assert bench.can_use(bench.alice, START)
        assert bench.can_use(bench.alice, END - SECOND)
        assert not bench.can_use(bench.alice, END)
        assert not bench.can_use(bench.alice, END + timedelta(days=3650))

    def test_the_end_is_rounded_down(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END + timedelta(microseconds=999_999)))
        assert not bench.can_use(bench.alice, END)

    def test_an_end_in_another_time_zone_is_the_same_instant(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END.astimezone(timezone(timedelta(hours=9)))))
        assert bench.can_use(bench.alice, END - SECOND)
        assert not bench.can_use(bench.alice, END)

    def test_an_end_without_time_zone_is_a_programming_error(self, bench: Bench) -> None:
        with pytest.raises(ValueError, match="time zone"):
            Window(bench.alice, END.replace(tzinfo=None))

    def test_opening_twice_is_opening_once(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END))
        opened(bench, Window(bench.alice, END))
        assert bench.copies(bench.alice) == 1

    def test_enforcing_for_one_opens_nothing_for_the_other(self, bench: Bench) -> None:
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, END)])
        assert not bench.can_use(bench.bob, START)

    def test_the_end_can_be_narrowed_and_extended(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END))
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, START)])
        assert not bench.can_use(bench.alice, START)
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, END)])
        assert bench.can_use(bench.alice, START)

    def test_two_windows_do_not_disturb_each_other(self, bench: Bench) -> None:
        later = END + timedelta(hours=1)
        opened(bench, Window(bench.alice, END), Window(bench.bob, later))
        assert not bench.can_use(bench.alice, END)
        assert bench.can_use(bench.bob, END)
        assert not bench.can_use(bench.bob, later)

    def test_people_with_the_same_end_all_lose_it(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        assert bench.can_use(bench.alice, START) and bench.can_use(bench.bob, START)
        assert not bench.can_use(bench.alice, END) and not bench.can_use(bench.bob, END)

    def test_a_window_being_ended_denies_at_once_even_while_the_assignment_stands(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        enforced(bench, bench.alice, [Window(bench.alice, END, is_open=False), Window(bench.bob, END)])
        assert not bench.can_use(bench.alice, START)
        assert bench.can_use(bench.bob, START)

    def test_ending_one_leaves_the_other(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        enforced(bench, bench.alice, [Window(bench.alice, START, is_open=False), Window(bench.bob, END)])
        assert settle(bench.provisioner, bench.alice, bench.provisioner.close(bench.alice)).state == "done"
        assert not bench.provisioner.look(bench.alice).is_present
        assert bench.provisioner.look(bench.bob).is_present
        assert bench.can_use(bench.bob, START)
        assert bench.copies(bench.alice) == 0

    def test_closing_what_is_not_there_is_done(self, bench: Bench) -> None:
        assert settle(bench.provisioner, bench.alice, bench.provisioner.close(bench.alice)).state == "done"

    def test_closing_twice_is_done_twice(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END))
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, START, is_open=False)])
        for _ in range(2):
            assert settle(bench.provisioner, bench.alice, bench.provisioner.close(bench.alice)).state == "done"
        assert not bench.provisioner.look(bench.alice).is_present

    def test_after_the_last_end_it_can_be_opened_again(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END))
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, START, is_open=False)])
        settle(bench.provisioner, bench.alice, bench.provisioner.close(bench.alice))
        bench.provisioner.enforce(bench.alice, [])
        opened(bench, Window(bench.alice, END))
        assert bench.can_use(bench.alice, START)
        assert bench.copies(bench.alice) == 1

    def test_many_rewrites_of_the_shared_object_are_possible(self, bench: Bench) -> None:
        for minutes in range(8):
            end = END + timedelta(minutes=minutes)
            bench.provisioner.enforce(bench.alice, [Window(bench.alice, end)])
        assert bench.provisioner.open(bench.alice).state in ("done", "pending")
        assert not bench.can_use(bench.alice, END + timedelta(minutes=7))

    def test_keys_are_stable_and_name_the_object(self, bench: Bench) -> None:
        provisioner, alice = bench.provisioner, bench.alice
        again = cast("Any", type(provisioner))(bench.config)
        assert provisioner.lock_key(alice) == again.lock_key(alice)
        assert provisioner.shared_key(alice) == again.shared_key(alice)
        assert provisioner.promise.is_per_grant or shares_nothing(bench) is not bench.is_shared

    def test_more_than_fits_is_refused_before_anything_is_written(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END))
        alone = shares_nothing(bench)
        target = bench.too_many[0].target if alone else bench.alice
        many = bench.too_many if alone else [Window(bench.alice, END), *bench.too_many]
        with pytest.raises(Refused):
            bench.provisioner.check(target, many)
        with pytest.raises(Refused):
            bench.provisioner.enforce(target, many)
        assert bench.can_use(bench.alice, END - SECOND)
        assert not bench.can_use(bench.alice, END)

    def test_proofs_are_sentences_with_facts(self, bench: Bench) -> None:
        proof = bench.provisioner.enforce(bench.alice, [Window(bench.alice, END)])
        assert proof.what
        assert proof.facts
        assert proof.read_at.tzinfo is not None
        assert bench.provisioner.look(bench.alice).proof.what


class EndsTwiceContract:
    """Beside what the shared object denies, each pair has an end of its own, which is compared and written by itself."""

    def test_what_was_enforced_differs_in_nothing(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        found = ender(bench).examine_second_end(Window(bench.alice, END))
        assert found.is_enforced and found.differences == ()
        assert found.proof.what

    def test_what_was_never_written_shows_and_is_written(self, bench: Bench) -> None:
        window = Window(bench.alice, END)
        found = ender(bench).examine_second_end(window)
        assert found.weaker == (window,) and found.differences
        assert ender(bench).write_second_end(window).what
        assert ender(bench).examine_second_end(window).differences == ()

    def test_a_later_one_shows_and_is_brought_forward(self, bench: Bench) -> None:
        window = Window(bench.alice, END)
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, END + SECOND)])
        assert ender(bench).examine_second_end(window).weaker == (window,)
        ender(bench).write_second_end(window)
        assert ender(bench).examine_second_end(window).differences == ()
        assert ender(bench).examine_second_end(Window(bench.alice, END - SECOND)).weaker

    def test_an_earlier_one_only_narrows_and_is_no_difference(self, bench: Bench) -> None:
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, END - SECOND)])
        assert ender(bench).examine_second_end(Window(bench.alice, END)).differences == ()

    def test_writing_it_changes_neither_the_shared_object_nor_anybody_elses(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        bench.provisioner.enforce(bench.bob, [Window(bench.alice, END), Window(bench.bob, END)])
        ender(bench).write_second_end(Window(bench.alice, END + timedelta(hours=1)))
        assert not bench.can_use(bench.alice, END)
        assert ender(bench).examine_second_end(Window(bench.bob, END)).differences == ()

    def test_while_it_is_being_ended_it_stays_and_goes_when_it_is_cleared(self, bench: Bench) -> None:
        window = Window(bench.alice, END)
        bench.provisioner.enforce(bench.alice, [window])
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, START, is_open=False)])
        assert ender(bench).examine_second_end(window).differences == ()
        bench.provisioner.enforce(bench.alice, [])
        assert ender(bench).examine_second_end(window).weaker == (window,)


def ender(bench: Bench) -> EndsTwice:
    assert isinstance(bench.provisioner, EndsTwice)
    return bench.provisioner


class RemoverContract:
    """Standing access goes away for one holder, and is read back."""

    def test_it_is_there_before(self, bench: RemoverBench) -> None:
        assert bench.remover.look(bench.alice).is_present
        assert bench.remover.look(bench.bob).is_present

    def test_closing_removes_it_for_one_holder_only(self, bench: RemoverBench) -> None:
        assert settle(bench.remover, bench.alice, bench.remover.close(bench.alice)).state == "done"
        assert not bench.remover.look(bench.alice).is_present
        assert bench.copies(bench.alice) == 0
        assert bench.remover.look(bench.bob).is_present
        assert bench.copies(bench.bob) == 1

    def test_closing_twice_is_done_twice(self, bench: RemoverBench) -> None:
        for _ in range(2):
            assert settle(bench.remover, bench.alice, bench.remover.close(bench.alice)).state == "done"

    def test_lock_keys_are_stable_and_differ_by_holder(self, bench: RemoverBench) -> None:
        assert bench.remover.lock_key(bench.alice) == bench.remover.lock_key(bench.alice)
        assert bench.remover.lock_key(bench.alice) != bench.remover.lock_key(bench.bob)

    def test_it_cannot_open_anything(self, bench: RemoverBench) -> None:
        assert not hasattr(bench.remover, "open")
        assert not hasattr(bench.remover, "enforce")

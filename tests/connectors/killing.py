"""Kills a provisioner at each of its AWS calls.

`deaths_of` runs a story once to learn how many calls it makes, and names every way to die in it: killed before the n-th
call, killed after AWS did it, and AWS did it but its answer was lost (which the code hears as `Unreachable`). `dying` plays
one of them. `KilledContract` is the suite that every provisioner over AWS runs beside `ProvisionerContract`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

from apps.connectors.aws.session import Api
from apps.connectors.base import Window
from apps.connectors.errors import Unreachable
from tests.connectors.contract import END, SECOND, START, Bench, enforced, opened, settle

MODES = ("before", "after", "unheard")


class Killed(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and tidy up."""


@dataclass(frozen=True)
class Death:
    """Where and how a process dies. `nth` counts from one."""

    nth: int
    mode: str
    call: str

    def __str__(self) -> str:
        return f"{self.mode} call {self.nth}, {self.call}"


def deaths_of(story: Callable[[], Any]) -> list[Death]:
    """Every way to die in a story, found by running it once undisturbed."""
    with _watched(lambda nth, call: None) as calls:
        story()
    assert calls, "the story calls nobody"
    return [Death(nth, mode, call) for nth, call in enumerate(calls, 1) for mode in MODES]


@contextmanager
def dying(death: Death) -> Iterator[None]:
    """Whatever runs inside dies so, and nobody hears of it."""

    def strike(nth: int, call: str) -> str | None:
        return death.mode if nth == death.nth else None

    with _watched(strike):
        try:
            yield
        except (Killed, Unreachable):
            return
    # A lost answer to a read, or to something that is read back anyway, need not stop the story.


@contextmanager
def _watched(strike: Callable[[int, str], str | None]) -> Iterator[list[str]]:
    calls: list[str] = []
    real = Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        calls.append(f"{service}:{operation}")
        mode = strike(len(calls), calls[-1])
        if mode == "before":
            raise Killed
        answer = real(self, account_id, service, operation, **params)
        if mode == "after":
            raise Killed
        if mode == "unheard":
            raise Unreachable("The answer was lost.")
        return answer

    with mock.patch.object(Api, "call", call):
        yield calls


class KilledContract:
    """Killed anywhere, a provisioner leaves no access or access that ends on time, and doing it again converges."""

    def test_killed_while_opening(self, bench: Bench) -> None:
        def open_it() -> None:
            bench.provisioner.check(bench.alice, [Window(bench.alice, END)])
            opened(bench, Window(bench.alice, END))

        deaths = deaths_of(open_it)
        _end(bench)
        for death in deaths:
            with dying(death):
                open_it()
            assert not bench.can_use(bench.alice, END), f"unbounded after dying {death}"
            assert not bench.can_use(bench.bob, START), f"somebody else's after dying {death}"
            open_it()
            _require_open(bench, str(death))
            _end(bench)

    def test_killed_while_extending_and_narrowing(self, bench: Bench) -> None:
        for end in (END + timedelta(hours=1), END - timedelta(hours=1)):
            move = partial(bench.provisioner.enforce, bench.alice, [Window(bench.alice, end)])
            opened(bench, Window(bench.alice, END))
            deaths = deaths_of(move)
            for death in deaths:
                opened(bench, Window(bench.alice, END))
                with dying(death):
                    move()
                assert bench.can_use(bench.alice, min(end, END) - SECOND), f"cut short by dying {death}"
                assert not bench.can_use(bench.alice, max(end, END)), f"unbounded after dying {death}"
                move()
                assert bench.can_use(bench.alice, end - SECOND), f"not moved after dying {death}"
                assert not bench.can_use(bench.alice, end), f"not moved after dying {death}"

    def test_killed_while_ending(self, bench: Bench) -> None:
        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        deaths = deaths_of(lambda: _close(bench))
        for death in deaths:
            opened(bench, Window(bench.alice, END), Window(bench.bob, END))
            with dying(death):
                _close(bench)
            assert not bench.can_use(bench.alice, END), f"unbounded after dying {death}"
            assert bench.can_use(bench.bob, START), f"somebody else's was ended by dying {death}"
            assert not bench.can_use(bench.bob, END), f"somebody else's is unbounded after dying {death}"
            _close(bench)
            assert not bench.provisioner.look(bench.alice).is_present, f"still there after dying {death}"
            assert not bench.can_use(bench.alice, START), f"still usable after dying {death}"
            assert bench.copies(bench.alice) == 0, f"still there after dying {death}"

    def test_killed_while_clearing_away(self, bench: Bench) -> None:
        def clear() -> None:
            enforced(bench, bench.alice, [Window(bench.bob, END)])

        opened(bench, Window(bench.alice, END), Window(bench.bob, END))
        _close(bench)
        deaths = deaths_of(clear)
        for death in deaths:
            opened(bench, Window(bench.alice, END), Window(bench.bob, END))
            _close(bench)
            with dying(death):
                clear()
            assert not bench.can_use(bench.alice, START), f"usable after dying {death}"
            assert bench.can_use(bench.bob, START), f"somebody else's was ended by dying {death}"
            assert not bench.can_use(bench.bob, END), f"somebody else's is unbounded after dying {death}"
            clear()
            assert not bench.can_use(bench.alice, START), f"usable after dying {death}"


def _require_open(bench: Bench, death: str) -> None:
    assert bench.provisioner.look(bench.alice).is_present, f"not open after dying {death}"
    assert bench.can_use(bench.alice, END - SECOND), f"not usable after dying {death}"
    assert not bench.can_use(bench.alice, END), f"unbounded after dying {death}"
    assert bench.copies(bench.alice) == 1, f"there twice after dying {death}"


def _close(bench: Bench) -> None:
    windows = [Window(bench.alice, START, is_open=False), Window(bench.bob, END)]
    enforced(bench, bench.alice, windows)
    assert settle(bench.provisioner, bench.alice, bench.provisioner.close(bench.alice)).state == "done"


def _end(bench: Bench) -> None:
    """End it and clear it away, so that the next death starts from nothing."""
    bench.provisioner.enforce(bench.alice, [Window(bench.alice, START, is_open=False)])
    settle(bench.provisioner, bench.alice, bench.provisioner.close(bench.alice))
    bench.provisioner.enforce(bench.alice, [])
    assert not bench.can_use(bench.alice, START)

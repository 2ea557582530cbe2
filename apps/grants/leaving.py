"""What upper apps do when somebody leaves, so that grants knows none of them. Registered in `AppConfig.ready`.

A step says how many of what it dealt with, for people to read. It runs inside the transaction of the decision, so that all
of it happens or nothing, and takes no lock on who left: that row is locked already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.inventory.models import Identity
from apps.users.models import User


@dataclass(frozen=True, kw_only=True)
class Gone:
    """Who left, their portal user, and who answers in their place (nobody: administrators)."""

    identity: Identity
    user: User | None
    to: Identity | None


Step = Callable[[Gone, Any], Mapping[str, int]]

_ending: dict[str, Step] = {}
_passing: dict[str, Step] = {}


def ends_with_them(name: str, step: Step) -> None:
    """`step` ends something in the transaction that notices that somebody left, before their grants end."""
    _ending[name] = step


def passes_on(name: str, step: Step) -> None:
    """`step` hands over for good what they left behind, once it is clear that they are gone."""
    _passing[name] = step


def end(gone: Gone, by: Any) -> dict[str, int]:
    return _run(_ending, gone, by)


def pass_on(gone: Gone, by: Any) -> dict[str, int]:
    return _run(_passing, gone, by)


def _run(steps: Mapping[str, Step], gone: Gone, by: Any) -> dict[str, int]:
    return {words: count for step in steps.values() for words, count in step(gone, by).items() if count}


def counted(counts: Mapping[str, int]) -> str:
    """{"grants": 2, "requests to decide": 1} as "2 grants, 1 request to decide"."""
    return ", ".join(f"{count:,} {_noun(words, count)}" for words, count in sorted(counts.items()))


def _noun(words: str, count: int) -> str:
    first, *rest = words.split(" ")
    return " ".join([first.removesuffix("s") if count == 1 else first, *rest])

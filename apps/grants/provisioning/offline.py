"""Ending everything that a ledger names, without the database: one write for each shared object, then each removal, each
read back. It may be killed and started again at any point: what is gone already is gone."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from apps.connectors import budget, registry
from apps.connectors.base import Proof, Remover, Target, Window
from apps.connectors.errors import Gone, Throttled, Unproven
from apps.grants.ledger import Entry

logger = logging.getLogger(__name__)

T = TypeVar("T")

WAITS = (1, 2, 4, 8, 16)  # seconds between tries of what AWS could not do just now
POLLS = (0.5, 1, 2, 4, 8, 15, 15, 15)  # seconds between looks at a removal under way
THREADS = 8
EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one grant. `denied`: what was read back of the shared object, empty if it has none or it could not
    be written. `is_proven`: it was read back as gone, and nothing that could be denied was left undenied."""

    entry: Entry
    denied: str = ""
    gone: str = ""
    problem: str = ""

    @property
    def is_proven(self) -> bool:
        return bool(self.gone) and not self.problem


def end_all(entries: Iterable[Entry]) -> list[Outcome]:
    """Deny everything in every shared object, whoever holds it, and then remove each grant and read it back.

    Nothing is kept for anybody: this is the end of all of it. Raises nothing that a provider answers; each outcome says
    what was proven and what not.
    """
    entries = list(entries)
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.shared_key:
            groups[entry.connection, entry.shared_key].append(entry)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = dict(zip(groups, pool.map(_deny, groups.values()), strict=True))
        todo = [entry for entry in entries if not entry.is_over]
        denied = [answers.get((entry.connection, entry.shared_key), ("", "")) for entry in todo]
        return list(pool.map(_end, todo, denied))


@budget.purpose("revoke")
def _deny(entries: Sequence[Entry]) -> tuple[str, str]:
    """Write one shared object with everything in it denied. What was read back, or why not."""
    first = entries[0]
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        provisioner = registry.provisioner(first.kind, first.provisioner, first.config)
        windows = _windows(entries, now)
        proof = _patiently(lambda: provisioner.enforce(windows[-1].target, windows))
    except Gone as error:
        return str(error), ""
    except Exception as error:  # noqa: BLE001  whatever it is, the others go on
        logger.warning("%s could not be written: %s", first.shared_key, error)
        return "", f"Not denied: {error}"
    return proof.what, ""


def _windows(entries: Sequence[Entry], now: datetime) -> list[Window]:
    """Every pair of the object once, closed; in a guard last of all everybody and everything that no entry names."""
    pairs = {(*entry.pair, entry.target.reference): entry.closed(now) for entry in entries}
    first = entries[0]
    windows = list(pairs.values())
    if registry.has_guard(first.kind, first.provisioner):
        windows.append(Window(_everybody(first.target), now, is_open=False))
    return windows


def _everybody(target: Target) -> Target:
    """Anybody and anything, beside a target of a guard, which only names people and permission sets."""
    return replace(
        target,
        principal_external_id=EVERYBODY,
        principal_name="everybody",
        entitlement_external_id=EVERYBODY,
        entitlement_name="everything",
        entitlement_attributes={"permission_set_name": EVERYBODY},
        reference="",
    )


@budget.purpose("revoke")
def _end(entry: Entry, denied: tuple[str, str]) -> Outcome:
    said, problem = denied
    try:
        gone = remove(hand_of(entry), entry.target)
    except Exception as error:  # noqa: BLE001  the same
        return Outcome(entry, said, problem=f"{problem} Not removed: {error}".strip())
    return Outcome(entry, said, gone.what, problem)


def hand_of(entry: Entry) -> Remover:
    """What removes it: its provisioner, or the remover of what was found standing."""
    if entry.provisioner:
        return registry.provisioner(entry.kind, entry.provisioner, entry.config)
    return registry.remover(entry.kind, entry.remover, entry.config)


def remove(hand: Remover, target: Target) -> Proof:
    """Ask for the removal, wait for it, and read back that it is gone. Raises `Unproven` where it still shows."""
    ticket = _patiently(lambda: hand.close(target))
    for seconds in POLLS:
        if ticket.state != "pending":
            break
        time.sleep(seconds)
        last = ticket
        ticket = _patiently(lambda last=last: hand.status(target, last))  # type: ignore[misc]
    look = _patiently(lambda: hand.look(target))
    if look.is_present:
        why = f" AWS says: {ticket.reason}" if ticket.reason else ""
        raise Unproven(f"{look.proof.what}{why}")
    return look.proof


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again what cannot be done just now. A lost answer may have been a yes, and every call may be repeated."""
    for seconds in WAITS:
        try:
            return ask()
        except (Throttled, Unproven):
            time.sleep(seconds)
    return ask()

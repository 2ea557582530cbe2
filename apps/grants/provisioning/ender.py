"""The separate ender: a second process, as a role that can only narrow, for when the workers are stuck, dead or worse.

It looks for grants that are past their end, or being ended for too long, in the database, or in the ledger while there is
no database; asks AWS whether the access is still there; takes it away and reads back. It changes no state: the workers'
own read-back settles that. It writes no guard and deletes no Deny, so whatever it is told, it can open nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from django.db import Error, transaction
from django.db.models.functions import Least
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import budget, registry
from apps.connectors.base import Proof, Remover, Target
from apps.connectors.errors import ConnectorError, Unproven
from apps.core.locks import Taken, exclusive
from apps.grants import ledger
from apps.grants.ledger import Entry
from apps.grants.models import Grant
from apps.grants.provisioning.turns import about_of, plain
from apps.grants.windows import is_open

logger = logging.getLogger(__name__)

ENDER = audit.Actor(AuditEvent.ActorKind.WORKER, "the ender")
# It does not answer, is stuck, is empty, lacks a table, refuses us: whatever it is, the ledger may know better.
NO_DATABASE = (Error, psycopg.Error)
BATCH = 500  # in a round
ROUND_FOR = 120  # seconds, and what is left has the first turn in the next round
BACKOFF, BACKOFF_CAP = timedelta(seconds=10), timedelta(minutes=5)
LOOK_AGAIN = timedelta(minutes=10)  # at what was found gone, or kept by another, while its row says the same
LOCK_WAIT_MS = 5_000  # a worker that holds the object longer may be the one that is stuck
POLLS = (1, 2, 4, 8)  # seconds between looks at a removal under way


@dataclass
class Report:
    """One round: where it read from, how many are overdue, what it ended, what it could not prove."""

    source: str
    overdue: int = 0
    ended: list[str] = field(default_factory=list)
    unproven: dict[str, str] = field(default_factory=dict)  # number → why


@dataclass
class _Try:
    number: str = ""
    failures: int = 0
    next_at: datetime | None = None  # None: never looked at
    is_kept: bool = False


class Ender:
    """Remembers between rounds what it tried, so that a fault is not asked about all the time."""

    def __init__(self, ledger_path: Path | None = None) -> None:
        self._ledger_path = ledger_path
        self._tries: dict[str, _Try] = {}
        self._untold: list[tuple[Entry, Proof]] = []

    def round(self) -> Report:
        """End what is overdue by the database; by the ledger where there is none."""
        now = timezone.now()
        try:
            turn = self._whose_turn(_overrun(now), now)
            entries = [ledger.entry_of(grant) for grant in _rows(turn) if not self._is_kept(grant, now)]
        except NO_DATABASE as error:
            logger.warning("The database does not answer, so the ledger is used: %s", error)
            return self.round_without_database()
        return self._end_all(Report("database"), entries)

    def round_without_database(self) -> Report:
        """End what is overdue by the ledger, as old as that is."""
        report = Report("ledger")
        if self._ledger_path is None:
            report.source = "nothing"
            return report
        try:
            found = ledger.read(self._ledger_path, accept_damage=True)
        except OSError as error:
            logger.error("The ledger cannot be read either: %s", error)  # noqa: TRY400  the words say it all
            report.source = "nothing"
            return report
        if found.problem:
            logger.warning("%s What can be read of it counts.", found.problem)
        now = timezone.now()
        overdue = {entry.reference: entry for entry in overdue_of(found.entries, now)}
        turn = self._whose_turn(sorted(overdue, key=lambda one: _over_at(overdue[one], now)), now)
        return self._end_all(report, [overdue[reference] for reference in turn], has_database=False)

    def _whose_turn(self, overdue: Sequence[str], now: datetime) -> list[str]:
        """The references that this round looks at, of all that are overdue: first those that nobody looked at, in the
        order given, then the others, longest waiting first. So every one has its turn, however many do not move."""
        self._tries = {reference: self._tries.get(reference, _Try()) for reference in overdue}
        due = [(known.next_at, one) for one, known in self._tries.items() if not known.next_at or known.next_at <= now]
        due.sort(key=lambda pair: (pair[0] is not None, pair[0] or now))
        return [reference for _, reference in due[:BATCH]]

    def _is_kept(self, grant: Grant, now: datetime) -> bool:
        is_kept = _is_kept(grant, now)
        if is_kept:
            self._tries[grant.reference] = _Try(next_at=now + LOOK_AGAIN, is_kept=True)
        return is_kept

    def _end_all(self, report: Report, entries: Sequence[Entry], *, has_database: bool = True) -> Report:
        now, until = timezone.now(), time.monotonic() + ROUND_FOR
        report.overdue = sum(not known.is_kept for known in self._tries.values())
        waiting = (known for known in self._tries.values() if known.failures and known.next_at and known.next_at > now)
        report.unproven = {known.number: "tried a moment ago" for known in waiting}
        for entry in entries:
            self._end_one(entry, report, has_database=has_database)
            if time.monotonic() > until:
                break
        if has_database:
            self._tell_if_possible()
        return report

    def _end_one(self, entry: Entry, report: Report, *, has_database: bool) -> None:
        now, failures = timezone.now(), self._tries[entry.reference].failures
        try:
            proof = _end(entry, has_database=has_database)
        except (ConnectorError, KeyError, ValueError) as error:
            wait = min(BACKOFF * 2 ** min(failures, 10), BACKOFF_CAP)
            self._tries[entry.reference] = _Try(entry.number, failures + 1, now + wait)
            report.unproven[entry.number] = str(error)
            logger.warning("%s is overdue and could not be ended: %s", entry.number, error)
            return
        self._tries[entry.reference] = _Try(next_at=now + LOOK_AGAIN)
        if proof:
            report.ended.append(entry.number)
            self._untold.append((entry, proof))
            logger.warning("%s was overdue and is ended: %s", entry.number, proof.what)

    def _tell_if_possible(self) -> None:
        try:
            self._tell()
        except NO_DATABASE as error:
            logger.warning("What was ended is told when the database is back: %s", error)

    def _tell(self) -> None:
        """Put what was ended on the timelines, also what was ended while there was no database."""
        while self._untold:
            entry, proof = self._untold[0]
            grant = Grant.objects.with_names().filter(reference=entry.reference).first()
            if grant is not None:
                with transaction.atomic():
                    audit.record(
                        "grants.grant.ended_by_ender",
                        by=ENDER,
                        subject=grant,
                        about=about_of(grant),
                        data={"proof": plain(proof)},
                    )
            self._untold.pop(0)


def overdue_of(entries: Iterable[Entry], now: datetime) -> list[Entry]:
    """Those that should be over and that no other grant keeps. By the same rule as `Grant.objects.overrun`."""
    entries = list(entries)
    kept = {entry.pair for entry in entries if not entry.is_alone and entry.is_live and not _is_overrun(entry, now)}
    return [
        entry
        for entry in entries
        if entry.provisioner and _is_overrun(entry, now) and (entry.is_alone or entry.pair not in kept)
    ]


def _is_overrun(entry: Entry, now: datetime) -> bool:
    if not (entry.is_live or entry.is_ending):
        return False
    is_over = entry.end is not None and entry.end <= now - Grant.OVERRUN
    is_stuck = entry.is_ending and entry.revoking_at is not None and entry.revoking_at <= now - Grant.REVOKE_SLO
    return is_over or is_stuck


def _over_at(entry: Entry, now: datetime) -> datetime:
    return min((at for at in (entry.end, entry.revoking_at) if at is not None), default=now)


def _overrun(now: datetime) -> list[str]:
    """References of all that is overdue, longest overdue first."""
    over_at = Least("ends_at", "not_after", "revoking_at")  # which ignores what is NULL
    return list(Grant.objects.overrun(now).order_by(over_at, "pk").values_list("reference", flat=True))


def _rows(turn: Sequence[str]) -> list[Grant]:
    found = Grant.objects.with_names().select_related("principal__resource", "assignment").filter(reference__in=turn)
    return sorted(found, key=lambda grant: turn.index(grant.reference))


def _is_kept(grant: Grant, now: datetime) -> bool:
    """Another grant needs the same access, is not over itself, and rests on a warrant: a row alone keeps nothing."""
    others = Grant.objects.keeping(grant).exclude(pk__in=Grant.objects.overrun(now).values("pk"))
    return any(is_open(other) for other in others.with_names().select_related("warrant"))


@budget.purpose("revoke")
def _end(entry: Entry, *, has_database: bool) -> Proof | None:
    """Take one away if it is still there. None when it was gone already, or when nothing but its dates can end it."""
    hand = registry.ender(entry.kind, entry.provisioner, entry.config)
    if hand is None or not hand.look(entry.target).is_present:
        return None
    if not has_database:
        return _remove(hand, entry.target)
    with _alone_if_possible(lambda: hand.lock_key(entry.target)):
        return _remove(hand, entry.target)


def _remove(hand: Remover, target: Target) -> Proof:
    ticket = hand.close(target)
    for seconds in POLLS:
        if ticket.state != "pending":
            break
        time.sleep(seconds)
        ticket = hand.status(target, ticket)
    look = hand.look(target)
    if look.is_present:
        raise Unproven(f"{look.proof.what} {ticket.reason}".strip())
    return look.proof


@contextmanager
def _alone_if_possible(key: Callable[[], str]) -> Iterator[None]:
    """Under the object's lock; without it when whoever holds it does not let go, since this can only narrow."""
    lock = exclusive("object", key(), wait_ms=LOCK_WAIT_MS)
    try:
        lock.__enter__()
    except (Taken, *NO_DATABASE) as error:
        logger.warning("Not waiting for it any longer: %s", error)
        yield
        return
    try:
        yield
    finally:
        try:
            lock.__exit__(None, None, None)
        except Taken as error:
            logger.warning("%s", error)

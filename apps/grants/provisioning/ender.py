"""The separate ender: a second process, as a role that can only narrow, for when the workers are stuck, dead or worse.

It looks for grants that are past their end, or being ended for too long, in the database, or in the ledger while there is
no database; asks AWS whether the access is still there; takes it away and reads back. It changes no state: the workers'
own read-back settles that. It writes no guard and deletes no Deny, so whatever it is told, it can open nothing.

Workers write the rows, so their word is not enough: what no warrant allows any more is over whatever its row says, a few
of those that are said to be gone are looked at in each round, and what the ledger names and the database has forgotten
counts too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
from django.db import Error, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Least
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import budget, registry
from apps.connectors.base import Proof, Remover, Target
from apps.connectors.errors import Unproven
from apps.core.locks import Taken, exclusive
from apps.grants import ledger
from apps.grants.ledger import Entry
from apps.grants.models import Drift, Grant, State, Warrant
from apps.grants.models.grants import COMMITTED, IN_AWS, GrantQuerySet
from apps.grants.provisioning.turns import about_of, plain
from apps.grants.windows import is_open
from apps.inventory.models import Assignment

logger = logging.getLogger(__name__)

ENDER = audit.Actor(AuditEvent.ActorKind.WORKER, "the ender")
# It does not answer, is stuck, is empty, lacks a table, refuses us: whatever it is, the ledger may know better.
NO_DATABASE = (Error, psycopg.Error)
BATCH = 500  # in a round
ROUND_FOR = 120  # seconds, and what is left has the first turn in the next round
BACKOFF, BACKOFF_CAP = timedelta(seconds=10), timedelta(minutes=5)
LOOK_AGAIN = timedelta(minutes=10)  # at what was found gone, or kept by another, while its row says the same
CLOSED_FOR = timedelta(days=7)  # so long after a warrant allowed it last is it asked whether what is said to be gone is
LONGEST = timedelta(days=30)  # older warrants are not gone through for that
CLOSED_BATCH = 5  # of those in a round
CLOSED_LISTED, CLOSED_AGAIN = timedelta(minutes=5), timedelta(hours=6)
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
        self._closed: list[str] = []
        self._listed_at: datetime | None = None

    def round(self) -> Report:
        """End what is overdue by the database; by the ledger where there is none."""
        now = timezone.now()
        try:
            overdue, closed, forgotten = _overdue(now), self._said_to_be_gone(now), self._forgotten(now)
            overdue += forgotten
            self._know(*overdue, *closed)
            turn = [*self._whose_turn(overdue, BATCH, now), *self._whose_turn(closed, CLOSED_BATCH, now)]
            entries: dict[str, Callable[[], Entry]] = {
                row.reference: partial(ledger.entry_of, row) for row in _rows(turn)
            }
        except NO_DATABASE as error:
            logger.warning("The database does not answer, so the ledger is used: %s", error)
            return self.round_without_database()
        entries |= {reference: partial(forgotten.__getitem__, reference) for reference in forgotten}
        doubtful = {*closed, *forgotten}

        def is_needed(entry: Entry) -> bool:
            return _is_kept(entry, now) or (entry.reference in doubtful and _is_explained(entry, now))

        report = Report("database")
        self._go_through(report, {one: entries[one] for one in turn if one in entries}, is_needed)
        report.overdue = sum(not self._tries[reference].is_kept for reference in overdue)
        self._tell_if_possible()
        return report

    def round_without_database(self) -> Report:
        """End what is overdue by the ledger, as old as that is."""
        now = timezone.now()
        entries = self._read_ledger()
        if entries is None:
            return Report("nothing")
        overdue = {entry.reference: entry for entry in overdue_of(entries, now)}
        self._know(*sorted(overdue, key=lambda one: _over_at(overdue[one])))
        report = Report("ledger", overdue=len(overdue))
        turn = self._whose_turn(list(self._tries), BATCH, now)
        self._go_through(report, {one: partial(overdue.__getitem__, one) for one in turn}, None)
        return report

    def _read_ledger(self) -> Sequence[Entry] | None:
        if self._ledger_path is None:
            return None
        try:
            found = ledger.read(self._ledger_path, accept_damage=True)
        except FileNotFoundError:
            logger.warning("There is no ledger at %s yet. The worker writes it every minute.", self._ledger_path)
            return None
        except OSError as error:
            logger.error("The ledger cannot be read: %s", error)  # noqa: TRY400  the words say it all
            return None
        if found.problem:
            logger.warning("%s What can be read of it counts.", found.problem)
        return found.entries

    def _forgotten(self, now: datetime) -> dict[str, Entry]:
        """What the ledger says is overdue, and the database has no row of: it was restored, or rows were taken out."""
        entries = {entry.reference: entry for entry in overdue_of(self._read_ledger() or (), now)}
        known = ledger.known(entries.values()).items()
        begun = {reference for reference, state in known if state != State.PENDING}
        return {reference: entries[reference] for reference in set(entries) - begun}

    def _said_to_be_gone(self, now: datetime) -> list[str]:
        """Listed now and then: that takes a second where there are many. What is overdue does not wait for it to work."""
        if self._listed_at is None or self._listed_at <= now - CLOSED_LISTED:
            self._listed_at = now
            try:
                self._closed = _closed(now)
            except NO_DATABASE as error:
                logger.warning("What is said to be gone cannot be listed: %s", error)
        return self._closed

    def _know(self, *references: str) -> None:
        self._tries = {reference: self._tries.get(reference, _Try()) for reference in references}

    def _whose_turn(self, references: Sequence[str], most: int, now: datetime) -> list[str]:
        """Whom of these this round looks at: first those that nobody looked at, in the order given, then the others,
        longest waiting first. So every one has its turn, however many do not move."""
        waits = [(self._tries[one].next_at, one) for one in references]
        due = [(next_at, one) for next_at, one in waits if next_at is None or next_at <= now]
        due.sort(key=lambda pair: (pair[0] is not None, pair[0] or now))
        return [reference for _, reference in due[:most]]

    def _go_through(
        self, report: Report, turn: Mapping[str, Callable[[], Entry]], is_needed: Callable[[Entry], bool] | None
    ) -> None:
        """`is_needed` says whether somebody else needs it, by the database; None where there is none."""
        now, until = timezone.now(), time.monotonic() + ROUND_FOR
        waiting = (known for known in self._tries.values() if known.failures and known.next_at and known.next_at > now)
        report.unproven = {known.number: "tried a moment ago" for known in waiting}
        for reference, load in turn.items():
            self._end_one(reference, load, is_needed, report)
            if time.monotonic() > until:
                break

    def _end_one(
        self, reference: str, load: Callable[[], Entry], is_needed: Callable[[Entry], bool] | None, report: Report
    ) -> None:
        """Whatever is wrong with one, the others have their turn."""
        now, failures, number = timezone.now(), self._tries[reference].failures, reference
        try:
            entry = load()
            number = entry.number
            if is_needed and is_needed(entry):
                self._tries[reference] = _Try(next_at=now + LOOK_AGAIN, is_kept=True)
                return
            proof = _end(entry, is_needed)
        except Exception as error:  # noqa: BLE001  also what somebody wrote into a row so that it breaks
            wait = min(BACKOFF * 2 ** min(failures, 10), BACKOFF_CAP)
            self._tries[reference] = _Try(number, failures + 1, now + wait)
            report.unproven[number] = str(error) or type(error).__name__
            logger.warning("%s could not be ended: %s", number, report.unproven[number])
            return
        is_over = entry.is_live or entry.is_ending
        self._tries[reference] = _Try(next_at=now + (LOOK_AGAIN if proof or is_over else CLOSED_AGAIN))
        if proof:
            report.ended.append(number)
            self._untold.append((entry, proof))
            logger.warning("%s should have been gone and is ended: %s", number, proof.what)

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
    """Those that should be over and that no other grant keeps. By the same rule as `Grant.objects.overrun`; the ledger
    has no warrants."""
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


def _over_at(entry: Entry) -> datetime:
    return min(at for at in (entry.end, entry.revoking_at) if at is not None)  # what is overdue has one of them


def _all_overdue(now: datetime) -> GrantQuerySet:
    """Also what no warrant allows any more, or ever did, though its row says so."""
    allowed = Warrant.objects.lasting(now - Grant.OVERRUN).filter(grant=OuterRef("pk"))
    overrun = Q(pk__in=Grant.objects.overrun(now).filter(state__in=IN_AWS).values("pk"))
    ours = Q(provisioner__gt="") | Q(warrant__isnull=False)  # and not standing access that is being removed
    return Grant.objects.filter(ours, overrun | ~Exists(allowed), state__in=IN_AWS)


def _overdue(now: datetime) -> list[str]:
    """References of all that is overdue, longest overdue first."""
    over_at = Least("ends_at", "not_after", "revoking_at")  # which ignores what is NULL
    return list(_all_overdue(now).order_by(over_at, "pk").values_list("reference", flat=True))


def _closed(now: datetime) -> list[str]:
    """References of what is said to be gone, or never to have begun, and was allowed until a few days ago at most; the
    newest first. By what its warrant says, which no worker can change."""
    names = sorted({name for _, name in registry.ENDERS})
    lately = Warrant.objects.lasting(now - CLOSED_FOR).filter(made_at__gt=now - CLOSED_FOR - LONGEST)
    lately = lately.filter(spec__provisioner__in=names)
    allowed = Warrant.objects.lasting(now - Grant.OVERRUN).filter(grant=OuterRef("pk"))
    said = Q(state__in={State.REVOKED, State.CANCELLED, State.FAILED}) | (Q(state=State.PENDING) & ~Exists(allowed))
    rows = Grant.objects.filter(said, pk__in=lately.values("grant"))
    return list(rows.order_by("-pk").values_list("reference", flat=True))


def _rows(turn: Sequence[str]) -> GrantQuerySet:
    return Grant.objects.with_names().select_related("principal__resource", "warrant").filter(reference__in=turn)


def _is_kept(entry: Entry, now: datetime) -> bool:
    """A grant needs the same access, is not over, and rests on a warrant: a row alone keeps nothing."""
    if entry.is_alone:
        return False
    held = Grant.objects.filter(COMMITTED, **_pair_of(entry)).exclude(pk__in=_all_overdue(now).values("pk"))
    return any(is_open(grant) for grant in held.with_names().select_related("warrant"))


def _is_explained(entry: Entry, now: datetime) -> bool:
    """That AWS shows it after its end has another reason: its holder has it all the time, or a comparison found it and
    people said that it may stay, or have still to say."""
    known = Drift.objects.open().filter(Q(accepted_until__gt=now) | Q(held_in__isnull=False))
    if known.filter(grant__reference=entry.reference).exists():
        return True
    if entry.is_alone:
        return False
    standing = Assignment.objects.open().filter(is_standing=True)
    return any(rows.filter(**_pair_of(entry)).exists() for rows in (known, standing))


def _pair_of(entry: Entry) -> dict[str, str]:
    connection, principal, entitlement = entry.pair
    return {
        "connection__name": connection,
        "principal__external_id": principal,
        "entitlement__external_id": entitlement,
    }


@budget.purpose("revoke")
def _end(entry: Entry, is_needed: Callable[[Entry], bool] | None) -> Proof | None:
    """Take one away if it is still there. None when it was gone already, when nothing but its dates can end it, or when
    somebody came to need it while we waited for the lock."""
    hand = registry.ender(entry.kind, entry.provisioner, entry.config)
    if hand is None or not hand.look(entry.target).is_present:
        return None
    if is_needed is None:
        return _remove(hand, entry.target)
    with _alone_if_possible(lambda: hand.lock_key(entry.target)):
        return None if is_needed(entry) else _remove(hand, entry.target)


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

"""Following the change feed: events leave marks, and what is marked is read again. An event is believed in nothing else.

An account is read again as a whole (21 calls, and its control totals hold); what is held in the directory is read by
permission set and account, or by group. Everything else makes the next full reading come early. None of it counts as a
full reading, and none of it writes while one runs: that one reads the same, and more.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, transaction
from django.db import connection as database
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget, registry
from apps.connectors.base import AccountRecord, AssignmentRecord
from apps.connectors.changes import Change
from apps.connectors.errors import ConnectorError, Gone
from apps.core import locks
from apps.inventory.models import (
    Assignment,
    ChangeFeed,
    ChangeMark,
    Connection,
    Entitlement,
    Resource,
    ScopeScan,
    SyncRun,
)
from apps.inventory.sync import assignments, claims, groups, renames, staging, writing
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.upserts import Changes

log = logging.getLogger(__name__)

Kind = ChangeMark.Kind

MOST_BATCHES = 50  # of one turn; the rest waits for the next
MOST_MARKS = 200  # of one turn of one account
EARLY_AFTER = timedelta(hours=1)  # how soon after the last full reading a mark makes the next one come
RETRY_AFTER = timedelta(minutes=1)
MOST_TRIES = 5  # then the full reading says what is wrong

_MARK = """
    INSERT INTO inventory_changemark AS mark
        (connection_id, account_id, kind, key, event_id, event_name, event_at, seen_at, try_at, tries, problem)
    SELECT %(connection)s, event.*, %(now)s, %(try_at)s, 0, ''
    FROM unnest(%(accounts)s::text[], %(kinds)s::text[], %(keys)s::text[], %(ids)s::text[], %(names)s::text[],
                %(ats)s::timestamptz[]) AS event
    ON CONFLICT (connection_id, account_id, kind, key) DO UPDATE
    SET event_id = excluded.event_id, event_name = excluded.event_name, event_at = excluded.event_at,
        seen_at = excluded.seen_at, read_at = NULL, problem = '',
        try_at = CASE WHEN mark.read_at IS NULL THEN mark.try_at
                      ELSE greatest(excluded.try_at, mark.read_at + make_interval(secs => %(rests_for)s)) END,
        tries = CASE WHEN mark.read_at IS NULL THEN mark.tries ELSE 0 END
    WHERE mark.event_id <> excluded.event_id
"""


# ---- listening


def listen(connection_id: int) -> int:
    """Empty the queue of a connection into marks, and return how many messages came. They are given back as done only
    when their marks are committed, so a death in between makes them come again. One process at a time listens."""
    connection = Connection.objects.readable().filter(pk=connection_id).first()
    if connection is None or not connection.change_queue:
        return 0
    try:
        with locks.exclusive("listen", str(connection_id), wait_ms=1):
            return _listen(connection)
    except locks.Taken:
        return 0


def _listen(connection: Connection) -> int:
    feed = registry.change_feed(connection.kind, connection.config)
    count = 0
    try:
        for _ in range(MOST_BATCHES):
            received = feed.receive()
            with transaction.atomic():
                mark(connection, received.changes)
                _note_heard(connection, len(received.receipts), received.malformed)
            if not received.receipts:
                break
            feed.done(received.receipts)
            count += len(received.receipts)
    except ConnectorError as error:
        _note_problem(connection, str(error))
    return count


def mark(connection: Connection, changes: Iterable[Change]) -> None:
    """Note what may be different, in one statement. The same event leaves nothing a second time; another one about what
    is marked already changes nothing about when it is read. What is in an account that we do not know concerns the list
    of accounts."""
    latest: dict[tuple[str, str, str], Change] = {}
    listed = list(changes)
    ids = {change.account_id for change in listed if change.account_id}
    known = set(
        Resource.objects.present()
        .filter(connection=connection, external_id__in=ids)
        .values_list("external_id", flat=True)
    )
    for change in sorted(listed, key=lambda change: change.at):
        is_known = change.kind != Kind.ACCOUNT or change.account_id in known
        place = (change.account_id, change.kind, change.key) if is_known else ("", Kind.REST, "")
        latest[place] = change
    if not latest:
        return
    now = timezone.now()
    places = list(latest)
    with database.cursor() as cursor:
        cursor.execute(
            _MARK,
            {
                "connection": connection.pk,
                "now": now,
                "try_at": now + ChangeMark.SETTLES_FOR,
                "rests_for": ChangeMark.RESTS_FOR.total_seconds(),
                "accounts": [account_id for account_id, _, _ in places],
                "kinds": [str(kind) for _, kind, _ in places],
                "keys": [as_rows.text(key, 300) for _, _, key in places],
                "ids": [latest[place].event_id for place in places],
                "names": [latest[place].event_name for place in places],
                "ats": [latest[place].at for place in places],
            },
        )


def _note_heard(connection: Connection, received: int, malformed: list[str]) -> None:
    feed, _ = ChangeFeed.objects.get_or_create(connection=connection)
    feed.polled_at, feed.problem = timezone.now(), ""
    feed.received += received
    if malformed:
        feed.malformed += len(malformed)
        feed.last_malformed = as_rows.text(malformed[-1], 300)
        log.warning("%s messages of the change feed of %s: %s", len(malformed), connection, feed.last_malformed)
    feed.save()


def _note_problem(connection: Connection, problem: str) -> None:
    ChangeFeed.objects.get_or_create(connection=connection)
    ChangeFeed.objects.filter(connection=connection).update(problem=as_rows.text(problem, 500))


# ---- reading again


def due_places(connection: Connection, now: datetime) -> list[str]:
    """Where something is to be read again now: account ids, and "" for the directory."""
    marks = connection.marks.due(now).exclude(kind=Kind.REST)
    return list(marks.order_by("account_id").values_list("account_id", flat=True).distinct())


def reread(connection_id: int, account_id: str) -> None:
    """Read again what is marked in one account, or in the directory. One process at a time does it for one place; while
    everything is being read nobody does."""
    connection = Connection.objects.readable().filter(pk=connection_id).first()
    if connection is None or connection.is_being_read:
        return
    try:
        with locks.exclusive("reread", str(connection_id), account_id, wait_ms=1):
            marks = connection.marks.due(timezone.now()).filter(account_id=account_id).exclude(kind=Kind.REST)
            with budget.counting() as spent:
                _Again(connection, account_id).go(list(marks[:MOST_MARKS]), spent)
    except locks.Taken:
        return


class Late(Exception):
    """A full reading began meanwhile, or nothing is to be read: the marks wait for its end."""


class _Again:
    def __init__(self, connection: Connection, account_id: str) -> None:
        self.connection, self.account_id = connection, account_id
        self.connector = registry.connector(connection.kind, connection.config)
        self.changes = Changes()
        self.followed: list[ChangeMark] = []
        self.is_rated = True
        self.began_at = timezone.now()

    def go(self, marks: list[ChangeMark], spent: budget.Spent) -> None:
        with contextlib.suppress(Late):
            for one in marks:
                self.follow(one)
        if not self.is_rated:
            with contextlib.suppress(Late):  # that run rates them too
                self.rate()
        if self.followed:
            log.info("Read again in %s after %s: %s calls", self.connection, self.followed[0], spent.calls)
        if self.changes.counts:
            data = {
                "account": self.account_id,
                "changes": self.changes.as_json(),
                "events": sorted({one.event_name for one in self.followed})[:20],
                "calls": spent.calls,
            }
            audit.record("inventory.connection.changes_followed", by=audit.WORKER, subject=self.connection, data=data)

    def follow(self, one: ChangeMark) -> None:
        """Read what one mark is about. What cannot be read is tried again, then left to a full reading."""
        read_from = timezone.now()
        try:
            is_enough = self.account(read_from) if one.kind == Kind.ACCOUNT else self.holders(one, read_from)
        except Gone:
            is_enough = False
        except ConnectorError as error:
            self.failed(one, str(error))
            return
        except (Late, OperationalError, InterfaceError):
            raise  # about no mark: a full reading, or the database
        except Exception as error:
            log.exception("Reading again after %s failed", one)
            self.failed(one, claims.our_fault(error))
            return
        if not is_enough:
            self.leave_to_all(one)
        settled = read_from - ChangeMark.SETTLES_FOR  # what a later event is about, AWS may not have shown yet
        ChangeMark.objects.filter(pk=one.pk, seen_at__lte=settled).update(read_at=read_from)
        ChangeMark.objects.filter(pk=one.pk).update(try_at=read_from + ChangeMark.RESTS_FOR, tries=0, problem="")
        self.followed.append(one)

    def failed(self, one: ChangeMark, problem: str) -> None:
        tries = one.tries + 1
        said = {"tries": tries, "problem": as_rows.text(problem, 500)}
        if tries >= MOST_TRIES:
            self.leave_to_all(one)
            said["read_at"] = timezone.now()
        ChangeMark.objects.filter(pk=one.pk).update(try_at=timezone.now() + RETRY_AFTER * 2**tries, **said)

    def leave_to_all(self, one: ChangeMark) -> None:
        """This needs a full reading, soon; but not for an account that the latest one could not read either, and said so:
        it would say the same, every hour."""
        if one.kind == Kind.ACCOUNT:
            of_account = ScopeScan.objects.filter(
                resource__connection=self.connection, resource__external_id=one.account_id
            )
            latest = of_account.order_by("-started_at").values_list("state", flat=True).first()
            if latest not in (None, ScopeScan.State.COMPLETE):
                return
        mark(self.connection, [Change(one.event_id, one.event_name, one.event_at, "", Kind.REST)])

    # ---- what a mark can be about

    def account(self, read_from: datetime) -> bool:
        """All of an account's IAM. False when a person, or a full reading, must look at what would end."""
        resource = Resource.objects.present().filter(connection=self.connection, external_id=self.account_id).first()
        if resource is None or resource.provider_state != "active":
            return True
        record = AccountRecord(resource.external_id, resource.name, path=resource.path)
        scan = self.connector.scan_account(record, _quiet)
        accounts = Resource.objects.filter(connection=self.connection).values_list("external_id", "pk", "ended_at")
        ids = {external_id: pk for external_id, pk, _ in accounts}
        ours = frozenset(external_id for external_id, _, ended_at in accounts if not ended_at)  # who left is a stranger
        with transaction.atomic():
            _still_alone(self.connection, read_from)
            scope = writing.Scope(self.connection, resource, read_from, ours, ids)
            outcome = writing.write(scope, scan, timezone.now(), {})
            renames.settle(scope, outcome, by=audit.WORKER)
        self.changes.merge(outcome.changes)
        return outcome.state == ScopeScan.State.COMPLETE

    def holders(self, one: ChangeMark, read_from: datetime) -> bool:
        """Who holds one entitlement of the directory. False when it, or one of them, is not known yet, or so many are
        gone that a full reading must judge it."""
        entitlement = self.entitlement(one)
        if entitlement is None:
            return False
        found = self.connector.read_holders(entitlement.kind, entitlement.external_id, entitlement.attributes)
        return self.write_holders(entitlement, found, read_from)

    def entitlement(self, one: ChangeMark) -> Entitlement | None:
        known = Entitlement.objects.present().filter(connection=self.connection, kind__in=writing.IN_DIRECTORY)
        if one.kind == Kind.MEMBERSHIP:
            # Its row may be closed already: we ended it ourselves, or read it after an earlier event.
            held = Assignment.objects.of_membership(one.key).filter(connection=self.connection)
            return known.filter(pk__in=held.values("entitlement")).first()
        return known.filter(external_id=one.key).first()

    def write_holders(self, entitlement: Entitlement, found: list[AssignmentRecord], read_from: datetime) -> bool:
        with transaction.atomic():
            _still_alone(self.connection, read_from)
            changes, now = Changes(), timezone.now()
            here = Entitlement.objects.filter(pk=entitlement.pk).values("id")
            staging.begin()
            assignments.stage(found)
            difference = assignments.Difference.of(self.connection, here)
            lost = difference.gone(read_from, self.connection.drop_percent)
            difference.begin(self.connection, read_from, now, changes)
            if not lost.is_suspicious:
                assignments.end_all(lost.pks, now, changes)
        self.changes.merge(changes)
        if changes.counts and entitlement.kind == Entitlement.Kind.PERMISSION_SET:
            self.is_rated = False
        return not difference.strangers and not lost.is_suspicious

    def rate(self) -> None:
        """A group that holds something else now makes its memberships worth something else."""
        latest = ScopeScan.objects.filter(run__connection=self.connection, resource=None).order_by("-pk").first()
        is_complete = latest is not None and latest.state == ScopeScan.State.COMPLETE
        with transaction.atomic():
            _still_alone(self.connection, self.began_at)
            groups.rate(self.connection, None, is_complete=is_complete, changes=self.changes)


def _still_alone(connection: Connection, read_from: datetime) -> None:
    """Keep a full reading from beginning until this transaction ends; raise `Late` when one has begun since we read, or
    the connection was paused."""
    # A run takes the same lock before it begins (`claims.claim`). New rows of others may still refer to the connection.
    is_paused = Connection.objects.select_for_update(no_key=True).get(pk=connection.pk).paused_at is not None
    if is_paused or connection.is_being_read or connection.runs.filter(started_at__gte=read_from).exists():
        raise Late


def _quiet(_done: int, _of: int, _what: str) -> None:
    """Nobody watches a re-reading."""


# ---- full readings


def needs_all(connection: Connection, last: datetime | None, now: datetime) -> bool:
    """Whether a change makes the next full reading come before its time."""
    return last is not None and now - last >= EARLY_AFTER and connection.marks.due(now).filter(kind=Kind.REST).exists()


def settle(run: SyncRun) -> None:
    """What a full reading saw needs no reading of its own any more: marks of places that it read completely, of events
    that AWS showed everywhere before it began. Unspecific changes are of the directory and the list of accounts, so one
    account that cannot be read keeps none of them open; while the directory cannot be read they come ever more seldom."""
    before = run.started_at - ChangeMark.SETTLES_FOR
    marks = ChangeMark.objects.filter(connection=run.connection_id, seen_at__lte=before).unread()
    complete = run.scopes.filter(state=ScopeScan.State.COMPLETE)
    accounts = complete.exclude(resource=None).values("resource__external_id")
    marks.filter(kind=Kind.ACCOUNT, account_id__in=accounts).update(read_at=run.started_at)
    if complete.filter(resource=None).exists():
        marks.exclude(kind=Kind.ACCOUNT).update(read_at=run.started_at)
        return
    for one in marks.filter(kind=Kind.REST):  # there is one at most
        one.tries = min(one.tries + 1, MOST_TRIES)
        one.try_at = run.started_at + EARLY_AFTER * 2**one.tries
        one.save(update_fields=["tries", "try_at"])


def forget(now: datetime) -> None:
    """Drop marks that were read long ago."""
    ChangeMark.objects.filter(read_at__lt=now - ChangeMark.KEPT_FOR).delete()

"""One run: read the accounts, the directory and every account, and write each as it comes in.

Reading happens in threads, which call the provider and never the database; writing happens here, one account at a time,
and the directory part by part, each in a transaction of its own. So no transaction is ever open round a call, no scope
waits for a slow one, and memory does not grow with the organization.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.connectors import budget, registry
from apps.connectors.base import AccountRecord, Connector, Scan
from apps.connectors.errors import ConnectorError
from apps.core.lifecycle import Conflict, move
from apps.inventory.models import Connection, Resource, ScopeScan, SyncRun
from apps.inventory.models.resources import ORGANIZATION
from apps.inventory.sync import claims, correlation, oddities, renames, staging, threads, writing
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.assignments import is_drop
from apps.inventory.sync.upserts import Changes, end, known, upsert

log = logging.getLogger(__name__)

READ_AHEAD = 2  # accounts that wait in memory to be written, beside those that are being read
INTERRUPTED = "It was interrupted. Start it again."


def run(connection_id: int, *, by: Any) -> SyncRun:
    """Read a connection completely, once. Returns the finished run, whose state says how it ended.

    Raises `CannotRun` when the connection is paused or being read already. What the provider refuses is no exception
    here: it is in the run and its scopes, in words.
    """
    connection = Connection.objects.get(pk=connection_id)
    row = claims.claim(connection, by=by)
    work = _Run(connection, row, by)
    try:
        return work.go()
    except claims.Paused as paused:
        return work.fail(str(paused))
    except claims.Superseded:
        row.refresh_from_db()
        return row
    except ConnectorError as error:
        return work.fail(str(error))
    except BaseException as error:
        work.fail(claims.our_fault(error) if isinstance(error, Exception) else INTERRUPTED)
        raise
    finally:
        staging.end()


class _Run:
    def __init__(self, connection: Connection, run: SyncRun, by: Any) -> None:
        self.connection, self.run, self.by = connection, run, by
        self.progress = claims.Progress(run)
        self.changes, self.spent = self.progress.changes, self.progress.spent
        self.states: list[str] = []
        self.digests: list[str] = []
        self.notes: list[str] = []  # about the accounts; they are said with the directory
        self.problems: list[str] = []
        self.confirmed: dict[int | None, writing.Confirmed] = {}
        self.doubted: frozenset[int] = frozenset()

    def go(self) -> SyncRun:
        self.progress.save(now=True)
        self.confirmed = _confirmed(self.connection)
        connector = registry.connector(self.connection.kind, self.connection.config)
        listed = threads.listed(partial(connector.accounts, self.reporter("Accounts")), self.spent, self.progress)
        accounts = self.storable(listed)
        vanished = self.vanished(accounts)
        resources = self.write_accounts(accounts)
        readable = [account for account in accounts if account.state == "active"]
        # Ours until it has ended, which a list that is not sure to be whole does to none.
        self.known_accounts = {one.external_id for one in accounts} | {one.external_id for one in vanished}
        self.notes += [_left_out(account) for account in accounts if account.state != "active"]
        self.progress.total, self.progress.done = 2 + len(readable) + len(vanished), 1
        # The directory first, alone: its people are the owners that the accounts' machines are given.
        self.read_directory(connector, accounts)
        for resource in vanished:  # before the others: who left is a stranger to them
            self.write_vanished(resource)
        by_id = {account.external_id: account for account in readable}
        scopes = [resource for resource in resources if resource.external_id in by_id]
        for read in self.read(scopes, lambda resource: self.scan(connector, by_id[resource.external_id])):
            self.write(read)
        correlation.correlate(self.connection, by=self.by, with_rules=self.states[0] == ScopeScan.State.COMPLETE)
        return self.finish()

    # ---- accounts

    def storable(self, accounts: Iterable[AccountRecord]) -> list[AccountRecord]:
        """Each account that can be stored, once. What is left out is said."""
        fine: dict[str, AccountRecord] = {}
        for account in accounts:
            if not as_rows.fits(Resource, account.external_id):
                name = as_rows.text(account.name or account.external_id, 100)
                self.problems.append(f"{name} has an account id that Gatehouse cannot store. It was not read.")
                continue
            if account.external_id in fine:
                again = f"Account {account.external_id} was listed twice, so another one may be missing."
                self.problems.append(f"{again} {oddities.LOOKS_AGAIN}")
            fine[account.external_id] = account
        if unplaced := [account for account in fine.values() if not account.is_placed]:
            self.problems.append(_without_a_place(unplaced))
        return [*fine.values()]

    def write_accounts(self, accounts: Sequence[AccountRecord]) -> list[Resource]:
        """Bring the accounts up to date. Those that are not listed any more end later, with what they held. One that no
        unit lists stays where it was."""
        mine = Resource.objects.filter(connection=self.connection)
        rows, changes = {}, Changes()
        for account in accounts:
            values = as_rows.resource(account)
            rows[account.external_id] = values | {"environment": values.pop("derived")}
        with transaction.atomic():
            claims.still_mine(self.run)
            confirmed = mine.exclude(environment_source=ORGANIZATION).values_list("external_id", "environment")
            for key, environment in confirmed:
                if key in rows:  # a person's word stands until a person changes it
                    rows[key]["environment"] = environment
            unplaced = mine.filter(external_id__in=[one.external_id for one in accounts if not one.is_placed])
            for key, path, environment in unplaced.values_list("external_id", "path", "environment"):
                rows[key] |= {"path": path, "environment": environment}
            digests = {key: as_rows.digest(values) for key, values in rows.items()}
            before = known(mine, "external_id")
            upsert(
                Resource,
                before,
                rows,
                digests,
                keys=["external_id"],
                fixed={"connection_id": self.connection.pk},
                changes=changes,
            )
        self.changes.merge(changes)
        self.digests += sorted(digests.values())
        self.resource_ids = dict(mine.values_list("external_id", "pk"))
        return list(mine.present().filter(external_id__in=rows).select_related("connection").order_by("pk"))

    def vanished(self, accounts: Iterable[AccountRecord]) -> list[Resource]:
        """Accounts that are not listed any more. So many at once are `doubted`, like all that would end with them, unless a
        person has said that these are gone."""
        listed = [account.external_id for account in accounts]
        present = Resource.objects.present().filter(connection=self.connection)
        vanished = list(present.exclude(external_id__in=listed))
        gone = {resource.pk for resource in vanished}
        agreed = {pk for rows in self.confirmed.values() for pk in rows.get("accounts", ())}
        if is_drop(len(gone), present.count(), self.connection.drop_percent) and not gone <= agreed:
            self.doubted = frozenset(gone)
        return vanished

    def write_vanished(self, resource: Resource) -> None:
        """An account that left the organization holds nothing any more, as far as we can know. The same brake holds, and
        a list that is not sure to be whole ends nothing."""
        now = timezone.now()
        scan = Scan(problems=[*self.problems], notes=["The organization no longer lists it."])
        state = self.write(threads.Read(resource, self.run.started_at, now, scan, budget.Spent()))
        if state == ScopeScan.State.COMPLETE:
            end(Resource, [resource.pk], now, self.changes)
            self.known_accounts.remove(resource.external_id)

    # ---- the directory, part by part

    def read_directory(self, connector: Connector, accounts: Sequence[AccountRecord]) -> None:
        """It is too large to be held at once: each part is written while the next one is read."""
        started_at, spent = timezone.now(), budget.Spent()
        scope = self.scope(None, started_at)
        try:
            with self.transaction():
                writer = writing.Writer(scope, self.confirmed.get(None, {}))
            writer.outcome.notes += self.notes
            writer.outcome.problems += self.problems
            scan = partial(connector.scan_directory, accounts, self.reporter("Directory"))
            for part in threads.parts(scan, spent, self.progress):
                with self.transaction():
                    changes = writer.add(part, timezone.now())
                self.changes.merge(changes)
            with self.transaction():
                read_at = timezone.now()
                outcome = writer.finish(read_at)
                self.save_scan(None, started_at, read_at, outcome, spent)
        except claims.Superseded:
            raise
        except Exception as error:  # noqa: BLE001  save_failure logs it
            outcome = self.save_failure(None, started_at, error, spent)
        finally:
            self.spent.add(spent)
        self.settle(outcome)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """One in which nobody can declare this run dead."""
        with transaction.atomic():
            self.progress.still_mine()
            yield

    # ---- the accounts, in threads

    def reporter(self, name: str) -> Callable[[int, int, str], None]:
        def report(_done: int, _of: int, what: str) -> None:
            self.progress.report(name, what)

        return report

    def scan(self, connector: Connector, account: AccountRecord) -> Scan:
        return connector.scan_account(account, self.reporter(account.name))

    def read(self, scopes: Iterable[Any], scan: Callable[[Any], Scan]) -> Iterator[threads.Read]:
        """Read scopes at the same time and hand them over as they come in, with at most a few waiting to be written."""
        waiting = iter(scopes)
        pending: set[Future[threads.Read]] = set()
        pool = ThreadPoolExecutor(settings.SYNC_READERS, thread_name_prefix="sync")
        try:
            while True:
                room = settings.SYNC_READERS + READ_AHEAD - len(pending)
                pending |= {pool.submit(threads.read, resource, scan) for resource in islice(waiting, room)}
                if not pending:
                    return
                finished, _ = wait(pending, threads.WAIT_SECONDS, FIRST_COMPLETED)
                self.progress.save()
                for future in finished:
                    pending.remove(future)
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            for future in pending:  # asked for, and not to be written any more
                if not future.cancelled():
                    self.spent.add(future.result().spent)

    # ---- writing, here

    def write(self, read: threads.Read) -> str:
        """Write one account and what became of it. What goes wrong with one does not stop the others."""
        self.spent.add(read.spent)
        try:
            if read.error:
                raise read.error
            with self.transaction():
                scope = self.scope(read.resource, read.started_at)
                confirmed = self.confirmed.get(read.resource.pk, {})
                outcome = writing.write(scope, read.scan, read.finished_at, confirmed)
                renames.settle(scope, outcome, by=self.by)
                self.save_scan(read.resource, read.started_at, read.finished_at, outcome, read.spent)
        except claims.Superseded:
            raise
        except Exception as error:  # noqa: BLE001  save_failure logs it
            outcome = self.save_failure(read.resource, read.started_at, error, read.spent)
        return self.settle(outcome)

    def scope(self, resource: Resource | None, read_from: datetime) -> writing.Scope:
        doubted = self.doubted & {resource.pk} if resource else self.doubted
        return writing.Scope(self.connection, resource, read_from, self.known_accounts, self.resource_ids, doubted)

    def save_failure(
        self, resource: Resource | None, started_at: datetime, error: Exception, spent: budget.Spent
    ) -> writing.Outcome:
        """Nothing ends where this happened. What AWS refused is said in its words, our own bug in the log."""
        if isinstance(error, ConnectorError):
            problem = as_rows.text(str(error) or type(error).__name__, 500)
        else:
            log.error("%s of %s", resource or "The directory", self.connection, exc_info=error)
            problem = claims.our_fault(error)
        outcome = writing.Outcome(ScopeScan.State.FAILED, problems=[problem])
        with self.transaction():
            self.save_scan(resource, started_at, timezone.now(), outcome, spent)
        return outcome

    def save_scan(
        self,
        resource: Resource | None,
        started_at: datetime,
        finished_at: datetime,
        outcome: writing.Outcome,
        spent: budget.Spent,
    ) -> None:
        ScopeScan.objects.create(
            run=self.run,
            resource=resource,
            state=outcome.state,
            started_at=started_at,
            finished_at=finished_at,
            totals=[{"name": t.name, "read": t.read, "expected": t.expected} for t in outcome.totals],
            problems=outcome.problems,
            notes=outcome.notes,
            would_end=outcome.would_end,
            would_end_rows=outcome.held,
            **claims.costs(spent),
        )

    def settle(self, outcome: writing.Outcome) -> str:
        """Let what became of a scope count for the run."""
        self.changes.merge(outcome.changes)
        self.states.append(outcome.state)
        self.digests.append(outcome.digest)
        self.progress.done += 1
        self.progress.save()
        return outcome.state

    def finish(self) -> SyncRun:
        state = next((state for state in WORST_FIRST if state in self.states), SyncRun.State.COMPLETE)
        state = SyncRun.State.INCOMPLETE if state == SyncRun.State.FAILED else state
        did = self.progress.did()
        scopes = {str(name): self.states.count(name) for name in dict.fromkeys(self.states)}
        digest = hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()
        try:
            return move(
                self.run,
                state,
                by=self.by,
                event=claims.EVENT,
                about=[self.connection],
                data={"changes": did["changes"], "scopes": scopes, "digest": digest, "calls": did["calls"]},
                finished_at=timezone.now(),
                **did,
                done=self.progress.total,
                total=self.progress.total,
                doing="",
            )
        except Conflict:
            raise claims.Superseded(f"{self.run} was declared dead") from None

    def fail(self, problem: str) -> SyncRun:
        return claims.fail(self.run, problem, by=self.by, **self.progress.did())


WORST_FIRST = (SyncRun.State.HELD, SyncRun.State.FAILED, SyncRun.State.INCOMPLETE)


def _left_out(account: AccountRecord) -> str:
    name, state = as_rows.text(account.name, 100), as_rows.text(account.state, 30)
    return f"{name} ({account.external_id}) is {state}, so AWS lets nobody read it. What we knew of it stays."


def _without_a_place(accounts: Sequence[AccountRecord]) -> str:
    names = [as_rows.text(account.name or account.external_id, 100) for account in accounts[: oddities.MOST_NAMES]]
    more = " and more" if len(accounts) > len(names) else ""
    kept = "Where each stood before is kept."
    return f"No unit of the organization lists {', '.join(names)}{more}. {kept} {oddities.LOOKS_AGAIN}"


def _confirmed(connection: Connection) -> dict[int | None, writing.Confirmed]:
    """What a person said may end, by scope: from the latest held run since the last complete one."""
    runs: QuerySet[SyncRun] = connection.runs.finished()
    last_complete = connection.as_of
    since = runs.filter(started_at__gt=last_complete) if last_complete else runs
    held = since.filter(state=SyncRun.State.HELD, confirmed_drops=True).first()
    if held is None:
        return {}
    scans = held.scopes.filter(state=ScopeScan.State.HELD)
    return dict(scans.values_list("resource_id", "would_end_rows"))

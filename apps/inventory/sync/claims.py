"""One run at a time for each connection, and signs of life while it lasts."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db import connection as database
from django.utils import timezone

from apps.connectors import budget
from apps.core.lifecycle import Conflict, move
from apps.inventory.models import Connection, SyncRun
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.upserts import Changes

EVENT = "inventory.sync_run.finished"
BEAT_SECONDS = 2.0  # how often progress is saved at most; people watch it, and a silent run is declared dead


class CannotRun(Exception):
    """This connection is not to be read now. The text says why and what to do."""


class Superseded(Exception):
    """This run was declared dead meanwhile: another one may be writing, so it stops."""


class Paused(Superseded):
    """The connection was paused meanwhile: nothing more is read or written there."""

    def __init__(self) -> None:
        super().__init__("It was paused while it was being read. Resuming it reads everything again.")


def claim(connection: Connection, *, by: Any) -> SyncRun:
    """Begin a run. A silent one is declared failed first; one that lives is in the way (`CannotRun`)."""
    if connection.paused_at:
        raise CannotRun(f"{connection} is paused. An administrator can resume it.")
    for silent in SyncRun.objects.filter(connection=connection).silent(timezone.now()):
        with contextlib.suppress(Conflict):
            fail(silent, f"No sign of life since {silent.beat_at:%Y-%m-%d %H:%M} UTC. Its process has died.", by=by)
    try:
        with transaction.atomic():
            # Whoever holds the connection reads a part of it again, and no run begins meanwhile (`following`).
            Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)
            return SyncRun.objects.create(connection=connection, doing="Starting")
    except IntegrityError:
        raise CannotRun(f"{connection} is being read right now. Wait until that is done.") from None


def fail(run: SyncRun, problem: str, *, by: Any, **did: Any) -> SyncRun:
    """The run as a whole came to nothing, and why. What it wrote before stays: each scope is whole. `did`: what it changed
    and cost until then (`Progress.did`); of one that died, its row says that as of its last sign of life."""
    now, said = timezone.now(), as_rows.text(problem, 2000)
    known = {"changes": run.changes, "calls": run.calls, **did}
    data = {"problem": said, "changes": known["changes"], "calls": known["calls"]}
    fields: dict[str, Any] = {"problem": said, "finished_at": now, "doing": "", **did}
    return move(run, SyncRun.State.FAILED, by=by, event=EVENT, about=[run.connection], data=data, **fields)


def costs(spent: budget.Spent) -> dict[str, Any]:
    """What was asked of the provider, as a run and a scope keep it."""
    waited_for = timedelta(seconds=round(spent.waited, 1))
    return {"calls": spent.calls, "throttles": spent.throttles, "waited_for": waited_for}


def our_fault(bug: Exception) -> str:
    """What people are told of a failure that is neither the provider's nor theirs. Whoever says it logs the rest."""
    return f"Gatehouse itself failed ({type(bug).__name__}). Its log says where."


def still_mine(run: SyncRun) -> None:
    """Lock the run for this transaction: nobody can declare it dead while a scope is being written. Or `Superseded`, and
    `Paused` when the connection was."""
    with database.cursor() as cursor:  # asked once for each scope: the ORM would take longer than PostgreSQL
        cursor.execute(_MINE, [run.pk])
        found = cursor.fetchone()
    if not found:
        raise Superseded(f"{run} was declared dead")
    if found[0]:
        raise Paused


_MINE = """
    SELECT c.paused_at FROM inventory_syncrun r JOIN inventory_connection c ON c.id = r.connection_id
    WHERE r.id = %s AND r.state = 'running' FOR UPDATE OF r
"""


class Progress:
    """What people see while a run lasts, and what is known of it should it die. Reading threads call `report`, which
    touches no database; the writing thread saves it now and then, in a statement of its own outside the scopes'
    transactions."""

    def __init__(self, run: SyncRun) -> None:
        self.run = run
        self.done, self.total, self.doing = 0, 1, "the list of accounts"
        self.changes, self.spent = Changes(), budget.Spent()  # so far, of the scopes that are over
        self.is_over = False  # nobody waits any more for what is still being read
        self._saved_at = 0.0

    def report(self, scope: str, what: str) -> None:
        if self.is_over:
            raise Superseded(f"{self.run} is over")
        self.doing = as_rows.text(f"{scope}: {what}", 200)

    def did(self) -> dict[str, Any]:
        """What the run changed and cost so far, as its row keeps it."""
        return {"changes": self.changes.as_json(), **costs(self.spent)}

    def save(self, *, now: bool = False) -> None:
        """Save if it is time to, or `now`. Raises `Superseded` when the run is not ours any more, or is to stop."""
        if not now and time.monotonic() - self._saved_at < BEAT_SECONDS:
            return
        self._saved_at = time.monotonic()
        shown = {"done": self.done, "total": self.total, "doing": self.doing, "beat_at": timezone.now()}
        SyncRun.objects.filter(pk=self.run.pk).running().update(**shown, **self.did())
        with transaction.atomic():
            self.still_mine()

    def still_mine(self) -> None:
        """As `still_mine` of the run; and what is still being read stops soon."""
        try:
            still_mine(self.run)
        except Superseded:
            self.is_over = True
            raise

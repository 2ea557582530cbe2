"""Trying every right that reading a connection needs. Nothing is written but what was found."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

from django.utils import timezone

from apps.connectors import registry
from apps.connectors.errors import ConnectorError
from apps.core.lifecycle import Conflict, move
from apps.inventory.models import ConnectionTest
from apps.inventory.sync import claims
from apps.inventory.sync import rows as as_rows

log = logging.getLogger(__name__)

State = ConnectionTest.State
BEAT_SECONDS = 1.0
PAUSED = "It was paused while it was being tested. Resume it, then test again."


def run(test_id: int, *, by: Any) -> ConnectionTest | None:
    """Do one test that waits, once. None when somebody else took it, or the connection was paused."""
    rows = ConnectionTest.objects.filter(pk=test_id, state=State.WAITING, connection__paused_at=None)
    if not rows.update(state=State.RUNNING, beat_at=timezone.now(), doing="Starting"):
        return None
    test = ConnectionTest.objects.select_related("connection").get(pk=test_id)
    connection = test.connection
    try:
        found = registry.connector(connection.kind, connection.config).checkup(_Progress(test).report)
    except claims.Paused:
        return _finish(test, State.FAILED, by, problem=PAUSED)
    except ConnectorError as error:
        return _finish(test, State.FAILED, by, problem=as_rows.text(str(error), 2000))
    except Exception as bug:
        log.exception("Testing %s", connection)
        return _finish(test, State.FAILED, by, problem=claims.our_fault(bug))
    findings = [as_rows.plain(dataclasses.asdict(finding)) for finding in found.findings]
    return _finish(test, State.DONE, by, findings=findings, sampled=found.sampled, accounts=found.accounts)


def _finish(test: ConnectionTest, state: str, by: Any, **fields: Any) -> ConnectionTest | None:
    counts = {
        word: sum(finding["state"] == word for finding in fields.get("findings", ()))
        for word in ("ok", "missing", "unknown")
    }
    try:
        return move(
            test,
            state,
            by=by,
            event="inventory.connection_test.finished",
            about=[test.connection],
            data={"found": counts, "problem": fields.get("problem", "")},
            finished_at=timezone.now(),
            doing="",
            **fields,
        )
    except Conflict:
        return None


class _Progress:
    """Saves how far a test is, now and then, and stops it when the connection was paused meanwhile."""

    def __init__(self, test: ConnectionTest) -> None:
        self.test, self._saved_at = test, 0.0

    def report(self, done: int, of: int, what: str) -> None:
        if time.monotonic() - self._saved_at < BEAT_SECONDS:
            return
        self._saved_at = time.monotonic()
        shown = {"done": done, "total": of, "doing": as_rows.text(what, 200), "beat_at": timezone.now()}
        mine = ConnectionTest.objects.filter(pk=self.test.pk, state=State.RUNNING, connection__paused_at=None)
        if not mine.update(**shown):
            raise claims.Paused

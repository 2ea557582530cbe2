"""manage.py sync [CONNECTION]: read connections now, in this process."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from threading import Event, Thread
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from apps.audit import services as audit
from apps.inventory import sync
from apps.inventory.models import Connection, ScopeScan, SyncRun

COMPLETE, FAILED, INCOMPLETE = 0, 1, 2
EXIT = {SyncRun.State.COMPLETE: COMPLETE, SyncRun.State.FAILED: FAILED}


class Command(BaseCommand):
    help = (
        "Read a connection, or all of them, into the inventory. Exit code: 0 complete, 2 incomplete or held, 1 failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "connection", nargs="?", help="The name of one connection. All that are not paused without it."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        codes = [self.sync(connection) for connection in self.chosen(options["connection"])]
        worst = FAILED if FAILED in codes else max(codes)
        if worst:
            sys.exit(worst)

    def chosen(self, name: str | None) -> list[Connection]:
        if name is None:
            found = list(Connection.objects.readable())
            if not found:
                raise CommandError("There is no connection to read. Add one with: manage.py add_connection NAME")
            return found
        try:
            return [Connection.objects.get(name=name)]
        except Connection.DoesNotExist:
            known = ", ".join(Connection.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no connection {name!r}. Known: {known}.") from None

    def sync(self, connection: Connection) -> int:
        try:
            with _Watching(self, connection):
                run = sync.run(connection.pk, by=audit.COMMAND)
        except sync.CannotRun as error:
            raise CommandError(str(error)) from None
        self.report(run)
        return EXIT.get(SyncRun.State(run.state), INCOMPLETE)

    def report(self, run: SyncRun) -> None:
        self.stdout.write(f"{run.connection}: {run.get_state_display().lower()}, {run.calls} calls")
        for table, counts in run.changes.items():
            said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
            self.stdout.write(f"  {table}: {said}")
        if not run.changes and run.state == SyncRun.State.COMPLETE:
            self.stdout.write("  nothing changed")
        if run.problem:
            self.stderr.write(f"  {run.problem}")
        for scan in run.scopes.exclude(state=ScopeScan.State.COMPLETE).select_related("resource"):
            self.stderr.write(f"  {scan}")
            for problem in scan.problems:
                self.stderr.write(f"    {problem}")
            if scan.state == ScopeScan.State.HELD:
                self.stderr.write(f"    It would end {scan.would_end} assignments. An administrator confirms it.")


class _Watching:
    """Prints what is being read, from the same row that the progress bar reads."""

    def __init__(self, command: Command, connection: Connection) -> None:
        self.command, self.connection, self.over = command, connection, Event()
        self.thread = Thread(target=self.watch, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def watch(self) -> None:
        said = ""
        while not self.over.wait(1):
            run = SyncRun.objects.running().filter(connection=self.connection).first()
            now = f"  {run.done} of {run.total}  {run.doing}" if run else ""
            if now and now != said:
                self.command.stdout.write(now)
                said = now
        connections.close_all()

"""`manage.py reconcile [NAME]`: compare grants with AWS, decide and put right, once, in this process, without Celery."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.grants import narrowing, reconciling
from apps.grants.models import Drift
from apps.grants.services import drift
from apps.grants.services import narrowing as trusting
from apps.inventory.models import Connection


class Command(BaseCommand):
    help = "Compare what grants say with what AWS shows, for one connection or all, and put right what only narrows."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="The connection; all of them unless given.")

    def handle(self, *_: Any, name: str | None, **__: Any) -> None:
        """What ends on the way is carried out by `manage.py sweep`, or by the workers."""
        trusting.notice()
        connections = Connection.objects.exclude(baselined_at=None)
        if name and not connections.filter(name=name).exists():
            raise CommandError(f"No baselined connection is called {name}.")
        for connection in connections.filter(name=name) if name else connections:
            self._compare(connection)
        for row in Drift.objects.unwritten(timezone.now()):
            reconciling.repair(row.pk)
        trusting.trust()
        self.stdout.write(narrowing.reason() or "Access may open.")

    def _compare(self, connection: Connection) -> None:
        try:
            run = drift.decide(reconciling.compare(connection.pk))
        except reconciling.CannotCompare as reason:
            self.stderr.write(str(reason))
            return
        self.stdout.write(
            f"{connection}: {run.get_state_display()}, {run.found} differences, {run.repairs} to put right."
        )
        for problem in run.problems:
            self.stderr.write(problem)

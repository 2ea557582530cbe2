"""manage.py import_org_chart FILE: managers, departments, titles and last days, from the people team's CSV."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit import services as audit
from apps.inventory import services
from apps.inventory.models import Connection
from apps.inventory.services import org_chart
from apps.inventory.services.hr_files import Text


class Command(BaseCommand):
    help = "Take managers, departments, titles and last days from a CSV. All or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="Say what would change, and change nothing.")
        parser.add_argument("--connection", help="Whose people the file is about. Not needed where there is only one.")

    def handle(self, *_args: Any, **options: Any) -> None:
        connection = self.connection(options["connection"])
        try:
            with options["file"].open("rb") as file:
                if options["dry_run"]:
                    self.show(org_chart.read(connection, Text(file)))
                    return
                done = services.import_org_chart(connection, Text(file), by=audit.COMMAND, source=options["file"].name)
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from None
        except services.OrgChartError as error:
            raise CommandError(f"Nothing was changed.\n{error}") from None
        self.name_ignored(done.ignored)
        for sentence in done.unknown:
            self.stderr.write(f"{sentence} Left as it was.")
        self.stdout.write(f"{done.changed} changed, {done.unchanged} were so already, {len(done.unknown)} unknown.")
        if done.ended:
            self.stdout.write(f"{done.ended} left.")

    def show(self, plan: org_chart.Plan) -> None:
        self.name_ignored(plan.ignored)
        for sentence in plan.unknown:
            self.stdout.write(f"{sentence} It would be left as it is.")
        for change in plan.changes:
            for fact, (now, then) in change.facts.items():
                what = fact.replace("_", " ")
                self.stdout.write(
                    f"Line {change.line}: {change.identity.email}, {what}: {now or 'none'} → {then or 'none'}"
                )
        self.stdout.write(
            f"{len(plan.changes)} would change ({plan.leavers} leave), {plan.unchanged} are so already, "
            f"{len(plan.unknown)} unknown, {plan.not_in_file} people are not in the file. Nothing was changed."
        )

    def name_ignored(self, columns: list[str]) -> None:
        if columns:
            self.stderr.write(f"Nobody reads these columns: {', '.join(columns)}.")

    def connection(self, name: str | None) -> Connection:
        found = list(Connection.objects.filter(**({"name": name} if name else {}))[:2])
        if not found:
            raise CommandError(
                f"There is no connection {name!r}." if name else "There is no connection. Add and sync one."
            )
        if len(found) > 1:
            raise CommandError("There are several connections. Say which one with --connection NAME.")
        return found[0]

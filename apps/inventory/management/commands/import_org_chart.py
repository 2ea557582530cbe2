"""manage.py import_org_chart FILE: who reports to whom, from a CSV with the columns email and manager."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit import services as audit
from apps.inventory import services
from apps.inventory.models import Connection


class Command(BaseCommand):
    help = "Take managers from a CSV with the columns email and manager. All or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--connection", help="Whose people the file is about. Not needed where there is only one.")

    def handle(self, *_args: Any, **options: Any) -> None:
        connection = self.connection(options["connection"])
        try:
            with options["file"].open(encoding="utf-8-sig", newline="") as lines:
                done = services.import_org_chart(connection, lines, by=audit.COMMAND, source=options["file"].name)
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise CommandError(f"{options['file']} is not UTF-8 text. Save it as CSV in UTF-8.") from None
        except services.OrgChartError as error:
            raise CommandError(f"Nothing was changed.\n{error}") from None
        for sentence in done.unknown:
            self.stderr.write(f"{sentence} Left as it was.")
        self.stdout.write(f"{done.changed} changed, {done.unchanged} were so already, {len(done.unknown)} unknown.")

    def connection(self, name: str | None) -> Connection:
        found = list(Connection.objects.filter(**({"name": name} if name else {}))[:2])
        if not found:
            raise CommandError(
                f"There is no connection {name!r}." if name else "There is no connection. Add and sync one."
            )
        if len(found) > 1:
            raise CommandError("There are several connections. Say which one with --connection NAME.")
        return found[0]

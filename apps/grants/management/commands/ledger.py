"""`manage.py ledger`: write what `revoke_all --from-ledger` and the ender need when the database is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.grants import ledger


class Command(BaseCommand):
    help = "Export every unfinished grant to a file from which all of them can be ended without the database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", required=True, type=Path, help="the file; it is replaced whole")

    def handle(self, *_: Any, out: Path, **__: Any) -> None:
        count = ledger.write(out, timezone.now())
        self.stdout.write(f"{count} grants are in {out}.")

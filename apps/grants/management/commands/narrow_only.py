"""Opens nothing until AWS was compared with the database: `manage.py narrow_only "why"`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.audit import services as audit
from apps.grants.services import narrowing


class Command(BaseCommand):
    help = (
        "Opens and extends nothing until every connection was compared with AWS and nothing was left to take away. For "
        "after a restore that the database's own name does not show (a copy of its files, rows loaded by hand)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("reason", help="Why, for the audit log and the administrators.")

    def handle(self, *_: Any, reason: str, **__: Any) -> None:
        home = narrowing.doubt(by=audit.COMMAND, reason=reason)
        self.stdout.write(f"{home} is doubted. Nothing opens until it was compared with AWS; the clock does that.")

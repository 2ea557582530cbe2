"""Go on telling people from here, after a restore."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.audit.services import COMMAND
from apps.notifications import consumer, services


class Command(BaseCommand):
    help = (
        "Count everything that is in the audit log now as told, and go on with what happens from now on. Run it once "
        "after restoring the database from a dump, before web, worker and clock start. What was not told until then is "
        "not told any more; the audit log has it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--consumer", default=consumer.NAME, choices=[consumer.NAME], help="whose cursor")

    def handle(self, *_: Any, consumer: str, **__: Any) -> None:
        cursor = services.rebase_cursor(consumer, by=COMMAND)
        self.stdout.write(f"{cursor.consumer} goes on after event {cursor.floor}, transaction {cursor.xid}.")

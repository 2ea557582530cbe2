"""`manage.py demo_code NAME`: what a person of the demo would read off their authenticator app now."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from apps.demo import cast
from apps.users import services as users

PERIOD = 30  # seconds that a code is shown for (RFC 6238)


class Command(BaseCommand):
    help = "Print the current authenticator code of one of the demo's people, by name or e-mail."
    requires_system_checks: list[str] = []  # the demo's AWS runs in another process

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="+", help="such as alice, 'Carol Okafor' or dan.petrov@harbourline.example")

    def handle(self, *_: Any, name: list[str], **__: Any) -> None:
        try:
            user = cast.find(" ".join(name))
            code = users.totp_now(user)
        except (cast.NotFound, users.Refused) as error:
            raise CommandError(str(error)) from None
        except DatabaseError:
            raise CommandError("There is no demo in this database. Start one: make demo") from None
        self.stdout.write(code)
        self.stderr.write(f"{user.name}, for {PERIOD - int(time.time()) % PERIOD} more seconds. A code counts once.")

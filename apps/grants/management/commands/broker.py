"""`manage.py broker`: the process that makes sessions for grants. Nothing else makes any."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.grants.broker.server import Broker, CannotListen


class Command(BaseCommand):
    help = "Answer requests for sessions on a local socket, until SIGTERM. Its key comes from BROKER_KEY."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--socket", type=Path, help="where to listen; BROKER_SOCKET unless said")
        parser.add_argument(
            "--peer", type=int, action="append", help="a user id that may ask, repeatable; only its own unless said"
        )

    def handle(self, *_: Any, socket: Path | None, peer: list[int] | None, **__: Any) -> None:
        path = socket or (Path(settings.BROKER_SOCKET) if settings.BROKER_SOCKET else None)
        if path is None:
            raise CommandError("Say where to listen: --socket PATH, or BROKER_SOCKET.")
        try:
            broker = Broker(path, key=settings.BROKER_KEY, peers=peer or [os.geteuid()])
        except CannotListen as error:
            raise CommandError(str(error)) from error
        signal.signal(signal.SIGTERM, _stop)
        self.stdout.write(f"The broker listens at {path}.")
        self.stdout.flush()
        with broker:
            try:
                broker.serve_forever()
            except KeyboardInterrupt:
                return


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt

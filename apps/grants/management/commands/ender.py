"""`manage.py ender`: the second process that ends what is overdue, with rights of its own that can only narrow."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.core.locks import Taken, exclusive
from apps.grants.provisioning.ender import NO_DATABASE, Ender, Report

logger = logging.getLogger(__name__)
PATIENCE = 6  # rounds that another ender may be at work before this one looks for itself


class Command(BaseCommand):
    help = (
        "End access that is past its end or whose removal is stuck, as the ender's own role. Reads the database, or the "
        "ledger (LEDGER_PATH) while there is none. One works at a time; others stand by, and look themselves now and then."
    )
    requires_system_checks = ()  # some of them ask the database
    waited = 0  # rounds in a row that somebody else had the lock

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="one round, then stop")
        parser.add_argument("--every", type=float, default=10, help="seconds between rounds")
        parser.add_argument("--ledger", type=Path, help="in place of LEDGER_PATH")
        parser.add_argument("--health", type=Path, help="a file that says after each round how it went")

    def handle(self, *_: Any, once: bool, every: float, ledger: Path | None, health: Path | None, **__: Any) -> None:
        path = ledger or (Path(settings.LEDGER_PATH) if settings.LEDGER_PATH else None)
        ender, looked_at = Ender(path), None
        while True:
            report = self.one_round(ender)
            if report.source in ("database", "ledger"):
                looked_at = timezone.now().isoformat()
            if health:
                said = {"at": timezone.now().isoformat(), "looked_at": looked_at, **vars(report)}
                health.write_text(json.dumps(said))
            if once:
                self.stdout.write(json.dumps(vars(report)))
                return
            time.sleep(every)

    def one_round(self, ender: Ender) -> Report:
        """Nothing that happens in one round stops the next. Whoever holds the lock may be stuck, or may hold it so that
        nothing ends: every few rounds this one works beside them. Both can only narrow, and taking away twice what AWS
        still shows costs calls and nothing else."""
        try:
            try:
                with exclusive("ender", wait_ms=1000):
                    self.waited = 0
                    return ender.round()
            except Taken:
                self.waited += 1
                if self.waited % PATIENCE:
                    return Report("standby")
            return ender.round()
        except NO_DATABASE:
            return ender.round_without_database()
        except Exception:
            logger.exception("A round of the ender failed")
            return Report("failed")

"""`manage.py sweep`: what the clock and the workers do about grants, once, in this process, without Celery or Redis."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from apps.grants import periodic
from apps.grants.models import Grant


class Command(BaseCommand):
    help = "End what is over and carry out every step that is due. Run it from cron as a second clock, or by hand."

    def handle(self, *_: Any, **__: Any) -> None:
        """Exit code 0 also when something did not get through in AWS: it is printed, and tried again at the next run. A
        fault of Gatehouse's own stops no other grant's step and fails the command in the end."""
        periodic.run_all(*periodic.DECISIONS, periodic.carry_out)
        for grant in Grant.objects.overdue(timezone.now()):
            self.stderr.write(
                f"{grant.number} is overdue since {grant.revoking_at:%Y-%m-%d %H:%M} UTC: {grant.problem}"
            )
        self.stdout.write(f"{Grant.objects.unfinished().count()} grants are unfinished.")

"""`manage.py sweep`: what the clock and the workers do about grants, once, in this process, without Celery or Redis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import F
from django.utils import timezone

from apps.grants import periodic, provisioning
from apps.grants.models import Grant, State


class Command(BaseCommand):
    help = "End what is over and carry out every step that is due. Run it from cron as a second clock, or by hand."

    def handle(self, *_: Any, **__: Any) -> None:
        """Exit code 0 also when something did not get through in AWS: it is printed, and tried again at the next run. A
        fault of Gatehouse's own stops no other grant's step and fails the command in the end."""
        periodic.run_all(*periodic.DECISIONS, self.carry_out)
        for grant in Grant.objects.overdue(timezone.now()):
            self.stderr.write(
                f"{grant.number} is overdue since {grant.revoking_at:%Y-%m-%d %H:%M} UTC: {grant.problem}"
            )
        self.stdout.write(f"{Grant.objects.unfinished().count()} grants are unfinished.")

    def carry_out(self) -> None:
        """Removals first, then openings, then what tidies up."""
        now = timezone.now()
        steps: list[Callable[[], None]] = []
        for grant in Grant.objects.due(now).order_by(F("revoking_at").asc(nulls_last=True)):
            work = provisioning.deprovision if grant.state == State.REVOKING else provisioning.provision
            steps.append(partial(work, grant.pk))
        steps += [partial(provisioning.narrow, pk) for pk in Grant.objects.unnarrowed(now).values_list("pk", flat=True)]
        steps += [partial(provisioning.clear, pk) for pk in Grant.objects.uncleared(now).values_list("pk", flat=True)]
        periodic.run_all(*steps)

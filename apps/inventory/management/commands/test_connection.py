"""manage.py test_connection NAME: what is missing where, found from this process."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit import services as audit
from apps.inventory import services
from apps.inventory.models import Connection, ConnectionTest
from apps.inventory.sync import testing

WORDS = {"missing": "MISSING", "unknown": "unknown"}


class Command(BaseCommand):
    help = (
        "Try every right that reading a connection needs, with the AWS credentials of this process. Changes nothing. "
        "Exit code: 0 nothing is missing, 1 something is, 2 not everything could be tried."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("connection", help="The name of the connection.")
        parser.add_argument("--all", action="store_true", help="Also print what is there.")

    def handle(self, *_args: Any, **options: Any) -> None:
        connection = Connection.objects.filter(name=options["connection"]).first()
        if connection is None:
            raise CommandError(f"There is no connection {options['connection']!r}.")
        try:
            test = services.request_test(connection, by=audit.COMMAND, is_woken=False)
        except services.NotPossible as error:
            raise CommandError(str(error)) from None
        done = testing.run(test.pk, by=audit.COMMAND)
        if done is None:
            raise CommandError(f"{connection} is paused, or another process does this test.")
        if done.state == ConnectionTest.State.FAILED:
            raise CommandError(done.problem)
        sys.exit(self.report(done, is_full=options["all"]))

    def report(self, test: ConnectionTest, *, is_full: bool) -> int:
        for finding in test.findings:
            if is_full or finding["state"] != "ok":
                place = f"{finding['name']} {finding['account_id']}".strip()
                self.stdout.write(f"{WORDS.get(finding['state'], 'ok')}  {place}  {finding['action']}")
            if finding["state"] != "ok":
                self.stdout.write(f"    {finding['why']} {finding['next']}")
            if finding["statement"]:
                self.stdout.write(f"    {json.dumps(finding['statement'])}")
        states = [finding["state"] for finding in test.findings]
        told = f"{states.count('ok')} of {len(states)} rights are there"
        self.stdout.write(f"{told}; {test.sampled} of {test.accounts} accounts were tried.")
        return 1 if "missing" in states else 2 if "unknown" in states else 0

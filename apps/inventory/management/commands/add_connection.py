"""manage.py add_connection NAME: a new AWS organization to look at."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit import services as audit
from apps.inventory import services


class Command(BaseCommand):
    help = "Add an AWS organization. Credentials come from the environment. Two people let Gatehouse change it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="Letters, digits and hyphens.")
        parser.add_argument("--region", default="us-east-1", help="The home Region of Identity Center.")
        parser.add_argument("--reader-role", help="Path and name of the role that reads, without a leading slash.")

    def handle(self, *_args: Any, **options: Any) -> None:
        roles = {"reader_role": options["reader_role"]} if options["reader_role"] else {}
        try:
            connection = services.add_connection(
                name=options["name"], region=options["region"], options=roles, by=audit.COMMAND
            )
        except services.NotPossible as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{connection} is added. Its external id, for the trust policy of the roles in each account:")
        self.stdout.write(f"  {connection.external_id}")
        self.stdout.write(f"Read it with: manage.py sync {connection}")

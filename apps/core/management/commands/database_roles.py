"""`manage.py database_roles`: make the database let each process do what `apps.core.privileges` says, and nothing else."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core import database_roles


class Command(BaseCommand):
    help = "Give every process's database role the privileges it needs. Run it after every migrate, as the owner."

    def handle(self, *_: Any, **__: Any) -> None:
        missing = database_roles.missing()
        if missing:
            raise CommandError(f"The database has no role {', '.join(missing)}. deploy/postgres/roles.sh creates them.")
        try:
            database_roles.apply()
        except database_roles.NotListed as error:
            raise CommandError(str(error)) from error
        for role in database_roles.strangers_with_locks():
            self.stderr.write(
                f"{role} may take advisory locks, and so keep workers waiting. Run this once as a superuser of PostgreSQL."
            )
        for role in database_roles.strangers_with_tables():
            self.stderr.write(f"{role} may make temporary tables. Run this once as the owner of the database.")
        self.stdout.write("Every role has its privileges.")

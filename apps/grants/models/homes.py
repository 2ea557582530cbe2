"""The database that the portal's memory lives in, and whether it is known to remember everything."""

from __future__ import annotations

from django.db import connection, models
from django.db.models import Q
from django.utils import timezone


class HomeQuerySet(models.QuerySet["Home"]):
    def trusted(self) -> HomeQuerySet:
        return self.filter(trusted_at__isnull=False)

    def here(self) -> HomeQuerySet:
        """The row of the database that answers now, if it was noticed already."""
        return self.filter(name=name_here())


class Home(models.Model):
    """One PostgreSQL database that held the portal's rows. A restore, from a dump or to a point in time, is another home:
    it may have forgotten what was opened since, so nothing opens until a comparison with AWS has found nothing left to
    take away.

    Its name is PostgreSQL's system identifier, timeline, database and the oid of this very table; every role may read
    them (PostgreSQL manual, "Control Data Functions"). The timeline is that of the file that is written now: the control
    file has it from the first checkpoint on, minutes after a replica took over. A copy of the files of a stopped server has
    all four in common with its original, so no name tells the two apart: `manage.py narrow_only` is for those.
    """

    name = models.CharField(max_length=100, unique=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    doubted_at = models.DateTimeField(null=True, blank=True, help_text="Since when it only narrows.")
    doubt = models.CharField(max_length=500, blank=True, help_text="Why, in a sentence.")
    trusted_at = models.DateTimeField(null=True, blank=True)

    objects = HomeQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(trusted_at__isnull=False) | Q(doubted_at__isnull=False),
                name="home_is_trusted_or_doubted",
            )
        ]

    def __str__(self) -> str:
        return f"Database {self.name}"


def name_here() -> str:
    """The name of the database that answers now."""
    with connection.cursor() as sql:
        sql.execute(
            "SELECT (SELECT system_identifier FROM pg_control_system()), "
            "CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint()) "
            "ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END, "
            "(SELECT oid FROM pg_database WHERE datname = current_database()), %s::regclass::oid",
            [Home._meta.db_table],
        )
        return "/".join(str(part) for part in sql.fetchone())

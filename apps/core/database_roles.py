"""Making the database say what `privileges` says. Idempotent, in one transaction, as the owner of the tables."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.db import connection, transaction
from psycopg import sql

from apps.core.privileges import ROLES, TABLES

# Of our triggers every one asks this function first, and as pgtrigger makes it, whoever sets `pgtrigger.ignore` for their
# own session switches triggers off. Nothing of ours does that.
_NEVER_IGNORE = """
CREATE OR REPLACE FUNCTION public._pgtrigger_should_ignore(trigger_name name) RETURNS boolean
LANGUAGE sql IMMUTABLE AS 'SELECT false'
"""


class NotListed(Exception):
    """A table has no line in `privileges.TABLES`, or a line no table. The text says which."""


def missing() -> list[str]:
    """Roles that this cluster does not have."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES.values())])
        there = {name for (name,) in cursor.fetchall()}
    return [role for role in ROLES.values() if role not in there]


@transaction.atomic
def create(password: str | None = None) -> None:
    """Create the roles, where they are missing, and give all of them this password: for demos and tests, whose clusters
    are their own. Without one nobody can sign in as them."""
    absent = set(missing())
    for role in ROLES.values():
        verb = "CREATE" if role in absent else "ALTER"
        how = sql.SQL("LOGIN PASSWORD {}").format(sql.Literal(password)) if password else sql.SQL("NOLOGIN")
        _run(sql.SQL(verb + " ROLE {} {}").format(sql.Identifier(role), how))


@transaction.atomic
def apply() -> None:
    """Take every privilege from every role, and give what is listed. Raises `NotListed`."""
    tables = dict(_listed())
    _run(_NEVER_IGNORE)
    for process, role in ROLES.items():
        name = sql.Identifier(role)
        for things in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            _run(sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA public FROM {}").format(sql.SQL(things), name))
        _run(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for model, table in tables.items():
            may = TABLES[model].get(process)
            if may:
                _run(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(may), sql.Identifier(table), name))


def _listed() -> Iterator[tuple[str, str]]:
    """(model, table) of everything that is installed."""
    tables = {model._meta.label: model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    wrong = sorted(set(tables) ^ set(TABLES))
    if wrong:
        raise NotListed(f"Say in apps/core/privileges.py what each process may do with {', '.join(wrong)}.")
    yield from tables.items()


def _run(statement: str | sql.Composable) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)

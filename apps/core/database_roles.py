"""Making the database say what `privileges` says. Idempotent, in one transaction, as the owner of the tables."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from django.apps import apps
from django.db import ProgrammingError, connection, transaction
from psycopg import sql

from apps.core.privileges import ROLES, TABLES

# Of our triggers every one asks this function first, and as pgtrigger makes it, whoever sets `pgtrigger.ignore` for their
# own session switches triggers off. Nothing of ours does that.
_NEVER_IGNORE = """
CREATE OR REPLACE FUNCTION public._pgtrigger_should_ignore(trigger_name name) RETURNS boolean
LANGUAGE sql IMMUTABLE AS 'SELECT false'
"""


_PARTS = re.compile(r"[A-Z]+(?: \([^)]*\))?")  # SELECT, UPDATE (state)

# Who holds a number here keeps everybody else from it as long as they like, and the numbers that `apps.core.locks` takes
# can be worked out by whoever reads the rows. PostgreSQL gives these functions to everybody.
_LOCKERS = ("worker", "ender")
_STAGES = "worker"  # compares readings of AWS with the rows in temporary tables
_ONLY_FOR_LOCKERS = sql.SQL(
    """
DO $$
DECLARE one regprocedure;
BEGIN
    FOR one IN SELECT oid FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {}', one);
    END LOOP;
END $$
"""
).format(sql.SQL(", ").join(sql.Identifier(ROLES[process]) for process in _LOCKERS))
# For how long a process waits for rows that another one holds; then it says so, and the clock asks again. Whoever signs
# in as the role may set it otherwise, so this protects processes from others, never from their own.
_WAITS = {"web": "10s", "worker": "30s", "broker": "10s", "ender": "5s"}


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
    _limit_locks()
    _limit_temporary_tables()
    _compile_nothing()
    for process, role in ROLES.items():
        name = sql.Identifier(role)
        for things in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            _run(sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA public FROM {}").format(sql.SQL(things), name))
        _run(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for model, table in tables.items():
            may = TABLES[model].get(process)
            if may:
                _run(sql.SQL("GRANT {} ON {} TO {}").format(_in_columns(may, model), sql.Identifier(table), name))


def strangers_with_locks() -> list[str]:
    """Roles that may take advisory locks and have no business with them: where nobody with the right to do so took that
    from them."""
    query = "SELECT role FROM unnest(%s::text[]) role WHERE has_function_privilege(role, %s, 'EXECUTE')"
    others = [role for process, role in ROLES.items() if process not in _LOCKERS]
    with connection.cursor() as cursor:
        cursor.execute(query, [others, "pg_advisory_lock(bigint)"])
        return [role for (role,) in cursor.fetchall()]


def strangers_with_tables() -> list[str]:
    """Roles that may make temporary tables and have no business with them: PostgreSQL looks for a table's name there first,
    also for those that triggers ask."""
    query = (
        "SELECT role FROM unnest(%s::text[]) role WHERE has_database_privilege(role, current_database(), 'TEMPORARY')"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [[role for process, role in ROLES.items() if process != _STAGES]])
        return [role for (role,) in cursor.fetchall()]


def _limit_temporary_tables() -> None:
    """PostgreSQL gives these to everybody. Without the right to change that nothing happens, and `strangers_with_tables`
    tells."""
    database = sql.Identifier(connection.settings_dict["NAME"])
    _run(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    _run(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(database, sql.Identifier(ROLES[_STAGES])))


def _limit_locks() -> None:
    """Only a superuser changes what PostgreSQL itself brings; `strangers_with_locks` tells where that was not possible."""
    with contextlib.suppress(ProgrammingError), transaction.atomic():
        _run(_ONLY_FOR_LOCKERS)
        for process, wait in _WAITS.items():
            _run(
                sql.SQL("ALTER ROLE {} SET lock_timeout = {}").format(sql.Identifier(ROLES[process]), sql.Literal(wait))
            )


def _compile_nothing() -> None:
    """What a page asks takes PostgreSQL milliseconds, and compiling it (`jit`, on by default where the server is built with
    it) would take longer. Where the owner may not set that, it stays as it is."""
    with contextlib.suppress(ProgrammingError), transaction.atomic():
        for role in ROLES.values():
            _run(sql.SQL("ALTER ROLE {} SET jit = off").format(sql.Identifier(role)))


def _in_columns(may: str, model: str) -> sql.Composable:
    """The same, with every column named where rows may be added or changed, and the key that the database gives left out:
    whoever chose keys could take those that come next, so that nobody could add a row any more; and whoever may change a
    table as such may also lock it against all who read it."""
    meta = apps.get_model(model)._meta
    said = (field for field in meta.local_concrete_fields if field is not meta.auto_field)
    columns = sql.SQL(", ").join(sql.Identifier(field.column) for field in said)
    named = {verb: sql.SQL(verb + " ({})").format(columns) for verb in ("INSERT", "UPDATE")}
    return sql.SQL(", ").join(named.get(one) or sql.SQL(one) for one in _PARTS.findall(may))


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

"""Tables of this session alone in which a scope is collected as it is read, whatever its size: who and what was seen,
who holds what, who reports to whom. They are filled by COPY outside of any long transaction, compared in one statement
each, and emptied for the next scope."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import DatabaseError
from django.db import connection as database
from django.db.models import Model, QuerySet

TABLES = {
    "sync_seen": "model text NOT NULL, key text NOT NULL",
    "sync_read": "principal text NOT NULL, entitlement text NOT NULL, attributes jsonb NOT NULL",
    "sync_difference": "assignment_id bigint, principal_id bigint, entitlement_id bigint, attributes jsonb",
    "sync_manager": "person text NOT NULL, manager text NOT NULL",
    "sync_pointing": "id bigint NOT NULL, was text NOT NULL, target bigint, source text NOT NULL",
}


def begin() -> None:
    """Have them, empty, for another scope."""
    with database.cursor() as cursor:
        cursor.execute(_SIZES, [[*TABLES]])
        sizes = dict(cursor.fetchall())
        wanted = [f"CREATE TEMP TABLE {name} ({TABLES[name]})" for name, size in sizes.items() if size is None]
        wanted += [f"TRUNCATE {name}" for name, size in sizes.items() if size]
        if wanted:
            cursor.execute("; ".join(wanted))


_SIZES = "SELECT name, pg_relation_size(to_regclass('pg_temp.' || name)) FROM unnest(%s::text[]) AS name"


def end() -> None:
    """Give back what they hold; the session may be used for other things. A lost session has lost them already."""
    with contextlib.suppress(DatabaseError), database.cursor() as cursor:
        cursor.execute("DISCARD TEMP")


def beside(model: type[Model]) -> str:
    """The name of a table with the columns of `model` and none of its rules, for rows that are on their way into it. It is
    empty, and whoever fills it empties it."""
    meta = model._meta
    name = f"sync_{meta.db_table}"
    columns = ", ".join(f'"{field.column}" {field.db_type(database)}' for field in meta.concrete_fields)
    with database.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({columns})")
    return name


def add(table: str, rows: Iterable[Sequence[Any]]) -> None:
    """Add these rows."""
    with database.wrap_database_errors, database.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def analyze(table: str) -> None:
    """Let the planner know how much was added."""
    with database.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}")


def unseen(rows: QuerySet[Any], model: str) -> list[int]:
    """Those of `rows` whose external id was not added to what was seen of this model."""
    statement, params = rows.order_by().values("pk", "external_id").query.sql_with_params()
    with database.cursor() as cursor:
        cursor.execute(_UNSEEN.format(rows=statement), (*params, model))
        return [pk for (pk,) in cursor.fetchall()]


_UNSEEN = """
    SELECT here.pk FROM ({rows}) AS here (pk, key)
    WHERE NOT EXISTS (SELECT FROM sync_seen s WHERE s.key = here.key AND s.model = %s)
"""


def repeated() -> dict[str, int]:
    """How many of each model were seen more than once."""
    with database.cursor() as cursor:
        cursor.execute("SELECT model, count(*) - count(DISTINCT key) FROM sync_seen GROUP BY model")
        return {model: count for model, count in cursor.fetchall() if count}

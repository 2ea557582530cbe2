"""Set-based writing shared by every table: only rows whose digest changed, and which rows are no longer there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from django.db import connection as database
from django.db import models
from django.db.models import QuerySet
from django.db.models.expressions import DatabaseDefault

from apps.inventory.sync import staging

T = TypeVar("T")

BATCH = 2_000

IDENTITY_CENTER = "Identity Center"  # manager_source of what the directory says
ACCOUNT_OWNER = "account owner"  # owner_source of a machine whose account has an owner
TAG = "tag "  # owner_source of what a tag says starts so
STACK = "stack "  # of a machine that was made with others whose owner a person named
CREATOR = "creator"  # of a machine whose maker the audit trail knows
DERIVED, DERIVED_STARTS = ("", IDENTITY_CENTER, ACCOUNT_OWNER, CREATOR), (TAG, STACK)
PASSED_ON = "passed on by "  # of what a leaver owned without anybody's word: the source of the next owner starts so


def is_derived(source: str) -> bool:
    """Whether sync itself wrote this owner or manager. What a person or a CSV said is never overwritten."""
    return source in DERIVED or source.startswith(DERIVED_STARTS)


def yields(source: str, to: str) -> bool:
    """Whether an owner or manager known from `source` gives way to one that sync knows from `to`. What was passed on
    gives way to a tag: it names nobody while it names who left, so by now it names somebody else."""
    return is_derived(source) or (source.startswith(PASSED_ON) and to.startswith(TAG))


@dataclass
class Changes:
    """Rows added, changed and ended, by table."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, model: type[models.Model], what: str, count: int) -> None:
        if count:
            self.counts.setdefault(str(model._meta.model_name), Counter())[what] += count

    def merge(self, other: Changes) -> None:
        for table, counts in other.counts.items():
            self.counts.setdefault(table, Counter()).update(counts)

    def as_json(self) -> dict[str, dict[str, int]]:
        return {table: dict(sorted(counts.items())) for table, counts in sorted(self.counts.items())}


class Known(NamedTuple):
    """What the inventory has of one row."""

    pk: int
    digest: str
    ended_at: datetime | None


def known(rows: QuerySet[Any], *keys: str) -> dict[Any, Known]:
    """The rows of a scope by key, in one query. A key of one column is its value, of several a tuple."""
    found = rows.values_list(*keys, "pk", "digest", "ended_at")
    width = len(keys)
    return {(row[0] if width == 1 else row[:width]): Known(*row[width:]) for row in found}


def one_of(rows: QuerySet[Any], keys: Iterable[str]) -> QuerySet[Any]:
    """Those with one of these external ids, however many: one parameter, where `__in` would make one of each."""
    column = f'"{rows.model._meta.db_table}"."external_id"'
    among = f"{column} = ANY(ARRAY(SELECT jsonb_array_elements_text(%s)))"  # an array is looked up in the index
    return rows.extra(where=[among], params=[json.dumps([*keys])])  # noqa: S610  our own table's name


def due(before: Mapping[Any, Known], rows: Mapping[Any, Mapping[str, Any]], digests: Mapping[Any, str]) -> list[Any]:
    """The keys of what is new, changed, or back. `rows` maps a key to its values; values may name `ended_at`."""
    return [key for key, values in rows.items() if _is_due(before.get(key), values, digests[key])]


def _is_due(old: Known | None, values: Mapping[str, Any], mark: str) -> bool:
    return old is None or old.digest != mark or (old.ended_at is None) != (values.get("ended_at") is None)


def upsert(
    model: type[models.Model],
    before: Mapping[Any, Known],
    rows: Mapping[Any, Mapping[str, Any]],
    digests: Mapping[Any, str],
    *,
    keys: Sequence[str],
    fixed: Mapping[str, Any],
    changes: Changes,
) -> None:
    """Write the rows that are `due`; the others are not touched. Values are those of columns, and JSON where a column
    holds it. `fixed` columns are the same for all rows and part of the unique key. However many rows there are, they are
    copied beside the table and go into it in one statement; nothing is asked where nothing changed."""
    wanted = due(before, rows, digests)
    if not wanted:
        return
    changed = sum(key in before for key in wanted)
    changes.add(model, "changed", changed)
    changes.add(model, "added", len(wanted) - changed)
    said = [*dict.fromkeys(("ended_at", *rows[wanted[0]]))]
    staged = staging.beside(model)
    copied = _quoted([*keys, *said, "digest"])
    staging.add(
        f"{staged} ({copied})", (_row(key, {"ended_at": None, **rows[key]}, said, digests[key]) for key in wanted)
    )
    _take(model, staged, keys=keys, said=[*said, "digest"], fixed=fixed)


def _row(key: Any, values: Mapping[str, Any], said: Sequence[str], mark: str) -> tuple[Any, ...]:
    return (*(key if isinstance(key, tuple) else (key,)), *(values[column] for column in said), mark)


def _take(
    model: type[models.Model], staged: str, *, keys: Sequence[str], said: Sequence[str], fixed: Mapping[str, Any]
) -> None:
    """Insert what was staged, and update what is there already; new rows get what the model says of the other columns."""
    copied = [*keys, *said]
    given = {**fixed, **_defaults(model, {*fixed, *copied})}
    statement = _TAKE.format(
        table=model._meta.db_table,
        columns=_quoted([*given, *copied]),
        values=", ".join([*(["%s"] * len(given)), _quoted(copied)]),
        staged=staged,
        unique=_quoted([*fixed, *keys]),
        updates=", ".join(f'"{column}" = EXCLUDED."{column}"' for column in said),
    )
    with database.cursor() as cursor:
        cursor.execute(statement, [*given.values()])
        cursor.execute(f"TRUNCATE {staged}")


_TAKE = """
    INSERT INTO "{table}" ({columns}) SELECT {values} FROM {staged}
    ON CONFLICT ({unique}) DO UPDATE SET {updates}
"""


def _defaults(model: type[models.Model], named: Collection[str]) -> dict[str, Any]:
    """What the columns of a new row hold that nobody names, as saving a new object would have it. Those that the database
    fills itself are left to it."""
    blank = model()
    fields = [one for one in model._meta.concrete_fields if not one.primary_key and one.column not in named]
    values = {str(one.column): (one, one.pre_save(blank, add=True)) for one in fields}
    return {
        column: one.get_db_prep_save(value, database)
        for column, (one, value) in values.items()
        if value is not None and not isinstance(value, DatabaseDefault)
    }


def _quoted(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def end(model: type[models.Model], pks: Iterable[int], at: datetime, changes: Changes) -> None:
    """Mark rows as gone. They are kept: history still names them."""
    for batch in batched(pks):
        changes.add(model, "ended", model._default_manager.filter(pk__in=batch, ended_at=None).update(ended_at=at))


Pointing = tuple[int | None, str]  # the identity, and where we know it from
NOBODY: Pointing = (None, "")


def point(
    model: type[models.Model],
    column: str,
    now: Mapping[int, Pointing],
    wanted: Mapping[int, Pointing],
    changes: Changes,
) -> None:
    """Let `column` (owner, manager) be what is `wanted` in the rows of which we know what it is `now`. Where a person said
    it, it stays, and so it does where one says it meanwhile."""
    due = [
        (pk, now[pk][1], *pointing)
        for pk, pointing in wanted.items()
        if pk in now and now[pk] != pointing and yields(now[pk][1], pointing[1])
    ]
    if not due:
        return
    staging.add("sync_pointing", due)
    with database.cursor() as cursor:
        cursor.execute(_POINT.format(table=model._meta.db_table, column=column))
        changes.add(model, "changed", cursor.rowcount)
        cursor.execute("TRUNCATE sync_pointing")


_POINT = """
    UPDATE "{table}" t SET "{column}_id" = p.target, "{column}_source" = p.source
    FROM sync_pointing p
    WHERE t.id = p.id AND t."{column}_source" = p.was AND t.id = ANY(ARRAY(SELECT id FROM sync_pointing))
"""


def batched(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

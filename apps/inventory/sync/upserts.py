"""Set-based writing shared by every table: only rows whose digest changed, and which rows are no longer there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from django.db import models
from django.db.models import QuerySet

T = TypeVar("T")

BATCH = 2_000

IDENTITY_CENTER = "Identity Center"  # manager_source of what the directory says
ACCOUNT_OWNER = "account owner"  # owner_source of a machine whose account has an owner
TAG = "tag "  # owner_source of what a tag says starts so
STACK = "stack "  # of a machine that was made with others whose owner a person named
CREATOR = "creator"  # of a machine whose maker the audit trail knows


def is_derived(source: str) -> bool:
    """Whether sync itself wrote this owner or manager. What a person or a CSV said is never overwritten."""
    return source in ("", IDENTITY_CENTER, ACCOUNT_OWNER, CREATOR) or source.startswith((TAG, STACK))


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
    return {
        (row[0] if width == 1 else row[:width]): Known(row[width], row[width + 1], row[width + 2])
        for row in found.iterator(chunk_size=BATCH)
    }


def one_of(rows: QuerySet[Any], keys: Iterable[str]) -> QuerySet[Any]:
    """Those with one of these external ids, however many: one parameter, where `__in` would make one of each."""
    column = f'"{rows.model._meta.db_table}"."external_id"'
    return rows.extra(where=[f"{column} = ANY(%s)"], params=[[*keys]])  # noqa: S610  our own table's name


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
    """Write the rows that are `due`; the others are not touched. `fixed` columns are the same for all rows and part of
    the unique key. One statement for each `BATCH`, none where nothing changed."""
    wanted = due(before, rows, digests)
    if not wanted:
        return
    changed = sum(key in before for key in wanted)
    changes.add(model, "changed", changed)
    changes.add(model, "added", len(wanted) - changed)
    columns = {*rows[wanted[0]], "ended_at", "digest"}
    for batch in batched(wanted):
        model._default_manager.bulk_create(
            [
                model(**fixed, **_named(keys, key), **{"ended_at": None, **rows[key]}, digest=digests[key])
                for key in batch
            ],
            update_conflicts=True,
            unique_fields=[_field(name) for name in (*fixed, *keys)],
            update_fields=[_field(name) for name in sorted(columns)],
        )


def _named(keys: Sequence[str], key: Any) -> dict[str, Any]:
    return dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))


def _field(column: str) -> str:
    """The name of the field behind a column: bulk_create takes relations by name. external_id is no relation."""
    return column if column in ("external_id", "unique_id") else column.removesuffix("_id")


def end(model: type[models.Model], pks: Iterable[int], at: datetime, changes: Changes) -> None:
    """Mark rows as gone. They are kept: history still names them."""
    for batch in batched(pks):
        changes.add(model, "ended", model._default_manager.filter(pk__in=batch, ended_at=None).update(ended_at=at))


Pointing = tuple[int | None, str]  # the identity, and where we know it from
NOBODY: Pointing = (None, "")


def point(rows: QuerySet[Any], column: str, wanted: Mapping[int, Pointing], changes: Changes) -> None:
    """Let `column` (owner, manager) be what is `wanted`, in the rows it names. Where a person said it, it stays."""
    model, source = rows.model, f"{column}_source"
    due = [
        model(pk=pk, **{f"{column}_id": target, source: said})
        for pk, now, now_source in rows.values_list("pk", f"{column}_id", source)
        for target, said in [wanted.get(pk, (now, now_source))]
        if is_derived(now_source) and (now, now_source) != (target, said)
    ]
    if due:
        model._default_manager.bulk_update(due, [column, source], batch_size=BATCH)
    changes.add(model, "changed", len(due))


def batched(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

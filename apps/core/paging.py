"""Keyset paging: the cursor is the last row seen, so a page costs the same at any depth, and rows that come or go
in between neither repeat nor hide others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.core import signing
from django.core.exceptions import ValidationError
from django.db.models import F, Field, Q, QuerySet
from django.http import QueryDict

CURSOR = "page"
SIZE = 50

FORWARD, BACK = "f", "b"
NOTHING = Q(pk__in=[])


@dataclass(frozen=True)
class Page:
    """Rows of one page, and the query strings (without "?") of its neighbours; empty where there is none."""

    rows: list[Any]
    next_url_params: str = ""
    previous_url_params: str = ""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Key:
    """One column of the order. `name` is a field, an annotation or a path over relations ("resource__name")."""

    name: str
    descending: bool
    field: "Field[Any, Any]"

    @property
    def alias(self) -> str:
        """Where a row carries the value: paths are annotated, so that no row costs a query of its own."""
        return f"_key_{self.name.replace('__', '_')}" if "__" in self.name else self.name

    def ordering(self, reverse: bool) -> Any:
        """PostgreSQL's own order of NULL, largest of all, in both directions."""
        return F(self.name).desc() if self.descending != reverse else F(self.name).asc()

    def equals(self, value: Any) -> Q:
        return Q(**{f"{self.name}__isnull": True}) if value is None else Q(**{self.name: value})

    def beyond(self, value: Any, reverse: bool) -> Q:
        """Rows after `value` in this column."""
        if self.descending != reverse:
            return Q(**{f"{self.name}__isnull": False}) if value is None else Q(**{f"{self.name}__lt": value})
        if value is None:
            return NOTHING
        return Q(**{f"{self.name}__gt": value}) | Q(**{f"{self.name}__isnull": True})


def searched(params: QueryDict) -> str:
    """What was typed into the search field, bounded."""
    return params.get("q", "").strip()[:100]


def page(queryset: QuerySet[Any], params: QueryDict, *, order: Sequence[str] = ("pk",), size: int = SIZE) -> Page:
    """The page that `params` ask for. The primary key is added to `order` as the tie-breaker. A cursor that is broken,
    of another list or order, or leads to nothing gives the first page."""
    keys = _keys(queryset, order)
    rows = queryset.annotate(**{key.alias: F(key.name) for key in keys if key.alias != key.name})
    salt = f"gatehouse.paging.{queryset.model._meta.label}.{','.join(order)}"
    direction, values = _read(params.get(CURSOR, ""), salt, keys)

    found = _rows(rows, keys, values, direction == BACK, size + 1)
    if values and (not found or (direction == BACK and len(found) < size)):
        direction, values = FORWARD, []
        found = _rows(rows, keys, values, False, size + 1)
    more, shown = len(found) > size, found[:size]
    if direction == BACK:
        shown.reverse()

    def link(to: str, row: Any) -> str:
        query = params.copy()
        query[CURSOR] = signing.dumps([to, *(_plain(row, key) for key in keys)], salt=salt)
        return query.urlencode()

    has_next = bool(shown) and (more or direction == BACK)
    has_previous = bool(shown) and (more if direction == BACK else bool(values))
    return Page(shown, link(FORWARD, shown[-1]) if has_next else "", link(BACK, shown[0]) if has_previous else "")


def number_of(params: QueryDict, *, last: int) -> int:
    """Which page of a list that is paged by number is asked for, from 0 to `last`."""
    asked = params.get(CURSOR, "")
    return min(int(asked), last) if asked.isascii() and asked.isdecimal() and len(asked) < 19 else 0


def numbered(rows: Sequence[Any], params: QueryDict, number: int, *, has_next: bool) -> Page:
    """A page by its number: for what is worked out whole each time, and for a past day, which does not move."""

    def link(to: int) -> str:
        query = params.copy()
        query[CURSOR] = str(to)
        return query.urlencode()

    return Page(list(rows), link(number + 1) if has_next else "", link(number - 1) if number else "")


def _keys(queryset: QuerySet[Any], order: Sequence[str]) -> list[Key]:
    names = [*order] if {"pk", "-pk"} & {*order} else [*order, "pk"]
    query = queryset.query.clone()
    return [
        Key(
            name.removeprefix("-"),
            name.startswith("-"),
            F(name.removeprefix("-")).resolve_expression(query).output_field,
        )
        for name in names
    ]


def _read(cursor: str, salt: str, keys: list[Key]) -> tuple[str, list[Any]]:
    """Direction and values of a cursor; the first page for anything that is not ours."""
    try:
        direction, *values = signing.loads(cursor, salt=salt)
        typed = [None if value is None else key.field.to_python(value) for key, value in zip(keys, values, strict=True)]
    except (signing.BadSignature, ValidationError, ValueError, TypeError):
        return FORWARD, []
    return direction, typed


def _rows(queryset: QuerySet[Any], keys: list[Key], values: list[Any], reverse: bool, limit: int) -> list[Any]:
    if values:
        queryset = queryset.filter(_after(keys, values, reverse))
    return list(queryset.order_by(*(key.ordering(reverse) for key in keys))[:limit])


def _after(keys: list[Key], values: list[Any], reverse: bool) -> Q:
    """Rows after a row: beyond it in the first column, or equal there and after it in the rest."""
    pairs = [*zip(keys, values, strict=True)]
    condition = NOTHING
    for key, value in reversed(pairs):
        condition = key.beyond(value, reverse) | (key.equals(value) & condition)
    first, value = pairs[0]  # said twice, because PostgreSQL enters an index only by a condition outside the OR
    return (first.beyond(value, reverse) | first.equals(value)) & condition


def _plain(row: Any, key: Key) -> Any:
    """A row's value as JSON knows it."""
    value = row[key.alias] if isinstance(row, dict) else getattr(row, key.alias)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if value is None or isinstance(value, int | str) else str(value)

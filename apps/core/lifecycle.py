"""Moving a row from state to state: one table of legal moves, compare-and-swap, one audit event, one transaction.

A model with a lifecycle has a `state` field and a class attribute `MOVES` (state → states it may go to). Nothing else
writes `state`. The loser of a race gets `Conflict`, never silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.db import OperationalError, models, transaction

from apps.audit import services as audit
from apps.core.locks import is_held

M = TypeVar("M", bound=models.Model)


class IllegalMove(Exception):
    """The code asked for a move that is not in the model's table. A bug, not a race."""


class Conflict(Exception):
    """Somebody or something else moved the row first. Shown to people with the state it is in now (HTTP 409)."""

    def __init__(self, obj: models.Model, now: str) -> None:
        self.obj, self.now = obj, now
        super().__init__(f"This is {now.lower()} now: somebody else was faster. Look at it again before you decide.")


class Held(Conflict):
    """Another session holds the row and was not waited for any longer."""

    def __init__(self, obj: models.Model) -> None:
        super().__init__(obj, "held")

    def __str__(self) -> str:
        return (
            "Another process holds this at the moment, so nothing was changed. Try again. If it stays so, tell whoever "
            "runs Gatehouse."
        )


def can_move(obj: models.Model, to: str) -> bool:
    """Whether the table of moves leads from the state `obj` carries to `to`."""
    return to in obj.MOVES.get(obj.state, ())  # type: ignore[attr-defined]


def move(
    obj: M,
    to: str,
    *,
    by: Any,
    event: str,
    about: Iterable[models.Model] = (),
    data: Mapping[str, Any] | None = None,
    expect: Mapping[str, Any] | None = None,
    **fields: Any,
) -> M:
    """Move one row to state `to`, set `fields` with it and record `event`, all in one transaction.

    The row in the database must still be in the state `obj` carries, and match `expect` (an attempt number, say);
    otherwise `Conflict`, and nothing is written. `obj` carries the new values afterwards.
    """
    if not can_move(obj, to):
        raise IllegalMove(f"{obj._meta.label}: {obj.state} → {to}")  # type: ignore[attr-defined]
    was = obj.state  # type: ignore[attr-defined]
    with transaction.atomic():
        rows = type(obj)._default_manager.filter(pk=obj.pk, state=was, **(expect or {}))
        if not _update(obj, rows, state=to, **fields):
            raise Conflict(obj, _state_now(obj))
        for name, value in {"state": to, **fields}.items():
            setattr(obj, name, value)
        audit.record(event, by=by, subject=obj, about=about, data={"from": was, "to": to, **(data or {})})
    return obj


def move_many(
    rows: models.QuerySet[M],
    to: str,
    *,
    by: Any,
    event: str,
    about: Callable[[M], Iterable[models.Model]] = lambda _row: (),
    data: Mapping[str, Any] | None = None,
    skip_locked: bool = False,
    **fields: Any,
) -> list[M]:
    """Move every row of the set that legally can, in one statement, with one event each; return those that moved.
    `skip_locked` leaves out what another session holds at the moment, so that one row keeps no other waiting.

    The rest lost a race or never could, and the caller can tell by what is missing from the answer. `rows` load what
    `about` and the rows' names read (`select_related`), or every row costs queries.
    """
    model = rows.model
    legal = [state for state, targets in model.MOVES.items() if to in targets]  # type: ignore[attr-defined]
    with transaction.atomic():
        locked = list(
            rows.filter(state__in=legal).select_for_update(of=("self",), skip_locked=skip_locked).order_by("pk")
        )
        was = {obj.pk: obj.state for obj in locked}  # type: ignore[attr-defined]
        model._default_manager.filter(pk__in=was).update(state=to, **fields)
        for obj in locked:
            for name, value in {"state": to, **fields}.items():
                setattr(obj, name, value)
        audit.record_all(
            audit.event(
                event, by=by, subject=obj, about=about(obj), data={"from": was[obj.pk], "to": to, **(data or {})}
            )
            for obj in locked
        )
    return locked


def _update(obj: models.Model, rows: models.QuerySet[M], **fields: Any) -> int:
    try:
        return rows.update(**fields)
    except OperationalError as error:
        if is_held(error):
            raise Held(obj) from error
        raise


def _state_now(obj: models.Model) -> str:
    fresh = type(obj)._default_manager.filter(pk=obj.pk).first()
    if fresh is None:
        return "gone"
    return str(fresh.get_state_display())  # type: ignore[attr-defined]

"""The numbers beside the places of the navigation, all asked in one statement.

Every page draws them. For questions as small as these, Django takes longer to write the SQL than PostgreSQL to answer, so
it is written once a process: a place counts rows for `USER` at `NOW`, and each page only puts in who and when that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from functools import lru_cache
from typing import Any

from django.db import connection, models
from django.db.models.expressions import Expression
from django.utils import timezone

from apps.core.navigation import Place, Question


class Known(Enum):
    """What is known only when a page is asked for."""

    USER = auto()
    NOW = auto()


class _Asked(Expression):
    """Stands in a query for something that is known later."""

    def __init__(self, known: Known, field: models.Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.known = known

    def as_sql(self, _compiler: Any, _connection: Any) -> tuple[str, Any]:
        return "%s", [self.known]


# to be written where a user or an instant would be: `Notification.objects.of(USER)`
USER: Any = _Asked(Known.USER, models.BigAutoField())
NOW: Any = _Asked(Known.NOW, models.DateTimeField())


def count(places: Sequence[Place], user_id: int | None) -> dict[Place, int]:
    """How many rows wait for somebody in each of these places. A place that is only shown with something in it
    (`Place.only_with`) is left out when they have nothing there."""
    asked = tuple(place for place in places if place.waiting or place.only_with)
    answers: dict[Place, int | None] = dict.fromkeys(places, 0)
    if asked:
        sql, parameters = _statement(tuple((place.waiting, place.only_with) for place in asked))
        known: dict[Any, Any] = {Known.USER: user_id, Known.NOW: timezone.now()}
        with connection.cursor() as cursor:
            cursor.execute(sql, [known[value] if isinstance(value, Known) else value for value in parameters])
            answers.update(zip(asked, cursor.fetchone() or (), strict=True))
    return {place: number for place, number in answers.items() if number is not None}


@lru_cache(maxsize=64)  # as many as there are kinds of people who see different places
def _statement(asked: tuple[tuple[Question | None, Question | None], ...]) -> tuple[str, list[Any]]:
    columns: list[str] = []
    parameters: list[Any] = []

    def written(form: str, question: Question | None, otherwise: str) -> str:
        if question is None:
            return otherwise
        sql, values = question().order_by().values("pk").query.sql_with_params()
        parameters.extend(values)
        return form.format(sql)

    for waiting, only_with in asked:
        there = written("EXISTS ({})", only_with, "true")
        number = written("(SELECT count(*) FROM ({}) AS waiting)", waiting, "0")
        columns.append(f"CASE WHEN {there} THEN {number} END")
    return f"SELECT {', '.join(columns)}", parameters

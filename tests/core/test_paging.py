from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.db.models import Case, CharField, QuerySet, Value, When
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from apps.core.paging import CURSOR, Page, page
from apps.inventory.models import Entitlement
from tests.factories.inventory import ConnectionFactory, EntitlementFactory, ResourceFactory

pytestmark = pytest.mark.django_db

ORDERS = [
    ("pk",),
    ("-pk",),
    ("name", "pk"),
    ("-name",),
    ("privilege", "-name"),
    ("ended_at", "name"),
    ("-ended_at",),
    ("resource__name", "-ended_at", "name"),
    ("-resource__name",),
    ("rank", "name"),
]


@pytest.fixture
def entitlements() -> QuerySet[Entitlement]:
    """Two dozen with equal names, missing dates and missing accounts, ranked by an annotation."""
    org = ConnectionFactory()
    accounts = [ResourceFactory(connection=org, name=name) for name in ("prod", "staging", "prod")]
    for n in range(24):
        EntitlementFactory(
            connection=org,
            resource=[*accounts, None][n % 4],
            name=f"Set{n % 5}",
            privilege=["read", "admin", "unknown"][n % 3],
            ended_at=None if n % 3 == 0 else datetime(2026, 11, 1 + n % 4, tzinfo=UTC),
        )
    rank = Case(
        When(privilege="admin", then=Value("a")), When(privilege="read", then=Value("b")), output_field=CharField()
    )
    return Entitlement.objects.annotate(rank=rank)


def walk(rows: QuerySet[Any], order: tuple[str, ...], params: str = "", back: bool = False) -> Iterator[Page]:
    while True:
        shown = page(rows, QueryDict(params), order=order, size=5)
        yield shown
        params = shown.previous_url_params if back else shown.next_url_params
        if not params:
            return


def ids(pages: list[Page]) -> list[int]:
    return [row.pk for shown in pages for row in shown]


@pytest.mark.parametrize("order", ORDERS)
def test_pages_are_the_whole_list_in_order_both_ways(
    entitlements: QuerySet[Entitlement], order: tuple[str, ...]
) -> None:
    whole = [row.pk for row in entitlements.order_by(*order, "pk")]
    forward = list(walk(entitlements, order))
    assert ids(forward) == whole
    assert [len(shown) for shown in forward] == [5, 5, 5, 5, 4]

    back = list(walk(entitlements, order, forward[-2].next_url_params, back=True))
    assert ids(back[::-1]) == whole
    assert not back[-1].previous_url_params


def test_the_first_and_the_last_page_say_that_there_is_no_other(entitlements: QuerySet[Entitlement]) -> None:
    pages = list(walk(entitlements, ("name",)))
    assert not pages[0].previous_url_params
    assert not pages[-1].next_url_params
    assert page(Entitlement.objects.none(), QueryDict()) == Page([])


def test_a_page_that_is_exactly_full_has_no_next(entitlements: QuerySet[Entitlement]) -> None:
    assert not page(entitlements, QueryDict(), size=24).next_url_params


def test_a_row_that_comes_in_between_moves_no_other(entitlements: QuerySet[Entitlement]) -> None:
    first = page(entitlements, QueryDict(), order=("name",), size=5)
    EntitlementFactory(name="A new one before all")
    second = page(entitlements, QueryDict(first.next_url_params), order=("name",), size=5)
    assert not {row.pk for row in first} & {row.pk for row in second}
    assert second.rows[0].name == "Set1"


def test_other_parameters_travel_along(entitlements: QuerySet[Entitlement]) -> None:
    shown = page(entitlements, QueryDict("q=set&risk=admin&risk=read"), size=5)
    query = QueryDict(shown.next_url_params)
    assert query.getlist("risk") == ["admin", "read"]
    assert query["q"] == "set"


@pytest.mark.parametrize(
    "cursor",
    ["", "garbage", "WyJmIiwxXQ:1abc:forged", "%00", "9" * 5000, '["f", 1]', "é:ü:ß"],
)
def test_a_cursor_that_is_not_ours_gives_the_first_page(entitlements: QuerySet[Entitlement], cursor: str) -> None:
    query = QueryDict(mutable=True)
    query[CURSOR] = cursor
    assert page(entitlements, query, size=5).rows == page(entitlements, QueryDict(), size=5).rows


def test_a_cursor_of_another_order_gives_the_first_page(entitlements: QuerySet[Entitlement]) -> None:
    by_name = page(entitlements, QueryDict(), order=("name",), size=5)
    shown = page(entitlements, QueryDict(by_name.next_url_params), order=("-name",), size=5)
    assert shown.rows == page(entitlements, QueryDict(), order=("-name",), size=5).rows


def test_going_back_to_what_became_too_short_gives_a_full_first_page(entitlements: QuerySet[Entitlement]) -> None:
    pages = list(walk(entitlements, ("pk",)))
    left = entitlements.exclude(pk__in=[row.pk for row in pages[0]][:3])
    shown = page(left, QueryDict(pages[1].previous_url_params), order=("pk",), size=5)
    assert len(shown) == 5
    assert not shown.previous_url_params


def test_rows_may_be_dictionaries(entitlements: QuerySet[Entitlement]) -> None:
    rows = entitlements.values("pk", "name")
    names = [row["name"] for shown in walk(rows, ("name", "pk")) for row in shown]
    assert names == sorted(names)
    assert len(names) == 24


@pytest.mark.parametrize("size", [1, 20])
def test_a_page_is_one_query(entitlements: QuerySet[Entitlement], size: int) -> None:
    first = page(entitlements, QueryDict(), order=("resource__name", "name"), size=size)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page(entitlements, QueryDict(first.next_url_params), order=("resource__name", "name"), size=size)
    assert len(queries) == 1

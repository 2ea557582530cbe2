"""What upper apps add to the inventory's pages, so that inventory knows none of them: tabs, why an assignment that is
not standing is there, and which runs are evidence. Registered in `AppConfig.ready`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import models
from django.http import HttpRequest
from django.urls import reverse


@dataclass(frozen=True, kw_only=True)
class Tab:
    """A page about one row of `subject` (a label like "inventory.identity"), at `url_name` with the row's key. `visible`
    only decides what is shown, never what is allowed."""

    subject: str
    label: str
    url_name: str
    order: int = 100
    visible: Callable[[HttpRequest, models.Model], bool] = lambda _request, _row: True


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why an assignment is there, as a badge: kind, icon and word of `{% state %}`. `is_timed`: it ends by itself."""

    kind: str
    icon: str
    word: str
    url: str = ""
    is_timed: bool = False


class Explained(Protocol):
    """An assignment, or one of `holdings.Light`."""

    @property
    def pk(self) -> int: ...
    @property
    def principal_id(self) -> int: ...
    @property
    def entitlement_id(self) -> int: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def period(self) -> Any: ...


Explain = Callable[[Iterable[Explained]], Mapping[int, Reason]]

Rows = Callable[[], models.QuerySet[Any, Any]]

_tabs: dict[tuple[str, str], Tab] = {}
_explanations: dict[str, Explain] = {}
_kept_runs: dict[str, Rows] = {}


def add_tab(tab: Tab) -> None:
    """Adds a tab; one with the same subject and url_name replaces the earlier one."""
    _tabs[tab.subject, tab.url_name] = tab


def add_explanation(name: str, explain: Explain) -> None:
    """Adds a function that gets the assignments of a page at once and answers for those it knows, by primary key."""
    _explanations[name] = explain


def keep_runs(name: str, runs: Rows) -> None:
    """Adds a query of the ids of runs that are evidence: what they said of each scope stays as long as they do."""
    _kept_runs[name] = runs


def kept_runs() -> list[models.QuerySet[Any, Any]]:
    """Queries of the ids of runs that upper apps show as evidence."""
    return [runs() for runs in _kept_runs.values()]


def tabs_of(request: HttpRequest, row: models.Model) -> list[tuple[str, str]]:
    """(label, url) of what upper apps say about this row to this user; the row's own page is not among them."""
    mine = [tab for tab in _tabs.values() if tab.subject == row._meta.label_lower and tab.visible(request, row)]
    return [(tab.label, reverse(tab.url_name, args=[row.pk])) for tab in sorted(mine, key=lambda tab: tab.order)]


def reasons_for(assignments: Iterable[Explained]) -> dict[int, Reason]:
    """What upper apps know about these assignments, by primary key."""
    rows = list(assignments)
    return {pk: reason for explain in _explanations.values() for pk, reason in explain(rows).items()}

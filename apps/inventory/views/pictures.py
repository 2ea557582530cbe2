"""The picture of how somebody's access comes about: who, through which group, to what, in which account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apps.core import words
from apps.inventory.extensions import Reason
from apps.inventory.holdings import Light
from apps.inventory.models import Identity
from apps.inventory.models.access import PRIVILEGED, weight_of

MOST_ROWS = 7
HEIGHT, GAP, TOP = 46, 16, 8
# x and width of each column: who, group, what, where; without groups the others spread
COLUMNS = ((1, 135), (176, 172), (388, 168), (600, 165))
WITHOUT_GROUPS = ((1, 190), (0, 0), (278, 210), (575, 190))
LETTER, SMALL_LETTER = 6.7, 6.0  # width of one at 12 and 11 px


@dataclass(frozen=True)
class Node:
    x: int
    y: int
    width: int
    title: str
    text: str
    is_risky: bool = False
    height: int = HEIGHT

    @property
    def short(self) -> str:
        return _cut(self.title, int((self.width - 20) / LETTER))

    @property
    def short_text(self) -> str:
        return _cut(self.text, int((self.width - 20) / SMALL_LETTER))

    @property
    def left(self) -> tuple[int, int]:
        return self.x, self.y + HEIGHT // 2

    @property
    def right(self) -> tuple[int, int]:
        return self.x + self.width, self.y + HEIGHT // 2

    @property
    def text_x(self) -> int:
        return self.x + 12

    @property
    def title_y(self) -> int:
        return self.y + 20

    @property
    def text_y(self) -> int:
        return self.y + 36


@dataclass(frozen=True)
class Edge:
    path: str
    style: str  # e standing, e-jit ends by itself, e-risk privileged


@dataclass(frozen=True)
class Picture:
    nodes: list[Node]
    edges: list[Edge]
    height: int
    sentence: str
    left_out: int

    @property
    def legend_y(self) -> int:
        return self.height - 8


@dataclass
class _Row:
    """The same entitlement through the same group, in one account or several."""

    group: str
    name: str
    privilege: str
    is_timed: bool
    can_escalate: bool
    accounts: list[tuple[str, str]] = field(default_factory=list)  # name, id

    @property
    def weight(self) -> int:
        return weight_of(self.privilege)

    @property
    def style(self) -> str:
        if self.is_timed:
            return "e-jit"
        return "e-risk" if self.privilege in PRIVILEGED else "e"

    @property
    def where(self) -> tuple[str, str]:
        if len(self.accounts) == 1:
            name, number = self.accounts[0]
            return name, words.account_id(number)
        return (f"{len(self.accounts)} accounts", "") if self.accounts else ("Whole organization", "")


def draw(identity: Identity, paths: Iterable[Light], reasons: Mapping[int, Reason]) -> Picture | None:
    """The heaviest paths, those into the same account together. None when nothing is held."""
    rows = _rows(paths, reasons)
    if not rows:
        return None
    shown = _together(sorted(rows, key=lambda row: (row.weight, row.name, row.group))[:MOST_ROWS])
    who_at, group_at, what_at, where_at = COLUMNS if any(row.group for row in shown) else WITHOUT_GROUPS
    bottom = TOP + len(shown) * (HEIGHT + GAP)
    who = Node(who_at[0], middle(0, len(shown) - 1), who_at[1], identity.name, about(identity))
    nodes, edges = [who], []
    for number, row in enumerate(shown):
        y = TOP + number * (HEIGHT + GAP)
        risky = row.style == "e-risk"
        what = Node(what_at[0], y, what_at[1], row.name, _said(row), risky)
        nodes.append(what)
        if row.group:
            group = Node(group_at[0], y, group_at[1], row.group, "Group", risky)
            nodes.append(group)
            edges += [edge(who, group, row.style), edge(group, what, row.style)]
        else:
            edges.append(edge(who, what, row.style))
    for first, last in _blocks(shown):
        title, text = shown[first].where
        where = Node(where_at[0], middle(first, last), where_at[1], title, text, shown[first].style == "e-risk")
        nodes.append(where)
        whats = [node for node in nodes if node.x == what_at[0]][first : last + 1]
        edges += [edge(what, where, row.style) for what, row in zip(whats, shown[first : last + 1], strict=True)]
    return Picture(nodes, edges, bottom + 24, _sentence(shown), len(rows) - len(shown))


def _rows(paths: Iterable[Light], reasons: Mapping[int, Reason]) -> list[_Row]:
    found: dict[tuple[str, str, str, bool], _Row] = {}
    for path in paths:
        reason = reasons.get(path.removable_id) or reasons.get(path.pk)
        key = (path.via_name, path.name, path.privilege, bool(reason and reason.is_timed))
        row = found.get(key)
        if row is None:
            row = found[key] = _Row(*key, can_escalate=path.can_escalate)
        if path.account_name is not None and path.account_id is not None:
            row.accounts.append((path.account_name, path.account_id))
    return list(found.values())


def _together(rows: list[_Row]) -> list[_Row]:
    """Rows into the same place beside each other, the place with the heaviest row first."""
    first: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        first.setdefault(row.where, number)
    return sorted(rows, key=lambda row: first[row.where])


def _blocks(rows: list[_Row]) -> list[tuple[int, int]]:
    """First and last row of each run into the same single account. Several accounts are a place of their own."""
    blocks: list[tuple[int, int]] = []
    for number, row in enumerate(rows):
        if blocks and len(row.accounts) == 1 and rows[blocks[-1][0]].accounts == row.accounts:
            blocks[-1] = (blocks[-1][0], number)
        else:
            blocks.append((number, number))
    return blocks


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def middle(first: int, last: int) -> int:
    return TOP + (first + last) * (HEIGHT + GAP) // 2


def edge(start: Node, end: Node, style: str) -> Edge:
    (x1, y1), (x2, y2) = start.right, end.left
    bend = (x2 - x1) // 2
    return Edge(f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", style)


def about(identity: Identity) -> str:
    if identity.is_human:
        return f"Person, {identity.department}" if identity.department else "Person"
    return identity.what or "Machine"


def _said(row: _Row) -> str:
    word = {"none": "Allows nothing", "unknown": "Unknown"}.get(row.privilege, row.privilege.title())
    return f"{word}, can escalate" if row.can_escalate else f"{word}, for a time" if row.is_timed else word


def _sentence(rows: list[_Row]) -> str:
    said = [f"{row.group + ' to ' if row.group else ''}{row.name} in {row.where[0]}" for row in rows]
    return f"{len(rows)} path{'' if len(rows) == 1 else 's'}: {'; '.join(said)}"

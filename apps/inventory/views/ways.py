"""The picture of every way into one account: who, through which group, with what, as which roles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.core import words
from apps.inventory.chains import AccessPath
from apps.inventory.models import Identity, Resource
from apps.inventory.models.access import PRIVILEGED
from apps.inventory.views.pictures import GAP, HEIGHT, MOST_ROWS, TOP, Edge, Node, Picture, about, edge, middle

WIDTH, BETWEEN = 158, 44


@dataclass(frozen=True)
class _Cell:
    """One thing on a path, in its column. `is_unsure`: it is reached under a condition."""

    column: int
    title: str
    text: str
    is_risky: bool = False
    is_unsure: bool = False


@dataclass(frozen=True)
class Ways(Picture):
    width: int = 0


def draw(identity: Identity, account: Resource, paths: Sequence[AccessPath]) -> Ways | None:
    """The most powerful paths, what they share drawn once. None when there are none."""
    rows = sorted((_cells(path) for path in paths[:MOST_ROWS]), key=_sharing)
    if not rows:
        return None
    used = sorted({cell.column for row in rows for cell in row})
    last = len(used) + 1
    xs = {column: 1 + (n + 1) * (WIDTH + BETWEEN) for n, column in enumerate(used)}
    who = Node(1, middle(0, len(rows) - 1), WIDTH, identity.name, about(identity))
    end_x = 1 + last * (WIDTH + BETWEEN)
    where = Node(end_x, who.y, WIDTH, account.name, words.account_id(account.external_id))
    nodes, edges = [who, where], dict[tuple[Node, Node], Edge]()
    drawn: dict[tuple[_Cell, ...], Node] = {}
    for prefix, first, final in _shared(rows):
        cell = prefix[-1]
        # What leads straight on to the account has its row to itself, so that nothing stands in the way.
        y = middle(first, first if prefix in rows else final)
        node = Node(xs[cell.column], y, WIDTH, cell.title, cell.text, cell.is_risky)
        drawn[prefix] = node
        nodes.append(node)
        before = drawn[prefix[:-1]] if len(prefix) > 1 else who
        edges[before, node] = edge(before, node, _style(cell))
    for row in rows:
        end = drawn[row]
        edges.setdefault((end, where), _last(end, where, "e-risk" if row[-1].is_risky else "e"))
    height = TOP + len(rows) * (HEIGHT + GAP) + 24
    shown = paths[:MOST_ROWS]
    sentence = f"{len(shown)} way{'' if len(shown) == 1 else 's'} into {account.name}: "
    sentence += "; ".join(path.words for path in shown)
    return Ways(nodes, list(edges.values()), height, sentence, len(paths) - len(shown), end_x + WIDTH + 1)


def _last(end: Node, where: Node, style: str) -> Edge:
    """Straight on until the gap before the account, and there to it."""
    (x, y), (goal, to) = end.right, where.left
    turn, bend = goal - BETWEEN, BETWEEN // 2
    return Edge(f"M{x} {y}H{turn}C{turn + bend} {y} {goal - bend} {to} {goal} {to}", style)


def _cells(path: AccessPath) -> tuple[_Cell, ...]:
    return tuple(_each(path))


def _each(path: AccessPath) -> Iterator[_Cell]:
    if path.held:
        if path.held.via_id:
            yield _Cell(0, path.held.via_name, "Group")
        place = path.held.account_name or "Whole organization"
        yield _Cell(1, path.held.name, place, path.held.privilege in PRIVILEGED)
    for n, hop in enumerate(path.hops, start=2):
        risky = hop.role.privilege in PRIVILEGED
        yield _Cell(n, hop.role.name, f"Role in {hop.role.account_name}", risky, bool(hop.conditions))


def _sharing(row: tuple[_Cell, ...]) -> list[tuple[int, str, str]]:
    """Rows with the same beginning beside each other."""
    return [(cell.column, cell.title.lower(), cell.text) for cell in row]


def _shared(rows: Sequence[tuple[_Cell, ...]]) -> Iterator[tuple[tuple[_Cell, ...], int, int]]:
    """Each beginning that rows share, shorter ones first, with the first and last row that has it."""
    spans: dict[tuple[_Cell, ...], tuple[int, int]] = {}
    for number, row in enumerate(rows):
        for length in range(1, len(row) + 1):
            first, _ = spans.get(row[:length], (number, number))
            spans[row[:length]] = (first, number)
    for prefix in sorted(spans, key=len):
        yield prefix, *spans[prefix]


def _style(cell: _Cell) -> str:
    return ("e-risk" if cell.is_risky else "e") + (" e-may" if cell.is_unsure else "")

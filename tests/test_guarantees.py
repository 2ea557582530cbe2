"""docs/guarantees.md names tests: each of them exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/guarantees.md").read_text())))


def test_every_guarantee_names_tests() -> None:
    rows = [line for line in (ROOT / "docs/guarantees.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(line.split("|")[1]) for line in rows] == list(range(1, 14))
    assert all("::test_" in line for line in rows)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda word: word)
def test_a_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not name or name in found

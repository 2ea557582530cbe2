"""The suite that asks a real AWS what moto cannot answer (`make test-live`, docs/live.md). Ordinary runs skip it.

`GATEHOUSE_LIVE=moto` runs the same code against a moto server: everything is built and taken down, and a test stops with a
skip where AWS would have to enforce something. `tests/deploy/test_live_plumbing.py` does that in ordinary runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.live.sandbox import Sandbox, measurements

collect_ignore_glob = [] if os.environ.get("GATEHOUSE_LIVE") else ["test_*.py"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """The account to work in. Whatever a test built is taken down by its id, also when the test failed."""
    made = Sandbox.from_environment()
    try:
        yield made
    finally:
        made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if measurements:
        terminalreporter.section("measured")
        for name, seconds in measurements:
            terminalreporter.write_line(f"{seconds:8.1f} s  {name}")

"""The fake AWS of `benchmarks.ending`: the tests' one, made to find things among thousands, and to count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from apps.connectors.base import Proof, Target, Window
from apps.connectors.fake_world import Fault, Pair, Request, World
from tests.grants.simulation import Limits, PacedProvisioner, Simulation


class IndexedWorld(World):
    """Finds what it was asked about a pair without looking through everything."""

    pairs: list[Pair]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._by_pair: dict[Pair, list[Request]] = defaultdict(list)

    def about(self, pair: Pair) -> list[Request]:
        return self._by_pair.get(pair, [])

    def submit(self, operation: str, pair: Pair, fault: Fault) -> tuple[str, Request]:
        reference, request = super().submit(operation, pair, fault)
        self._by_pair[pair].append(request)
        return reference, request


class CountingLimits(Limits):
    """Knows what is worked on, and counts the guards that were written."""

    def __init__(self, simulated: Simulation) -> None:
        super().__init__(simulated)
        self.guards = 0
        self._working: list[Request] = []

    def accepted(self, request: Request) -> None:
        super().accepted(request)
        self._working.append(request)

    def outstanding(self, world: World) -> int:
        del world
        now = self.time.seconds()
        self._working = [one for one in self._working if self.due[id(one)] > now]
        return len(self._working)


class CountingProvisioner(PacedProvisioner):
    """Counts the guards it writes."""

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        limits = self.limits
        assert isinstance(limits, CountingLimits)
        limits.guards += 1
        return super().enforce(target, windows)

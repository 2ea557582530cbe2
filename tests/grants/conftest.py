import pytest
import time_machine

from tests.grants.system import START, System


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, in order; nobody really waits."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that stands still until a test moves it; nobody really sleeps."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def system(db: None, clock: object) -> System:
    return System()

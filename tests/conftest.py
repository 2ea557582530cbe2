"""What holds for every test: no network, no unknown template variable, an empty cache, tasks recorded and not run."""

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest
from celery import Task, current_app
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.backends.postgresql.operations import DatabaseOperations
from django.template import Engine, engines
from django.template.base import FilterExpression, Node
from hypothesis import settings as hypothesis

settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


# The same examples every time, so that a red run is red again. HYPOTHESIS_PROFILE=search looks for new ones.

hypothesis.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.register_profile("search", deadline=None, print_blob=True)
hypothesis.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# No network


class NetworkUsed(AssertionError):
    """A test tried to reach beyond this machine."""


_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _connect_here(self: socket.socket, address: Any) -> None:
    if self.family != socket.AF_UNIX and not _is_here(address[0]):
        raise NetworkUsed(f"Tests do not leave this machine, but one connects to {address!r}.")
    _connect(self, address)


def _look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host is not None and not _is_here(host):
        raise NetworkUsed(f"Tests do not leave this machine, but one looks up {host!r}.")
    return _getaddrinfo(host, *args, **kwargs)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", _look_up_here)


# Unknown template variables


class Unknown(str):
    """Stands for the value of an unknown variable. Our own templates fail on it; other people's see "" as always."""

    __slots__ = ()

    def __bool__(self) -> bool:
        frame = sys._getframe(1)
        expression = frame.f_locals.get("self")
        while frame:
            node = frame.f_locals.get("self")
            if isinstance(node, Node):
                name = getattr(getattr(node, "origin", None), "name", "")
                if name.startswith(str(settings.BASE_DIR / "templates")) and isinstance(expression, FilterExpression):
                    raise AssertionError(f"Unknown template variable {expression.var} in {name}:{node.token.lineno}")
                return False
            frame = frame.f_back  # type: ignore[assignment]
        return False


@pytest.fixture(autouse=True, scope="session")
def _unknown_template_variables_fail() -> None:
    engine: Engine = engines["django"].engine  # type: ignore[attr-defined]
    engine.string_if_invalid = Unknown()


# Database and cache


def _flush_everything(self: DatabaseOperations, statements: list[str]) -> None:
    """Tests with real transactions empty all tables afterwards; append-only tables refuse that to everyone else."""
    with transaction.atomic(using=self.connection.alias), self.connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement)


DatabaseOperations.execute_sql_flush = _flush_everything  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    yield
    cache.clear()


# Tasks


@dataclass
class Enqueued:
    """The tasks that were enqueued, in order, as (name, args, kwargs). They wait until `run()`."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def run(self) -> None:
        """Run what waits, and what that enqueues in turn, in this process."""
        while self.calls:
            name, args, kwargs = self.calls.pop(0)
            current_app.tasks[name](*args, **kwargs)


@pytest.fixture(autouse=True)
def enqueued(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Enqueued:
    """Records instead of sending. A test marked `broker` sends to the real broker."""
    recorded = Enqueued()

    def record(task: Task, args: Any = None, kwargs: Any = None, **options: Any) -> None:
        recorded.calls.append((task.name, tuple(args or ()), dict(kwargs or {})))

    if not request.node.get_closest_marker("broker"):
        monkeypatch.setattr(Task, "apply_async", record)
    return recorded

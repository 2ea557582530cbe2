"""The database as each process sees it: inside `acting("web")` everything runs with that process's role, and with nothing
of the owner's. Time is real here, because the database looks at its own clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connection

from apps.core import database_roles
from apps.core.privileges import ROLES
from tests.grants.system import System

Acting = Callable[[str], AbstractContextManager[None]]


@contextmanager
def act(process: str) -> Iterator[None]:
    """As this process. Afterwards as whoever it was before."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        [before] = cursor.fetchone()
        cursor.execute(f"SET ROLE {ROLES[process]}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {before}")


@pytest.fixture(scope="session")
def _roles(django_db_setup: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():
        database_roles.create()
        database_roles.apply()


@pytest.fixture
def acting(_roles: None, db: None) -> Acting:
    return act


@pytest.fixture
def system(db: None, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return System()

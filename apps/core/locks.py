"""Locks on things outside the database: one AWS object is changed by one process at a time.

An advisory lock on a connection of its own, outside any pool, so that it is held exactly as long as the block runs, can
never leak into another request, and vanishes with the process. Never sleep under one; never hold a transaction open.

It lasts as long as its connection: a pooler that shares connections between transactions must not stand in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import OperationalError, connections


class Taken(Exception):
    """Another process is changing this object right now. Try again shortly; the clock will too."""


class Lost(Taken):
    """The lock went away while something was done under it, so another process may have done the same. What is repeated
    under a new lock is right again."""


def is_held(error: OperationalError) -> bool:
    """Whether this is the database's word that another session holds a row, and was not waited for any longer."""
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable)


@contextmanager
def exclusive(*key: str, wait_ms: int = 10_000) -> Iterator[None]:
    """Hold the one lock named `key` for the block. Raises `Taken` when it cannot be had within `wait_ms` milliseconds, and
    `Lost` after a block whose lock did not last, whatever error the block came to because of that.

    Waiting is done by PostgreSQL (`lock_timeout`), first come, first served.
    """
    number = int.from_bytes(hashlib.sha256("\0".join(key).encode()).digest()[:8], "big", signed=True)
    params = connections["default"].get_connection_params()
    params.pop("pool", None)  # Django's own, not libpq's
    with psycopg.connect(**params, autocommit=True) as lock:
        lock.execute("SELECT set_config('lock_timeout', %s, false)", (f"{wait_ms}ms",))
        try:
            lock.execute("SELECT pg_advisory_lock(%s)", (number,))
        except psycopg.errors.LockNotAvailable:
            raise Taken(f"{' '.join(key)} is being changed by another process") from None
        lost = Lost(f"The lock on {' '.join(key)} did not last")
        try:
            yield
        except Exception as error:
            if not _let_go(lock, number):
                raise lost from error
            raise
        if not _let_go(lock, number):
            raise lost


def _let_go(lock: psycopg.Connection, number: int) -> bool:
    """Whether it was still held."""
    try:
        [was_held] = lock.execute("SELECT pg_advisory_unlock(%s)", (number,)).fetchone() or [False]
    except psycopg.OperationalError:
        return False
    return bool(was_held)

"""An empty database and an empty broker for every demo: its AWS forgets when it stops, so the portal must too."""

from __future__ import annotations

import hashlib

import psycopg
from django.conf import settings
from django.db import connections
from psycopg import sql
from redis import Redis


class CannotStartOver(Exception):
    """The demo's database cannot be made anew. The message says what to do."""


def start_database_over() -> psycopg.Connection:
    """Drop and create the demo's database, throwing out whoever uses it. Returns the connection that keeps other demos
    from doing so: hold it for as long as the demo runs."""
    name = str(settings.DATABASES["default"]["NAME"])
    if "demo" not in name:
        raise CannotStartOver(
            f"The demo deletes its database first, and {name} does not look like one of a demo. Unset GATEHOUSE_DB_NAME."
        )
    try:
        keeper = _connect_beside(name)
    except psycopg.Error as error:
        raise CannotStartOver(f"PostgreSQL does not let us in: {error}") from error
    number = int.from_bytes(hashlib.sha256(f"demo\0{name}".encode()).digest()[:8], "big", signed=True)
    [is_ours] = keeper.execute("SELECT pg_try_advisory_lock(%s)", [number]).fetchone() or [False]
    if not is_ours:
        keeper.close()
        raise CannotStartOver("A demo is running already, and there is one at a time. Stop it with Ctrl-C first.")
    try:
        keeper.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        keeper.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        keeper.close()
        raise CannotStartOver(f"PostgreSQL does not let us make the database {name} anew: {error}") from error
    return keeper


def _connect_beside(name: str) -> psycopg.Connection:
    """A connection of our own to the cluster's `postgres` database: one cannot drop what one is in."""
    params = connections["default"].get_connection_params()
    for ours in ("pool", "cursor_factory", "context", "prepare_threshold"):  # Django's own, not libpq's
        params.pop(ours, None)
    return psycopg.connect(**{**params, "dbname": "postgres", "application_name": name}, autocommit=True)


def empty_broker() -> None:
    """Forget queued tasks and the cache of an earlier demo. These Redis databases are the demo's own (config/env.py)."""
    for url in (settings.REDIS_URL, settings.CACHES["default"]["LOCATION"]):
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as redis:
            redis.flushdb()

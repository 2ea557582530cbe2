"""The project's own PostgreSQL and Valkey, for machines where nobody gave it a DATABASE_URL and a REDIS_URL.

`ensure()` starts the servers or joins those that run. Everything they keep is under `.local/`, data included. Every
process that uses them holds a shared lock on `users.lock`; the last one to leave stops them. The kernel drops a lock
when its holder dies, so the count is right even after `kill -9`: servers left behind by a killed process are joined,
and stopped, by the next one. A forked child shares its parent's hold and leaves nothing.
"""

import atexit
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from config.servers import Postgres, Unavailable, Valkey, try_lock

__all__ = ["LOCAL", "Servers", "Unavailable", "ensure", "leave", "remove_unused", "stop_unused"]

LOCAL = Path(__file__).resolve().parent.parent / ".local"


@dataclass(frozen=True)
class Servers:
    """Where the running servers listen."""

    postgres_directory: Path  # libpq's `host`
    postgres_password: str  # of the user `postgres`
    valkey_socket: Path


_joined: dict[Path, tuple[int, Servers]] = {}  # root: our hold on users.lock, and what we use


def ensure(root: Path = LOCAL, *, durable: bool = True, database: str = "gatehouse") -> Servers:
    """Start the servers kept in `root`, or join them if they run, until this process ends.

    `durable=False` trades safety at a power cut for speed (tests). Raises Unavailable when they cannot be started.
    """
    if root not in _joined:
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o755)
        users = os.open(root / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the last user before us is stopping them
        try:
            _joined[root] = (users, _start(root, durable, database))
        except BaseException:
            os.close(users)
            raise
        atexit.register(_leave, root, os.getpid())
    return _joined[root][1]


def _start(root: Path, durable: bool, database: str) -> Servers:
    postgres, valkey = Postgres(root, durable=durable), Valkey(root)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        postgres.ensure()
        valkey.ensure()
        postgres.create_database(database)
    return Servers(postgres.sockets, postgres.password, valkey.socket)


def _leave(root: Path, member: int) -> None:
    """Give up our hold. A forked child inherits it without having joined: it leaves nothing."""
    if os.getpid() == member and root in _joined:
        os.close(_joined.pop(root)[0])
        stop_unused(root)


def leave(root: Path = LOCAL) -> None:
    """Stop using the servers now, rather than when this process ends."""
    _leave(root, os.getpid())


def stop_unused(root: Path = LOCAL) -> bool:
    """Stop the servers of `root` if no process uses them. Returns whether they are stopped."""
    with (root / "users.lock").open("a") as users:
        if not try_lock(users.fileno()):
            return False
        for server in (Postgres(root, durable=True), Valkey(root)):
            server.stop()
        return True


def remove_unused(root: Path) -> None:
    """Stop the servers of `root` and delete their files, if no process uses them."""
    if root.exists() and stop_unused(root):
        for server in (Postgres(root, durable=True), Valkey(root)):
            shutil.rmtree(server.place, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)

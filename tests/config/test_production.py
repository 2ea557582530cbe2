"""What is shipped: the image's commands, the static files, the roles of the database."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from django.core.management import call_command
from django.test import override_settings

from config import embedded
from config.servers import Postgres

PROJECT = Path(__file__).resolve().parents[2]
PRODUCTION = {"BASE_URL": "https://gatehouse.example.com", "STATIC_FROM_SOURCE": "0", "DATABASE_POOL": "4"}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}
    return subprocess.run(
        command, cwd=PROJECT, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def test_django_finds_nothing_to_harden() -> None:
    done = run(sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr


@pytest.mark.django_db
def test_every_model_has_its_migration() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=1)


def test_static_files_are_named_by_content_and_compressed(tmp_path: Path) -> None:
    """Tabler's files point to source maps that are not shipped; that must not stop an image from being built."""
    storages = {"staticfiles": {"BACKEND": "config.static.HashedFiles"}}
    with override_settings(STATIC_ROOT=tmp_path, STORAGES=storages):
        call_command("collectstatic", interactive=False, verbosity=0)
    names = [path.name for path in (tmp_path / "vendor" / "tabler" / "css").iterdir()]
    assert any(name.startswith("tabler.min.") and name.endswith(".css.br") for name in names)
    assert not any(name.endswith((".map", ".rtl.css")) for name in names)


@pytest.fixture
def web() -> Iterator[int]:
    """The web server as the image starts it."""
    with socket.create_server(("127.0.0.1", 0)) as line:
        port = line.getsockname()[1]
    environment = {**os.environ, **PRODUCTION, "STATIC_FROM_SOURCE": "1", "PORT": str(port), "WEB_WORKERS": "1"}
    command = [sys.executable, "-m", "gunicorn", "--config", "python:config.gunicorn"]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL)
    yield port
    process.terminate()
    assert process.wait(30) == 0


def test_the_web_server_starts_and_its_health_check_finds_it(web: int) -> None:
    environment = {"PORT": str(web), "BASE_URL": PRODUCTION["BASE_URL"]}
    deadline = time.monotonic() + 60
    while (done := run(sys.executable, "config/healthcheck.py", **environment)).returncode:
        assert time.monotonic() < deadline, done.stdout
        time.sleep(0.1)
    assert '"database": "well"' in done.stdout
    with pytest.raises(OSError, match="400"):  # no other host name is served
        urlopen(f"http://127.0.0.1:{web}/healthz", timeout=10)


def test_nobody_at_home_is_not_healthy() -> None:
    assert run(sys.executable, "config/healthcheck.py", PORT="1").returncode == 1


PROCESSES = ("web", "worker", "broker", "ender")


def test_every_process_has_a_role_of_its_own_that_may_do_nothing_yet(tmp_path: Path) -> None:
    root = Path(os.environ["GATEHOUSE_TEST_RUN"]) / f"roles-{os.getpid()}"
    servers = embedded.ensure(root, durable=False, database="portal")
    postgres = Postgres(root, durable=False)
    for process in PROCESSES:
        (tmp_path / f"{process}_password").write_text(f"it's the {process}'s\n")
    environment = {
        "PATH": f"{postgres.program('psql').parent}:{os.environ['PATH']}",
        "PGHOST": str(servers.postgres_directory),
        "PGPASSWORD": servers.postgres_password,
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": "portal",
        "SECRETS": str(tmp_path),
    }
    try:
        for _ in range(2):  # by hand it may run again
            done = run("bash", "deploy/postgres/roles.sh", **environment)
            assert done.returncode == 0, done.stderr
        with postgres.connect("portal") as owner:
            owner.execute("CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY, what text)")
        for process in PROCESSES:
            with sign_in(servers, f"gatehouse_{process}", f"it's the {process}'s") as portal:
                refuses(portal, "SELECT * FROM public.event", "CREATE TABLE public.mine ()", "CREATE ROLE friend")
                refuses(portal, "SET ROLE gatehouse_worker" if process != "worker" else "SET ROLE postgres")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            sign_in(servers, "gatehouse_web", "it's the worker's")
        with pytest.raises(psycopg.OperationalError):
            sign_in(servers, "gatehouse_clock", "")
    finally:
        embedded.leave(root)
        embedded.remove_unused(root)


def sign_in(servers: embedded.Servers, role: str, password: str) -> psycopg.Connection:
    return psycopg.connect(
        host=str(servers.postgres_directory), user=role, password=password, dbname="portal", autocommit=True
    )


def refuses(connection: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)  # type: ignore[arg-type]

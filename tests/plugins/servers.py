"""Gives every test process a PostgreSQL cluster and a Valkey of its own, before Django reads its settings.

A cluster each, because a transaction left open by one xdist worker would hold back the audit feed of the others.
Where DATABASE_URL or REDIS_URL are set, those servers are used. Loaded with `-p tests.plugins.servers` (pyproject).
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from config import embedded, env

RUNS = embedded.LOCAL / "tests"
RUN = "GATEHOUSE_TEST_RUN"  # tells xdist's workers, and programs that a test starts, where this run keeps its servers

# What a test must not take from the machine it runs on. Nothing here reaches the real AWS.
ENVIRONMENT = {
    "SECRET_KEY": "only-for-tests-only-for-tests-only-for-tests-only-for-tests",
    "DATABASE_POOL": "0",
    "EMAIL_URL": "memorymail://",
    "STATIC_FROM_SOURCE": "1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # the discard port: without the fixture `aws` there is no AWS
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
UNSET = ["SECRET_KEY_FILE", "GATEHOUSE_DB_NAME", "DEMO", "DEBUG", "OFFLINE", "BASE_URL", "ALLOWED_HOSTS", "AWS_PROFILE"]


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """pytest-django loads the settings inside this hook; we come round it, so the servers are there first."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)
    if worker is None:
        _remove_old_runs()
        os.environ[RUN] = str(RUNS / str(os.getpid()))
    if worker is None and _has_workers(early_config):
        os.environ["OFFLINE"] = "1"  # this process only hands out tests
    else:
        _start(worker)
    return (yield)


def pytest_unconfigure() -> None:
    run = Path(os.environ[RUN])
    if "PYTEST_XDIST_WORKER" in os.environ:
        embedded.leave(run / os.environ["PYTEST_XDIST_WORKER"])
        return
    embedded.leave(run / "main")
    for _ in range(50):  # after Ctrl-C the workers may still be on their way out
        _remove(run)
        if not run.exists():
            break
        time.sleep(0.1)


def _has_workers(config: pytest.Config) -> bool:
    options = config.known_args_namespace
    return bool(getattr(options, "numprocesses", None) or getattr(options, "tx", None))


def _start(worker: str | None) -> None:
    if "REDIS_URL" in os.environ:  # somebody's server, shared by all workers: each takes databases of its own
        number = int((worker or "gw0").removeprefix("gw"))
        os.environ["REDIS_URL"] = env.redis_url(3 * number)
    if {"DATABASE_URL", "REDIS_URL"} <= os.environ.keys():
        return
    servers = embedded.ensure(Path(os.environ[RUN]) / (worker or "main"), durable=False)
    host, password = quote(str(servers.postgres_directory), safe=""), quote(servers.postgres_password, safe="")
    os.environ.setdefault("DATABASE_URL", f"postgres://postgres:{password}@{host}/gatehouse")
    os.environ.setdefault("REDIS_URL", f"unix://{servers.valkey_socket}")


def _remove_old_runs() -> None:
    """What a killed run left behind."""
    for run in RUNS.glob("*"):
        if not _is_process(int(run.name)):
            _remove(run)


def _remove(run: Path) -> None:
    for root in run.glob("*"):
        embedded.remove_unused(root)
    if run.exists() and not any(run.iterdir()):
        run.rmdir()


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

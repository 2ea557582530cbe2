"""`manage.py demo` as `make demo` runs it."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from apps.demo.company.model import Company
from apps.demo.management.commands.demo import Command, _free_port
from apps.demo.start_over import CannotStartOver, start_database_over
from config import env

FEW = "13"


def demo(port: object, *arguments: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=settings.BASE_DIR,
        env={**environ, "DEMO": "1", "DEBUG": "1", "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def last_line(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[0].strip().splitlines()[-1]


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, by its id, with its command."""
    parents, commands = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: commands[child] for child in found - {pid}}


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as line:
        return int(line.getsockname()[1])


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as line:
        taken = line.getsockname()[1]
        process = demo(taken)
        assert last_line(process) == f"CommandError: Port {taken} is taken. Choose another: make demo PORT={taken + 1}"
    assert process.returncode == 1


@pytest.mark.parametrize("said", ["0", "70000", "-1", "http"])
def test_a_port_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("PORT", said)
    with pytest.raises(CommandError, match=f"PORT is '{said}'. Use a number from 1 to 65535."):
        _free_port()


def test_a_database_that_is_not_the_demos_is_never_started_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "gatehouse")
    with pytest.raises(CannotStartOver, match="gatehouse does not look like one of a demo"):
        start_database_over()


@pytest.fixture
def _signals() -> Iterator[None]:
    """The command takes over how the process answers to signals."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_a_program_that_dies_ends_the_demo_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int
) -> None:
    monkeypatch.setenv("PORT", str(port))
    command = Command(stdout=io.StringIO())

    def start(_company: Company) -> None:
        command.programs.start("web", ["-c", "import time; time.sleep(600)"], os.environ)
        command.programs.start("clock", ["-c", "raise SystemExit('no broker')"], os.environ)

    monkeypatch.setattr(command, "start", start)
    with pytest.raises(CommandError, match=r"(?s)clock ended by itself \(exit code 1\).*no broker"):
        call_command(command, logs=tmp_path)
    assert command.programs.running == [], "the others were stopped"


def test_the_demo_shares_no_redis_with_the_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It empties its own, and its workers would take the other's tasks."""
    monkeypatch.setenv("REDIS_URL", "redis://cache/4")
    without = {env.redis_url(index) for index in range(3)}
    monkeypatch.setenv("DEMO", "1")
    assert without & {env.redis_url(index) for index in range(3)} == set()


def test_links_lead_to_the_port_that_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8123")
    assert env.base_url() == "http://localhost:8123"


@pytest.fixture
def running(port: int, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A demo of few people that has come up, and what it said until then."""
    process = demo(port, "--people", FEW, "--logs", str(tmp_path))
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C stops everything" in line:
            break
    yield process, said
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_demo_comes_up_lets_people_in_and_leaves_nothing_behind(
    running: tuple[subprocess.Popen[str], list[str]], port: int
) -> None:
    process, said = running
    assert any(f"Open http://localhost:{port} " in line for line in said), "".join(said)
    base = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(f"{base}/healthz", timeout=30) as answer:
        assert answer.status == 200
    assert "Alice Moreau" in home_of_alice(base)
    second = demo(free_port(), "--people", FEW)
    assert last_line(second).endswith(
        "A demo is running already, and there is one at a time. Stop it with Ctrl-C first."
    )
    started = descendants(process.pid)
    words = set(" ".join(started.values()).replace(":", " ").split())  # gunicorn may name itself "gunicorn: master"
    assert {"apps.demo.aws_server", "gunicorn", "worker", "beat", "broker"} <= words
    assert not any(os.environ["SECRET_KEY"] in command for command in started.values())
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest.strip().endswith("Stopped. Nothing of it runs any more.")
    assert [command for pid, command in started.items() if Path(f"/proc/{pid}").exists()] == []
    socket.create_server(("127.0.0.1", port)).close()


def home_of_alice(base: str) -> str:
    """Sign in on the page as a browser would, and look at the first page."""
    cookies = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    page = browser.open(f"{base}/accounts/login/", timeout=60).read().decode()
    assert "Everything here is made up" in page
    [token, *_] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    form = urlencode({"csrfmiddlewaretoken": token, "email": "alice.moreau@harbourline.example"}).encode()
    request = urllib.request.Request(f"{base}/demo/sign-in/", form)
    return str(browser.open(request, timeout=60).read().decode())

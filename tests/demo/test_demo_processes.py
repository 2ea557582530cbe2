"""Whatever a demo starts, it stops; whatever ends by itself is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from apps.demo.processes import Died, Program, Programs

WAITS = "import time; print('up', flush=True); time.sleep(600)"
# A program with a child that does not leave when it is told to.
HAS_A_STUBBORN_CHILD = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(tmp_path / "logs", cwd=settings.BASE_DIR)
    yield programs
    programs.stop()


def start(programs: Programs, code: str, name: str = "one") -> Program:
    return programs.start(name, ["-c", code], os.environ)


def is_running(pid: int) -> bool:
    """Not gone, and not a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_stopping_ends_programs_and_what_they_started(programs: Programs) -> None:
    program = start(programs, HAS_A_STUBBORN_CHILD)
    programs.wait_for(program, lambda: program.said("deaf"), seconds=30)
    child = int(program.log.read_text().split()[0])
    programs.stop()
    assert program.process.returncode is not None
    assert until(lambda: not is_running(child))
    programs.stop()  # nothing left to do


def test_a_program_that_ends_early_is_told_with_its_last_words(programs: Programs) -> None:
    start(programs, WAITS, "web")
    broken = start(programs, "import sys; print('no such table'); sys.exit(3)", "worker")
    broken.process.wait(30)
    with pytest.raises(Died, match=r"(?s)worker ended by itself \(exit code 3\).*worker\.log.*no such table"):
        programs.check()


def test_a_killed_program_is_told_as_one(programs: Programs) -> None:
    program = start(programs, WAITS)
    program.process.kill()
    program.process.wait(30)
    with pytest.raises(Died, match="killed by SIGKILL"):
        programs.check()


def test_waiting_ends_when_the_program_does(programs: Programs) -> None:
    program = start(programs, "raise SystemExit('taken')")
    with pytest.raises(Died, match="taken"):
        programs.wait_for(program, lambda: False, seconds=30)


def test_waiting_does_not_last_for_ever(programs: Programs) -> None:
    program = start(programs, WAITS)
    programs.wait_for(program, lambda: program.said("up"), seconds=30)
    with pytest.raises(Died, match=r"(?s)did not come up within 0 seconds.*up"):
        programs.wait_for(program, lambda: False, seconds=0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a program that its parent died")
def test_programs_go_when_the_demo_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from apps.demo.processes import Programs
program = Programs(Path({str(tmp_path)!r}), cwd=Path.cwd()).start("one", ["-c", {WAITS!r}], os.environ)
while not program.said("up"):
    time.sleep(0.01)
print(program.process.pid, flush=True)
time.sleep(600)
"""
    demo = subprocess.Popen([sys.executable, "-c", code], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True)
    assert demo.stdout
    pid = int(demo.stdout.readline())
    assert is_running(pid)
    demo.kill()
    demo.communicate()
    assert until(lambda: not is_running(pid))

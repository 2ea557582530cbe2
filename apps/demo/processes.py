"""The programs that a demo consists of: started one by one, watched, and stopped together, with everything they started.

Each is the leader of a process group of its own, so that Ctrl-C in the terminal reaches only the command, and so that
what a program started itself can be stopped with it. On Linux they also go when the command is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOP_WITHIN = 10.0  # seconds for all of them together, then they are killed
LAST_LINES = 20

# Asks Linux for SIGTERM when our parent dies (PR_SET_PDEATHSIG is 1, prctl(2)), then becomes the program itself. Not done
# by `preexec_fn`, which may hang in a process with threads.
_LEAVE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Died(Exception):
    """A program of the demo ended, or never came up. The message says which, and how its log ends."""


@dataclass(frozen=True)
class Program:
    """One running program and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (nothing)"

    def said(self, words: str) -> bool:
        """Whether its log contains `words`."""
        return words in self.log.read_text(errors="replace")


class Programs:
    """All programs of one demo. Their logs are `<logs>/<name>.log`, written anew each time."""

    def __init__(self, logs: Path, *, cwd: Path) -> None:
        self.logs, self.cwd = logs, cwd
        self.running: list[Program] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Program:
        """Start `python arguments…`."""
        log = self.logs / f"{name}.log"
        launcher = ["-c", _LEAVE_WITH_PARENT] if sys.platform == "linux" else []
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *launcher, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env=dict(environ),
                start_new_session=True,
            )
        program = Program(name, process, log)
        self.running.append(program)
        return program

    def wait_for(self, program: Program, is_ready: Callable[[], bool], *, seconds: float) -> None:
        """Until `is_ready`. Raises Died when one ends meanwhile, or when it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise Died(f"{program.name} did not come up within {seconds:.0f} seconds:\n{program.last_words()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raises Died if any of them has ended."""
        for program in self.running:
            code = program.process.poll()
            if code is not None:
                raise Died(
                    f"{program.name} ended by itself ({_how(code)}). The end of {program.log}:\n{program.last_words()}"
                )

    def stop(self) -> None:
        """Stop all of them and what they started. Ends when they have."""
        for program in self.running:
            program.process.terminate()
        deadline = time.monotonic() + STOP_WITHIN
        for program in self.running:
            with suppress(subprocess.TimeoutExpired):
                program.process.wait(max(0.0, deadline - time.monotonic()))
            with suppress(ProcessLookupError, PermissionError):  # nobody is left; on macOS, nobody but zombies
                os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()
        self.running.clear()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

"""Child processes of `demo` and `up`: started together, watched together, ended together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tollhouse.errors import UserError

STOP_S: Final = 10.0
"""From SIGTERM to SIGKILL: a worker ends its batch, commits and leaves its group meanwhile."""


class Child:
    """`tollhouse` once more, as a process of its own, its log in a file. It dies with us."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        self._arguments = [sys.executable, "-m", "tollhouse", *arguments]
        self._environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. It gets a process group of its own, so that Ctrl-C reaches us first and the ending is ours."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._arguments,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # PLW1509: the child does one system call there; nothing of ours that a lock could stop.
                preexec_fn=die_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def check(self) -> None:
        """UserError with its last words if it has ended."""
        if self.process is not None and (code := self.process.poll()) is not None:
            raise UserError(f"{self.name} ended with code {code}: {last_line(self.log)} (see {self.log})")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, for drills."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.alive and self.process is not None:
            self.process.send_signal(signal.SIGTERM)


def stop_all(children: Sequence[Child], within_s: float = STOP_S) -> None:
    """End all of them: politely, and by force after within_s."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + within_s
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def last_line(path: Path) -> str:
    """The last line of a log that says something."""
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "no log"
    return lines[-1][:300] if lines else "no output"


def die_with_parent() -> Callable[[], None]:
    """For preexec_fn on Linux: the kernel sends the child SIGKILL when we are gone."""
    import ctypes  # noqa: PLC0415 - Linux only

    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    return ask

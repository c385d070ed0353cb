"""What every part shares: where things are kept, running commands, and processes that outlive this script.

Everything a part makes is under `.services/` in the checkout (git-ignored). A process is recorded with its start
instant, so that a process id which the system has given to somebody else is never signalled.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".services"
ENV_FILE = HOME / "env"
STATE_FILE = HOME / "state.json"
LOOPBACK = "127.0.0.1"
POLL_INTERVAL_S = 0.1
# Package managers wait for slow mirrors and locks of other installs; beyond this something is broken.
INSTALL_TIMEOUT_S = 300.0


class UnavailableError(RuntimeError):
    """This platform cannot offer a part; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Up:
    """A part that can be used: its `version`, and the settings for the tests."""

    version: str
    env: dict[str, str]


class Part(Protocol):
    """A module of this package: its name, and how to bring it up, end it and look at it."""

    NAME: str
    required_in_ci: bool

    def up(self) -> Up: ...
    def down(self) -> bool: ...


def say(part: str, words: str) -> None:
    """A progress line, at once, on standard error."""
    print(f"  {part:<12} {words}", file=sys.stderr, flush=True)


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the lock of this checkout's services, so that two runs do not start everything twice."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("services", "another run is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: list[str], what: str, *, timeout_s: float, log: Path, **more: object) -> None:
    """Run `command` to its end with its output in `log`; `UnavailableError` names the last line when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            done = subprocess.run(  # type: ignore[call-overload]
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout_s, check=False, **more
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{what} took over {timeout_s:.0f} s; see {log.relative_to(ROOT)}") from error
        except OSError as error:
            raise UnavailableError(f"{what}: {command[0]} does not start: {error.strerror}") from error
    if done.returncode != 0:
        raise UnavailableError(f"{what} failed: {last_line(log)}; see {log.relative_to(ROOT)}")


def ask(command: list[str], timeout_s: float = 60.0, *, env: dict[str, str] | None = None) -> str:
    """Standard output of a short command, or "" when it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.strip() or done.stderr.strip()) if done.returncode == 0 else ""


def succeeds(command: list[str], timeout_s: float = 10.0) -> bool:
    """True when a short command ends with status 0."""
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout_s, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


_lists_fresh: list[bool] = []  # the package lists are brought up to date once a run


def debian_install(part: str, packages: list[str]) -> None:
    """Install Debian packages; `UnavailableError` says what to install by hand where we must not or cannot."""
    by_hand = f"install {' '.join(packages)} with this system's package manager and run again"
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"not installed, and this is no Debian system: {by_hand}")
    if os.geteuid() != 0:
        raise UnavailableError(f"not installed, and only root may: {by_hand}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    log = HOME / "logs" / "apt.log"
    if not _lists_fresh:
        say(part, "apt-get update")
        run(["apt-get", "update", "-q"], "apt-get update", timeout_s=INSTALL_TIMEOUT_S, log=log, env=env)
        _lists_fresh.append(True)
    say(part, f"apt-get install {' '.join(packages)}")
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    run(command, "apt-get install", timeout_s=INSTALL_TIMEOUT_S, log=log, env=env)


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    """True when something accepts connections on the loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def remembered(name: str) -> dict[str, object]:
    """What was stored about a part by `remember`; empty when nothing was."""
    state = json.loads(STATE_FILE.read_text()) if STATE_FILE.exists() else {}
    return dict(state.get(name, {}))


def remember(name: str, **facts: object) -> None:
    """Store facts about a part, over those already stored; a fact of None is forgotten."""
    state = json.loads(STATE_FILE.read_text()) if STATE_FILE.exists() else {}
    merged = state.get(name, {}) | facts
    state[name] = {key: value for key, value in merged.items() if value is not None}
    fresh = STATE_FILE.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")
    fresh.replace(STATE_FILE)


def port_of(name: str, key: str = "port") -> int:
    """The part's own port: the one it had before, unless somebody else took it meanwhile."""
    known = remembered(name).get(key)
    port = known if isinstance(known, int) and not listens(known) else free_port()
    remember(name, **{key: port})
    return port


def born(pid: int) -> str | None:
    """When the process started, as an opaque word; None when it does not live (a zombie does not)."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    return ask(["ps", "-o", "lstart=", "-p", str(pid)]) or None


def running_pid(name: str) -> int | None:
    """The process id of the part that we started, while it lives."""
    facts = remembered(name)
    pid = facts.get("pid")
    return pid if isinstance(pid, int) and born(pid) is not None and born(pid) == facts.get("born") else None


def answers(name: str) -> bool:
    """True when our part lives and accepts connections; one that lives and does not is ended, to be started anew."""
    port = remembered(name).get("port")
    if running_pid(name) is None:
        return False
    if isinstance(port, int) and listens(port):
        return True
    say(name, "runs but does not answer: end it")
    stop(name)
    return False


def start(
    name: str,
    command: list[str],
    log: Path,
    *,
    user: str | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> None:
    """Start a process that stays after us, in a session of its own, and remember it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # The account's own groups only: root's would stay with the process otherwise.
    account: dict[str, object] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with log.open("ab") as output:
        process = subprocess.Popen(  # type: ignore[call-overload]
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=cwd or HOME,
            env=env,
            **account,
        )
    remember(name, pid=process.pid, born=born(process.pid))
    process.returncode = 0  # it outlives us on purpose: no warning about a child left running


def wait_until(name: str, ready: Callable[[], bool], *, timeout_s: float, log: Path) -> None:
    """Wait until the part answers; `UnavailableError` when it ends or the time is over."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if ready():
            return
        if running_pid(name) is None:
            raise UnavailableError(f"{name} ended at its start: {last_line(log)}; see {log.relative_to(ROOT)}")
        time.sleep(POLL_INTERVAL_S)
    raise UnavailableError(f"{name} did not answer within {timeout_s:.0f} s; see {log.relative_to(ROOT)}")


def stop(name: str, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30.0) -> bool:
    """End the process that we started (`how`, then SIGKILL); False when none of ours lives."""
    pid = running_pid(name)
    if pid is not None:
        os.kill(pid, how)
        deadline_s = time.monotonic() + timeout_s
        while running_pid(name) is not None and time.monotonic() < deadline_s:
            time.sleep(POLL_INTERVAL_S)
        if running_pid(name) is not None:
            os.kill(pid, signal.SIGKILL)
    remember(name, pid=None, born=None)
    return pid is not None

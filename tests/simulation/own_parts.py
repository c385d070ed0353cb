"""A Kafka and a PostgreSQL of a test's own, to stop, freeze, starve and start again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from service_parts import base, kafka, postgresql
from tests.services import KAFKA, POSTGRESQL, absent, require
from tollhouse.bench.parts import children_of


def _tell(pid: int, number: int) -> None:
    # A child may end between the list and the signal: a backend, an autovacuum worker.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze_family(parent: int) -> None:
    """A process and its children stand still; the parent first, so that it starts no other meanwhile."""
    _tell(parent, signal.SIGSTOP)
    for pid in children_of(parent):
        _tell(pid, signal.SIGSTOP)


def thaw_family(parent: int) -> None:
    """A process that stands still and its children go on, or nothing is done."""
    for pid in (*children_of(parent), parent):
        _tell(pid, signal.SIGCONT)


class OwnPostgres:
    """A cluster in a directory of the server's account. disk_mib: on a file system of this size (root only)."""

    def __init__(self, settings: dict[str, str] | None = None, disk_mib: int | None = None) -> None:
        require(POSTGRESQL)
        programs = postgresql._programs()
        assert programs is not None  # the shared one runs from it
        self._programs, self._settings = programs, settings or {}
        self._account = postgresql.ACCOUNT if os.geteuid() == 0 else None
        self.home = Path(tempfile.mkdtemp(prefix="tollhouse-pg-"))
        self._mounted = False
        if disk_mib is not None:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs", str(self.home)],
                capture_output=True,
                check=False,
            )
            if done.returncode:
                self.remove()
                absent("a small file system cannot be mounted here: run as root where mounts are allowed")
            self._mounted = True
        self.port = base.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if self._account:
            owner = pwd.getpwnam(self._account)
            os.chown(self.home, owner.pw_uid, owner.pw_gid)
        self.home.chmod(0o700)
        self._run(
            "initdb", "-D", str(self.data), "-U", "tollhouse", "-A", "trust", "--encoding=UTF8", "--locale=C", "-N"
        )
        self.start()

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://tollhouse@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, cwd=self.home, check=True, capture_output=True, timeout=60, **self._as())

    def _as(self) -> dict[str, object]:
        return {"user": self._account, "group": self._account, "extra_groups": []} if self._account else {}

    def start(self) -> None:
        """Start, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "min_wal_size": "32MB",
            "max_wal_size": "64MB",
            **self._settings,
        }
        command = [str(self._programs / "postgres"), "-D", str(self.data)]
        command += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with Path(f"{self.home}.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log, **self._as())
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, Path(f"{self.home}.log").read_text()
                time.sleep(0.1)
            else:
                return

    def stop(self, number: int = signal.SIGINT) -> None:
        """Fast shutdown; SIGQUIT: as if it had crashed. One that stands still goes on first: it could not end."""
        if self._process is not None:
            self._process.send_signal(number)
            thaw_family(self._process.pid)
            self._process.wait(60)
            self._process = None

    def freeze(self, *, thaw: bool = False) -> None:
        """Every backend stands still, or goes on."""
        assert self._process is not None
        (thaw_family if thaw else freeze_family)(self._process.pid)

    def remove(self) -> None:
        """End it and take its files away."""
        if getattr(self, "_process", None) is not None:
            self.stop(signal.SIGQUIT)
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.home)], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)
        Path(f"{self.home}.log").unlink(missing_ok=True)


class OwnKafka:
    """One KRaft node from the jars that `make services` has fetched. settings: of the broker, beside those it needs."""

    def __init__(self, home: Path, settings: dict[str, str] | None = None) -> None:
        require(KAFKA)
        self.home, self.port, controller = home, base.free_port(), base.free_port()
        self._java = kafka._java()
        self._config = home / "server.properties"
        needed = kafka._properties(self.port, controller).replace(str(kafka._DATA), str(home / "data"))
        self._config.write_text(needed + "".join(f"{key}={value}\n" for key, value in (settings or {}).items()))
        format_ = kafka._command(
            self._java, "kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(self._config)
        )
        subprocess.run(format_, check=True, capture_output=True, timeout=60)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        with (self.home / "kafka.log").open("ab") as log:
            command = kafka._command(self._java, "kafka.Kafka", str(self._config))
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home)
        deadline = time.monotonic() + 60
        while not base.listens(self.port):
            assert time.monotonic() < deadline, (self.home / "kafka.log").read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def own_postgres(**more: object) -> Iterator[OwnPostgres]:
    """A PostgreSQL for the length of a test."""
    server = OwnPostgres(**more)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def own_kafka(home: Path, settings: dict[str, str] | None = None) -> Iterator[OwnKafka]:
    """A Kafka for the length of a test."""
    home.mkdir(parents=True, exist_ok=True)
    node = OwnKafka(home, settings)
    try:
        yield node
    finally:
        node.kill()

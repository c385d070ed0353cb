"""`tollhouse up`: one command, one directory; what was accepted is counted once, whatever is killed."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.installation import CATALOG, event
from tests.unit.cli.command import refused, tollhouse

ROOT = Path(__file__).resolve().parents[3]
UP = re.compile(r"Up: events to (\S+) or (http://\S+)/v1/events")


@dataclass
class Running:
    """A running installation."""

    process: subprocess.Popen[str]
    dir: Path
    broker: str
    base: str

    def post(self, token: str, body: dict[str, Any]) -> int:
        """POST /v1/events; the status."""
        head = {"authorization": f"Bearer {token}", "content-type": "application/cloudevents+json"}
        request = urllib.request.Request(f"{self.base}/v1/events", json.dumps(body).encode(), head)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def ready(self) -> bool:
        """Whether the API answers that it can work."""
        try:
            with urllib.request.urlopen(f"{self.base}/readyz", timeout=5) as answer:
                return int(answer.status) == 200
        except (urllib.error.URLError, OSError):
            return False


def _until(what: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@contextmanager
def _up(directory: Path) -> Iterator[Running]:
    program = [sys.executable, "-m", "tollhouse", "up", "--dir", str(directory), "--port", "0", "--broker-port", "0"]
    with subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stderr is not None
            found = UP.match(process.stderr.readline())
            assert found is not None
            yield Running(process, directory, *found.groups())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(15)


def _used(directory: Path) -> dict[str, int]:
    result = tollhouse("usage", "--by", "tenant", "--json", "--dir", directory)
    return {row["tenant"]: row["tokens"]["input"] for row in result.json()["usage"]} if result.code == 0 else {}


def _broker_of(up: int) -> int:
    """The broker's process among the children of `up`."""
    children = Path(f"/proc/{up}/task/{up}/children").read_text().split()
    (found,) = [int(pid) for pid in children if b"tansu" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def _now(back_s: int = 60) -> str:
    return (datetime.now(UTC) - timedelta(seconds=back_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.timeout(240)
def test_events_by_file_and_http_are_counted_once_across_a_kill(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with _up(directory) as up:
        assert tollhouse("apply", "-", "--dir", directory, stdin=CATALOG.encode()).code == 0
        token = tollhouse("token", "issue", "--proxy", "eu-1", "--dir", directory).out.strip()
        _until(up.ready)
        path = tmp_path / "events.ndjson"
        lines = [event(f"f{n}", _now(), input=1) for n in range(50)]
        path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *lines]))
        sent = tollhouse("publish", path, "--dir", directory, "--json")
        assert (sent.code, sent.json()["published"]) == (0, 100)
        assert up.post(token, event("h1", _now(), "bolt", input=7)) == 202
        _until(lambda: _used(directory) == {"acme": 50, "bolt": 7})
        doctor = tollhouse("doctor", "--dir", directory, "--json")
        assert doctor.code == 0, doctor

        # Accepted over HTTP, and everything is killed before anything else can happen.
        assert up.post(token, event("h2", _now(), "bolt", input=100)) == 202
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait(10)
    with _up(directory) as up:
        _until(lambda: _used(directory) == {"acme": 50, "bolt": 107})
        _until(up.ready)
        assert up.post(token, event("h2", _now(), "bolt", input=100)) == 202  # sent again, as a proxy would
        time.sleep(2)
        assert _used(directory) == {"acme": 50, "bolt": 107}
        rejected = tollhouse("rejected", "list", "--dir", directory, "--json").json()["rejected"]
        assert [row["reason"] for row in rejected] in ([], ["conflict"])  # its time differs: another content

        # The broker alone dies, and with it the topics: they are made anew, and are known for new ones.
        os.kill(_broker_of(up.process.pid), signal.SIGKILL)
        _until(lambda: up.post(token, event("h3", _now(), "bolt", input=1000)) == 202)
        _until(lambda: _used(directory) == {"acme": 50, "bolt": 1107})
        doctor = tollhouse("doctor", "--dir", directory, "--json")
        assert doctor.code == 0, doctor
        assert tollhouse("audit", "--dir", directory).code == 0
        (told,) = tollhouse("explain", "--event", "h3", "--dir", directory, "--json").json()["events"]
        assert (told["generation"], told["bytes"]) == (2, "found")
        (told,) = tollhouse("explain", "--event", "f7", "--dir", directory, "--json").json()["events"]
        assert (told["generation"], told["bytes"]) == (0, "gone: the topic was made anew since")


def test_a_second_up_in_the_same_directory_is_refused_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with _up(directory) as first:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        runtime = (directory / "runtime.toml").read_text()
        line = refused(tollhouse("up", "--dir", directory, "--port", 0, "--broker-port", 0))
        assert line.startswith(f"tollhouse: {directory} is in use by another `tollhouse up`")
        assert str(first.process.pid) in line
        assert (directory / "runtime.toml").read_text() == runtime
        assert first.process.poll() is None

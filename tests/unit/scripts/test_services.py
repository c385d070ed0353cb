"""The services script signals only what it started, remembers it, and says in one line what a platform cannot do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import services as script
from service_parts import base, kafka, stripe_mock
from service_parts.base import UnavailableError, Up

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of its own: nothing here touches the services that the other tests run on."""
    place = tmp_path / ".services"
    place.mkdir()
    monkeypatch.setattr(base, "ROOT", tmp_path)
    monkeypatch.setattr(base, "HOME", place)
    monkeypatch.setattr(base, "STATE_FILE", place / "state.json")
    monkeypatch.setattr(script, "HOME", place)
    monkeypatch.setattr(script, "ENV_FILE", place / "env")
    yield place
    if place.exists():
        base.stop("probe")


def test_what_was_started_is_known_and_ended(home: Path) -> None:
    base.start("probe", SLEEP, home / "probe.log")
    pid = base.running_pid("probe")
    assert pid is not None
    assert base.stop("probe") is True
    assert base.running_pid("probe") is None
    assert base.born(pid) is None
    assert base.stop("probe") is False


def test_a_process_id_that_now_belongs_to_another_is_left_alone() -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        base.remember("probe", pid=stranger.pid, born="of another time")
        assert base.running_pid("probe") is None
        assert base.stop("probe") is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_ignores_the_signal_is_killed(home: Path) -> None:
    words = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    log = home / "probe.log"
    base.start("probe", [sys.executable, "-c", words], log)
    deadline_s = time.monotonic() + 20
    while "deaf" not in log.read_text() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    pid = base.running_pid("probe")
    assert pid is not None
    assert base.stop("probe", timeout_s=0.3) is True
    deadline_s = time.monotonic() + 20
    while base.born(pid) is not None and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert base.born(pid) is None


def test_a_process_that_lives_without_answering_is_ended(home: Path) -> None:
    base.start("probe", SLEEP, home / "probe.log")
    base.port_of("probe")
    assert base.answers("probe") is False
    assert base.running_pid("probe") is None


def test_a_port_is_kept_until_somebody_else_takes_it() -> None:
    first = base.port_of("probe")
    assert base.port_of("probe") == first
    with socket.create_server(("127.0.0.1", first)):
        assert base.port_of("probe") != first


def test_an_early_end_is_told_with_the_last_line(home: Path) -> None:
    log = home / "probe.log"
    base.start("probe", [sys.executable, "-c", "print('no room'); raise SystemExit(3)"], log)
    with pytest.raises(UnavailableError, match=r"^probe ended at its start: no room; see \.services/probe\.log$"):
        base.wait_until("probe", lambda: False, timeout_s=20, log=log)


def test_a_command_that_fails_or_hangs_is_one_line(home: Path) -> None:
    log = home / "run.log"
    with pytest.raises(UnavailableError, match=r"^fetching failed: no network; see"):
        base.run(["sh", "-c", "echo no network; exit 1"], "fetching", timeout_s=20, log=log)
    with pytest.raises(UnavailableError, match=r"^fetching took over 0 s"):
        base.run(SLEEP, "fetching", timeout_s=0.1, log=log)
    with pytest.raises(UnavailableError, match="does not start: No such file"):
        base.run([str(home / "absent")], "fetching", timeout_s=1, log=log)


def test_without_the_right_to_install_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="only root may: install postgresql with"):
        base.debian_install("postgresql", ["postgresql"])
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(UnavailableError, match="no Debian system: install postgresql with"):
        base.debian_install("postgresql", ["postgresql"])


def test_stripe_mock_listens_on_loopback_only() -> None:
    """Without an address for HTTPS it took a fixed port on every interface, and a second checkout could not start."""
    addresses = [word for word in stripe_mock.command("stripe-mock", 4242) if ":" in word]
    assert addresses == ["127.0.0.1:4242", "127.0.0.1:"]


def test_kafka_listens_on_loopback_only() -> None:
    lines = dict(line.split("=", 1) for line in kafka._properties(4001, 4002).splitlines())
    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:4001,CONTROLLER://127.0.0.1:4002"
    assert lines["auto.create.topics.enable"] == "false"


class _Part:
    def __init__(self, name: str, *, required: bool, works: bool) -> None:
        self.NAME, self.required_in_ci, self._works = name, required, works

    def up(self) -> Up:
        if not self._works:
            raise UnavailableError("not on this platform")
        return Up(f"{self.NAME} 1.0", {f"TOLLHOUSE_TEST_{self.NAME.upper()}": "there"})

    def down(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("ci", "required_works", "optional_works", "status"),
    [("", True, True, 0), ("", False, True, 0), ("true", True, False, 0), ("true", False, True, 1)],
)
def test_ci_needs_the_required_parts(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    ci: str,
    required_works: bool,
    optional_works: bool,
    status: int,
) -> None:
    parts = (_Part("main", required=True, works=required_works), _Part("extra", required=False, works=optional_works))
    monkeypatch.setattr(script, "PARTS", parts)
    monkeypatch.setenv("CI", ci)
    assert script.up() == status
    said, env = capsys.readouterr().out, (home / "env").read_text()
    for part, works in zip(parts, (required_works, optional_works), strict=True):
        assert (f"TOLLHOUSE_TEST_{part.NAME.upper()}=there" in env) is works
        assert (f"{part.NAME} 1.0" in said) is works
        assert ("NOT AVAILABLE: not on this platform" in said) is not (required_works and optional_works)


def test_purge_removes_the_data_wherever_it_is(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere"
    data.mkdir()
    (data / "PG_VERSION").write_text("15")
    base.remember("main", data=str(data))
    monkeypatch.setattr(script, "PARTS", (_Part("main", required=True, works=True),))
    assert script.purge() == 0
    assert not data.exists()
    assert not home.exists()


@pytest.mark.parametrize("arguments", [[], ["restart"], ["up", "now"]])
def test_wrong_use_shows_the_right_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: services.py up|down|status|purge")

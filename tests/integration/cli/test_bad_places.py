"""Databases, directories, ports, settings and secrets that are not as they should be: one line each."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.cli.installation import Installation
from tests.unit.cli.command import refused, tollhouse
from tollhouse.errors import UserError
from tollhouse.settings import load

ROOT = Path(__file__).resolve().parents[3]
READERS = [
    ["usage"], ["quotas"], ["alerts", "list"], ["rejected", "list"], ["invoices", "list"], ["keys", "list"],
    ["explain", "acme/2026-10"], ["invoices", "run", "--month", "2026-10"],
]  # fmt: skip


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_directory_that_is_not_there_is_named(command: list[str], tmp_path: Path) -> None:
    line = refused(tollhouse(*command, "--dir", tmp_path / "typo"))
    assert str(tmp_path / "typo") in line
    assert "tollhouse up" in line
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("command", [["usage"], ["quotas"], ["invoices", "run", "--month", "2026-10"]], ids=" ".join)
def test_before_the_first_catalog_every_command_says_so(command: list[str], tmp_path: Path) -> None:
    assert "apply" in refused(tollhouse(*command, "--dir", tmp_path))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "TOLLHOUSE_DATABASE_URL"),
        ("mysql://localhost/x", "mysql is no database for the ledger"),
        ("postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=2", "cannot be reached"),
        ("sqlite:////no/such/place/tollhouse.db", "unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", url)
    result = tollhouse("usage", "--dir", tmp_path)
    assert result.code in (1, 2)
    assert result.raw == b""
    (line,) = result.said
    assert said in line
    assert "TOLLHOUSE_DATABASE_URL" in line


def test_a_file_that_is_no_database_is_one_line(installation: Installation) -> None:
    for left in installation.dir.iterdir():
        left.unlink()
    installation.database.write_bytes(b"this is a letter, not a database\n" * 100)
    assert "not a database" in refused(installation("usage"))


@pytest.mark.parametrize("command", [["up"], ["demo", "--once"]], ids=" ".join)
def test_a_directory_where_a_file_stands_is_one_line(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "place"
    path.write_text("a file")
    result = tollhouse(*command, "--dir", path)
    assert result.code in (1, 2)
    assert str(path) in result.said[-1]
    assert path.read_text() == "a file"


def test_up_below_a_file_is_one_line(tmp_path: Path) -> None:
    """Nobody can make a directory below a file, not even an administrator: the read-only disk of every test machine."""
    (tmp_path / "file").touch()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = refused(tollhouse("up", "--dir", tmp_path / "file" / "data", "--port", port, "--broker-port", 0))
    assert "Not a directory" in line


def test_documents_below_a_file_are_one_line(october: Installation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    october("invoices", "run", "--month", "2026-10")
    line = refused(october("invoices", "export", "--month", "2026-10", "--out", tmp_path / "file" / "out"))
    assert "Not a directory" in line
    line = refused(october("usage", "--format", "csv", "--out", tmp_path / "file" / "usage.csv"))
    assert "Not a directory" in line
    line = refused(october("usage", "--plot", tmp_path / "file" / "usage.png"))
    assert "Not a directory" in line


@pytest.mark.parametrize("option", ["--port", "--broker-port"])
def test_a_port_in_use_is_one_line_that_names_the_option(option: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "--broker-port" if option == "--port" else "--port"
        line = refused(tollhouse("up", "--dir", tmp_path / "data", option, port, other, 0))
    assert f"port {port} is in use" in line
    assert option in line
    assert not (tmp_path / "data" / "runtime.toml").exists()


@pytest.mark.parametrize("option", ["--port", "--broker-port"])
def test_a_port_that_is_none_is_wrong_use(option: str, tmp_path: Path) -> None:
    assert option in refused(tollhouse("up", "--dir", tmp_path, option, 65_536), 2)


def test_one_port_for_two_things_is_wrong_use(tmp_path: Path) -> None:
    assert "choose two ports" in refused(tollhouse("up", "--dir", tmp_path, "--port", 4000, "--broker-port", 4000), 2)


# --- settings


def test_environment_over_file_and_flags_over_both(tmp_path: Path) -> None:
    (tmp_path / "tollhouse.toml").write_text('broker = "file:1"\nport = 1\nhost = "file"\n')
    environment = {"TOLLHOUSE_BROKER": "environment:2", "TOLLHOUSE_PORT": "2"}
    found = load(tmp_path, {"port": 3}, environment)
    assert (found.host, found.broker, found.port) == ("file", "environment:2", 3)
    assert load(tmp_path, {"port": None}, environment).port == 2
    assert load(tmp_path, {}, {}).port == 1


def test_what_up_wrote_is_below_the_persons_own_file(tmp_path: Path) -> None:
    (tmp_path / "runtime.toml").write_text('broker = "runtime:1"\nport = 1\n')
    (tmp_path / "tollhouse.toml").write_text("port = 2\n")
    found = load(tmp_path, {}, {})
    assert (found.broker, found.port) == ("runtime:1", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('brokr = "x"', "unknown setting 'brokr'"),
        ("port = [", "tollhouse.toml"),
        ('port = "many"', "setting port: 'many' is not a whole number"),
        ("port = 80.5", "setting port: 80.5 is not a whole number"),
        ("port = true", "setting port: True is not a whole number"),
        ("port = 65536", "setting port: 65536 is not between 0 and 65,535"),
        ("partitions = 0", "setting partitions: 0 is not between 1 and 10,000"),
        ("broker = 9092", "setting broker: 9092 is not text: put it in quotes"),
        ('log_level = "loud"', "setting log_level: 'loud' is none of debug, info, warning, error, critical"),
        ('stripe_tax = "none"', "setting stripe_tax: 'none' is none of line, rates"),
        ('stripe_secret_key = "sk_test_x"', "secrets belong into the environment"),
        ("port = 1\nport = 2", "tollhouse.toml"),
    ],
)
def test_a_wrong_settings_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "tollhouse.toml").write_text(text)
    line = refused(tollhouse("usage", "--dir", tmp_path))
    assert said in line
    assert "sk_test_x" not in line


def test_a_settings_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tollhouse.toml").write_bytes(b"\xff\xfeport")
    assert "tollhouse.toml" in refused(tollhouse("usage", "--dir", tmp_path))


def test_a_wrong_number_in_the_environment_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_PORT", "eighty")
    assert "setting port: 'eighty'" in refused(tollhouse("usage", "--dir", tmp_path))


def test_without_a_stripe_key_push_says_where_it_belongs(
    october: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    monkeypatch.delenv("STRIPE_SECRET_KEY_FILE", raising=False)
    for command in (["invoices", "push", "--month", "2026-10"], ["stripe", "sync"], ["stripe", "drift"]):
        assert "STRIPE_SECRET_KEY is not set" in refused(october(*command))


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
def test_a_secret_that_others_can_read_is_refused(
    mode: int, october: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stripe.key"
    path.write_text("sk_" + "test_abcdef")
    path.chmod(mode)
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    monkeypatch.setenv("STRIPE_SECRET_KEY_FILE", str(path))
    line = refused(october("invoices", "push", "--month", "2026-10"))
    assert line == f"tollhouse: {path} can be read by others: run chmod 600 {path}"


def test_a_secret_in_a_file_of_its_owner_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stripe.key"
    path.write_text("made-up\n")
    path.chmod(0o600)
    assert load(tmp_path, {}, {"STRIPE_SECRET_KEY_FILE": str(path)}).secret("STRIPE_SECRET_KEY") == "made-up"
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path, {}, {"STRIPE_SECRET_KEY_FILE": str(path) + "x"}).secret("STRIPE_SECRET_KEY")


def test_a_key_of_live_mode_needs_a_word(october: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk_" + "live_0123456789abcdef"
    monkeypatch.setenv("STRIPE_SECRET_KEY", secret)
    line = refused(october("invoices", "push", "--month", "2026-10"))
    assert "STRIPE_SECRET_KEY" in line
    assert secret not in line


# --- doctor


def test_doctor_names_each_part_and_what_to_do(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", "127.0.0.1:9")
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    result = installation("doctor", "--json")
    assert result.code == 1
    checks = {check["name"]: check for check in result.json()["checks"]}
    assert {name for name, check in checks.items() if not check["ok"]} == {"broker"}
    assert "127.0.0.1:9" in checks["broker"]["detail"]
    assert {"settings", "clock", "database", "catalog", "stripe"} <= set(checks)
    assert result.said == ["tollhouse: 1 of 6 checks need attention: broker"]


def test_doctor_in_words(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", "127.0.0.1:9")
    result = installation("doctor")
    assert result.code == 1
    assert "FAIL broker: no broker answers at 127.0.0.1:9" in result.out
    assert "ok   database" in result.out


# --- a whole process


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    program = [
        sys.executable,
        "-m",
        "tollhouse",
        "up",
        "--dir",
        str(tmp_path / "data"),
        "--port",
        "0",
        "--broker-port",
        "0",
    ]
    return subprocess.Popen(
        program, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ
    )


def _descendants(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found + [child for parent in found for child in _descendants(parent)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are counted in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_cleanly_and_leaves_nobody_behind(how: signal.Signals, tmp_path: Path) -> None:
    with _start(tmp_path) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("Up: events to 127.0.0.1:"), line
        children = _descendants(process.pid)
        assert len(children) >= 3  # broker, worker, API
        started = time.monotonic()
        process.send_signal(how)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 6
        assert "Traceback" not in process.stderr.read()
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []

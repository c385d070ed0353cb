"""The demo as a newcomer runs it: exact totals, a caught leak, invoices equal to Stripe's, and a clean end."""

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas.money import exponent
from tollhouse.demo.runner import MARK, prepare
from tollhouse.errors import UserError

TRACE_EVENTS = 28_185
INPUT_SIDE_TOKENS = 40_421_844
OUTPUT_SIDE_TOKENS = 4_334_561


def demo(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tollhouse", "demo", "--dir", str(directory), "--port", "0", *arguments]


def await_handler(pid: int) -> None:
    """Wait until the process handles SIGINT by our code: until then it shows Python's own handler or none."""
    status = Path(f"/proc/{pid}/status")
    for _ in range(3000):
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError("the demo does not start")


def processes_of(directory: Path) -> list[str]:
    """Command lines of processes that work on the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line and "pytest" not in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    directory = tmp_path_factory.mktemp("demo") / "d"
    run = subprocess.run(demo(directory, "--once", "--json"), capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout), directory


@pytest.mark.timeout(400)
def test_every_call_of_the_trace_is_counted_exactly_once(result: tuple[dict[str, Any], Path]) -> None:
    data, _ = result
    trace = data["trace"]
    assert trace["events"] == TRACE_EVENTS
    assert trace["input_side_tokens"] == INPUT_SIDE_TOKENS
    assert trace["output_side_tokens"] == OUTPUT_SIDE_TOKENS
    assert 200 < trace["duplicates"] < 400  # one in a hundred, by chance
    assert data["rejected"] == 0


def test_usage_is_shown_for_every_tenant_and_three_providers(result: tuple[dict[str, Any], Path]) -> None:
    data, _ = result
    assert {row["tenant"] for row in data["usage"]} == {"acme", "globex", "kathmandu-labs", "wayne"}
    assert len({row["key"] for row in data["usage"]}) == 3
    assert sum(data["tokens"].values()) == sum(sum(row["tokens"].values()) for row in data["usage"])


def test_the_leak_is_caught_on_the_right_key_and_nowhere_else(result: tuple[dict[str, Any], Path]) -> None:
    data, _ = result
    leaks = [alert for alert in data["alerts"] if alert["kind"] == "leak"]
    assert {alert["subject"] for alert in leaks} == {data["leak"]["subject"]}
    assert data["leak"]["key"] == "openai-pool-1"
    assert data["leak"]["started"] <= data["leak"]["alerted"]


def test_a_quota_blocks_and_says_which(result: tuple[dict[str, Any], Path]) -> None:
    data, _ = result
    blocked = [d for d in data["decisions"] if d["reason"] == "quota"]
    assert [d["quota"] for d in blocked] == ["daily tokens"]
    assert not blocked[0]["allowed"]
    assert blocked[0]["retry_after_s"] > 0
    assert any(d["allowed"] for d in data["decisions"])


def test_stripe_has_the_totals_of_our_invoices(result: tuple[dict[str, Any], Path]) -> None:
    data, _ = result
    stripe = {row["tenant"]: row["total_minor"] for row in data["stripe"]}
    for invoice in data["invoices"]:
        assert invoice["status"] in {"finalised", "pushed"}
        minor = Decimal(invoice["total"]).scaleb(exponent(invoice["currency"]))
        assert stripe[invoice["tenant"]] == minor
    assert {"acme", "globex", "kathmandu-labs"} <= {invoice["tenant"] for invoice in data["invoices"]}


def test_documents_are_written_and_nothing_is_left_running(result: tuple[dict[str, Any], Path]) -> None:
    data, directory = result
    names = sorted(path.name for path in (directory / "invoices").iterdir())
    assert len(names) == 2 * len(data["invoices"])
    assert {path.suffix for path in (directory / "invoices").iterdir()} == {".csv", ".pdf"}
    assert processes_of(directory) == []


@pytest.mark.parametrize("after_s", [0.2, 1.0, 3.0, 7.0])
def test_ctrl_c_at_any_moment_ends_cleanly_within_five_seconds(tmp_path: Path, after_s: float) -> None:
    directory = tmp_path / "d"
    with subprocess.Popen(
        demo(directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        await_handler(process.pid)  # before that the interpreter itself starts, which nobody's code can end cleanly
        time.sleep(after_s)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        seconds = time.monotonic() - started
    assert b"Traceback" not in errors, errors.decode()
    assert process.returncode == 130
    assert seconds < 5
    assert processes_of(directory) == []


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    run = subprocess.run(demo(tmp_path, "--once"), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "holds other files" in run.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    with prepare(tmp_path / "d"):
        (tmp_path / "d" / "ledger").write_text("of the first")
        with pytest.raises(UserError, match="another demo runs"):
            prepare(tmp_path / "d")
        assert (tmp_path / "d" / "ledger").exists()
    with prepare(tmp_path / "d"):
        assert [path.name for path in (tmp_path / "d").iterdir()] == [MARK]

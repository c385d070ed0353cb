"""In CI a skipped test is a failed one, so that a green run has run everything; stripe-mock alone may be missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROBE = """
import pytest
from tests import services

def test_passes():
    assert True

def test_is_skipped():
    pytest.skip("no such thing here")

def test_needs_kafka(kafka):
    assert kafka

def test_needs_stripe_mock(stripe_mock):
    assert stripe_mock

@pytest.mark.xfail(reason="known")
def test_is_known_to_fail():
    assert False
"""


def _run(tmp_path: Path, ci: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_probe.py").write_text(PROBE)
    # Nothing is up, whatever runs on this machine: the probe looks into an empty checkout.
    (tmp_path / "empty.py").write_text(
        "from pathlib import Path\nfrom tests import services\nservices.ENV_FILE = Path('/nonexistent')\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("TOLLHOUSE_TEST_")}
    env |= {"CI": ci, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "pytest", "-p", "empty", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False)


def test_a_developer_may_skip_and_reads_why_and_what_is_up(tmp_path: Path) -> None:
    done = _run(tmp_path, "")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 3 skipped, 1 xfailed" in done.stdout
    assert "Apache Kafka is not up: run make services" in done.stdout
    for part in ("Apache Kafka", "PostgreSQL", "Chromium", "stripe-mock"):
        assert f"  {part}: not up (make services)" in done.stdout


def test_ci_fails_on_each_skip_but_stripe_mock(tmp_path: Path) -> None:
    done = _run(tmp_path, "true")
    assert done.returncode == 1, done.stdout + done.stderr
    failed_or_error = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert len(failed_or_error) == 2, done.stdout
    assert "test_is_skipped was skipped in CI: " in done.stdout
    assert "Apache Kafka is not up: run make services" in done.stdout
    assert "in CI nothing is skipped" in done.stdout
    assert "not run: test_probe.py::test_needs_stripe_mock: Skipped: stripe-mock is not available" in done.stdout
    assert "1 skipped" in done.stdout

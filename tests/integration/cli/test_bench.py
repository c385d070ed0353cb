"""The bench's figures are all there, exact, and step by step: small, on the embedded parts and on the real ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.bench import run
from tollhouse.cli.bench import bench

EVENTS = 10_000


def test_a_small_bench_prints_every_figure_and_is_exact(
    embedded_broker: str, small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    check(["--broker", embedded_broker], capsys)


def test_and_so_it_does_on_the_real_parts(
    kafka: str, postgresql_url: str, small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    check(["--broker", kafka, "--database", postgresql_url], capsys)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller steps, and less by the plain way."""
    monkeypatch.setattr(run, "PLAIN_EVENTS", 300)
    monkeypatch.setattr(run, "STEP", 2_500)


def check(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run it there; the figures make sense."""
    bench.main(["--json", *where, "--events", str(EVENTS), "--rate", "1000", "--seconds", "1"], standalone_mode=False)
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert figures["exact"] is True
    assert figures["events_per_s"] > figures["plain_events_per_s"] > 0
    assert figures["ceiling_events_per_s"] > figures["events_per_s"]
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]
    assert 0 < figures["peak_mib"] < 1_000
    steps = figures["by_million"]
    assert [one["events"] for one in steps] == sorted({one["events"] for one in steps})
    assert 1 <= len(steps) <= EVENTS // 2_500
    assert all(one["events_per_s"] > 0 and one["peak_mib"] > 0 for one in steps)

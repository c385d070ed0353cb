"""Recorded usage through `detect`: the same as the stream, and good on a small seeded benchmark."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.leaks import Finding, KeyDetector, MinuteRow, PoolDetector, ProviderRow, detect
from schemas.instants import DAY_US, MINUTE_US
from tollhouse.detect import DetectError, run

sys.path.append(str(Path(__file__).parents[3] / "bench" / "leakbench"))

Benchmark = tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]
START_US = 20_000 * DAY_US


def usage() -> list[MinuteRow]:
    """Two keys of one pool over four days; a flood by a new source on the third day."""
    rows: list[MinuteRow] = []
    for m in range(4 * 1440):
        at = START_US + m * MINUTE_US
        rows.append((at, "key-1", "pool-1", "AS64500", "small-1", "agent/1", 5 + m % 3, 5000 + m % 7 * 100))
        if m % 4 == 0:
            rows.append((at, "key-2", "pool-1", "AS64501", "small-1", "agent/1", 2, 2000))
        if 4000 <= m < 4060:
            rows.append((at, "key-2", "pool-1", "AS64511", "large-9", "curl/8", 80, 90_000))
    return rows


def reports(rows: list[MinuteRow]) -> list[ProviderRow]:
    """The provider's report of the same, five minutes later, with half as much again from minute 5000 on."""
    totals: dict[int, int] = {}
    for row in rows:
        totals[row[0]] = totals.get(row[0], 0) + row[7]
    extra_from = START_US + 5000 * MINUTE_US
    return [(at + 5 * MINUTE_US, at, "pool-1", n + (n // 2 if at >= extra_from else 0)) for at, n in totals.items()]


def test_the_record_gives_what_the_stream_gives() -> None:
    rows = usage()
    told = reports(rows)
    expected: list[Finding] = []
    keys: dict[str, KeyDetector] = {}
    pool = PoolDetector("pool-1")
    due = 0
    for at, key, _, network, model, agent, requests, tokens in rows:  # row by row, as a stream in small pieces
        while due < len(told) and told[due][0] < at:
            expected += pool.report(told[due][1], told[due][3], told[due][0])
            due += 1
        detector = keys.setdefault(key, KeyDetector(key, known_since_us=START_US))
        expected += detector.observe(at, [(network, model, agent, requests, tokens, 0)])
        pool.meter(at, tokens)
    for report in told[due:]:
        expected += pool.report(report[1], report[3], report[0])
    got = list(detect(rows, told))
    assert [(f.at_us, f.subject, f.severity) for f in got] == [(f.at_us, f.subject, f.severity) for f in expected]
    assert {(f.subject, f.kind) for f in got if f.severity == "page"} == {("key-2", "leak"), ("pool-1", "residual")}


def test_pages_say_what_when_and_from_where() -> None:
    page = next(f for f in detect(usage(), []) if f.severity == "page")
    assert page.explanation.startswith("key-2: ")
    for words in ("since 2024-10-06T18:40:00Z", "In the last hour", "tokens over it so far", "New network: AS64511."):
        assert words in page.explanation
    assert page.facts["excess_tokens"] > 0


@pytest.fixture(scope="module")
def small_benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Scores (pages; with tickets) and findings of 32 keys over 15 days, through Parquet and NDJSON."""
    from generate import make, write  # type: ignore[import-not-found]  # noqa: PLC0415  on the path from above
    from score import score  # type: ignore[import-not-found]  # noqa: PLC0415  as above

    folder = tmp_path_factory.mktemp("leaks")
    write(make(101, 32, 15, per_kind=1), str(folder))
    run(folder / "minutes.parquet", folder / "provider.parquet", folder / "out.ndjson")
    findings = [json.loads(line) for line in (folder / "out.ndjson").read_text().splitlines()]
    labels = json.loads((folder / "labels.json").read_text())
    return score(labels, [f for f in findings if f["severity"] == "page"]), score(labels, findings), findings


def test_a_small_benchmark_finds_the_plain_leaks_at_once(
    small_benchmark: Benchmark,
) -> None:
    pages, both, _ = small_benchmark
    for kind in ("sudden_10x", "sudden_50x"):
        assert pages["kinds"][kind]["within_5"] == 1.0
    assert pages["kinds"]["dormant_wake"]["within_15"] == 1.0
    assert pages["kinds"]["pooled_unmetered"]["within_60"] == 1.0
    assert both["kinds"]["slow_ramp"]["recall"] == 1.0
    assert pages["false_alarms_per_1000_key_days"] <= 16  # 256 key-days: no more than four


def test_lines_have_the_contracts_fields(
    small_benchmark: Benchmark,
) -> None:
    _, _, findings = small_benchmark
    assert findings == sorted(findings, key=lambda f: f["at"])
    for finding in findings:
        assert {"at", "subject", "kind", "severity", "score", "explanation"} <= finding.keys()
        assert finding["severity"] in ("page", "ticket")
        assert finding["score"] >= 1


def test_a_file_that_is_no_parquet_is_one_clear_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_text("minute,key\n")
    with pytest.raises(DetectError, match=r"bad\.parquet: cannot be read as Parquet"):
        run(bad, None, tmp_path / "out")

"""Real counts with labelled unusual windows: mentions of ten companies (Numenta Anomaly Benchmark, MIT licence)."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.leaks import KeyDetector
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, from_datetime

DATA = Path(__file__).parents[2] / "data" / "nab_tweets"


def instant(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


def pages(name: str) -> tuple[Iterator[int], int]:
    """Instants of pages over one series, each five-minute count spread over its minutes, and the series' days."""
    with (DATA / name).open(encoding="utf-8") as stream:
        rows = [(instant(row["timestamp"]), int(row["value"])) for row in csv.DictReader(stream)]
    detector = KeyDetector(name)
    spread = [
        (at_us + minute * MINUTE_US, count // 5 + (minute < count % 5)) for at_us, count in rows for minute in range(5)
    ]
    found = [
        finding.at_us
        for at_us, n in spread
        if n
        for finding in detector.observe(at_us, [("net", "model", "agent", n, n * 1000, 0)])
        if finding.severity == "page"
    ]
    return iter(found), (rows[-1][0] - rows[0][0]) // DAY_US


def test_at_least_ten_windows_at_eight_false_pages_in_a_thousand_days() -> None:
    windows = json.loads((DATA / "windows.json").read_text())
    found = false = days = 0
    for name, spans in windows.items():
        at, length = pages(name)
        days += length
        bounds = [(instant(first), instant(last)) for first, last in spans]
        hit: set[int] = set()
        before = -DAY_US
        for page in at:
            inside = [i for i, (first, last) in enumerate(bounds) if first <= page <= last]
            hit.update(inside)
            false += not inside and page - before > 6 * HOUR_US
            before = page
        found += len(hit)
    assert found >= 10
    assert 1000 * false <= 8 * days

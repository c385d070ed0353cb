"""The detector of one key, on small hand-made histories."""

import json
import random

import pytest

from pipeline.leaks import DetectorSettings, Finding, KeyDetector, Part
from schemas.instants import DAY_US, HOUR_US, MINUTE_US

START_US = 20_000 * DAY_US
USUAL = ("AS64500", "small-1", "agent/1.0")
OTHER = ("AS64511", "large-9", "curl/8")


def usual_rows(minute: int, rng: random.Random) -> list[Part]:
    """About ten requests a minute by day, one by night, some 1,000 tokens each."""
    rate = 10.0 if 8 <= minute // 60 % 24 < 18 else 1.0
    count = sum(rng.random() < rate / 20 for _ in range(20))
    return [(*USUAL, count, sum(rng.randrange(500, 1500) for _ in range(count)), 0)] if count else []


def history(days: int, seed: int = 1) -> list[tuple[int, list[Part]]]:
    rng = random.Random(seed)
    minutes = ((START_US + m * MINUTE_US, usual_rows(m, rng)) for m in range(days * 1440))
    return [(at, rows) for at, rows in minutes if rows]


def feed(detector: KeyDetector, minutes: list[tuple[int, list[Part]]]) -> list[Finding]:
    return [finding for at, rows in minutes for finding in detector.observe(at, rows)]


@pytest.fixture(scope="module")
def trained() -> dict[str, object]:
    """State of a key after ten ordinary days."""
    detector = KeyDetector("key-1")
    assert feed(detector, history(10)) == []
    return detector.state()


def leak(
    start_us: int, minutes: int, part: tuple[str, str, str], requests: int, tokens: int
) -> list[tuple[int, list[Part]]]:
    return [(start_us + m * MINUTE_US, [(*part, requests, tokens, 0)]) for m in range(minutes)]


def test_ordinary_traffic_of_a_cold_start_does_not_page() -> None:
    for seed in range(3):
        assert feed(KeyDetector("key-1"), history(4, seed)) == []


def test_a_flood_from_a_new_source_pages_within_two_minutes(trained: dict[str, object]) -> None:
    detector = KeyDetector.from_state(trained)
    start = START_US + 10 * DAY_US + 3 * HOUR_US
    findings = feed(detector, leak(start, 10, OTHER, 60, 60_000))
    assert findings[0].severity == "page"
    assert findings[0].at_us <= start + 2 * MINUTE_US
    assert findings[0].facts["new"] == {"network": ["AS64511"], "model": ["large-9"], "agent": ["curl/8"]}


def test_a_flood_on_a_key_that_still_learns_pages() -> None:
    detector = KeyDetector("key-1")
    feed(detector, history(1))
    findings = feed(detector, leak(START_US + DAY_US, 5, USUAL, 900, 9_000_000))
    assert [f.severity for f in findings] == ["page"]
    assert findings[0].facts["rule"] == "flood"


def test_few_huge_requests_page(trained: dict[str, object]) -> None:
    findings = feed(
        KeyDetector.from_state(trained), leak(START_US + 10 * DAY_US + 12 * HOUR_US, 10, OTHER, 3, 3_000_000)
    )
    assert findings[0].severity == "page"


def test_a_state_round_trip_through_json_changes_nothing(trained: dict[str, object]) -> None:
    rng = random.Random(7)
    start = START_US + 10 * DAY_US
    minutes = [(start + m * MINUTE_US, usual_rows(m, rng)) for m in range(600)] + leak(
        start + 600 * MINUTE_US, 90, OTHER, 25, 30_000
    )
    whole, parted = KeyDetector.from_state(trained), KeyDetector.from_state(trained)
    expected = feed(whole, minutes)
    got = []
    for at, rows in minutes:
        parted = KeyDetector.from_state(json.loads(json.dumps(parted.state())))
        got += parted.observe(at, rows)
    assert got == expected
    assert any(f.severity == "page" for f in got)
    assert parted.state() == whole.state()


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        KeyDetector.from_state({"version": 0})


def test_one_incident_is_told_once_and_then_hourly(trained: dict[str, object]) -> None:
    findings = feed(KeyDetector.from_state(trained), leak(START_US + 10 * DAY_US + 3 * HOUR_US, 150, OTHER, 60, 60_000))
    pages = [f for f in findings if f.severity == "page"]
    assert len({f.incident for f in findings}) == 1
    assert [f.repeat for f in findings] == list(range(len(findings)))
    assert 2 <= len(pages) <= 4
    assert pages[-1].facts["excess_tokens"] > pages[0].facts["excess_tokens"]


def test_settings_are_respected(trained: dict[str, object]) -> None:
    deaf = DetectorSettings(
        page_new_one=1e9,
        page_new_many=1e9,
        ticket_new_one=1e9,
        ticket_new_many=1e9,
        page_volume=1e9,
        ticket_volume=1e9,
        page_ceiling_5=1e9,
        page_ceiling_60=1e9,
        ticket_ceiling_60=1e9,
        page_quiet=1e9,
    )
    findings = feed(
        KeyDetector.from_state(trained, deaf), leak(START_US + 10 * DAY_US + 3 * HOUR_US, 10, USUAL, 60, 60_000)
    )
    assert findings == []

"""A pooled key by subtraction: skew, noise, a leak, lost reporting."""

import json
import random

import pytest

from pipeline.leaks import Finding, PoolDetector
from schemas.instants import DAY_US, MINUTE_US

START_US = 20_000 * DAY_US
LAG_MIN = 5


def play(
    days: int, leak_from: int = -1, leak: float = 0.0, lost_from: int = -1, restart: bool = False
) -> tuple[PoolDetector, list[Finding]]:
    """A pool of some 10,000 tokens a minute whose report lags five minutes, a fifth of each minute in the next."""
    rng = random.Random(3)
    pool, findings = PoolDetector("pool-1"), []
    metered: list[int] = []
    for m in range(days * 1440):
        metered.append(int(10_000 * rng.gammavariate(8, 1 / 8)))
        pool.meter(START_US + m * MINUTE_US, metered[m])
        t = m - LAG_MIN
        if t < 1:
            continue
        told = (0.8 * metered[t] + 0.2 * metered[t - 1]) * (1.002 + 0.005 * rng.gauss(0, 1))
        if 0 <= leak_from <= t:
            told += leak * 10_000
        if 0 <= lost_from <= t:
            told *= 0.9
        findings += pool.report(START_US + t * MINUTE_US, int(told), START_US + m * MINUTE_US)
        if restart and m % 500 == 0:
            pool = PoolDetector.from_state(json.loads(json.dumps(pool.state())))
    return pool, findings


def test_lag_skew_and_counting_noise_raise_nothing() -> None:
    assert play(6)[1] == []


@pytest.mark.parametrize(("share", "within_min"), [(0.05, 60), (0.5, 10)])
def test_use_outside_the_proxy_pages(share: float, within_min: int) -> None:
    start = 3 * 1440
    findings = play(4, leak_from=start, leak=share)[1]
    assert findings[0].severity == "page"
    assert findings[0].kind == "residual"
    assert START_US + start * MINUTE_US <= findings[0].at_us <= START_US + (start + LAG_MIN + within_min) * MINUTE_US
    last = findings[-1].facts
    assert last["residual_tokens"] == pytest.approx(share * 10_000 * (1440 - LAG_MIN), rel=0.25)


def test_reports_that_fall_short_are_a_ticket() -> None:
    findings = play(4, lost_from=3 * 1440)[1]
    assert {f.severity for f in findings} == {"ticket"}
    assert findings[0].facts["residual_tokens"] < 0
    assert "does not report" in findings[0].explanation


def test_a_restart_changes_nothing() -> None:
    whole, expected = play(4, leak_from=3 * 1440, leak=0.1)
    parted, got = play(4, leak_from=3 * 1440, leak=0.1, restart=True)
    assert got == expected
    assert parted.state() == whole.state()


def test_a_bucket_reported_twice_counts_once() -> None:
    pool = PoolDetector("pool-1")
    pool.meter(START_US, 100)
    pool.report(START_US, 100, START_US + MINUTE_US)
    before = pool.state()
    assert pool.report(START_US, 100, START_US + 2 * MINUTE_US) == []
    assert pool.state() == before


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        PoolDetector.from_state({"version": 0})

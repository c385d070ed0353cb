"""Scores of hours: how surprising a key's use was, kept by the watch until they are taken."""

from pipeline.ledger.record import MinuteSum
from pipeline.watch import RECORD, KeyHour, LeakWatch
from schemas.instants import HOUR_US, MINUTE_US

START_US = 1_790_812_800_000_000  # 2026-10-01T00:00:00Z
DAYS = 4


def use(minute: int, requests: int, network: str = "AS1") -> MinuteSum:
    return MinuteSum("acme", "k", START_US + minute * MINUTE_US, network, "m", "a", requests, requests * 1000, 0)


def watch_of(days: int) -> LeakWatch:
    """Two or three calls a minute, day and night."""
    watch = LeakWatch()
    watch.add([use(minute, 2 + minute % 2) for minute in range(days * 1440)])
    return watch


def test_a_key_that_is_learnt_has_no_scores() -> None:
    assert watch_of(1).take_peaks({"acme/k"}) == {}


def test_a_flood_scores_far_over_the_record_in_its_hour() -> None:
    watch = watch_of(DAYS)
    ordinary = watch.take_peaks({"acme/k"})
    assert ordinary
    assert all(hour.hour_us >= START_US + 48 * HOUR_US for hour in ordinary)
    watch.add([use(DAYS * 1440 + minute, 400, "AS666") for minute in range(5)])
    peaks = watch.take_peaks(())
    assert list(peaks) == [KeyHour("k", START_US + DAYS * 24 * HOUR_US, "acme")]
    assert peaks[KeyHour("k", START_US + DAYS * 24 * HOUR_US, "acme")] > 2 * RECORD


def test_what_is_ordinary_waits_until_its_subject_is_due_and_nothing_is_taken_twice() -> None:
    watch = watch_of(DAYS)
    assert all(score >= RECORD for score in watch.take_peaks(()).values())
    taken = watch.take_peaks({"acme/k"})
    assert taken
    assert watch.take_peaks({"acme/k"}) == {}
    watch.put_back(taken)
    assert watch.take_peaks({"acme/k"}) == taken
    watch.put_back(taken)
    watch.forget()
    assert watch.take_peaks({"acme/k"}) == {}

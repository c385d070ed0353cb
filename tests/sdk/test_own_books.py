"""Laws of the gates' own books: a block is never given out twice, and what a gate holds of a quota adds up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse_client.decisions import amount_of, units_of
from tollhouse_client.lease_book import Lease, LeaseBook
from tollhouse_client.own_spend import BUCKET_US, OwnSpend
from tollhouse_client.quota_window import Quota
from tollhouse_client.state_reading import quota_said

UNITS = st.integers(0, 60)
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "settle", "release", "forget"]), UNITS, st.integers(0, 30)), max_size=40
)


def lease(number: int, granted: int) -> Lease:
    return Lease(f"lease_{number}", "acme", "pool-1", "m", {"tokens": granted, "requests": 10}, 1e9, 2e9, "")


@given(STEPS, st.lists(st.integers(1, 100), min_size=1, max_size=3))
def test_calls_on_a_block_never_use_more_than_it_grants(steps: list[tuple[str, int, int]], blocks: list[int]) -> None:
    book = LeaseBook()
    leases = [lease(number, granted) for number, granted in enumerate(blocks)]
    for one in leases:
        book.add(one)
    running: dict[int, tuple[Lease, int]] = {}
    used = {one.id: 0 for one in leases}
    for step, units, pick in steps:
        if step == "take":
            taken = book.take("acme", "m", {"tokens": units, "requests": 1}, 0.0, 600.0)
            if taken is not None:
                running[taken[0]] = (taken[1], units)
        elif running:
            ticket = sorted(running)[pick % len(running)]
            on, estimate = running.pop(ticket)
            actual = {"settle": min(units, estimate), "release": 0, "forget": estimate}[step]
            used[on.id] += actual
            book.end(ticket, None if step == "release" else {} if step == "forget" else {"tokens": actual})
            assert book.end(ticket, {}) is None
        for one in leases:
            out = sum(estimate for on, estimate in running.values() if on is one)
            assert used[one.id] + out <= one.granted["tokens"]
            assert one.spent.get("tokens", 0) == used[one.id] + out
            assert one.left["tokens"] == one.granted["tokens"] - used[one.id] - out


def test_a_block_whose_time_is_over_admits_nothing_and_its_calls_can_still_end() -> None:
    book, one = LeaseBook(), lease(1, 100)
    book.add(one)
    taken = book.take("acme", "m", {"tokens": 60}, 0.0, 600.0)
    assert taken is not None
    assert book.take("acme", "m", {"tokens": 1}, 1e9, 600.0) is None
    assert one.low
    book.remove(one)
    assert book.take("acme", "m", {"tokens": 1}, 0.0, 600.0) is None
    assert book.end(taken[0], {"tokens": 10}) is one
    assert one.spent["tokens"] == 10
    assert book.overdue(1e12) == []


def quota(number: int) -> Quota:
    made = Quota("tenant:acme", f"q{number}", 0)
    said: dict[str, Any] = {"meter": "tokens", "models": "*", "window": "day", "limit": "100", "action": "block"}
    said |= {"window_start": "2026-11-01T00:00:00Z", "window_end": "2026-11-02T00:00:00Z", "used": "0", "reserved": "0"}
    said |= {"scope": "tenant:acme", "name": f"q{number}", "version": 1, "at": "2026-11-01T00:00:00Z"}
    made.take(quota_said(said))
    return made


@given(STEPS, st.integers(0, 40))
def test_what_is_held_is_what_runs_and_what_ended_and_goes_when_there_is_news(
    steps: list[tuple[str, int, int]], turn_at: int
) -> None:
    spend, one = OwnSpend(settle_us=1_000_000, call_us=10**12), quota(1)
    running: dict[int, int] = {}
    ended: list[tuple[int, int]] = []
    for number, (step, units, pick) in enumerate(steps):
        now_us = number * BUCKET_US // 2
        if step == "take":
            running[spend.begin([one], {"tokens": units}, now_us)] = units
        elif running:
            ticket = sorted(running)[pick % len(running)]
            estimate = running.pop(ticket)
            if step == "release":
                spend.release(ticket)
            else:
                actual = min(units, estimate) if step == "settle" else estimate
                spend.end(ticket, {"tokens": actual} if step == "settle" else {}, now_us)
                ended.append((now_us // BUCKET_US, actual))
        if number == turn_at:  # another window: nothing of the old one counts in it, also not when it ends later
            one.turn_over()
            for ticket in running:
                spend.release(ticket)
            running, ended = {}, []
        known_us = now_us - BUCKET_US
        while spend.news(known_us):
            pass
        ended = [(b, n) for b, n in ended if (b + 1) * BUCKET_US + spend.settle_us > known_us]
        assert one.own == sum(running.values()) + sum(n for _, n in ended)
        assert spend.running == len(running)


@given(st.decimals(0, 10**6, places=12))
def test_money_goes_into_units_and_back_exactly(amount: Any) -> None:
    assert amount_of("cost", units_of("cost", amount)) in (format(amount, "f"), format(amount.normalize(), "f"))
    assert units_of("cost", str(amount)) == units_of("cost", amount)


def test_a_call_that_is_never_ended_ends_also_when_an_older_one_has_ended() -> None:
    spend, one = OwnSpend(settle_us=0, call_us=10), quota(1)
    first = spend.begin([one], {"tokens": 1}, 0)
    spend.begin([one], {"tokens": 2}, 5)
    spend.end(first, {}, 6)
    spend.begin([one], {"tokens": 4}, 14)
    assert spend.running == 2
    spend.begin([one], {"tokens": 8}, 15)
    assert spend.running == 2
    assert one.own == 15


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0", 0),
        ("12", 12 * 10**12),
        ("0.02", 2 * 10**10),
        (".5", 5 * 10**11),
        ("5.", 5 * 10**12),
        ("1e-3", 10**9),
        ("0.0000000000001", 1),
        ("+1.5", 15 * 10**11),
        ("00012.5", 125 * 10**11),
        ("-0.0", 0),
        (" 1.5", 15 * 10**11),
        ("1.5 ", 15 * 10**11),
        ("1_0.5", 105 * 10**11),
        ("1.5_0", 15 * 10**11),
        ("٣.٥", 35 * 10**11),
        ("123456789012345678.25", 12345678901234567825 * 10**10),
    ],
)
def test_money_is_read_the_same_way_however_it_is_written(text: str, units: int) -> None:
    assert units_of("cost", text) == units == units_of("cost", Decimal(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1.2.3",
        "-1",
        "1,5",
        "x",
        "NaN",
        "Infinity",
        "1 2",
        "0.5-",
        "-0.5",
        "1. 5",
        "- 1.5",
        "1.5.",
        "0x1.5",
        "1e999999999",
        "1e31",
    ],
)
def test_what_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"estimate\.cost"):
        units_of("cost", text)


@given(st.text("0123456789._+-e ٣", max_size=12))
def test_money_as_text_is_read_as_a_decimal_is(text: str) -> None:
    try:
        expected: object = units_of("cost", Decimal(text))
    except (ArithmeticError, ValueError):  # no number, or more than any call brings
        expected = ValueError
    try:
        found: object = units_of("cost", text)
    except ValueError:
        found = ValueError
    assert found == expected

"""Instants, periods, money and messages: the edges on which bills have gone wrong elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.instants import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    QUARTER_US,
    format_instant,
    from_datetime,
    parse_instant,
    quarter_of,
    to_datetime,
)
from schemas.money import Money, decimal, exponent, is_currency, round_half_up
from schemas.periods import (
    day_start,
    days_in_month,
    month_of,
    month_period,
    next_month,
    parse_date_or_instant,
    previous_month,
    window_period,
    zone,
)
from schemas.tokens import CLASSES, COUNTERS, INPUT_SIDE, OUTPUT_SIDE, TOKEN_CLASSES, as_dict, input_side, total_tokens
from schemas.usage_event import EVENTS_MAX, is_identifier, split_message

ZONES = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/New_York",
    "Africa/Cairo",
    "Pacific/Apia",
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-10-03T10:11:12Z", "2026-10-03T10:11:12Z"),
        ("2026-10-03t10:11:12z", "2026-10-03T10:11:12Z"),
        ("2026-10-03 10:11:12.5+02:00", "2026-10-03T08:11:12.500Z"),
        ("2026-10-03T10:11:12.0000019Z", "2026-10-03T10:11:12.000001Z"),
        ("2026-10-31T23:59:59.9999999Z", "2026-10-31T23:59:59.999999Z"),
        ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59.999999Z"),
        ("2026-10-03T10:11:12-05:45", "2026-10-03T15:56:12Z"),
    ],
)
def test_instants_in_and_out(text: str, shown: str) -> None:
    assert format_instant(parse_instant(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "2026-10-03", "2026-10-03T10:11:12", "2026-02-29T00:00:00Z", "2026-10-03T24:00:00Z", "2026-13-01T00:00:00Z",
     "2026-10-03T10:11Z", "2026-10-03T10:11:12+24:00", "2026-10-03T10:11:12Z ",
     "\u0662026-10-03T10:11:12Z", "1791022272"],
)  # fmt: skip
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_instant(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=80_000)))
def test_instants_are_exact(since: timedelta) -> None:
    aware = datetime(1971, 1, 1, tzinfo=UTC) + since
    instant = from_datetime(aware)
    assert to_datetime(instant) == aware
    assert parse_instant(format_instant(instant)) == instant
    assert quarter_of(instant) <= instant < quarter_of(instant) + QUARTER_US


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@given(st.sampled_from(ZONES), st.dates(min_value=date(2000, 1, 1), max_value=date(2040, 12, 31)))
def test_days_follow_one_another_without_gap(name: str, day: date) -> None:
    start, end = day_start(day, name), day_start(day + timedelta(days=1), name)
    assert 0 <= end - start <= 25 * HOUR_US  # 0: Apia left 30 December 2011 out
    if end > start:
        tz = ZoneInfo(name)
        assert to_datetime(start).astimezone(tz).date() == day
        assert to_datetime(start - 1).astimezone(tz).date() < day
        assert start % QUARTER_US == 0


@given(
    st.sampled_from(ZONES), st.integers(946_684_800, 2_200_000_000), st.sampled_from(["minute", "hour", "day", "month"])
)
def test_a_window_holds_its_instant_and_the_next_begins_at_its_end(name: str, second: int, window: str) -> None:
    instant = second * 1_000_000
    period = window_period(window, instant, name)
    assert instant in period
    if window in {"day", "month"}:
        assert window_period(window, period.end_us, name).start_us == period.end_us
        assert window_period(window, period.end_us - 1, name) == period
    else:
        assert period.end_us - period.start_us == (MINUTE_US if window == "minute" else HOUR_US)


def test_windows_by_hand() -> None:
    at = parse_instant("2026-07-10T10:20:00Z")
    assert format_instant(window_period("hour", at, "Asia/Kathmandu").start_us) == "2026-07-10T10:15:00Z"
    cairo = window_period("day", parse_instant("2026-04-24T10:00:00Z"), "Africa/Cairo")
    assert (format_instant(cairo.start_us), format_instant(cairo.end_us)) == (
        "2026-04-23T22:00:00Z",
        "2026-04-24T21:00:00Z",
    )
    october = month_period("2026-10", "Europe/Berlin")
    assert october.end_us - october.start_us == 31 * DAY_US + HOUR_US
    assert month_of(october.end_us - 1, "Europe/Berlin") == "2026-10"
    with pytest.raises(ValueError, match="not a window"):
        window_period("week", at, "UTC")


def test_months() -> None:
    assert [next_month("2026-12"), previous_month("2026-01"), next_month("2026-09"), previous_month("2026-10")] == [
        "2027-01", "2025-12", "2026-10", "2026-09",
    ]  # fmt: skip
    assert (days_in_month("2028-02"), days_in_month("2100-02")) == (29, 28)
    for bad in ("\u0662026-10", "2026-13", "2026-00", "2026-1", "26-01", "2026-10-01"):
        with pytest.raises(ValueError, match="not a month"):
            days_in_month(bad)
    with pytest.raises(ValueError, match="not a time zone"):
        zone("Berlin")
    assert format_instant(parse_date_or_instant("2026-07-01", "Europe/Berlin")) == "2026-06-30T22:00:00Z"


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("0.005", "USD", "0.01"),
        ("0.004999", "USD", "0.00"),
        ("-0.005", "USD", "-0.01"),
        ("0.5", "JPY", "1"),
        ("2.5", "JPY", "3"),
        ("6.7745", "KWD", "6.775"),
        ("-0.001", "USD", "0.00"),
        ("1234567890123456789.005", "USD", "1234567890123456789.01"),
    ],
)
def test_half_up_once(amount: str, currency: str, rounded: str) -> None:
    found = round_half_up(Decimal(amount), currency)
    assert str(found) == rounded
    assert Money(found, currency).minor() == int(Decimal(rounded).scaleb(exponent(currency)))


@pytest.mark.parametrize("text", ["", "1e3", "NaN", "Infinity", "1,000", "0x1", "--1", "1.", ".5", "1" * 31, "\u0663"])
def test_what_is_no_decimal(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal"):
        decimal(text)


def test_no_float_becomes_money() -> None:
    for value in (0.1, True, None):
        with pytest.raises(ValueError, match="in quotes"):
            decimal(value)  # type: ignore[arg-type]
    assert decimal(" 0.30 ") == Decimal("0.30")
    assert is_currency("EUR")
    assert not is_currency("eur")
    with pytest.raises(ValueError, match=r".+"):
        Money(Decimal("1.005"), "USD").minor()
    with pytest.raises(TypeError, match="cannot mix"):
        _ = Money(Decimal(1), "USD") + Money(Decimal(1), "EUR")
    assert Money(Decimal("12.3"), "USD").text() == "12.30"


def test_classes_are_each_in_one_place() -> None:
    assert CLASSES == TOKEN_CLASSES + COUNTERS
    assert sorted(INPUT_SIDE + OUTPUT_SIDE) == sorted(TOKEN_CLASSES)
    counts = tuple(range(1, len(CLASSES) + 1))
    assert total_tokens(counts) == sum(range(1, len(TOKEN_CLASSES) + 1))
    assert input_side(counts) == sum(n for name, n in as_dict(counts).items() if name in INPUT_SIDE)


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (b'{"a": 1}', [b'{"a": 1}']),
        (b' [ {"a": 1} , 2 ]', [b'{"a": 1}', b"2"]),
        (b"[]", []),
        (b"", [b""]),
        (b"[1, 2", [b"[1, 2"]),
        (b"[[1]]", [b"[1]"]),
        (b"nonsense", [b"nonsense"]),
    ],
)
def test_a_message_is_one_event_or_an_array(message: bytes, parts: list[bytes]) -> None:
    assert split_message(message) == parts


def test_an_endless_array_comes_back_whole() -> None:
    assert len(split_message(json.dumps([1] * EVENTS_MAX).encode())) == EVENTS_MAX
    assert len(split_message(json.dumps([1] * (EVENTS_MAX + 1)).encode())) == 1


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("a", True),
        ("x" * 256, True),
        ("x" * 257, False),
        ("", False),
        (" ", False),
        ("a b", True),
        ("a\n", False),
        ("\u00a0", False),
        ("é", True),
    ],
)
def test_identifiers(text: str, ok: bool) -> None:
    assert is_identifier(text) == ok

"""Periods: half-open stretches of time [start, end), cut at local midnights of a zone.

Days are calendar days: 23, 24 or 25 hours long. A day whose midnight does not exist starts at its first instant.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from schemas.instants import HOUR_US, MINUTE_US, from_datetime, parse_instant, to_datetime

WINDOWS: Final = ("minute", "hour", "day", "month")
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """[start_us, end_us) in UTC microseconds."""

    start_us: int
    end_us: int

    def __contains__(self, instant_us: int) -> bool:
        return self.start_us <= instant_us < self.end_us


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The time zone by IANA name; ValueError if there is none such."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone like Europe/Berlin") from error


@lru_cache(maxsize=65536)
def day_start(day: date, zone_name: str) -> int:
    """The first instant of the local calendar day.

    With fold=0 an ambiguous midnight gives its first occurrence, and a skipped one is read with the offset before the
    gap, which lands past the gap's end by exactly as much as the gap is long: so step back to the gap itself.
    """
    tz = zone(zone_name)
    naive = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local wall time, given its zone in the next line
    first = naive.replace(tzinfo=tz).astimezone(UTC)
    if first.astimezone(tz).replace(tzinfo=None) == naive:
        return from_datetime(first)
    before = naive.replace(tzinfo=tz, fold=0).utcoffset()
    after = naive.replace(tzinfo=tz, fold=1).utcoffset()
    assert before is not None  # an IANA zone always has an offset
    assert after is not None
    low, high = sorted(((naive - before).replace(tzinfo=UTC), (naive - after).replace(tzinfo=UTC)))
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(tz).date() < day:
            low = middle
        else:
            high = middle
    return from_datetime(high.replace(microsecond=0))


def local_date(instant_us: int, zone_name: str) -> date:
    """The calendar day of the instant in the zone."""
    return to_datetime(instant_us).astimezone(zone(zone_name)).date()


def parse_month(text: str) -> tuple[int, int]:
    """(year, month) of "2026-10"; ValueError otherwise."""
    match = _MONTH.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a month like 2026-10")
    return int(match[1]), int(match[2])


def month_period(month: str, zone_name: str) -> Period:
    """The calendar month in the zone, half open."""
    year, number = parse_month(month)
    following = date(year + number // 12, number % 12 + 1, 1)
    return Period(day_start(date(year, number, 1), zone_name), day_start(following, zone_name))


def month_of(instant_us: int, zone_name: str) -> str:
    """The month ("2026-10") that holds the instant in the zone."""
    day = local_date(instant_us, zone_name)
    return f"{day.year:04d}-{day.month:02d}"


def next_month(month: str) -> str:
    """The month after."""
    year, number = parse_month(month)
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def previous_month(month: str) -> str:
    """The month before."""
    year, number = parse_month(month)
    return f"{year - (number == 1):04d}-{(number - 2) % 12 + 1:02d}"


def days_in_month(month: str) -> int:
    """Calendar days of the month."""
    return monthrange(*parse_month(month))[1]


def window_period(window: str, instant_us: int, zone_name: str) -> Period:
    """The calendar minute, hour, day or month of the zone that holds the instant.

    Minutes and hours follow the zone's offset at the instant, so an hour in Kathmandu starts at :15 UTC.
    """
    if window == "month":
        return month_period(month_of(instant_us, zone_name), zone_name)
    if window == "day":
        day = local_date(instant_us, zone_name)
        return Period(day_start(day, zone_name), day_start(day + timedelta(days=1), zone_name))
    if window not in ("minute", "hour"):
        raise ValueError(f"{window!r} is not a window: use {', '.join(WINDOWS)}")
    length = MINUTE_US if window == "minute" else HOUR_US
    offset = to_datetime(instant_us).astimezone(zone(zone_name)).utcoffset()
    assert offset is not None  # an IANA zone always has an offset
    offset_us = (offset.days * 86_400 + offset.seconds) * 1_000_000
    local = instant_us + offset_us
    start = local - local % length - offset_us
    return Period(start, start + length)


def parse_date_or_instant(text: str, zone_name: str) -> int:
    """An instant, or a date's local midnight in the zone (contract: dates without a time)."""
    if _DATE.fullmatch(text):
        return day_start(date.fromisoformat(text), zone_name)
    return parse_instant(text)

"""Instants: UTC, as whole microseconds since 1970. No float, no zone, no ambiguity.

RFC 3339 in, RFC 3339 with Z out. Digits past the microsecond are cut off, never rounded up into the next instant.
"""

import re
from datetime import UTC, datetime
from typing import Final

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
QUARTER_US: Final = 15 * MINUTE_US
"""Rollup grain: every zone's midnight falls on a quarter of an hour."""
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_instant(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time; ValueError without a zone, or for a day that does not exist."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time like 2026-10-03T10:11:12Z")
    year, month, day, hour, minute, second, fraction, _, sign, off_hour, off_minute = match.groups()
    if int(second) == 60:  # a leap second is the last instant before the next minute
        second, fraction = "59", "999999"
    base = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    instant = from_datetime(base) + int((fraction or "0")[:6].ljust(6, "0"))
    if sign:
        if int(off_hour) > 23 or int(off_minute) > 59:
            raise ValueError(f"{text!r} has no valid zone offset")
        offset = int(off_hour) * HOUR_US + int(off_minute) * MINUTE_US
        instant += -offset if sign == "+" else offset
    return instant


def from_datetime(moment: datetime) -> int:
    """Microseconds of an aware datetime; ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is not an instant")
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND_US + delta.microseconds


def to_datetime(instant_us: int) -> datetime:
    """The aware UTC datetime of an instant."""
    seconds, micro = divmod(instant_us, SECOND_US)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=micro)


def format_instant(instant_us: int) -> str:
    """RFC 3339 in UTC with Z; a fraction only where there is one (3 or 6 digits)."""
    moment = to_datetime(instant_us)
    base = moment.strftime("%Y-%m-%dT%H:%M:%S") if moment.year >= 1000 else moment.isoformat()[:19]
    micro = moment.microsecond
    if not micro:
        return base + "Z"
    return f"{base}.{micro // 1000:03d}Z" if micro % 1000 == 0 else f"{base}.{micro:06d}Z"


def quarter_of(instant_us: int) -> int:
    """Start of the quarter of an hour that holds the instant."""
    return instant_us - instant_us % QUARTER_US

"""How documents write numbers, dates, units and line types, the same in every format that people read.

English, with dates that cannot be misread (day and month name) and a point before the decimals. Nothing here rounds.
"""

from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from billing.lines import METER_NAMES
from schemas.money import Money, plain
from schemas.periods import local_date

MINUS: Final = "\u2212"
"""The minus sign: as wide as a plus, so columns of figures stay aligned."""

_MONTHS: Final = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)


def _signed(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text


def _grouped(text: str) -> str:
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, point, places = digits.partition(".")
    return _signed(f"{sign}{int(whole):,}{point}{places}")


def money_text(amount: Decimal, currency: str) -> str:
    """ "1,234.50" with the minor unit in full and any further places; a minus sign for what is given back."""
    return _grouped(Money(amount, currency).text())


def number_text(value: Decimal | int) -> str:
    """ "1,234,567.25": every place there is and no more."""
    return _grouped(plain(Decimal(value)))


def percent_text(rate: Decimal) -> str:
    """ "19 %" of a share of 0.19."""
    return number_text(rate.scaleb(2)) + " %"


def date_text(day: date) -> str:
    """ "1 October 2026"."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def month_text(month: str) -> str:
    """ "October 2026" of "2026-10"."""
    year, _, number = month.partition("-")
    return f"{_MONTHS[int(number) - 1]} {year}"


def last_day(end_us: int, timezone: str) -> date:
    """The last local day of a half-open period: the day of its last microsecond."""
    return local_date(end_us - 1, timezone)


def period_text(start_us: int, end_us: int, timezone: str) -> str:
    """ "1 to 31 October 2026": first and last day, both included, in the zone."""
    first, last = local_date(start_us, timezone), last_day(end_us, timezone)
    if first == last:
        return date_text(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {date_text(last)}"
    return f"{date_text(first)} to {date_text(last)}"


def due_date(issued: date, days_until_due: int) -> date:
    """The last day on which a payment is in time."""
    return issued + timedelta(days=days_until_due)


def unit_name(meter: str | None) -> str:
    """What a quantity of the meter counts, as invoice lines call it: "cached input tokens"."""
    name = METER_NAMES.get(meter or "", meter or "")
    return name[:1].lower() + name[1:]

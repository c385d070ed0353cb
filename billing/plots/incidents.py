"""A leak incident: what the key did by the minute, what was to be expected, and when the alarm went."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from billing.plots.canvas import COLOURS, Look, PlotError, Theme, clipped, draw, legend, nothing, short_number
from schemas.instants import MINUTE_US, to_datetime
from schemas.periods import zone

_TICKS_MAX: Final = 8
_STEPS_MIN: Final = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)
"""Distances of clock times on the axis, in minutes, as a clock face has them."""


class Minute(NamedTuple):
    """One minute of a key: its count, and what its baseline led to expect (None while it learns)."""

    at_us: int
    amount: int
    expected: float | None = None


class Mark(NamedTuple):
    """An alert on the time axis, with a short text."""

    at_us: int
    text: str


def _ticks(first_us: int, last_us: int, timezone: str) -> list[int]:
    """Instants of round local clock times, at most _TICKS_MAX and a few."""
    span = max(1, (last_us - first_us) // MINUTE_US)
    step = next((n for n in _STEPS_MIN if span / n <= _TICKS_MAX), -(-span // (_TICKS_MAX * 1440)) * 1440)
    start = to_datetime(first_us).astimezone(zone(timezone))
    past = (start.hour * 60 + start.minute) % min(step, 1440)
    at = first_us - past * MINUTE_US - first_us % MINUTE_US
    return [tick for tick in range(at, last_us + 1, step * MINUTE_US) if tick >= first_us]


def _clock(at_us: int, timezone: str, *, dated: bool) -> str:
    local = to_datetime(at_us).astimezone(zone(timezone))
    return f"{local:%m-%d %H:%M}" if dated else f"{local:%H:%M}"


def _paint(axes: Axes, theme: Theme, minutes: Sequence[Minute], marks: Sequence[Mark], unit: str, tz: str) -> None:
    if not minutes:
        nothing(axes, theme, "No usage in this time.")
        return
    first, last = minutes[0].at_us, minutes[-1].at_us
    at = [(minute.at_us - first) / MINUTE_US for minute in minutes]
    counts = [minute.amount for minute in minutes]
    axes.step(at, counts, where="post", color=COLOURS[0], linewidth=1.2, label=unit + " a minute")
    known = [(x, minute) for x, minute in zip(at, minutes, strict=True) if minute.expected is not None]
    if known:
        xs = [x for x, _ in known]
        expected = [minute.expected or 0.0 for _, minute in known]
        seen = [minute.amount for _, minute in known]
        axes.plot(xs, expected, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 2)), label="expected")
        over = [count > level for count, level in zip(seen, expected, strict=True)]
        axes.fill_between(xs, expected, seen, where=over, step="post", color=COLOURS[5], alpha=0.35,
                          linewidth=0, label="more than expected")  # fmt: skip
    for number, mark in enumerate(marks):
        x = (mark.at_us - first) / MINUTE_US
        axes.axvline(x, color=theme.alarm, linewidth=1.4)
        # High in the picture, in turn, and on the side that has room.
        right = x < 0.7 * at[-1] or at[-1] == 0
        axes.annotate(clipped(f"{_clock(mark.at_us, tz, dated=False)} {mark.text}", 60), (x, 1.0),
                      xycoords=("data", "axes fraction"), xytext=(4 if right else -4, -10 - 12 * (number % 4)),
                      textcoords="offset points", ha="left" if right else "right", color=theme.alarm,
                      fontsize=8, fontweight="bold",
                      bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 1, "alpha": 0.8})  # fmt: skip
    ticks = _ticks(first, last, tz)
    days = {(to_datetime(us).astimezone(zone(tz))).date() for us in (first, last)}
    axes.set_xticks([(us - first) / MINUTE_US for us in ticks], [_clock(us, tz, dated=len(days) > 1) for us in ticks])
    axes.set_xlim(0, max(at[-1], 1))
    axes.set_ylim(bottom=0, top=1.18 * max(1.0, *counts, *(minute.expected or 0 for minute in minutes)))
    local = to_datetime(first).astimezone(zone(tz))
    axes.set_xlabel(f"{local:%Y-%m-%d}, {tz}")
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    legend(axes, theme)


def with_idle_minutes(minutes: Sequence[Minute], last_expected: float | None = None) -> list[Minute]:
    """The minutes in order, with a zero for each idle one between two of them: a line must not hide a silence.

    An idle minute keeps the expectation of the minute before it.
    """
    filled: list[Minute] = []
    for minute in sorted(minutes):
        if filled and minute.at_us == filled[-1].at_us:
            raise PlotError(f"two counts for one minute, {to_datetime(minute.at_us).isoformat()}: add them up first")
        while filled and minute.at_us - filled[-1].at_us > MINUTE_US:
            filled.append(Minute(filled[-1].at_us + MINUTE_US, 0, last_expected))
        last_expected = minute.expected
        filled.append(minute)
    return filled


def incident(
    minutes: Sequence[Minute],
    marks: Sequence[Mark],
    title: str,
    unit: str = "tokens",
    timezone: str = "UTC",
    look: Look | None = None,
) -> bytes:
    """The key's minutes as a line with its baseline, the excess shaded, a line at each alert; times of the zone."""
    if minutes and max(minutes).at_us - min(minutes).at_us > timedelta(days=31) // timedelta(microseconds=1):
        raise PlotError("an incident plot shows minutes, of 31 days at most: choose a shorter time")
    filled = with_idle_minutes(minutes)
    ordered = sorted(marks)
    return draw(
        lambda axes, theme: _paint(axes, theme, filled, ordered, unit, timezone), title, look or Look(height_in=3.8)
    )

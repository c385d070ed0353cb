"""Usage by day, stacked by whatever the counts are labelled with: model, tenant, key or token class."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import FuncFormatter

from billing.plots.canvas import REST_COLOUR, Look, Theme, clipped, colour, draw, legend, nothing, short_number

SERIES_MAX: Final = 7
"""Series with a colour of their own; the rest are added up as one, so that every token stays in the picture."""


class DayCount(NamedTuple):
    """A count of one series on one local day."""

    day: date
    label: str
    amount: int


def daily_table(counts: Iterable[DayCount]) -> pd.DataFrame:
    """Days down without a gap, series across by falling sum; beyond SERIES_MAX they are one column `n others`.

    Counts stay Python integers.
    """
    frame = pd.DataFrame(list(counts), columns=list(DayCount._fields), dtype=object)
    if frame.empty:
        return pd.DataFrame()
    wide = frame.pivot_table(index="day", columns="label", values="amount", aggfunc="sum", fill_value=0)
    first, last = min(wide.index), max(wide.index)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    wide = wide.reindex(days, fill_value=0).astype(object)
    sums = {str(label): int(sum(wide[label])) for label in wide.columns}
    order = sorted(sums, key=lambda label: (-sums[label], label))
    wide = wide[order]
    if len(order) > SERIES_MAX:
        rest = order[SERIES_MAX:]
        others = [sum(int(value) for value in row) for row in wide[rest].itertuples(index=False)]
        wide = wide[order[:SERIES_MAX]].copy()
        wide[f"{len(rest)} others"] = pd.Series(others, index=wide.index, dtype=object)
    return wide


def _paint(axes: Axes, theme: Theme, table: pd.DataFrame, unit: str) -> None:
    if table.empty:
        nothing(axes, theme, "No usage in this time.")
        return
    places = list(range(len(table)))
    below = [0] * len(table)
    for index, label in enumerate(table.columns):
        counts = [int(value) for value in table[label]]
        total = f"{sum(counts):,}"
        fill = REST_COLOUR if index >= SERIES_MAX else colour(index)
        # One collection a series: a year's quarter has hundreds of bars, and each by itself takes a millisecond.
        bars = [
            [(at - 0.42, low), (at - 0.42, low + count), (at + 0.42, low + count), (at + 0.42, low)]
            for at, low, count in zip(places, below, counts, strict=True)
            if count
        ]
        axes.add_collection(PolyCollection(bars, facecolor=fill, label=f"{clipped(label)}  ({total})"))
        below = [low + count for low, count in zip(below, counts, strict=True)]
    step = max(1, -(-len(places) // 12))  # a dozen dates fit side by side
    axes.set_xticks(places[::step], [f"{day:%Y-%m-%d}"[5:] for day in table.index[::step]])
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_ylim(0, max(below) * 1.05 or 1)
    axes.set_xlabel(f"{table.index[0]} to {table.index[-1]}")
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    legend(axes, theme)


def usage_by_day(counts: Iterable[DayCount], title: str, unit: str = "tokens", look: Look | None = None) -> bytes:
    """Bars by day, stacked by label, the largest series at the bottom; the legend gives each exact sum."""
    table = daily_table(counts)
    return draw(lambda axes, theme: _paint(axes, theme, table, unit), title, look or Look())

"""Leak scores of a key by the hour: how surprising its use was, against the most that it has shown before."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from billing.plots.canvas import REST_COLOUR, Look, Theme, clipped, colour, draw, legend, nothing, short_number
from schemas.instants import DAY_US, HOUR_US, to_datetime

SERIES_MAX: Final = 5
"""Tenants with a colour of their own: those with the highest scores; the rest show by their highest hour."""


class HourScore(NamedTuple):
    """The highest score of one tenant's use in the hour that begins at at_us; 1 is the key's own record."""

    at_us: int
    label: str
    score: float


def _series(scores: Iterable[HourScore]) -> list[tuple[str, dict[int, float]]]:
    """Label to hours, by falling highest score; beyond SERIES_MAX, and without a label, one series `others`."""
    found: dict[str, dict[int, float]] = {}
    rest: dict[int, float] = {}
    for one in scores:
        hours = found.setdefault(one.label, {}) if one.label else rest
        hours[one.at_us] = max(one.score, hours.get(one.at_us, 0.0))
    ordered = sorted(found.items(), key=lambda item: (-max(item[1].values()), item[0]))
    for _, hours in ordered[SERIES_MAX:]:
        for at_us, score in hours.items():
            rest[at_us] = max(score, rest.get(at_us, 0.0))
    return [*ordered[:SERIES_MAX], *([("others", rest)] if rest else [])]


def _paint(
    axes: Axes, theme: Theme, series: list[tuple[str, dict[int, float]]], marks: Sequence[int], span: tuple[int, int]
) -> None:
    if not series:
        nothing(axes, theme, "No use out of the ordinary in this time.")
        return
    first, last = span[0] - span[0] % HOUR_US, span[1]
    hours = list(range(first, last, HOUR_US))
    places = [(at - first) / HOUR_US for at in hours]
    for index, (label, scores) in enumerate(series):
        fill = REST_COLOUR if index >= SERIES_MAX else colour(index)
        axes.step(places, [scores.get(at, 0.0) for at in hours], where="post", color=fill, linewidth=1.3,
                  label=clipped(label))  # fmt: skip
    axes.axhline(1, color=theme.ink, linewidth=1.0, linestyle=(0, (4, 2)), label="its own record")
    for number, at_us in enumerate(marks):
        # One entry in the legend for all of them.
        axes.axvline((at_us - first) / HOUR_US, color=theme.alarm, linewidth=1.2, label="_" * bool(number) + "alert")
    days = [at for at in hours if at % (DAY_US) == 0]
    step = max(1, -(-len(days) // 10))
    axes.set_xticks(
        [(at - first) / HOUR_US for at in days[::step]], [f"{to_datetime(at):%m-%d}" for at in days[::step]]
    )
    axes.set_xlim(0, max(1, len(hours)))
    # Ordinary use lies between 0 and 1, a leak at tens or hundreds: both can be read.
    axes.set_yscale("symlog", linthresh=2)
    axes.set_ylim(0, 1.5 * max(2.0, *(max(scores.values()) for _, scores in series)))
    axes.set_xlabel("hours, UTC")
    axes.set_ylabel("score")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    legend(axes, theme)


def leak_scores(
    scores: Iterable[HourScore], marks: Iterable[int], span: tuple[int, int], title: str, look: Look | None = None
) -> bytes:
    """A line a tenant, with the alerts (marks, instants in microseconds) across. span: half open, microseconds."""
    series = _series(one for one in scores if span[0] <= one.at_us < span[1])
    inside = sorted(at for at in marks if span[0] <= at < span[1])
    return draw(lambda axes, theme: _paint(axes, theme, series, inside, span), title, look or Look(height_in=3.6))

"""Quota bars: how much of each limit is used and reserved."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from matplotlib.axes import Axes

from billing.plots.canvas import COLOURS, Look, Theme, clipped, draw, nothing
from schemas.money import plain

_WIDEST: Final = 1.25
"""Share of the limit at which a bar is cut off; its text says how far it really went."""


class QuotaBar(NamedTuple):
    """One quota's window. limit None: unlimited. unit: what the figures count, such as "tokens" or a currency."""

    name: str
    used: Decimal
    reserved: Decimal
    limit: Decimal | None
    unit: str = ""


def _figure(value: Decimal) -> str:
    whole, point, places = plain(value).partition(".")
    return f"{int(whole):,}{point}{places}"


def bar_text(bar: QuotaBar) -> str:
    """ "40 of 50 USD, 8 reserved (80 %)": exact figures; the share is of what is used, cut down to whole per cent."""
    figures = [_figure(bar.used), "" if bar.limit is None else f"of {_figure(bar.limit)}", bar.unit]
    text = " ".join(figure for figure in figures if figure)
    if bar.reserved:
        text += f", {_figure(bar.reserved)} reserved"
    if bar.limit is None:
        text += ", no limit"
    if bar.limit:
        text += f" ({int(bar.used * 100 // bar.limit)} %)"
    return text


def _shares(bar: QuotaBar) -> tuple[float, float]:
    """Used and reserved as shares of the limit, for drawing. A limit of 0 is full; none is never filled."""
    if bar.limit is None:
        return 0.0, 0.0
    if bar.limit == 0:
        return 1.0, 0.0
    used = min(float(bar.used / bar.limit), _WIDEST)
    return used, min(float(bar.reserved / bar.limit), _WIDEST - used)


def _paint(axes: Axes, theme: Theme, bars: Sequence[QuotaBar]) -> None:
    if not bars:
        nothing(axes, theme, "No quotas.")
        return
    for place, bar in enumerate(bars):
        used, reserved = _shares(bar)
        full = bar.limit is not None and bar.used + bar.reserved >= bar.limit
        fill = theme.alarm if full else COLOURS[0]
        axes.barh(place, 1 if bar.limit is not None else 0, height=0.42, color=theme.faint, alpha=0.5)
        axes.barh(place, used, height=0.42, color=fill)
        axes.barh(place, reserved, left=used, height=0.42, facecolor="none", edgecolor=fill, hatch="////", linewidth=0)
        axes.annotate(bar_text(bar) + (" \u2014 full" if full else ""), (0, place), xytext=(0, 13),
                      textcoords="offset points", va="center", color=theme.ink, fontsize=8)  # fmt: skip
    axes.axvline(1, color=theme.ink, linewidth=1)
    axes.set_yticks(range(len(bars)), [clipped(bar.name, 28) for bar in bars])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "limit"])
    axes.set_xlim(0, _WIDEST)
    axes.set_ylim(len(bars) - 0.5, -0.75)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def quota_bars(bars: Sequence[QuotaBar], title: str, look: Look | None = None) -> bytes:
    """A bar for each quota: used solid, reserved hatched, the limit a line; full ones in alarm colour and words."""
    chosen = look or Look(height_in=max(1.8, 1.0 + 0.55 * len(bars)))
    return draw(lambda axes, theme: _paint(axes, theme, bars), title, chosen)

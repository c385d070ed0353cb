"""The drawing surface of all plots: no display, no figure that outlives its call, the same bytes for the same data.

Plots place marks by floats, as screens do; every figure that is written out comes from the exact value. Texts are shown
as they are: a model called "$x$" is no formula. Colours are told apart by colour-blind readers too (the eight of
Okabe and Ito), and never carry a meaning alone.
"""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FORMATS: Final = {"png": "image/png", "svg": "image/svg+xml"}
"""Formats of a plot and their Content-Type."""

COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
REST_COLOUR: Final = "#8a8f98"
"""For everything that has no colour of its own."""

DPI: Final = 144
_SETTINGS: Final[Any] = {
    "svg.hashsalt": "tollhouse",  # ids in the file come from the content, not from chance
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "hatch.linewidth": 0.6,
}
# The library keeps its settings for the whole process and does not promise to draw in several threads at once.
_ONE_AT_A_TIME: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of what is not data."""

    paper: str
    ink: str
    faint: str
    alarm: str


THEMES: Final = {
    "light": Theme("#ffffff", "#1b2330", "#c9ced6", "#b3261e"),
    "dark": Theme("#14181f", "#e6e9ee", "#3a424e", "#ff8a80"),
}


class PlotError(ValueError):
    """The plot cannot be drawn; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a plot is delivered: format png or svg, theme light or dark, size in inches of 144 dots."""

    format: str = "png"
    theme: str = "light"
    width_in: float = 9.0
    height_in: float = 4.2

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise PlotError(f"{self.format!r} is not a plot format: use {', '.join(FORMATS)}")
        if self.theme not in THEMES:
            raise PlotError(f"{self.theme!r} is not a theme: use {', '.join(THEMES)}")


def colour(index: int) -> str:
    """The colour of the series with this number from 0; after the last, the one for the rest."""
    return COLOURS[index] if index < len(COLOURS) else REST_COLOUR


def draw(paint: Callable[[Axes, Theme], None], title: str, look: Look) -> bytes:
    """The picture that `paint` makes on one pair of axes, with the title above it."""
    theme = THEMES[look.theme]
    with _ONE_AT_A_TIME, mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(look.width_in, look.height_in), dpi=DPI, facecolor=theme.paper, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _dress(axes, theme)
        axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold", pad=10)
        paint(axes, theme)
        out = io.BytesIO()
        metadata = {"Date": None, "Title": title} if look.format == "svg" else {"Title": title, "Software": None}
        figure.savefig(out, format=look.format, metadata=metadata, facecolor=theme.paper)
    return out.getvalue()


def _dress(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(theme.faint)
    axes.tick_params(colors=theme.ink, length=3)
    axes.yaxis.label.set_color(theme.ink)
    axes.xaxis.label.set_color(theme.ink)


def legend(axes: Axes, theme: Theme) -> None:
    """A legend beside the plot, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, labelcolor=theme.ink, fontsize=8)


def nothing(axes: Axes, theme: Theme, text: str) -> None:
    """Says that there is nothing to show, instead of empty axes that look like a fault."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=theme.ink)


def short_number(value: float) -> str:
    """An axis figure: "1.2 M" for 1,200,000. For axes only, where rounding is expected."""
    for limit, suffix in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}".replace("-", "\u2212")
    return f"{value:.4g}".replace("-", "\u2212")


def clipped(text: str, characters: int = 32) -> str:
    """The text, with its middle left out where it is long: names differ at both ends."""
    if len(text) <= characters:
        return text
    head = (characters - 1) // 2
    return f"{text[:head]}\u2026{text[-(characters - 1 - head) :]}"

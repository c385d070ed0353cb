"""Invoices month over month: what was billed, by type of line, and how the total changed."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from billing.plots.canvas import Look, PlotError, Theme, colour, draw, legend, nothing, short_number
from schemas.invoice import LINE_TYPES, Invoice, InvoiceSummary
from schemas.money import Money, round_half_up
from schemas.periods import next_month

_NAMES: Final = {
    "usage": "usage",
    "fee": "fees",
    "true_up": "true-up to the minimum",
    "adjustment": "adjustments",
    "credit": "credits",
    "tax": "tax",
}

_ROOM: Final = 6
"""Bars that the paper has room for at least: one month alone is a bar, not a wall."""


def month_table(invoices: Iterable[Invoice | InvoiceSummary]) -> pd.DataFrame:
    """Months down without a gap, line types across, then `total` and `change` (share of the month before, or None).

    Exact Decimals throughout. Void invoices are left out; tax within the prices stays in its lines. PlotError for
    several currencies: there is no sum of them.
    """
    kept = [invoice for invoice in invoices if invoice.status != "void"]
    currencies = sorted({invoice.currency for invoice in kept})
    if len(currencies) > 1:
        raise PlotError(f"invoices in {', '.join(currencies)} have no common sum: choose one currency")
    if not kept:
        return pd.DataFrame()
    amounts = [(invoice.month, *part) for invoice in kept for part in invoice.by_type().items()]
    frame = pd.DataFrame(amounts, columns=["month", "type", "amount"], dtype=object)
    sums = {key: sum(group, Decimal(0)) for key, group in frame.groupby(["month", "type"])["amount"]}
    totals: dict[str, Decimal] = {}
    for invoice in kept:
        totals[invoice.month] = totals.get(invoice.month, Decimal(0)) + invoice.total
    months = [min(totals)]
    while months[-1] < max(totals):
        months.append(next_month(months[-1]))
    table = pd.DataFrame(index=pd.Index(months, name="month"), dtype=object)
    for type_ in LINE_TYPES:
        table[type_] = pd.Series([sums.get((month, type_), Decimal(0)) for month in months], months, dtype=object)
    column = [totals.get(month, Decimal(0)) for month in months]
    table["total"] = pd.Series(column, months, dtype=object)
    before = [None, *column[:-1]]
    changes = [(now - then) / then if then else None for now, then in zip(column, before, strict=True)]
    table["change"] = pd.Series(changes, months, dtype=object)
    return table


def _change_text(change: Decimal | None) -> str:
    if change is None:
        return ""
    percent = round_half_up(change.scaleb(2), "JPY")  # whole per cent
    return f"\n{'+' if percent >= 0 else chr(0x2212)}{abs(percent):,} %"


def _paint(axes: Axes, theme: Theme, table: pd.DataFrame, currency: str) -> None:
    if table.empty:
        nothing(axes, theme, "No invoices in this time.")
        return
    places = list(range(len(table)))
    above, below = [0.0] * len(table), [0.0] * len(table)
    for index, type_ in enumerate(LINE_TYPES):
        amounts = [float(amount) for amount in table[type_]]  # positions on the paper; texts below are exact
        if not any(amounts):
            continue
        low = [up if amount >= 0 else down for amount, up, down in zip(amounts, above, below, strict=True)]
        axes.bar(places, amounts, bottom=low, width=0.62, color=colour(index), label=_NAMES[type_])
        above = [up + max(amount, 0) for up, amount in zip(above, amounts, strict=True)]
        below = [down + min(amount, 0) for down, amount in zip(below, amounts, strict=True)]
    for place, top, total, change in zip(places, above, table["total"], table["change"], strict=True):
        text = Money(total, currency).text() + _change_text(change)
        axes.annotate(text, (place, top), xytext=(0, 3), textcoords="offset points", ha="center", color=theme.ink,
                      fontsize=8 if len(table) <= 12 else 6)  # fmt: skip
    axes.axhline(0, color=theme.ink, linewidth=0.8)
    axes.set_xticks(places, list(table.index), rotation=0 if len(table) <= 8 else 45)
    axes.set_xlim(-0.6, max(len(table), _ROOM) - 0.4)
    axes.set_ylabel(currency)
    axes.margins(y=0.16)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    legend(axes, theme)


def month_over_month(invoices: Iterable[Invoice | InvoiceSummary], title: str, look: Look | None = None) -> bytes:
    """A bar a month, stacked by type of line, what is given back below zero; above it total and change."""
    known = list(invoices)
    table = month_table(known)
    currency = known[0].currency if known else ""
    return draw(lambda axes, theme: _paint(axes, theme, table, currency), title, look or Look())

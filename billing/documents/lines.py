"""An invoice as rows: one for each line, one for each part of a line. The tables of CSV and XLSX.

Text, dates, integers and exact decimals; what turns them into bytes decides how each is written.
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Final

from billing.documents.wording import last_day
from schemas.invoice import Invoice, InvoiceLine
from schemas.periods import local_date

Cell = str | int | Decimal | date | None

LINE_COLUMNS: Final = (
    "invoice",
    "tenant",
    "month",
    "revision",
    "status",
    "line",
    "type",
    "description",
    "meter",
    "models",
    "plan",
    "for_month",
    "credit",
    "period_first_day",
    "period_last_day",
    "quantity",
    "unrounded",
    "amount",
    "tax",
    "currency",
)
PART_COLUMNS: Final = (
    "line",
    "plan",
    "tier",
    "quantity",
    "unit_price",
    "per",
    "unrounded",
    "currency",
    "models",
    "note",
)
MONEY_COLUMNS: Final = frozenset({"amount", "tax"})
"""Columns in whole minor units of the currency; `unrounded` and `unit_price` have every place they need."""


def line_row(invoice: Invoice, line: InvoiceLine, timezone: str) -> tuple[Cell, ...]:
    """The line in the order of LINE_COLUMNS; both days of the period are included in it."""
    return (
        invoice.number,
        invoice.tenant,
        invoice.month,
        invoice.revision,
        invoice.status,
        line.id,
        line.type,
        line.description,
        line.meter,
        line.models,
        line.plan,
        line.for_month,
        line.credit,
        local_date(line.period_start_us, timezone),
        last_day(line.period_end_us, timezone),
        line.quantity,
        line.unrounded,
        line.amount,
        line.tax,
        invoice.currency,
    )


def line_rows(invoice: Invoice, timezone: str) -> Iterator[tuple[Cell, ...]]:
    """All lines in the invoice's order."""
    return (line_row(invoice, line, timezone) for line in invoice.lines)


def part_rows(invoice: Invoice) -> Iterator[tuple[Cell, ...]]:
    """All parts of all lines, in the order of PART_COLUMNS."""
    for line in invoice.lines:
        for part in line.parts:
            yield (
                line.id,
                part.plan,
                part.tier or None,
                part.quantity,
                part.unit_price,
                part.per,
                part.amount,
                invoice.currency,
                " ".join(part.models),
                part.note,
            )

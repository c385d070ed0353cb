"""CSV: the lines of an invoice, or its usage by day. UTF-8, comma, CRLF (RFC 4180), one header row.

Amounts are plain decimals in the currency's minor unit in full ("12.30"), never with an exponent or a float.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

from billing.documents.cells import safe_text
from billing.documents.lines import LINE_COLUMNS, MONEY_COLUMNS, Cell, line_rows
from billing.documents.usage import COLUMNS, UsageDay, usage_frame
from schemas.invoice import Invoice
from schemas.money import Money, plain


def _text(column: str, cell: Cell, currency: str) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return safe_text(cell)
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, Decimal):
        return Money(cell, currency).text() if column in MONEY_COLUMNS else plain(cell)
    return str(cell)


def _table(header: Sequence[str], rows: Iterable[Iterable[Cell]], currency: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_text(column, cell, currency) for column, cell in zip(header, row, strict=True)] for row in rows)
    return out.getvalue().encode()


def lines_csv(invoice: Invoice, timezone: str) -> bytes:
    """One row a line, credits and tax among them: the amounts add up to the total, inclusive tax apart."""
    return _table(LINE_COLUMNS, line_rows(invoice, timezone), invoice.currency)


def usage_csv(rows: Iterable[UsageDay], currency: str) -> bytes:
    """One row a (date, model, key), counts by class."""
    return _table(COLUMNS, usage_frame(rows).itertuples(index=False, name=None), currency)

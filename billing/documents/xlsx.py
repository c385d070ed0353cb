"""XLSX: lines, the prices behind them, usage by day, tokens by day and model. Same invoice, same bytes.

Numbers are written from the exact decimal, never through a float. A spreadsheet keeps 15 significant digits: a longer
number is written as text rather than falsified. Text is text: nothing in a cell is run, and what looks like a formula
is marked so that it stays text when the sheet is saved as something else.
"""

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import xlsxwriter

from billing.documents.cells import safe_text
from billing.documents.errors import DocumentError
from billing.documents.lines import LINE_COLUMNS, MONEY_COLUMNS, PART_COLUMNS, Cell, line_rows, part_rows
from billing.documents.usage import COLUMNS, UsageDay, pivot_by_day, usage_frame
from schemas.instants import to_datetime
from schemas.invoice import Invoice
from schemas.money import exponent, plain

_DIGITS_MAX: Final = 15
"""Significant digits of an IEEE double that survive reading and writing, and all that a spreadsheet shows."""
_WIDTHS: Final = {"description": 44, "invoice": 20, "line": 24, "note": 36, "models": 24, "model": 26, "key": 22}


def fits(value: Decimal | int) -> bool:
    """Whether a spreadsheet keeps the number exactly."""
    digits = "".join(str(digit) for digit in Decimal(value).as_tuple().digits)
    return len(digits.strip("0")) <= _DIGITS_MAX


class _Book:
    """A workbook in memory with the few cell formats that an invoice needs."""

    def __init__(self, currency: str, created: datetime) -> None:
        self._out = io.BytesIO()
        self._book = xlsxwriter.Workbook(self._out, {"in_memory": True})
        self._book.set_properties({"created": created.astimezone(UTC).replace(tzinfo=None)})
        places = exponent(currency)
        money = "#,##0" + ("." + "0" * places if places else "")
        self._formats: dict[str, Any] = {
            "head": self._book.add_format({"bold": True, "bottom": 1}),
            "money": self._book.add_format({"num_format": f"{money};[Red]-{money}"}),
            "number": self._book.add_format({"num_format": "#,##0.############"}),
            "count": self._book.add_format({"num_format": "#,##0"}),
            "date": self._book.add_format({"num_format": "yyyy-mm-dd"}),
            "quoted": self._book.add_format({"quote_prefix": True}),
            "long": self._book.add_format({"align": "right"}),
        }

    def sheet(self, name: str, header: Sequence[str], rows: Iterable[Iterable[Cell]]) -> None:
        """A sheet with a frozen header row; money columns by name, other numbers with every place they have."""
        sheet = self._book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        for column, title in enumerate(header):
            self._write(sheet, 0, column, "", title, head=True)
            sheet.set_column(column, column, _WIDTHS.get(title, max(11, len(title) + 2)))
        count = 0
        for count, row in enumerate(rows, start=1):
            for column, cell in enumerate(row):
                self._write(sheet, count, column, header[column], cell)
        sheet.autofilter(0, 0, max(count, 1), len(header) - 1)

    def _write(self, sheet: Any, row: int, column: int, title: str, cell: Cell, *, head: bool = False) -> None:
        formats, code = self._formats, 0
        if cell is None or cell == "":
            return
        if isinstance(cell, str):
            quoted = formats["quoted"] if safe_text(cell).startswith("'") and not cell.startswith("'") else None
            code = sheet.write_string(row, column, cell, formats["head"] if head else quoted)
        elif isinstance(cell, date):
            code = sheet.write_datetime(row, column, datetime(cell.year, cell.month, cell.day), formats["date"])  # noqa: DTZ001 - a cell holds a calendar day
        elif not fits(cell):
            code = sheet.write_string(row, column, plain(Decimal(cell)), formats["long"])
        else:
            kind = "money" if title in MONEY_COLUMNS else "number" if isinstance(cell, Decimal) else "count"
            code = sheet.write_number(row, column, cell, formats[kind])
        if code:
            raise DocumentError(f"row {row + 1}, column {column + 1} does not fit a spreadsheet: use the csv format")

    def close(self) -> bytes:
        """The finished file."""
        self._book.close()
        return self._out.getvalue()


def invoice_xlsx(invoice: Invoice, usage_by_day: Sequence[UsageDay], timezone: str) -> bytes:
    """The workbook. Its creation date is the invoice's, so that the same invoice gives the same file."""
    book = _Book(invoice.currency, to_datetime(invoice.finalised_at_us or invoice.period_end_us))
    book.sheet("Lines", LINE_COLUMNS, line_rows(invoice, timezone))
    book.sheet("Prices", PART_COLUMNS, part_rows(invoice))
    book.sheet("Usage by day", COLUMNS, usage_frame(usage_by_day).itertuples(index=False, name=None))
    if usage_by_day:
        wide = pivot_by_day(usage_by_day, by="model", values="tokens")
        book.sheet("Tokens by model", ["date", *wide.columns], wide.itertuples(index=True, name=None))
    return book.close()

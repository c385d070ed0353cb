"""PDF by typst: tagged, with its fonts inside, and the same bytes for the same invoice.

The document's date is the issue date (the period's last day for a draft), never the time of printing. The template
reads no file and no clock; the data comes in as one JSON string and is shown as it is.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import typst

from billing.documents.errors import DocumentError
from billing.documents.fonts import FAMILY, fonts_for
from billing.documents.view import credit_note_view, invoice_view
from schemas.invoice import CreditNote, Invoice

_TEMPLATE: Final = "invoice.typ"
_MM_PER_CHAR: Final = 1.95
"""Width of a digit of DejaVu Sans at the table's size (0.636 em at 8.5 pt), a little more for commas' company."""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _widths(view: dict[str, Any]) -> dict[str, float]:
    """Millimetres for the columns of figures: as wide as the longest figure, within limits."""
    amounts = [row["amount"] for row in (*view["lines"], *view["totals"])]
    quantities = [row["quantity"] for row in view["lines"]]
    for line in view["lines"]:
        amounts += [part["amount"] for part in line["parts"]]
        quantities += [part["quantity"] for part in line["parts"]]

    def width(texts: list[str], low: float, high: float) -> float:
        return min(high, max(low, 2 + _MM_PER_CHAR * max((len(text) for text in texts), default=0)))

    return {"quantity": width(quantities, 20, 40), "price": 33, "amount": width(amounts, 24, 44)}


@lru_cache(maxsize=8)
def _fonts(folders: tuple[Path, ...]) -> typst.Fonts:
    """Read once: opening font files takes longer than setting a page."""
    return typst.Fonts(include_system_fonts=False, font_paths=[str(folder) for folder in folders])


def _compile(view: dict[str, Any]) -> bytes:
    folders, families = fonts_for("".join(_texts(view)))
    data = view | {"widths": _widths(view), "fonts": [FAMILY, *families]}
    year, month, day = view["dated"]
    template = (files("billing.documents") / _TEMPLATE).read_bytes()
    try:
        pdf = typst.compile(
            template,
            format="pdf",
            font_paths=_fonts(folders),
            ignore_system_fonts=True,
            sys_inputs={"data": json.dumps(data, ensure_ascii=False)},
            timestamp=datetime(year, month, day, tzinfo=UTC),
        )
    except typst.TypstError as error:
        raise DocumentError(f"the PDF could not be set: {error}") from error
    if not isinstance(pdf, bytes):
        raise DocumentError("the typesetter gave no PDF")
    return pdf


def invoice_pdf(invoice: Invoice, paper: str, timezone: str) -> bytes:
    """The invoice as a company can send it; a draft and a void one bear a watermark."""
    return _compile(invoice_view(invoice, paper, timezone))


def credit_note_pdf(note: CreditNote, original: Invoice, paper: str, timezone: str) -> bytes:
    """The credit note on the original invoice."""
    return _compile(credit_note_view(note, original, paper, timezone))

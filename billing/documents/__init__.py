"""Documents of an invoice: one entry, `render`, and one module a format. The same invoice gives the same bytes.

Nothing here computes money: amounts are shown as the invoice has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from billing.documents import csv, focus, json, pdf, xlsx
from billing.documents.errors import DocumentError
from billing.documents.usage import UsageDay
from billing.documents.view import PAPERS
from schemas.invoice import CreditNote, Invoice

__all__ = ["FORMATS", "PAPERS", "DocumentError", "UsageDay", "file_name", "media_type", "render", "render_credit_note"]


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be written."""

    invoice: Invoice
    usage: Sequence[UsageDay]
    paper: str
    timezone: str


@dataclass(frozen=True, slots=True)
class _Format:
    """How a format is written, and what its files are called."""

    write: Callable[[_Order], bytes]
    suffix: str
    media_type: str


_FORMATS: Final = {
    "csv": _Format(lambda o: csv.lines_csv(o.invoice, o.timezone), "csv", "text/csv; charset=utf-8"),
    "usage-csv": _Format(lambda o: csv.usage_csv(o.usage, o.invoice.currency), "usage.csv", "text/csv; charset=utf-8"),
    "xlsx": _Format(
        lambda o: xlsx.invoice_xlsx(o.invoice, o.usage, o.timezone),
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    "pdf": _Format(lambda o: pdf.invoice_pdf(o.invoice, o.paper, o.timezone), "pdf", "application/pdf"),
    "json": _Format(
        lambda o: json.to_bytes(json.invoice_data(o.invoice, o.usage, o.timezone)), "json", "application/json"
    ),
    "focus": _Format(lambda o: focus.focus_csv(o.invoice, o.timezone), "focus.csv", "text/csv; charset=utf-8"),
    "focus-parquet": _Format(
        lambda o: focus.focus_parquet(o.invoice, o.timezone), "focus.parquet", "application/vnd.apache.parquet"
    ),
}

FORMATS: Final = tuple(_FORMATS)
"""Formats of an invoice."""


def _known(kind: str, what: str, allowed: Sequence[str]) -> None:
    if kind not in allowed:
        raise DocumentError(f"{kind!r} is not a {what}: use {', '.join(allowed)}")


def render(
    invoice: Invoice,
    format: str,  # noqa: A002 - the word of the command line and of HTTP
    usage_by_day: Sequence[UsageDay] = (),
    paper: str = "a4",
    *,
    timezone: str = "UTC",
) -> bytes:
    """The invoice in one of FORMATS. timezone: the tenant's, in which days are shown; paper: a4 or letter.

    DocumentError for an unknown format or paper, and where the document cannot be made.
    """
    _known(format, "document format", FORMATS)
    _known(paper, "paper", tuple(PAPERS))
    return _FORMATS[format].write(_Order(invoice, usage_by_day, paper, timezone))


def render_credit_note(
    note: CreditNote,
    original: Invoice,
    format: str,  # noqa: A002 - as above
    paper: str = "a4",
    *,
    timezone: str = "UTC",
) -> bytes:
    """The credit note on `original` as pdf or json. DocumentError if it is of another tenant or month."""
    _known(format, "credit note format", ("pdf", "json"))
    _known(paper, "paper", tuple(PAPERS))
    if (note.tenant, note.month, note.currency) != (original.tenant, original.month, original.currency):
        raise DocumentError(
            f"the credit note is for {note.tenant} {note.month} in {note.currency}, "
            f"the invoice for {original.tenant} {original.month} in {original.currency}"
        )
    if format == "json":
        return json.to_bytes(json.credit_note_data(note, original))
    return pdf.credit_note_pdf(note, original, paper, timezone)


def media_type(format: str) -> str:  # noqa: A002 - as above
    """The Content-Type of a format."""
    _known(format, "document format", FORMATS)
    return _FORMATS[format].media_type


def file_name(invoice: Invoice, format: str) -> str:  # noqa: A002 - as above
    """A file name without surprises: the number, or tenant and month of a draft; letters, digits, dots, dashes only."""
    _known(format, "document format", FORMATS)
    stem = invoice.number or f"{invoice.tenant}-{invoice.month}-draft"
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "-" for char in stem).lstrip(".-")
    return f"{safe or 'invoice'}.{_FORMATS[format].suffix}"

"""JSON: the whole invoice with every part behind its lines. Decimals are strings, times RFC 3339 in UTC with Z.

It is the invoice as every other answer shows it (billing.render), with what a receiver of the document needs besides:
the parties, the dates, each line's period and the usage by day. Only whole quantities are numbers.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from billing.documents.usage import UsageDay, usage_frame
from billing.documents.wording import due_date
from billing.render import credit_note_json, invoice_json
from schemas.instants import format_instant
from schemas.invoice import CreditNote, Invoice
from schemas.periods import local_date


def _instant(value_us: int | None) -> str | None:
    return None if value_us is None else format_instant(value_us)


def invoice_data(invoice: Invoice, usage_by_day: Iterable[UsageDay], timezone: str) -> dict[str, Any]:
    """The invoice as plain data, ready for JSON. due_date is a local date, there once the invoice is finalised."""
    shown = invoice_json(invoice, parts=True)
    for line, data in zip(invoice.lines, shown["lines"], strict=True):
        data["period_start"] = format_instant(line.period_start_us)
        data["period_end"] = format_instant(line.period_end_us)
    issued = None if invoice.finalised_at_us is None else local_date(invoice.finalised_at_us, timezone)
    usage = [
        {"date": row["date"].isoformat()} | {name: value for name, value in row.items() if name != "date" and value}
        for row in usage_frame(usage_by_day).to_dict("records")
    ]
    return shown | {
        "timezone": timezone,
        "finalised_at": _instant(invoice.finalised_at_us),
        "issue_date": None if issued is None else issued.isoformat(),
        "due_date": None if issued is None else due_date(issued, invoice.days_until_due).isoformat(),
        "days_until_due": invoice.days_until_due,
        "catalog_version": invoice.catalog_version,
        "seller": asdict(invoice.seller),
        "buyer": asdict(invoice.buyer),
        "usage_by_day": usage,
    }


def credit_note_data(note: CreditNote, original: Invoice) -> dict[str, Any]:
    """The credit note as plain data, with the invoice that it corrects."""
    return credit_note_json(note) | {
        "invoice": original.number,
        "issued_at": _instant(note.issued_at_us),
        "seller": asdict(original.seller),
        "buyer": asdict(original.buyer),
    }


def to_bytes(data: dict[str, Any]) -> bytes:
    """UTF-8 JSON, indented for people, ending in a line feed."""
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()

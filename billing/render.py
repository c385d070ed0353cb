"""Invoices, credit notes and credits as JSON shows them (contract, section 5): money as text, times in UTC."""

from decimal import Decimal
from typing import Any

from billing.credits import CreditBalance
from schemas.instants import format_instant
from schemas.invoice import CreditNote, Invoice, InvoiceLine, LinePart
from schemas.money import Money, plain


def _money(amount: Decimal, currency: str) -> str:
    return Money(amount, currency).text()


def quantity_json(quantity: Decimal | None) -> int | str | None:
    """A whole number as such, any other as decimal text."""
    if quantity is None:
        return None
    return int(quantity) if quantity == quantity.to_integral_value() else plain(quantity)


def part_json(part: LinePart) -> dict[str, Any]:
    """A part of a line: how its amount came about."""
    return {
        "quantity": quantity_json(part.quantity),
        "unit_price": plain(part.unit_price),
        "per": part.per,
        "amount": plain(part.amount),
        "plan": part.plan or None,
        "version_from": None if part.version_from_us is None else format_instant(part.version_from_us),
        "tier": part.tier or None,
        "models": list(part.models),
        "note": part.note or None,
    }


def line_json(line: InvoiceLine, currency: str, *, parts: bool = False) -> dict[str, Any]:
    """One line; with its parts if asked."""
    shown: dict[str, Any] = {
        "id": line.id,
        "type": line.type,
        "description": line.description,
        "meter": line.meter,
        "models": line.models,
        "plan": line.plan,
        "quantity": quantity_json(line.quantity),
        "amount": _money(line.amount, currency),
        "unrounded": None if line.unrounded is None else plain(line.unrounded),
        "tax": _money(line.tax, currency),
        "for_month": line.for_month,
        "credit": line.credit,
    }
    if parts:
        shown["parts"] = [part_json(part) for part in line.parts]
    return shown


def invoice_json(invoice: Invoice, *, parts: bool = False) -> dict[str, Any]:
    """The invoice of the simulation's result, with a few fields more."""
    currency = invoice.currency
    return {
        "tenant": invoice.tenant,
        "month": invoice.month,
        "number": invoice.number,
        "status": invoice.status,
        "revision": invoice.revision,
        "currency": currency,
        "period_start": format_instant(invoice.period_start_us),
        "period_end": format_instant(invoice.period_end_us),
        "lines": [line_json(line, currency, parts=parts) for line in invoice.lines],
        "subtotal": _money(invoice.subtotal, currency),
        "tax": _money(invoice.tax, currency),
        "taxes": [
            {
                "name": tax.name,
                "rate": plain(tax.rate),
                "inclusive": tax.inclusive,
                "base": _money(tax.base, currency),
                "amount": _money(tax.amount, currency),
            }
            for tax in invoice.taxes
        ],
        "total": _money(invoice.total, currency),
        "carried": _money(invoice.carried, currency),
        "held": list(invoice.held),
        "note": invoice.note or None,
    }


def credit_note_json(note: CreditNote) -> dict[str, Any]:
    """The credit note: amount is positive and includes tax."""
    return {
        "tenant": note.tenant,
        "month": note.month,
        "revision": note.revision,
        "number": note.number,
        "amount": _money(note.amount, note.currency),
        "tax": _money(note.tax, note.currency),
        "net": _money(note.net, note.currency),
        "currency": note.currency,
        "reason": note.reason,
        "credits": [{"id": credit, "amount": _money(amount, note.currency)} for credit, amount in note.credits],
    }


def credit_json(balance: CreditBalance, currency: str) -> dict[str, Any]:
    """The credit as of now."""
    return {
        "id": balance.id,
        "tenant": balance.tenant,
        "granted": _money(balance.granted, currency),
        "used": _money(balance.used, currency),
        "remaining": _money(balance.remaining, currency),
        "expired": _money(balance.expired, currency),
    }

"""Invoices and credit notes to plain JSON data and back, without loss: decimals as text, instants as integers."""

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from schemas.catalog import Party
from schemas.invoice import CreditNote, Invoice, InvoiceLine, InvoiceSummary, LinePart, TaxSum

DECIMALS = {
    Invoice: ("subtotal", "tax", "total", "carried"),
    InvoiceLine: ("amount", "quantity", "unrounded", "tax"),
    LinePart: ("quantity", "unit_price", "amount"),
    TaxSum: ("rate", "base", "amount"),
    CreditNote: ("amount", "tax", "net"),
}


def _plain(value: Any) -> Any:
    """Decimals to text, tuples to lists, all the way down."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    return value


def invoice_to_data(invoice: Invoice) -> dict[str, Any]:
    """Plain data of an invoice."""
    data = _plain(asdict(invoice))
    assert isinstance(data, dict)
    return data


def credit_note_to_data(note: CreditNote) -> dict[str, Any]:
    """Plain data of a credit note."""
    data = _plain(asdict(note))
    assert isinstance(data, dict)
    return data


def _members(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """The members, decimals read back."""
    found = dict(data)
    for name in DECIMALS[kind]:
        if found.get(name) is not None:
            found[name] = Decimal(found[name])
    return found


def _part(data: Mapping[str, Any]) -> LinePart:
    members = _members(LinePart, data)
    members["models"] = tuple(members["models"])
    return LinePart(**members)


def _line(data: Mapping[str, Any]) -> InvoiceLine:
    members = _members(InvoiceLine, data)
    members["parts"] = tuple(_part(part) for part in members["parts"])
    return InvoiceLine(**members)


def invoice_from_data(data: Mapping[str, Any]) -> Invoice:
    """The invoice that invoice_to_data was given."""
    members = _members(Invoice, data)
    members["lines"] = tuple(_line(line) for line in members["lines"])
    members["taxes"] = tuple(TaxSum(**_members(TaxSum, tax)) for tax in members["taxes"])
    members["held"] = tuple(members["held"])
    members["seller"] = Party(**members["seller"])
    members["buyer"] = Party(**members["buyer"])
    return Invoice(**members)


def credit_note_from_data(data: Mapping[str, Any]) -> CreditNote:
    """The credit note that credit_note_to_data was given."""
    members = _members(CreditNote, data)
    members["credits"] = tuple((credit, Decimal(amount)) for credit, amount in members["credits"])
    return CreditNote(**members)


def invoice_summary_from_data(data: Mapping[str, Any]) -> InvoiceSummary:
    """The summary of an invoice from plain data with amounts as text."""
    members = {**data, "held": tuple(data["held"])}
    members |= {name: Decimal(data[name]) for name in ("subtotal", "tax", "total")}
    return InvoiceSummary(**{**members, "types": {name: Decimal(amount) for name, amount in data["types"].items()}})

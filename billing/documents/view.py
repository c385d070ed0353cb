"""What a printed invoice or credit note says, as plain data: every figure already in words, nothing left to compute.

The template only lays it out. Data reaches it as JSON and is never evaluated, whatever a name contains.
"""

import re
from datetime import date
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any, Final

from billing.documents.wording import (
    date_text,
    due_date,
    last_day,
    money_text,
    month_text,
    number_text,
    percent_text,
    period_text,
    unit_name,
)
from schemas.catalog import Party
from schemas.invoice import CreditNote, Invoice, InvoiceLine, LinePart
from schemas.money import EXACT, plain
from schemas.periods import local_date

PAPERS: Final = {"a4": "a4", "letter": "us-letter"}
"""Paper by the name that callers use; the value is the typesetter's."""

CHARGE_TYPES: Final = ("usage", "true_up", "fee", "adjustment")
"""Lines that the subtotal adds up; credits and tax come after it."""

_BY_DAYS: Final = ("fee", "true_up")
"""Lines whose parts are a monthly amount times days, per days of the month."""

_EIGHTH: Final = Decimal("1E-8")
_WATERMARKS: Final = {"draft": "DRAFT", "void": "VOID"}
_RUN_MAX: Final = 22
"""Characters without a break that still fit the narrowest column; longer ones get places to break."""
_LONG_RUN: Final = re.compile(rf"\S{{{_RUN_MAX}}}(?=\S)")


def breakable(text: str) -> str:
    """The text with invisible places to break in runs without any, so that no name leaves its column."""
    return _LONG_RUN.sub(lambda run: run[0] + "\u200b", text)


def party_view(party: Party) -> dict[str, Any]:
    """Name and the lines below it."""
    address = [part.strip() for part in party.address.splitlines() if part.strip()]
    lines = [*address, party.country, party.email]
    if party.tax_id:
        lines.append(f"Tax ID {party.tax_id}")
    return {"name": breakable(party.name), "lines": [breakable(line) for line in lines if line]}


def price_text(price: Decimal, per: int, currency: str) -> str:
    """ "0.30 per 1,000,000"; the price alone where it is for one unit."""
    text = money_text(_trimmed(price), currency)
    return text if per == 1 else f"{text} per {number_text(per)}"


def _trimmed(amount: Decimal) -> Decimal:
    """Without the zeros behind the last place that says something; the wording puts back what the currency shows."""
    return Decimal(plain(amount))


def exact_text(amount: Decimal, currency: str) -> str:
    """An amount before rounding: every place up to the eighth, and an ellipsis for what is cut off after it."""
    with localcontext(EXACT):
        cut = amount.quantize(_EIGHTH, rounding=ROUND_DOWN)
    return money_text(_trimmed(cut), currency) + ("" if cut == amount else "\u2026")


def _part_text(part: LinePart) -> str:
    words = [part.note] if part.note else []
    if part.tier:
        words.append(f"tier {part.tier}")
    if part.version_from_us is not None:
        words.append(f"price from {date_text(local_date(part.version_from_us, 'UTC'))}")
    if words:
        words[0] = words[0][:1].upper() + words[0][1:]
    words += [", ".join(part.models)] if part.models else []  # names as they are
    return breakable(" · ".join(words) or "At this price")


def _part_view(line: InvoiceLine, part: LinePart, currency: str) -> dict[str, str]:
    if line.type in _BY_DAYS:  # the note says how many of the month's days
        price = money_text(_trimmed(part.unit_price), currency) if part.per > 1 else ""
        return {
            "text": _part_text(part), "quantity": "", "price": price, "amount": exact_text(part.amount, currency),
        }  # fmt: skip
    return {
        "text": _part_text(part),
        "quantity": number_text(part.quantity),
        "price": price_text(part.unit_price, part.per, currency),
        "amount": exact_text(part.amount, currency),
    }


def _only_price(line: InvoiceLine) -> LinePart | None:
    """The part that explains the line by itself: all of its quantity, or all days of the month, at one plain price."""
    if len(line.parts) != 1:
        return None
    (part,) = line.parts
    if line.type in _BY_DAYS:
        return part if part.quantity == part.per else None
    return part if part.quantity == line.quantity and not part.tier and not part.note else None


def line_view(line: InvoiceLine, invoice: Invoice, zone: str, *, name_plan: bool = False) -> dict[str, Any]:
    """One row of the table, and the rows below it where more than one price made the amount.

    name_plan: usage lines say of which plan they are, because there are several.
    """
    details, said = [], line.description.casefold()
    if line.meter and unit_name(line.meter) not in said:
        details.append(unit_name(line.meter))
    if line.models and line.models != "*" and line.models.casefold() not in said:
        details.append(f"models {line.models}")
    if name_plan and line.type == "usage" and line.plan:
        details.append(f"plan {line.plan}")
    if line.for_month and line.for_month != invoice.month:
        details.append(f"for {month_text(line.for_month)}")
    elif (line.period_start_us, line.period_end_us) != (invoice.period_start_us, invoice.period_end_us):
        details.append(period_text(line.period_start_us, line.period_end_us, zone))
    single = _only_price(line)
    price = ""
    if single is not None:
        by_days = line.type in _BY_DAYS
        price = price_text(single.unit_price, 1 if by_days else single.per, invoice.currency)
    return {
        "text": breakable(line.description),
        "detail": breakable(" · ".join(details)),
        "quantity": "" if line.quantity is None else number_text(line.quantity),
        "price": price,
        "amount": money_text(line.amount, invoice.currency),
        "parts": [_part_view(line, part, invoice.currency) for part in line.parts] if single is None else [],
    }


def _totals(invoice: Invoice) -> list[dict[str, Any]]:
    currency = invoice.currency

    def row(text: str, amount: Decimal, kind: str = "") -> dict[str, Any]:
        return {"text": breakable(text), "amount": money_text(amount, currency), "kind": kind}

    rows = [row("Subtotal", invoice.subtotal)]
    burned = [line for line in invoice.lines if line.type == "credit"]
    rows += [row(line.description or f"Credit {line.credit}", line.amount) for line in burned]
    exclusive = [tax for tax in invoice.taxes if not tax.inclusive]
    if burned and exclusive:
        rows.append(row("Net amount after credits", sum((line.amount for line in burned), invoice.subtotal)))
    rows += [
        row(f"{tax.name} {percent_text(tax.rate)} on {money_text(tax.base, currency)}", tax.amount) for tax in exclusive
    ]
    if not invoice.taxes:  # nothing summed by rate: the tax lines themselves, if there are any
        rows += [row(line.description, line.amount) for line in invoice.lines if line.type == "tax"]
    rows.append(row(f"Total ({currency})", invoice.total, "total"))
    included = [tax for tax in invoice.taxes if tax.inclusive]
    within = sum((tax.amount for tax in included), Decimal(0))
    for tax in included:  # the base of a tax within the prices has all of these taxes in it
        net = money_text(tax.base - within, currency)
        rows.append(row(f"includes {tax.name} {percent_text(tax.rate)} on net {net}", tax.amount, "small"))
    return rows


def _terms(invoice: Invoice, issued: date | None) -> str:
    if invoice.status == "void":
        return "This invoice is void. Nothing is to be paid on it."
    if invoice.status == "paid":
        return "This invoice is paid. Thank you."
    if invoice.total == 0:
        return "Nothing is to be paid on this invoice."
    days = invoice.days_until_due
    span = "on receipt" if days == 0 else f"within {days} day{'' if days == 1 else 's'} of the issue date"
    if issued is None:
        return f"This is a draft, not a request for payment. Once issued: payable {span}."
    return f"Payable {span}, by {date_text(due_date(issued, days))}. Please name the invoice number with the payment."


def _facts(invoice: Invoice, issued: date | None, zone: str) -> list[list[str]]:
    facts = [["Invoice number", invoice.number or "none yet (draft)"]]
    facts.append(["Issue date", "not issued" if issued is None else date_text(issued)])
    if issued is not None and invoice.status != "void":
        facts.append(["Due date", date_text(due_date(issued, invoice.days_until_due))])
    facts.append(["Period", period_text(invoice.period_start_us, invoice.period_end_us, zone)])
    facts.append(["Time zone", zone])
    facts.append(["Customer", invoice.tenant])
    if invoice.revision > 1:
        facts.append(["Revision", str(invoice.revision)])
    facts.append(["Currency", invoice.currency])
    return [[label, breakable(value)] for label, value in facts]


def invoice_view(invoice: Invoice, paper: str, timezone: str) -> dict[str, Any]:
    """The invoice for the template; paper is a key of PAPERS."""
    issued = None if invoice.finalised_at_us is None else local_date(invoice.finalised_at_us, timezone)
    notes = [text for text in (invoice.note,) if text]
    if invoice.carried:
        carried = money_text(invoice.carried, invoice.currency)
        notes.append(f"Carried to the next invoice: {carried} {invoice.currency}.")
    if invoice.status == "draft":
        notes += [f"Held: {reason}" for reason in invoice.held]
    dated = issued or last_day(invoice.period_end_us, timezone)
    charges = [line for line in invoice.lines if line.type in CHARGE_TYPES]
    plans = {line.plan for line in charges if line.plan}
    return {
        "kind": "Invoice",
        "title": f"Invoice {invoice.number}" if invoice.number else f"Draft invoice {invoice.month}",
        "paper": PAPERS[paper],
        "watermark": _WATERMARKS.get(invoice.status, ""),
        "dated": [dated.year, dated.month, dated.day],
        "seller": party_view(invoice.seller),
        "buyer": party_view(invoice.buyer),
        "facts": _facts(invoice, issued, timezone),
        "lines": [line_view(line, invoice, timezone, name_plan=len(plans) > 1) for line in charges],
        "empty": "No charges in this period.",
        "totals": _totals(invoice),
        "terms": _terms(invoice, issued),
        "notes": [breakable(text) for text in notes],
    }


def credit_note_view(note: CreditNote, original: Invoice, paper: str, timezone: str) -> dict[str, Any]:
    """The credit note for the template, naming the invoice that it corrects; amounts are positive."""
    issued = None if note.issued_at_us is None else local_date(note.issued_at_us, timezone)
    facts = [
        ["Credit note number", note.number or "none yet (draft)"],
        ["Issue date", "not issued" if issued is None else date_text(issued)],
        ["For invoice", original.number or f"of {month_text(note.month)}"],
        ["For month", month_text(note.month)],
        ["Customer", note.tenant],
        ["Currency", note.currency],
    ]
    currency = note.currency
    net = note.amount - note.tax
    names = ", ".join(dict.fromkeys(f"{tax.name} {percent_text(tax.rate)}" for tax in original.taxes)) or "Tax"
    returned = [
        f"Given back to credit {name}: {money_text(amount, currency)} {currency}." for name, amount in note.credits
    ]
    totals = [{"text": "Net amount", "amount": money_text(net, currency), "kind": ""}]
    if note.tax:
        totals.append({"text": breakable(names), "amount": money_text(note.tax, currency), "kind": ""})
    totals.append(
        {"text": f"Total credited ({currency})", "amount": money_text(note.amount, currency), "kind": "total"}
    )
    dated = issued or last_day(original.period_end_us, timezone)
    period = period_text(original.period_start_us, original.period_end_us, timezone)
    reason = f"Credit on invoice {original.number or ''} of {month_text(note.month)}".replace("  ", " ")
    reason += f": {note.reason}" if note.reason else ""
    row = {"text": breakable(reason), "detail": period, "quantity": "", "price": ""}
    return {
        "kind": "Credit note",
        "title": f"Credit note {note.number}" if note.number else f"Draft credit note {note.month}",
        "paper": PAPERS[paper],
        "watermark": "" if issued else "DRAFT",
        "dated": [dated.year, dated.month, dated.day],
        "seller": party_view(original.seller),
        "buyer": party_view(original.buyer),
        "facts": [[label, breakable(value)] for label, value in facts],
        "lines": [row | {"amount": money_text(net, currency), "parts": []}],
        "empty": "",
        "totals": totals,
        "terms": "This amount is credited to you. Nothing is to be paid on this document.",
        "notes": [breakable(text) for text in (*returned, original.note) if text],
    }

"""What comes after a month was invoiced: the month rated again as a whole, less what was invoiced (money rule 7).

The month keeps the catalog version of its invoice, so only changed usage makes a difference (later_prices.py says what
happens to models that had no price then). What was invoiced is the month's own invoice, adjustments for it on other
invoices, less credit notes for decreases. A decrease that the next invoice cannot take stays a difference, and so is
carried on without being written anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.book import BillingBook
from billing.charges import CHARGE_TYPES, Terms, month_charges
from billing.credits import whole_minor_units
from billing.later_prices import LaterPrices
from billing.lines import total
from billing.taxes import tax_on
from pipeline.rating import Unrated
from schemas.invoice import CreditNote, Invoice, InvoiceLine, LinePart
from schemas.periods import Period
from schemas.usage import UsageSource


@dataclass(frozen=True, slots=True)
class Difference:
    """A finalised month whose usage has changed: what it comes to now, less what was invoiced for it."""

    invoice: Invoice
    rated: Decimal
    invoiced: Decimal
    unrated: tuple[Unrated, ...] = ()

    @property
    def amount(self) -> Decimal:
        """Above zero: to be charged; below: to be given back."""
        return self.rated - self.invoiced


def invoiced_for(book: BillingBook, invoice: Invoice, draft_month: str) -> Decimal:
    """What was invoiced for the invoice's month, before credits and tax, as a draft of draft_month sees it."""
    amount = total(invoice.lines, *CHARGE_TYPES)
    for other in book.of_tenant(invoice.tenant):
        if book.counts_for(other, draft_month):
            own = [line for line in other.lines if line.for_month == invoice.month]
            amount += total(own, "adjustment")
    return amount - sum((note.net for note in book.notes_on(invoice)), Decimal(0))


def rated_again(
    invoice: Invoice, terms: Mapping[int, Terms], latest: Terms, source: UsageSource
) -> tuple[Decimal, tuple[Unrated, ...]]:
    """What a closed month comes to by its usage now, before credits and tax; and what of it has no price."""
    kept = terms[invoice.catalog_version]
    patched = replace(kept, prices=LaterPrices(kept.prices, latest.prices))
    charges = month_charges(patched, invoice.tenant, invoice.month, source)
    return charges.subtotal(), charges.unrated


def differences(
    book: BillingBook, terms: Mapping[int, Terms], source: UsageSource, tenant_id: str, until_month: str, month: str
) -> list[Difference]:
    """Of each month up to until_month that is closed, by month; only where there is one, or something is unrated.

    month: the month whose draft would take them.
    """
    latest = terms[max(terms)]
    found = []
    for invoice in book.of_tenant(tenant_id):
        if invoice.status == "draft" or invoice.month > until_month or (tenant_id, invoice.month) in book.settled:
            continue
        known = book.rated.get((tenant_id, invoice.month, invoice.revision))
        rated, unrated = (known, ()) if known is not None else rated_again(invoice, terms, latest, source)
        difference = Difference(invoice, rated, invoiced_for(book, invoice, month), unrated)
        if difference.amount or difference.unrated:
            found.append(difference)
    return found


def adjustment_lines(found: Sequence[Difference], room: Decimal, period: Period) -> tuple[list[InvoiceLine], Decimal]:
    """A line for each month, oldest first, and what is carried on (zero or below).

    room: charges of the invoice that decreases can be set against; increases add to it.
    """
    room += sum((d.amount for d in found if d.amount > 0), Decimal(0))
    lines: list[InvoiceLine] = []
    carried = Decimal(0)
    for difference in found:
        amount = max(difference.amount, -room)
        if difference.amount < 0:
            room += amount
            carried += difference.amount - amount
        if not amount:
            continue
        invoice = difference.invoice
        lines.append(
            InvoiceLine(
                id=f"adjustment:{invoice.month}",
                type="adjustment",
                description=f"Adjustment for {invoice.month}: usage that changed after invoice {invoice.number}",
                amount=amount,
                period_start_us=period.start_us,
                period_end_us=period.end_us,
                unrounded=amount,
                for_month=invoice.month,
                parts=_arithmetic(difference, amount),
            )
        )
    return lines, carried


def _arithmetic(difference: Difference, amount: Decimal) -> tuple[LinePart, ...]:
    """The month as it is rated now, less what was invoiced, and what of it has to wait."""
    found = [
        (difference.rated, f"{difference.invoice.month} rated again"),
        (-difference.invoiced, "invoiced before"),
        (amount - difference.amount, "carried on"),
    ]
    one = Decimal(1)
    return tuple(LinePart(one, exact, 1, exact, note=note) for exact, note in found if exact)


def decrease_note(book: BillingBook, difference: Difference) -> CreditNote | None:
    """A credit note for a decrease, as far as the month's own invoice reaches; None if it has nothing left to give.

    Money first, with its tax; what credits had paid goes back to them, those that burned last first.
    """
    invoice = difference.invoice
    before = book.notes_on(invoice)
    given_credits = {name: Decimal(0) for line in invoice.lines if (name := line.credit) is not None}
    for note in before:
        for name, amount in note.credits:
            given_credits[name] += amount
    credited = sum((amount for note in before for _, amount in note.credits), Decimal(0))
    money_before = sum((note.net for note in before), Decimal(0)) - credited
    base = total(invoice.lines, *CHARGE_TYPES, "adjustment", "credit") - money_before
    wanted = whole_minor_units(-difference.amount, invoice.currency)
    money = min(wanted, base)
    rest = wanted - money
    back: list[tuple[str, Decimal]] = []
    for line in reversed([line for line in invoice.lines if line.credit is not None]):
        assert line.credit is not None
        part = min(rest, -line.amount - given_credits[line.credit])
        if part > 0:
            back.append((line.credit, part))
            rest -= part
    net = wanted - rest
    if net <= 0:
        return None
    tax, exclusive = _tax_back(invoice, base - money, before)
    return CreditNote(
        tenant=invoice.tenant,
        month=invoice.month,
        revision=invoice.revision,
        amount=money + exclusive,
        tax=tax,
        currency=invoice.currency,
        reason=f"usage of {invoice.month} fell after invoice {invoice.number}",
        net=net,
        credits=tuple(back),
    )


def _tax_back(invoice: Invoice, base_left: Decimal, before: Sequence[CreditNote]) -> tuple[Decimal, Decimal]:
    """(all tax, exclusive tax) of the invoice beyond what the base that is left carries, less what notes gave back."""
    within = sum((tax.rate for tax in invoice.taxes if tax.inclusive), Decimal(0))
    all_tax = exclusive = Decimal(0)
    for tax in invoice.taxes:
        back = tax.amount - tax_on(base_left, tax.rate, within, invoice.currency, inclusive=tax.inclusive)
        all_tax += back
        exclusive += Decimal(0) if tax.inclusive else back
    given = sum((note.tax for note in before), Decimal(0))
    given_exclusive = sum((note.amount for note in before), Decimal(0)) - sum(
        (note.net - sum((a for _, a in note.credits), Decimal(0)) for note in before), Decimal(0)
    )
    return all_tax - given, exclusive - given_exclusive

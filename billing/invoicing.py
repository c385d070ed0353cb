"""Build the draft of a tenant's month: charges, adjustments, credits, tax, in that order (money rule 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from billing.adjustments import Difference, adjustment_lines
from billing.book import BillingBook
from billing.charges import CHARGE_TYPES, MonthCharges, Terms, charges_until, month_charges
from billing.credits import burn, stages, valid_in, whole_minor_units
from billing.lines import total
from billing.taxes import REVERSE_CHARGE_NOTE, applicable, tax_sums, with_tax
from schemas.catalog import Catalog, Party, Tenant
from schemas.invoice import Invoice, InvoiceLine, TaxSum
from schemas.money import EXACT, plain
from schemas.usage import UsageSource


@dataclass(frozen=True, slots=True)
class Draft:
    """What a draft is made of besides the month's own usage."""

    revision: int
    differences: Sequence[Difference] = ()


def build_invoice(
    book: BillingBook, terms: Terms, source: UsageSource, tenant_id: str, month: str, draft: Draft
) -> Invoice | None:
    """The draft; None where there is nothing to invoice: no plan in force, no usage, nothing to adjust.

    The book is read for what its credits have left; the draft is not in it yet.
    """
    with localcontext(EXACT):
        charges = month_charges(terms, tenant_id, month, source)
        if not (charges.planned or charges.lines or charges.unrated or draft.differences):
            return None
        tenant = terms.catalog.tenants[tenant_id]
        same = [d for d in draft.differences if d.invoice.currency == charges.currency]
        adjusted, carried = adjustment_lines(same, charges.subtotal(), charges.period)
        lines = [*charges.lines, *adjusted]
        subtotal = total(lines, *CHARGE_TYPES, "adjustment")
        lines += _credit_lines(book, terms, source, tenant, charges, subtotal)
        base = total(lines, *CHARGE_TYPES, "adjustment", "credit")
        sums = tax_sums(applicable(terms.catalog.taxes, tenant), base, charges.currency)
        lines = [*with_tax(lines, sums, charges.currency), *_tax_lines(sums, charges)]
        invoice = Invoice(
            tenant=tenant_id,
            month=month,
            revision=draft.revision,
            status="draft",
            currency=charges.currency,
            period_start_us=charges.period.start_us,
            period_end_us=charges.period.end_us,
            lines=tuple(lines),
            subtotal=subtotal,
            tax=sum((tax.amount for tax in sums), Decimal(0)),
            total=total(lines, *CHARGE_TYPES, "adjustment", "credit", "tax"),
            catalog_version=terms.version,
            taxes=sums,
            held=tuple(_held(charges, draft.differences)),
            carried=carried,
        )
        assert invoice.total >= 0  # credits and adjustments are cut to what there is
        return _addressed(invoice, terms.catalog, tenant)


def _credit_lines(
    book: BillingBook,
    terms: Terms,
    source: UsageSource,
    tenant: Tenant,
    charges: MonthCharges,
    subtotal: Decimal,
) -> list[InvoiceLine]:
    """A line for each credit that pays."""
    period, currency = charges.period, charges.currency
    granted = [c for c in terms.catalog.credits if c.tenant == tenant.id and valid_in(c, period)]
    if not granted or not subtotal:
        return []
    available = {}
    for credit in granted:
        left = credit.amount - book.credit_used(credit.id, tenant.id, charges.month)
        available[credit.id] = whole_minor_units(max(left, Decimal(0)), currency)
    whole = total(charges.lines, "usage")

    def until(end_us: int) -> Decimal:
        return whole if end_us == period.end_us else charges_until(terms, tenant.id, period, end_us, source)

    usage = stages(granted, period, until)
    return [
        InvoiceLine(
            id=f"credit:{credit.id}",
            type="credit",
            description=f"Credit {credit.id}",
            amount=-amount,
            period_start_us=period.start_us,
            period_end_us=period.end_us,
            unrounded=-amount,
            credit=credit.id,
        )
        for credit, amount in burn(granted, available, period, usage, subtotal - whole)
    ]


def _tax_lines(sums: Sequence[TaxSum], charges: MonthCharges) -> list[InvoiceLine]:
    """Tax on top, a line a rate. Tax within the prices is in the lines already and gets none."""
    return [
        InvoiceLine(
            id=f"tax:{position}:{tax.name}",
            type="tax",
            description=f"{tax.name} {plain(tax.rate * 100)} % on {tax.base:f}",
            amount=tax.amount,
            period_start_us=charges.period.start_us,
            period_end_us=charges.period.end_us,
            unrounded=tax.base * tax.rate,
        )
        for position, tax in enumerate(sums)
        if tax.amount and not tax.inclusive
    ]


def _held(charges: MonthCharges, found: Sequence[Difference]) -> list[str]:
    """Why the draft cannot be finalised."""
    reasons = [f"unrated: model {model}, meter {meter}" for model, meter in charges.unrated]
    for difference in found:
        month = difference.invoice.month
        reasons += [f"unrated in {month}: model {model}, meter {meter}" for model, meter in difference.unrated]
        if difference.invoice.currency != charges.currency:
            reasons.append(f"adjustment for {month} is in {difference.invoice.currency}, not {charges.currency}")
    return reasons


def _addressed(invoice: Invoice, catalog: Catalog, tenant: Tenant) -> Invoice:
    """With seller, buyer and terms of payment as the catalog has them now."""
    billing = tenant.billing
    return replace(
        invoice,
        seller=catalog.seller,
        buyer=Party(tenant.name, billing.address, billing.country, billing.tax_id, billing.email),
        note=REVERSE_CHARGE_NOTE if billing.reverse_charge else "",
        days_until_due=billing.days_until_due,
    )

"""Invoices, their lines and credit notes, as values. Billing makes them; what they mean is in the contract."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from schemas.catalog import Party

LINE_TYPES = ("usage", "fee", "true_up", "adjustment", "credit", "tax")
STATUSES = ("draft", "finalised", "pushed", "paid", "uncollectible", "void")


@dataclass(frozen=True, slots=True)
class LinePart:
    """How a part of a line's amount came about: quantity x unit_price / per = amount, exact.

    plan and version_from_us name the price version; tier is its number from 1 (0: no tiers).
    """

    quantity: Decimal
    unit_price: Decimal
    per: int
    amount: Decimal
    plan: str = ""
    version_from_us: int | None = None
    tier: int = 0
    models: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line. id is derived from meaning and stable over recomputation; amount is rounded, unrounded is exact.

    for_month: the month an adjustment belongs to. tax: this line's share of the invoice's tax.
    """

    id: str
    type: str
    description: str
    amount: Decimal
    period_start_us: int
    period_end_us: int
    meter: str | None = None
    models: str | None = None
    plan: str | None = None
    quantity: Decimal | None = None
    unrounded: Decimal | None = None
    for_month: str | None = None
    credit: str | None = None
    tax: Decimal = Decimal(0)
    parts: tuple[LinePart, ...] = ()


@dataclass(frozen=True, slots=True)
class TaxSum:
    """Tax once a rate: base is the taxed sum after credits."""

    name: str
    rate: Decimal
    inclusive: bool
    base: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Invoice:
    """One tenant's month. total = subtotal + credits (negative) + exclusive tax. held: why it cannot be finalised."""

    tenant: str
    month: str
    revision: int
    status: str
    currency: str
    period_start_us: int
    period_end_us: int
    lines: tuple[InvoiceLine, ...]
    subtotal: Decimal
    tax: Decimal
    total: Decimal
    number: str | None = None
    finalised_at_us: int | None = None
    catalog_version: int = 0
    taxes: tuple[TaxSum, ...] = ()
    held: tuple[str, ...] = ()
    seller: Party = field(default_factory=Party)
    buyer: Party = field(default_factory=Party)
    note: str = ""
    days_until_due: int = 30
    carried: Decimal = Decimal(0)
    """Negative adjustment left over for a later invoice (zero or negative)."""

    def by_type(self) -> dict[str, Decimal]:
        """Sums of the lines by their type."""
        sums: dict[str, Decimal] = {}
        for line in self.lines:
            sums[line.type] = sums.get(line.type, Decimal(0)) + line.amount
        return sums


@dataclass(frozen=True, slots=True)
class InvoiceSummary:
    """What lists and sums of invoices need of one; types: sums of its lines by their type."""

    tenant: str
    month: str
    revision: int
    status: str
    number: str | None
    currency: str
    subtotal: Decimal
    tax: Decimal
    total: Decimal
    held: tuple[str, ...]
    types: Mapping[str, Decimal]

    def by_type(self) -> Mapping[str, Decimal]:
        """As Invoice.by_type."""
        return self.types


@dataclass(frozen=True, slots=True)
class CreditNote:
    """Money given back on an invoice of `month`: amount is positive and includes tax.

    net: by how much the month's charges fall, before tax; what of it had been paid by credits goes back to these.
    """

    tenant: str
    month: str
    revision: int
    amount: Decimal
    tax: Decimal
    currency: str
    reason: str
    number: str | None = None
    issued_at_us: int | None = None
    net: Decimal = Decimal(0)
    credits: tuple[tuple[str, Decimal], ...] = ()
    """(credit id, amount given back to it)."""

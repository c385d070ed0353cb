"""Tax: once a rate on the taxed sum after credits, half up; then spread over the lines (money rule 6)."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal

from schemas.catalog import Tax, Tenant
from schemas.invoice import InvoiceLine, TaxSum
from schemas.money import exponent, round_half_up

REVERSE_CHARGE_NOTE = "Reverse charge: the recipient of the service is liable for the tax."


def applicable(taxes: Sequence[Tax], tenant: Tenant) -> list[Tax]:
    """Taxes of the buyer's country; none where it is unknown, has none, or the charge is reversed."""
    if tenant.billing.reverse_charge or not tenant.billing.country:
        return []
    return [tax for tax in taxes if tax.country == tenant.billing.country]


def tax_on(base: Decimal, rate: Decimal, inclusive_rates: Decimal, currency: str, *, inclusive: bool) -> Decimal:
    """Tax of one rate, half up. inclusive: the part of the base that is tax, all inclusive rates being within it."""
    exact = base * rate / (1 + inclusive_rates) if inclusive else base * rate
    return round_half_up(exact, currency)


def tax_sums(taxes: Sequence[Tax], base: Decimal, currency: str) -> tuple[TaxSum, ...]:
    """One sum a rate."""
    within = sum((tax.rate for tax in taxes if tax.inclusive), Decimal(0))
    return tuple(
        TaxSum(
            name=tax.name,
            rate=tax.rate,
            inclusive=tax.inclusive,
            base=base,
            amount=tax_on(base, tax.rate, within, currency, inclusive=tax.inclusive),
        )
        for tax in taxes
    )


def spread(amount: Decimal, weights: Sequence[Decimal], currency: str) -> list[Decimal]:
    """The amount in whole minor units over the weights by largest remainder; the parts sum to it. Ties: first first."""
    whole = sum(weights, Decimal(0))
    if not whole:
        return [Decimal(0) for _ in weights]
    unit = Decimal(1).scaleb(-exponent(currency))
    exact = [amount * weight / whole for weight in weights]
    parts = [share.quantize(unit, rounding=ROUND_FLOOR) for share in exact]
    missing = int((amount - sum(parts, Decimal(0))) / unit)
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[:missing]:
        parts[i] += unit
    return parts


def with_tax(lines: Sequence[InvoiceLine], sums: Sequence[TaxSum], currency: str) -> list[InvoiceLine]:
    """The lines, each with its share of every tax."""
    shares = [Decimal(0) for _ in lines]
    for tax in sums:
        parts = spread(tax.amount, [line.amount for line in lines], currency)
        shares = [share + part for share, part in zip(shares, parts, strict=True)]
    return [replace(line, tax=share) for line, share in zip(lines, shares, strict=True)]

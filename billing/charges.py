"""A month's charges before adjustments, credits and tax: usage, true-up and fees, at one catalog version."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from billing.lines import fee_lines, total, true_up_lines, usage_lines
from billing.periods import plan_days
from pipeline.rating import CostSource, RatedUsage, Unrated, rate_usage
from schemas.catalog import Catalog
from schemas.invoice import InvoiceLine
from schemas.periods import Period, days_in_month, month_period
from schemas.usage import UsageSource

CHARGE_TYPES = ("usage", "true_up", "fee")


@dataclass(frozen=True, slots=True)
class Terms:
    """A catalog version and its provider prices: all that turns usage into money."""

    version: int
    catalog: Catalog
    prices: CostSource


@dataclass(frozen=True, slots=True)
class MonthCharges:
    """Lines of CHARGE_TYPES, rounded. planned: whether a plan is in force in the month at any time."""

    month: str
    period: Period
    currency: str
    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]
    planned: bool

    def subtotal(self) -> Decimal:
        """Usage, true-up and fees."""
        return total(self.lines, *CHARGE_TYPES)


def rate_part(terms: Terms, tenant_id: str, period: Period, end_us: int, source: UsageSource) -> RatedUsage:
    """Usage of the period up to end_us, rated at the period's terms."""
    part = Period(period.start_us, end_us)
    return rate_usage(terms.catalog, terms.prices, tenant_id, part, source, rates_at_us=period.end_us)


def charges_until(terms: Terms, tenant_id: str, period: Period, end_us: int, source: UsageSource) -> Decimal:
    """Rounded usage charges, had the month ended at end_us."""
    tenant = terms.catalog.tenants[tenant_id]
    rated = rate_part(terms, tenant_id, period, end_us, source)
    return total(usage_lines(rated.charges, period, tenant.currency), "usage")


def month_charges(terms: Terms, tenant_id: str, month: str, source: UsageSource) -> MonthCharges:
    """The whole month at these terms."""
    tenant = terms.catalog.tenants[tenant_id]
    period = month_period(month, tenant.timezone)
    rated = rate_part(terms, tenant_id, period, period.end_us, source)
    days = plan_days(tenant, terms.catalog.plans, month)
    length = days_in_month(month)
    usage = usage_lines(rated.charges, period, tenant.currency)
    true_up = true_up_lines(days, usage, length, period, tenant.currency)
    fees = fee_lines(days, length, period, tenant.currency)
    return MonthCharges(month, period, tenant.currency, (*usage, *true_up, *fees), rated.unrated, bool(days))


def unrated_in(terms: Terms, tenant_id: str, months: Iterable[str], source: UsageSource) -> tuple[Unrated, ...]:
    """(model, meter) of the tenant's usage in these months that has no price at these terms; sorted, each once."""
    found: set[Unrated] = set()
    for month in months:
        period = month_period(month, terms.catalog.tenants[tenant_id].timezone)
        found.update(rate_part(terms, tenant_id, period, period.end_us, source).unrated)
    return tuple(sorted(found))

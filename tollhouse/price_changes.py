"""What a catalog changes about the providers' prices, and what last month's usage would cost by them."""

from dataclasses import dataclass
from decimal import localcontext
from typing import Any

from pipeline.catalog import CostChange, PriceChange, cost_report, price_report
from pipeline.ledger import Connection, Ledger
from pipeline.ledger.readers import usage_rows
from schemas.catalog import Catalog
from schemas.instants import format_instant
from schemas.money import EXACT, Money, plain
from schemas.periods import month_of, month_period, previous_month
from schemas.usage import UsageRow


@dataclass(frozen=True, slots=True)
class PriceChanges:
    """prices: each price that differs. costs: the month's usage by model, where its cost differs. month: in UTC."""

    month: str
    prices: list[PriceChange]
    costs: list[CostChange]


def price_changes(ledger: Ledger, before: Catalog, after: Catalog, now_us: int) -> PriceChanges:
    """Both reports. A new price usually begins later than last month's usage, so this usage is priced as if all of it
    came when the last of all dates is reached: what such a month costs by the prices that will then hold."""
    month = previous_month(month_of(now_us, "UTC"))
    with localcontext(EXACT):
        prices = price_report(before, after)
        if not prices:
            return PriceChanges(month, [], [])
        dates = [p.from_us for p in (*before.provider_prices, *after.provider_prices) if p.from_us is not None]
        then_us = max([now_us, *dates])
        rows = ledger.read(lambda connection: _usage(connection, before, month))
        return PriceChanges(month, prices, cost_report(before, after, [row._replace(time_us=then_us) for row in rows]))


def _usage(connection: Connection, catalog: Catalog, month: str) -> list[UsageRow]:
    period = month_period(month, "UTC")
    return [row for tenant in catalog.tenants for row in usage_rows(connection, tenant, period.start_us, period.end_us)]


def price_changes_json(found: PriceChanges) -> dict[str, Any]:
    """As plain JSON data."""
    return {
        "month": found.month,
        "prices": [
            {
                "provider": c.provider,
                "model": c.model,
                "service_tier": c.service_tier,
                "over_input": c.over_input,
                "from": None if c.from_us is None else format_instant(c.from_us),
                "class": c.name,
                "per": c.per,
                "before": _money(c.before),
                "after": _money(c.after),
            }
            for c in found.prices
        ],
        "costs": [
            {
                "provider": c.provider,
                "model": c.model,
                "before": [_money(money) for money in c.before],
                "after": [_money(money) for money in c.after],
                "unpriced": list(c.unpriced_after),
            }
            for c in found.costs
        ],
    }


def _money(money: Money | None) -> dict[str, str] | None:
    return None if money is None else {"amount": plain(money.amount), "currency": money.currency}

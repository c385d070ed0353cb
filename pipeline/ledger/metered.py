"""What was metered by provider key, over all tenants: for reconciliation with the provider's own report."""

from collections.abc import Collection

from sqlalchemy import Connection

from pipeline.context import Context
from pipeline.ledger.sums import Asked, priced_sums
from pipeline.reconcile.rows import MeteredRow
from schemas.money import Money
from schemas.tokens import ZERO, Classes


def metered_rows(
    connection: Connection, context: Context, keys: Collection[str], start_us: int, end_us: int
) -> list[MeteredRow]:
    """Sums in [start_us, end_us) by key and model, for the given keys; cost at the provider's prices in USD."""
    sums: dict[tuple[str, str], tuple[Classes, int, Money]] = {}
    for key in keys:
        for row in priced_sums(connection, context, Asked(None, start_us, end_us, tenants=False, key=key)):
            if not row.requests and not any(row.classes):
                continue
            price = context.prices.cost(
                row.provider, row.model, row.service_tier, row.start_us, row.size_band, row.classes
            )
            classes, requests, cost = sums.get((key, row.model), (ZERO, 0, Money.of(0, price.currency)))
            added = Money.of(price.amount, price.currency)
            if added.currency != cost.currency:
                raise ValueError(f"prices of {row.model} are in {cost.currency} and in {added.currency}")
            total = tuple(a + b for a, b in zip(classes, row.classes, strict=True))
            sums[key, row.model] = (total, requests + row.requests, cost + added)
    return [MeteredRow(key, model, *values) for (key, model), values in sorted(sums.items())]

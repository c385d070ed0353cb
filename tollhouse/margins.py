"""Usage with its money: what the provider charges us, what the invoices bring, what is left."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.ledger import Ledger
from schemas.money import plain
from schemas.tokens import CLASSES
from tollhouse.closing import load_summaries
from tollhouse.usage import Total, totals


def usage_records(
    ledger: Ledger, groups: Sequence[str], tenant: str | None, start_us: int | None, end_us: int | None
) -> list[dict[str, Any]]:
    """A record a group: tokens by class, requests, errors, provider_cost; revenue and margin where they can be told.

    Revenue is what invoices say, so it is known for groups of whole tenants and months only; elsewhere it is null.
    """
    found = totals(ledger, groups, tenant=tenant, start_us=start_us, end_us=end_us)
    revenue = _revenue(ledger, groups) if start_us is None and end_us is None else {}
    return [{**dict(zip(groups, key, strict=True)), **_record(total, revenue.get(key))} for key, total in found.items()]


def _record(total: Total, revenue: tuple[Decimal, str] | None) -> dict[str, Any]:
    known = revenue is not None and total.cost is not None and revenue[1] == "USD"
    return {
        "tokens": dict(zip(CLASSES, total.classes, strict=True)),
        "requests": total.requests,
        "errors": total.errors,
        "provider_cost": None if total.cost is None else plain(total.cost),
        "revenue": None if revenue is None else str(revenue[0]),
        "currency": None if revenue is None else revenue[1],
        "margin": plain(revenue[0] - total.cost) if known and revenue and total.cost is not None else None,
    }


def _revenue(ledger: Ledger, groups: Sequence[str]) -> dict[tuple[str, ...], tuple[Decimal, str]]:
    """Invoiced amounts before credits and tax, by (tenant), (month) or both, where one currency covers the group."""
    if not groups or not set(groups) <= {"tenant", "month"} or "tenant" not in groups:
        return {}
    sums: dict[tuple[str, ...], tuple[Decimal, str]] = {}
    for invoice in ledger.read(load_summaries):
        if invoice.status == "void":
            continue
        values = {"tenant": invoice.tenant, "month": invoice.month}
        key = tuple(values[name] for name in groups)
        before, currency = sums.get(key, (Decimal(0), invoice.currency))
        sums[key] = (before + invoice.subtotal, currency)
    return sums

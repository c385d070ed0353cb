"""Usage for people and programs: tokens, requests, provider cost, grouped as asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from operator import add as plus
from typing import Any, Final

from pipeline.context import Context
from pipeline.ledger import Connection, Ledger
from pipeline.ledger.sums import Asked, TokenSum, Unit, UsageSum, priced_sums, token_sums, zones_of
from schemas.money import EXACT, plain
from schemas.tokens import CLASSES

UNITS: Final = ("day", "month")
"""Finest first: usage by both is summed by day."""
GROUPS: Final = ("tenant", "key", "provider", "model", "service_tier", "day", "month")


@dataclass(slots=True)
class Total:
    """Sums of a group. cost None: some of its usage has no provider price."""

    classes: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    requests: int = 0
    errors: int = 0
    cost: Decimal | None = Decimal(0)


def totals(
    ledger: Ledger,
    by: Sequence[str],
    *,
    tenant: str | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    key: str | None = None,
) -> dict[tuple[str, ...], Total]:
    """Totals by the named groups (see GROUPS), of one tenant or all, of usage in [start_us, end_us).

    Days and months are those of each tenant's time zone. key: usage of this provider key alone.
    """
    context = ledger.context()
    units: list[Unit] = [unit for unit in UNITS if unit in by]
    asked = Asked(tenant, start_us, end_us, "tenant" in by, "key" in by, units[0] if units else "", key=key)
    with localcontext(EXACT):
        return ledger.read(lambda connection: _totals(connection, context, by, asked))


def _totals(connection: Connection, context: Context, by: Sequence[str], asked: Asked) -> dict[tuple[str, ...], Total]:
    found: dict[tuple[str, ...], Total] = {}
    for row in priced_sums(connection, context, asked):
        total = found.setdefault(tuple(_group(row, name) for name in by), Total())
        total.classes = list(map(plus, total.classes, row.classes))
        total.requests += row.requests
        total.errors += row.errors
        if row.pooled and total.cost is not None and any(row.classes):
            cost = context.prices.cost(
                row.provider, row.model, row.service_tier, row.start_us, row.size_band, row.classes
            )
            total.cost = None if cost.unpriced else total.cost + cost.amount
    return dict(sorted(found.items()))


def token_counts(
    ledger: Ledger,
    by: Sequence[str],
    *,
    tenant: str | None = None,
    start_us: int | None = None,
    key: str | None = None,
) -> dict[tuple[str, ...], int]:
    """Tokens by the named groups (tenant, model, day, month), of usage from start_us on. Cost is not looked up."""
    zones = zones_of(ledger.context())
    units: list[Unit] = [unit for unit in UNITS if unit in by]
    asked = Asked(tenant, start_us, None, "tenant" in by, unit=units[0] if units else "", key=key)
    found: dict[tuple[str, ...], int] = {}
    for row in ledger.read(lambda connection: token_sums(connection, zones, asked, models="model" in by)):
        group = tuple(_group(row, name) for name in by)
        found[group] = found.get(group, 0) + row.tokens
    return found


def _group(row: UsageSum | TokenSum, name: str) -> str:
    if name in UNITS:
        return row.unit if name == "day" else row.unit[:7]
    return str(getattr(row, name))


def usage_totals(ledger: Ledger) -> list[dict[str, Any]]:
    """All usage by tenant, key and model, as the results of simulate show it."""
    return [
        {
            "tenant": tenant,
            "key": key,
            "model": model,
            "tokens": dict(zip(CLASSES, total.classes, strict=True)),
            "requests": total.requests,
            "errors": total.errors,
            "provider_cost": None if total.cost is None else plain(total.cost),
        }
        for (tenant, key, model), total in totals(ledger, ("tenant", "key", "model")).items()
    ]

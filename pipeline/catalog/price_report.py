"""How provider prices differ between two versions of the catalog, and what usage would have cost under each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.catalog.entries import date_label
from pipeline.prices import BUILT_IN, PriceHit, ProviderPrices, Seed
from schemas.catalog import Catalog
from schemas.money import EXACT, Money, plain
from schemas.tokens import CLASSES
from schemas.usage import UsageRow


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A provider's price of one class that differs from one catalog version to the next, from an instant on.

    before, after: for `per` units (None: no price). from_us None: since ever.
    """

    provider: str
    model: str
    service_tier: str
    over_input: int
    from_us: int | None
    name: str
    per: int
    before: Money | None
    after: Money | None


def price_report(old: Catalog | None, new: Catalog, seed: Seed | None = BUILT_IN) -> list[PriceChange]:
    """Where the price in force differs, the built-in data counted in, at each date that either catalog names."""
    listed = (old.provider_prices if old is not None else ()) + new.provider_prices
    before = ProviderPrices(old.provider_prices if old is not None else (), seed)
    after = ProviderPrices(new.provider_prices, seed)
    points = dict.fromkeys((p.provider, p.model, p.service_tier, p.over_input or 0, p.from_us) for p in listed)
    changes: list[PriceChange] = []
    for provider, model, tier, band, from_us in points:
        at_us = from_us if from_us is not None else -(2**63)
        was = before.find(provider, model, tier, at_us, band)
        now = after.find(provider, model, tier, at_us, band)
        per = max(hit.per for hit in (was, now) if hit is not None) if was or now else 1
        for name in CLASSES:
            one, two = _price(was, name, per), _price(now, name, per)
            if one != two:
                changes.append(PriceChange(provider, model, tier, band, from_us, name, per, one, two))
    return changes


def _price(hit: PriceHit | None, name: str, per: int) -> Money | None:
    """The class's own price (not one that stands in for it) for `per` units."""
    if hit is None or name not in hit.prices:
        return None
    return Money(EXACT.divide(EXACT.multiply(hit.prices[name], Decimal(per)), Decimal(hit.per)), hit.currency)


@dataclass(frozen=True, slots=True)
class CostChange:
    """What the usage of a model cost under two versions of the catalog, exactly. unpriced_*: classes left out of it."""

    provider: str
    model: str
    before: tuple[Money, ...]
    after: tuple[Money, ...]
    unpriced_before: tuple[str, ...]
    unpriced_after: tuple[str, ...]


def cost_report(
    old: Catalog | None, new: Catalog, rows: Iterable[UsageRow], seed: Seed | None = BUILT_IN
) -> list[CostChange]:
    """The models whose cost differs, in order of their names. rows: usage, last month's say; own keys cost nothing.

    Each row is priced at its own size band: a threshold that only one of the versions has does not move it.
    """
    sums = [_Sums(ProviderPrices(old.provider_prices if old is not None else (), seed))]
    sums.append(_Sums(ProviderPrices(new.provider_prices, seed)))
    models: set[tuple[str, str]] = set()
    for row in rows:
        if row.pooled:
            models.add((row.provider, row.model))
            for one in sums:
                one.add(row)
    changes = []
    for provider, model in sorted(models):
        (before, unpriced_before), (after, unpriced_after) = (one.of(provider, model) for one in sums)
        if (before, unpriced_before) != (after, unpriced_after):
            changes.append(CostChange(provider, model, before, after, unpriced_before, unpriced_after))
    return changes


class _Sums:
    """Costs by model and currency."""

    def __init__(self, prices: ProviderPrices) -> None:
        self.prices = prices
        self.amounts: dict[tuple[str, str], dict[str, Decimal]] = {}
        self.unpriced: dict[tuple[str, str], set[str]] = {}

    def add(self, row: UsageRow) -> None:
        cost = self.prices.cost(row.provider, row.model, row.service_tier, row.time_us, row.size_band, row.classes)
        amounts = self.amounts.setdefault((row.provider, row.model), {})
        amounts[cost.currency] = EXACT.add(amounts.get(cost.currency, Decimal(0)), cost.amount)
        self.unpriced.setdefault((row.provider, row.model), set()).update(cost.unpriced)

    def of(self, provider: str, model: str) -> tuple[tuple[Money, ...], tuple[str, ...]]:
        key = (provider, model)
        money = tuple(Money(amount, currency) for currency, amount in sorted(self.amounts[key].items()) if amount)
        return money, tuple(name for name in CLASSES if name in self.unpriced[key])


def render_price_report(changes: Sequence[PriceChange], costs: Sequence[CostChange] = ()) -> str:
    """Both reports for people: a line for each price, then a line for each model whose cost differs."""
    if not changes:
        return "No provider price differs."
    lines: list[str] = []
    for change in changes:
        tier = "" if change.service_tier == "standard" else f" {change.service_tier}"
        over = f" over {change.over_input} input" if change.over_input else ""
        since = date_label(change.from_us)
        prices = (
            f"{_shown(change.before)} → {_shown(change.after)} per {change.per}{_rise(change.before, change.after)}"
        )
        lines.append(f"{change.provider} {change.model}{tier}{over}, {since}: {change.name} {prices}")
    for cost in costs:
        before, after = _sum(cost.before), _sum(cost.after)
        rise = _rise(cost.before[0], cost.after[0]) if len(cost.before) == len(cost.after) == 1 else ""
        missing = f" (no price for {', '.join(cost.unpriced_after)})" if cost.unpriced_after else ""
        lines.append(f"{cost.provider} {cost.model}: the usage cost {before}, now {after}{rise}{missing}")
    return "\n".join(lines)


def _shown(price: Money | None) -> str:
    return "none" if price is None else f"{plain(price.amount)} {price.currency}"


def _sum(amounts: tuple[Money, ...]) -> str:
    return " + ".join(_shown(money.rounded()) for money in amounts) or "nothing"


def _rise(before: Money | None, after: Money | None) -> str:
    """The change in per cent, for reading only; nothing where there is no comparing."""
    if before is None or after is None or before.currency != after.currency or not before.amount:
        return ""
    share = EXACT.divide(EXACT.subtract(after.amount, before.amount) * 100, before.amount)
    return f" ({share.quantize(Decimal('0.1'), context=EXACT):+f} %)"

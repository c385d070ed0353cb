"""Provider prices of a closed month: as its invoice knew them, and for what had none then, what was entered since.

A closed month keeps its catalog version, but a model that came into it later, without a price, would otherwise hold
every next invoice for ever. A price that was known then is never replaced.
"""

from dataclasses import dataclass
from decimal import Decimal

from pipeline.rating import Cost, CostSource
from schemas.tokens import CLASSES, Classes


@dataclass(frozen=True, slots=True)
class PatchedCost:
    """A cost made of two versions' prices; see pipeline.rating.Cost."""

    amount: Decimal
    currency: str
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LaterPrices:
    """kept: the closed month's prices. since: the latest ones."""

    kept: CostSource
    since: CostSource

    def cost(
        self, provider: str, model: str, service_tier: str, time_us: int, size_band: int, classes: Classes
    ) -> Cost:
        """As kept has it; classes without a price there as since has them, if that is in the same currency."""
        known = self.kept.cost(provider, model, service_tier, time_us, size_band, classes)
        if not known.unpriced:
            return known
        missing = tuple(n if name in known.unpriced else 0 for name, n in zip(CLASSES, classes, strict=True))
        found = self.since.cost(provider, model, service_tier, time_us, size_band, missing)
        nothing_known = all(name in known.unpriced for name, n in zip(CLASSES, classes, strict=True) if n)
        if not nothing_known and found.currency != known.currency:
            return known
        return PatchedCost(known.amount + found.amount, found.currency, found.unpriced)

    def changes(
        self, provider: str, model: str, service_tier: str, start_us: int, end_us: int, size_band: int
    ) -> tuple[int, ...]:
        """When either's price changes; see CostSource."""
        asked = (provider, model, service_tier, start_us, end_us, size_band)
        return tuple(sorted({*self.kept.changes(*asked), *self.since.changes(*asked)}))

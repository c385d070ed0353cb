"""What providers charge us: which price holds for a request, and the exact cost of its usage.

Counts are in the order of schemas.tokens.CLASSES, instants in UTC microseconds, costs exact decimals, never rounded.
What has no price is named, never guessed.
"""

from pipeline.prices.hit import Cost, PriceHit
from pipeline.prices.names import canonical_provider, model_names
from pipeline.prices.seed import BUILT_IN, Seed
from pipeline.prices.table import SERVICE_TIERS, ProviderPrices

__all__ = [
    "BUILT_IN",
    "SERVICE_TIERS",
    "Cost",
    "PriceHit",
    "ProviderPrices",
    "Seed",
    "canonical_provider",
    "model_names",
]

"""volume: all units at the price of the tier that the whole period's sum reaches."""

from decimal import Decimal

from pipeline.rating.terms import Position, Priced, Quantity
from schemas.catalog import Charge


def price(charge: Charge, quantity: Quantity, position: Position) -> list[Priced]:
    """The tier is chosen by the total of all versions; the price is that of this version's tier."""
    for number, tier in enumerate(charge.tiers, start=1):
        if tier.up_to is None or position.total <= tier.up_to:
            return [Priced(quantity, tier.price, charge.per, Decimal(quantity) * tier.price / charge.per, number)]
    raise AssertionError("the last tier is open: the catalog sees to it")

"""graduated: each tier's units at that tier's price. Unit number `up_to` is the last of its tier."""

from decimal import Decimal

from pipeline.rating.terms import EVERYTHING, Position, Priced, Quantity
from schemas.catalog import Charge


def price(charge: Charge, quantity: Quantity, position: Position) -> list[Priced]:
    """Units number before + 1 to before + quantity, each in the tier that holds its number; a part for each tier."""
    parts: list[Priced] = []
    first, last = position.before, position.before + quantity
    lower: Quantity = 0
    for number, tier in enumerate(charge.tiers, start=1):
        upper = EVERYTHING if tier.up_to is None else tier.up_to
        units = min(last, upper) - max(first, lower)
        if units > 0:
            parts.append(Priced(units, tier.price, charge.per, Decimal(units) * tier.price / charge.per, number))
        lower = upper
    return parts

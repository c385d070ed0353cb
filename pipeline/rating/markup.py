"""markup: what the provider charges us, and a share of it on top."""

from decimal import Decimal

from pipeline.rating.terms import Position, Priced, Quantity
from schemas.catalog import Charge


def price(charge: Charge, quantity: Quantity, _position: Position) -> list[Priced]:
    """quantity is the exact cost in the tenant's currency: cost x (1 + markup)."""
    assert charge.markup is not None  # the catalog refuses a markup charge without a markup
    factor = 1 + charge.markup
    return [Priced(quantity, factor, 1, Decimal(quantity) * factor)]

"""per_unit: every unit at one price."""

from decimal import Decimal

from pipeline.rating.terms import Position, Priced, Quantity
from schemas.catalog import Charge


def price(charge: Charge, quantity: Quantity, _position: Position) -> list[Priced]:
    """quantity x price / per."""
    assert charge.price is not None  # the catalog refuses a per_unit charge without a price
    return [Priced(quantity, charge.price, charge.per, Decimal(quantity) * charge.price / charge.per)]

"""flat: one price for the period, as soon as there is a unit to charge."""

from pipeline.rating.terms import Position, Priced, Quantity
from schemas.catalog import Charge


def price(charge: Charge, _quantity: Quantity, position: Position) -> list[Priced]:
    """The price once a period, by the version in force at the first unit that is charged flat."""
    assert charge.price is not None  # the catalog refuses a flat charge without a price
    if position.flat_started:
        return []
    position.flat_started = True
    return [Priced(1, charge.price, 1, charge.price, note="for the period")]

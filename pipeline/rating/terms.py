"""What pricing models share: quantities, priced parts, and where a charge stands within its period."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

Quantity = int | Decimal
"""Units of a meter: whole for tokens and requests, an exact decimal for cost."""

EVERYTHING: Final = Decimal("Infinity")
"""A bound that no quantity passes: the end of an open tier."""


class Priced(NamedTuple):
    """quantity x unit_price / per = amount, exact. tier counts from 1; 0 where the model has none."""

    quantity: Quantity
    unit_price: Decimal
    per: int
    amount: Decimal
    tier: int = 0
    note: str = ""


@dataclass(slots=True)
class Position:
    """Where a charge stands while the versions of its plan are priced one after another.

    before: units charged under earlier versions. total: units of the whole period, all versions. packages_until: the
    last unit that packages started so far cover. flat_started: whether the period's flat price has been charged.
    """

    total: Quantity
    before: Quantity = 0
    packages_until: Quantity = 0
    flat_started: bool = False

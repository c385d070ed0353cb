"""A price that was found: for one model, service tier, size and stretch of time, by token class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from operator import mul
from typing import Final, NamedTuple

from schemas.tokens import CLASSES, Classes

FALLBACK: Final = {
    "reasoning": "output",
    "cache_write": "cache_write_long",
    "cache_write_long": "cache_write",
    "input_audio": "input",
    "input_image": "input",
    "output_audio": "output",
    "output_image": "output",
}
"""A class without a price of its own takes this one's (contract, section 3). Nothing stands in for the others: cached
input at the price of input would be wrong by a factor of ten, without a word."""

EXACT_PRICE: Final = Context(prec=200, traps=[Inexact])
"""A product of a 17-digit count, a 33-digit price and 1/10**9 has 80 digits: a trap, should one ever be rounded."""


class Cost(NamedTuple):
    """What usage cost, exactly. unpriced: classes with usage but no price; their unknown cost is not in the amount."""

    amount: Decimal
    currency: str
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PriceHit:
    """The price in force. price(class) is for `per` units.

    matched_model: whose price it is; not `model` where that fell back to its base, and then `note` says so. from_us:
    since when it is in force (None: since ever). over_input: the size band (0: any). source: "catalog", or the name and
    version of the built-in data.
    """

    provider: str
    model: str
    matched_model: str
    service_tier: str
    from_us: int | None
    over_input: int
    per: int
    currency: str
    source: str
    prices: Mapping[str, Decimal]
    note: str = ""
    _rates: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _holes: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _unit: Decimal = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Whole numbers of one small unit: a sum of integer products, and one decimal at the end, is what makes it fast.
        each = [
            None if price is None else EXACT_PRICE.divide(price, Decimal(self.per))
            for price in (self.price(name) for name in CLASSES)
        ]
        places = max((-int(rate.as_tuple().exponent) for rate in each if rate is not None), default=0)
        places = max(places, 0)
        rates = tuple(0 if rate is None else int(EXACT_PRICE.scaleb(rate, places)) for rate in each)
        object.__setattr__(self, "_rates", rates)
        object.__setattr__(self, "_holes", tuple(i for i, rate in enumerate(each) if rate is None))
        object.__setattr__(self, "_unit", Decimal(1).scaleb(-places))

    def price(self, name: str) -> Decimal | None:
        """The price of a class for `per` units, or of the class that stands in for it; None if there is none."""
        own = self.prices.get(name)
        return own if own is not None or name not in FALLBACK else self.prices.get(FALLBACK[name])

    def unpriced(self, classes: Classes) -> tuple[str, ...]:
        """The classes with a count that have no price."""
        found: tuple[str, ...] = ()
        for i in self._holes:
            if classes[i]:
                found = (*found, CLASSES[i])
        return found

    def cost(self, classes: Classes) -> Cost:
        """The exact cost of counts in the order of CLASSES."""
        unpriced = self.unpriced(classes)
        total = sum(map(mul, classes, self._rates))
        return Cost(EXACT_PRICE.multiply(Decimal(total), self._unit), self.currency, unpriced)


def nothing_found(classes: Classes) -> Cost:
    """The cost where no price at all was found: zero known, every class with usage unpriced."""
    return Cost(Decimal(0), "USD", tuple(name for name, count in zip(CLASSES, classes, strict=True) if count))

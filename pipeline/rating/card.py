"""A plan version made ready to rate many small periods fast: routes by name, unit prices worked out once.

Gives the same amounts as rate_usage over one stretch; a property test holds the two together. All arithmetic expects
the caller's `localcontext(EXACT)`: entering one for each of a hundred thousand lines a second costs a tenth of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Protocol, TypeVar

from pipeline.rating.allowances import Allowances, Covering
from pipeline.rating.conversion import exchange_rate
from pipeline.rating.pricing import PRICING_MODELS
from pipeline.rating.routes import NONE, route
from pipeline.rating.terms import Position, Quantity
from pipeline.rating.usage import CostSource
from schemas.catalog import Charge, ExchangeRate, PlanVersion
from schemas.tokens import CLASSES, COUNT_MAX, INPUT_SIDE, ZERO, index_of

COST: Final = -2
"""In a way: the class is charged by its part of the cost."""
CACHE_MAX: Final = 65_536
_FREE: Final[Mapping[str, int]] = {}
"""Nothing free: the version has no allowances."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class CostFinder(CostSource, Protocol):
    """Provider prices that know at which request sizes they change."""

    def thresholds(self, provider: str, model: str) -> tuple[int, ...]: ...
    def size_band(self, provider: str, model: str, input_side: int) -> int: ...


@dataclass(slots=True)
class Rated:
    """Units by charge, in the order of the rate card, and what has no price."""

    charged: list[Quantity]
    free: list[int]
    unrated: set[tuple[str, str]] = field(default_factory=set)
    allowances: Allowances | None = None


_Way = tuple[Mapping[str, int], int, int]
"""Position of each class's charge (NONE, COST), of the requests charge, of the cost charge."""
_UnitCost = Decimal | str
"""What one unit of a class costs in the card's currency; or the meter under which it is unrated."""


class RateCard:
    """One plan version at one instant. currency: of the charges; rates are those before end_us."""

    def __init__(
        self,
        version: PlanVersion,
        prices: CostFinder,
        at_us: int,
        currency: str,
        rates: Sequence[ExchangeRate],
        end_us: int,
    ) -> None:
        self._version = version
        self._prices = prices
        self._at_us = at_us
        self._currency = currency
        self._rates = rates
        self._end_us = end_us
        self._ways: dict[str, _Way] = {}
        self._unit_prices = [_unit_price(charge) for charge in version.charges]
        self._unit_costs: dict[tuple[str, str, str, int, str], _UnitCost] = {}
        self._sized: dict[tuple[str, str], bool] = {}
        self._covering: dict[str, Covering] = {}

    def new(self) -> Rated:
        """An empty period."""
        rated = Rated([0] * len(self._version.charges), [0] * len(self._version.charges))
        terms = self._version.allowances
        if terms:
            if len(self._covering) >= CACHE_MAX:
                self._covering.clear()
            rated.allowances = Allowances(terms, range(len(terms)), [0] * len(terms), self._covering)
        return rated

    def _way(self, model: str) -> _Way:
        found = self._ways.get(model)
        if found is None:
            way = route(self._version.charges, model)
            classes = {
                name: COST if position == way.cost != NONE else position
                for name, position in zip(CLASSES, way.classes, strict=True)
            }
            found = _keep(self._ways, model, (classes, way.requests, way.cost))
        return found

    def book(
        self, rated: Rated, provider: str, model: str, service_tier: str, tokens: Mapping[str, int], requests: int
    ) -> None:
        """Add one call's usage. ValueError for an unknown class or a count outside 0 to COUNT_MAX."""
        classes, requests_position, cost_position = self._way(model)
        free, free_requests = rated.allowances.take_named(model, tokens, requests) if rated.allowances else (_FREE, 0)
        charged = rated.charged
        costed: list[tuple[str, int]] = []
        for name, units in tokens.items():
            position = classes.get(name)
            if position is None:
                raise ValueError(f"tokens: {name!r} is not a token class")
            if not 0 <= units <= COUNT_MAX:
                raise ValueError(f"tokens: {name}: {units} is not a count")
            if name in free:
                units -= free[name]  # noqa: PLW2901 - what is left of it to charge
                if position >= 0:
                    rated.free[position] += free[name]
            if position >= 0:
                charged[position] += units
            elif units:
                if position == COST:
                    costed.append((name, units))
                else:
                    rated.unrated.add((model, name))
        if requests_position != NONE:
            rated.free[requests_position] += free_requests
            charged[requests_position] += requests - free_requests
        if costed:
            band = self._band(provider, model, tokens)
            charged[cost_position] += self._cost(rated, provider, model, service_tier, band, costed)

    def _band(self, provider: str, model: str, tokens: Mapping[str, int]) -> int:
        """The size band of the call; without a look at its size where no price depends on it."""
        sized = self._sized.get((provider, model))
        if sized is None:
            sized = _keep(self._sized, (provider, model), bool(self._prices.thresholds(provider, model)))
        if not sized:
            return 0
        return self._prices.size_band(provider, model, sum(tokens.get(name, 0) for name in INPUT_SIDE))

    def _cost(
        self,
        rated: Rated,
        provider: str,
        model: str,
        service_tier: str,
        band: int,
        costed: Sequence[tuple[str, int]],
    ) -> Decimal:
        """Cost of the units in the card's currency; what has no price or no exchange rate is noted as unrated."""
        amount = Decimal(0)
        for name, units in costed:
            key = (provider, model, service_tier, band, name)
            found = self._unit_costs.get(key)
            if found is None:
                found = _keep(self._unit_costs, key, self._unit_cost(*key))
            if isinstance(found, Decimal):
                amount += units * found
            else:
                rated.unrated.add((model, found))
        return amount

    def _unit_cost(self, provider: str, model: str, service_tier: str, band: int, name: str) -> _UnitCost:
        """Cost is linear in the counts of one size band: one unit's cost is enough."""
        one = list(ZERO)
        one[index_of(name)] = 1
        cost = self._prices.cost(provider, model, service_tier, self._at_us, band, tuple(one))
        if cost.unpriced:
            return name
        rate = exchange_rate(self._rates, cost.currency, self._currency, self._end_us)
        return "cost" if rate is None else cost.amount * rate

    def priced(self, rated: Rated) -> Iterator[tuple[Charge, Quantity, Decimal]]:
        """(charge, metered quantity, exact amount) of each charge with usage, in order of the rate card."""
        for charge, unit_price, charged, free in zip(
            self._version.charges, self._unit_prices, rated.charged, rated.free, strict=True
        ):
            if not charged and not free:
                continue
            if not charged:
                amount = Decimal(0)
            elif unit_price is not None:
                amount = charged * unit_price
            else:
                amount = Decimal(0)
                for part in PRICING_MODELS[charge.model](charge, charged, Position(charged)):
                    amount += part.amount
            yield charge, charged + free, amount


def _keep(cache: dict[_K, _V], key: _K, value: _V) -> _V:
    """Put the value into the cache, which starts anew when it is full: names come from outside without bound."""
    if len(cache) >= CACHE_MAX:
        cache.clear()
    cache[key] = value
    return value


def _unit_price(charge: Charge) -> Decimal | None:
    """Price of one unit where the model is per_unit and the division is exact; None otherwise."""
    if charge.model != "per_unit" or charge.price is None:
        return None
    unit = charge.price / charge.per
    return unit if unit * charge.per == charge.price else None

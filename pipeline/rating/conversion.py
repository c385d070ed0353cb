"""Provider cost in the tenant's currency, at a dated rate."""

from collections.abc import Sequence
from decimal import Decimal

from schemas.catalog import ExchangeRate


def exchange_rate(rates: Sequence[ExchangeRate], source: str, target: str, end_us: int) -> Decimal | None:
    """The rate in force at the end of the period: the latest entry dated before it ends. None if there is none."""
    if source == target:
        return Decimal(1)
    dated = [rate for rate in rates if rate.source == source and rate.target == target and rate.date_us < end_us]
    return max(dated, key=lambda rate: rate.date_us).rate if dated else None


class Conversion:
    """Provider cost in the tenant's currency, at the rates of the period's end."""

    def __init__(self, rates: Sequence[ExchangeRate], target: str, end_us: int) -> None:
        self._rates = rates
        self._target = target
        self._end_us = end_us
        self._known: dict[str, Decimal | None] = {}

    def rate(self, source: str) -> Decimal | None:
        """Units of the tenant's currency for one of the source; None without a rate."""
        if source not in self._known:
            self._known[source] = exchange_rate(self._rates, source, self._target, self._end_us)
        return self._known[source]

"""`tollhouse rate`: one JSON line in, one out. The whole usage of a line is one period under one plan version.

In: {"id", "catalog"?, "plan", "at", "usage": [{"model", "provider", "tokens": {class: count}, "requests"?,
"service_tier"?}]}. `at` decides the plan's version and the provider's price. Each usage entry is one call (it decides
the size for a provider's long-context price), and counts one request unless it says otherwise. Charges are in the
catalog's currency; exchange rates are those at the end of the UTC month of `at`.

Out: {"id", "amount", "currency", "lines": [{"meter", "models", "quantity", "amount", "unrounded"}]}, `amount` the sum
of the rounded lines; "unrated": [{"model", "meter"}] where something has no price; or {"id", "error": {"reason",
"detail"}}.
"""

import json
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Final

import msgspec

from pipeline.catalog import parse_data, version_at
from pipeline.prices import ProviderPrices
from pipeline.rating.card import CostFinder, RateCard
from schemas.catalog import Catalog
from schemas.instants import parse_instant
from schemas.money import EXACT, exponent, plain
from schemas.periods import month_of, month_period
from schemas.tokens import COUNT_MAX

CACHE_MAX: Final = 4096
"""Catalogs, instants: a stream repeats few of them; a stream that does not must not fill the memory."""


# gc=False: none of these can be part of a cycle, and a line makes several, so the collector need not visit them.
class _Usage(msgspec.Struct, gc=False):
    model: str
    provider: str
    tokens: dict[str, int]
    requests: int = 1
    service_tier: str = "standard"


class _Request(msgspec.Struct, gc=False):
    plan: str
    at: str
    usage: list[_Usage]
    id: Any = None
    catalog: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct, gc=False):
    meter: str
    models: str
    quantity: int | str
    amount: str
    unrounded: str


class _Answer(msgspec.Struct, omit_defaults=True, gc=False):
    id: Any
    amount: str
    currency: str
    lines: list[_Line]
    unrated: list[dict[str, str]] | msgspec.UnsetType = msgspec.UNSET


class _Refused(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Terms:
    """A catalog, its prices, and the rate cards found so far by (plan, at)."""

    def __init__(self, catalog: Catalog, prices: CostFinder) -> None:
        self.catalog = catalog
        self.prices = prices
        self.places = Decimal(1).scaleb(-exponent(catalog.currency))
        self._cards: dict[tuple[str, str], RateCard] = {}

    def card(self, plan_id: str, at: str) -> RateCard:
        found = self._cards.get((plan_id, at))
        if found is not None:
            return found
        plan = self.catalog.plans.get(plan_id)
        if plan is None:
            raise _Refused("unknown_plan", f"the catalog has no plan {plan_id!r}")
        try:
            at_us = parse_instant(at)
        except ValueError as error:
            raise _Refused("malformed", f"at: {error}") from error
        version = version_at(plan, at_us)
        if version is None:
            raise _Refused("no_terms", f"plan {plan_id!r} has no version in force at {at}")
        end_us = month_period(month_of(at_us, "UTC"), "UTC").end_us
        card = RateCard(version, self.prices, at_us, self.catalog.currency, self.catalog.exchange_rates, end_us)
        if len(self._cards) >= CACHE_MAX:
            self._cards.clear()
        self._cards[plan_id, at] = card
        return card


def built_in_prices(catalog: Catalog) -> ProviderPrices:
    """The catalog's provider prices over the built-in ones."""
    return ProviderPrices(catalog.provider_prices)


class RateStream:
    """Answers lines one by one. prices_of: provider prices of a catalog.

    catalog: for lines that bring none; without it these take the catalog that a line before them brought last.
    """

    def __init__(
        self, catalog: Catalog | None = None, prices_of: Callable[[Catalog], CostFinder] = built_in_prices
    ) -> None:
        self._prices_of = prices_of
        self._own = None if catalog is None else _Terms(catalog, prices_of(catalog))
        self._last: _Terms | None = None
        self._given: dict[bytes, _Terms] = {}
        self._decode = msgspec.json.Decoder(_Request).decode
        self._encode = msgspec.json.Encoder().encode

    def answer(self, line: bytes) -> bytes:
        """The answer to a line, without a line end. Never raises for what is in the line."""
        return self.answers((line,))[0]

    def answers(self, lines: Iterable[bytes]) -> list[bytes]:
        """The answers to some lines, in order: a thousand at a time is faster than one by one."""
        with localcontext(EXACT):
            return [self._answer(line) for line in lines]

    def _answer(self, line: bytes) -> bytes:
        try:
            request = self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._error(_id_of(line), "malformed", str(error))
        try:
            return self._encode(self._rated(request))
        except _Refused as refused:
            return self._error(request.id, refused.reason, str(refused))

    def _error(self, line_id: object, reason: str, detail: str) -> bytes:
        return self._encode({"id": line_id, "error": {"reason": reason, "detail": detail}})

    def _terms(self, raw: msgspec.Raw) -> _Terms:
        document = bytes(raw)
        if document in (b"", b"null"):
            found = self._own or self._last
            if found is None:
                raise _Refused("no_catalog", "the line brings no catalog, and none was given before it")
            return found
        found = self._given.get(document)
        if found is None:
            data = json.loads(document, parse_float=Decimal)
            if not isinstance(data, dict):
                raise _Refused("invalid_catalog", "the catalog is not an object")
            catalog = parse_data(data)
            if isinstance(catalog, list):
                raise _Refused("invalid_catalog", "; ".join(f"{e.path}: {e.message}" for e in catalog))
            if len(self._given) >= CACHE_MAX:
                self._given.clear()
            found = self._given[document] = _Terms(catalog, self._prices_of(catalog))
        self._last = found
        return found

    def _rated(self, request: _Request) -> _Answer:
        terms = self._terms(request.catalog)
        card = terms.card(request.plan, request.at)
        rated = card.new()
        for entry in request.usage:
            if not 0 <= entry.requests <= COUNT_MAX:
                raise _Refused("malformed", f"requests: {entry.requests} is not a count")
            try:
                card.book(rated, entry.provider, entry.model, entry.service_tier, entry.tokens, entry.requests)
            except ValueError as error:
                raise _Refused("malformed", str(error)) from error
        places = terms.places
        amount = places * 0
        lines = []
        for charge, quantity, exact in card.priced(rated):
            rounded = exact.quantize(places, ROUND_HALF_UP, EXACT)
            amount += rounded
            shown = quantity if isinstance(quantity, int) else plain(quantity)
            lines.append(_Line(charge.meter, charge.models, shown, str(rounded), plain(exact)))
        answer = _Answer(request.id, str(amount), terms.catalog.currency, lines)
        if rated.unrated:
            answer.unrated = [{"model": model, "meter": meter} for model, meter in sorted(rated.unrated)]
        return answer


def _id_of(line: bytes) -> object:
    """The id of a line that has another fault; None if it cannot be read."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = data.get("id") if isinstance(data, dict) else None
    return found if isinstance(found, (str, bool)) or (isinstance(found, int) and abs(found) <= COUNT_MAX) else None

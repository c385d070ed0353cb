"""Which provider price holds for a request: the catalog's entries first, the built-in data under them.

For a request (provider, model, service tier, instant, size band):

1. The model's exact name, then its plainer base names (names.py), each in the catalog's entries of that provider and
   service tier. An entry is in force from its `from` (inclusive) until a later one of the same over_input; each
   over_input is a series of its own. Of the series that the request's size reaches, the largest with an entry in force
   counts. Entries of one date add up (tokens per 1,000,000 in one, searches per 1,000 in another); a later date
   replaces all of them: what it leaves out has no price.
2. Where none of these is in force, the built-in data, dated by the same instant.
3. Where that has nothing either, there is no price. Another service tier's price never stands in: the standard price
   for a batch call would be twice too high, and for a priority call too low.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final, TypeVar

from pipeline.prices.hit import EXACT_PRICE, Cost, PriceHit, nothing_found
from pipeline.prices.names import canonical_provider, model_names
from pipeline.prices.seed import BUILT_IN, SEED_PER, Cuts, Seed
from schemas.catalog import ProviderPrice
from schemas.instants import DAY_US
from schemas.tokens import COUNT_MAX, Classes

_CACHE_MAX: Final = 65_536
"""Model names come from outside: beyond this many questions a cache starts anew rather than grow without bound."""
SERVICE_TIERS: Final = ("standard", "batch", "flex", "priority")
_EVER: Final = -(2**63)

_K = TypeVar("_K")
_V = TypeVar("_V")
_Key = tuple[str, str, str, int]
_Series = dict[int, list[ProviderPrice]]
"""By over_input (0: any size), the joined entries in order of `from`."""


class ProviderPrices:
    """Prices by (provider, model, service tier, instant, size). Immutable in effect; holds caches.

    entries: the catalog's. seed: the data beneath (None: nothing but the catalog counts).
    """

    def __init__(self, entries: Iterable[ProviderPrice] = (), seed: Seed | None = BUILT_IN) -> None:
        self._seed = seed
        self._series = _series(entries)
        self._bands: dict[tuple[str, str], tuple[int, ...]] = {}
        self._thresholds: dict[tuple[str, str], tuple[int, ...]] = {}
        self._from_catalog: dict[_Key, tuple[tuple[int, ...], tuple[PriceHit | None, ...]]] = {}
        self._from_seed: dict[_Key, tuple[Cuts, dict[tuple[int, int], PriceHit | None]]] = {}

    def thresholds(self, provider: str, model: str) -> tuple[int, ...]:
        """All sizes of the input side above which some price of the model, of any date or tier, differs; ascending."""
        known = self._thresholds.get((provider, model))
        if known is None:
            below = self._seed.thresholds(canonical_provider(provider), model) if self._seed is not None else ()
            _bound(self._thresholds)
            known = self._thresholds[provider, model] = tuple(sorted({*self._catalog_bands(provider, model), *below}))
        return known

    def _catalog_bands(self, provider: str, model: str) -> tuple[int, ...]:
        known = self._bands.get((provider, model))
        if known is None:
            whose = canonical_provider(provider)
            found = {
                band
                for name in model_names(model)
                for tier in SERVICE_TIERS
                for band in self._series.get((whose, name, tier), ())
            }
            _bound(self._bands)
            known = self._bands[provider, model] = tuple(sorted(found - {0}))
        return known

    def size_band(self, provider: str, model: str, input_side: int) -> int:
        """The largest threshold below a request's input side, 0 if none."""
        if self._seed is None or input_side <= self._seed.threshold_min:
            bands = self._catalog_bands(provider, model)  # the built-in data stays unread while requests are short
        else:
            bands = self.thresholds(provider, model)
        position = bisect_left(bands, input_side)
        return bands[position - 1] if position else 0

    def bandless(self, provider: str, model: str) -> int:
        """Input sides up to this have no band, whatever the built-in data says."""
        bands = self._catalog_bands(provider, model)
        lowest = bands[0] if bands else COUNT_MAX
        return lowest if self._seed is None else min(lowest, self._seed.threshold_min)

    def find(self, provider: str, model: str, service_tier: str, time_us: int, size_band: int) -> PriceHit | None:
        """The price in force for a request, None if there is none."""
        key = (provider, model, service_tier, size_band)
        known = self._from_catalog.get(key)
        if known is None:
            _bound(self._from_catalog)
            known = self._from_catalog[key] = self._stretches(key)
        starts, hits = known
        hit = hits[bisect_right(starts, time_us)] if starts else hits[0]
        return hit if hit is not None or self._seed is None else self._seeded(self._seed, key, time_us)

    def cost(
        self, provider: str, model: str, service_tier: str, time_us: int, size_band: int, classes: Classes
    ) -> Cost:
        """The exact cost of counts in the order of CLASSES, and which of them have no price."""
        hit = self.find(provider, model, service_tier, time_us, size_band)
        return hit.cost(classes) if hit is not None else nothing_found(classes)

    def unpriced(
        self, provider: str, model: str, service_tier: str, time_us: int, size_band: int, classes: Classes
    ) -> tuple[str, ...]:
        """The classes with a count that have no price; what `cost` says, without the cost."""
        hit = self.find(provider, model, service_tier, time_us, size_band)
        return hit.unpriced(classes) if hit is not None else nothing_found(classes).unpriced

    def changes(
        self, provider: str, model: str, service_tier: str, start_us: int, end_us: int, size_band: int
    ) -> tuple[int, ...]:
        """The instants inside (start_us, end_us) from which on a request costs otherwise than before; ascending.

        Between two of them a sum of usage costs what its parts cost.
        """
        key = (provider, model, service_tier, size_band)
        at = (provider, model, service_tier)
        before = self.find(*at, start_us, size_band)
        found = []
        for instant_us in self._instants(key, start_us, end_us):
            hit = self.find(*at, instant_us, size_band)
            if not _costs_alike(before, hit):
                found.append(instant_us)
            before = hit
        return tuple(found)

    def _instants(self, key: _Key, start_us: int, end_us: int) -> list[int]:
        """When an answer may become another one: dates of the catalog and of the data under it, and times of day."""
        starts, hits = self._from_catalog[key]  # find has just put it there
        found = set(starts)
        if self._seed is not None and not all(hits):
            cuts = self._seed.cuts(canonical_provider(key[0]), key[1], key[2])
            found.update(cuts.instants)
            for day_us in range(start_us - start_us % DAY_US, end_us, DAY_US) if cuts.times_of_day else ():
                found.update(day_us + of_day_us for of_day_us in cuts.times_of_day)
        return sorted(instant_us for instant_us in found if start_us < instant_us < end_us)

    def _stretches(self, key: _Key) -> tuple[tuple[int, ...], tuple[PriceHit | None, ...]]:
        """The catalog's answers over all time: hits[i] holds from starts[i - 1] until starts[i]."""
        provider, model, tier, size_band = key
        candidates = [
            (name, series)
            for name in model_names(model)
            if (series := self._series.get((canonical_provider(provider), name, tier))) is not None
        ]
        starts = sorted(
            {
                entry.from_us
                for _, series in candidates
                for entries in series.values()
                for entry in entries
                if entry.from_us is not None
            }
        )
        hits: list[PriceHit | None] = []
        for time_us in (_EVER, *starts):
            found = ((name, _in_force(series, time_us, size_band)) for name, series in candidates)
            hits.append(next((_catalog_hit(key, name, entry) for name, entry in found if entry is not None), None))
        if not starts and hits == [None] and self._seed is not None:
            canonical = canonical_provider(provider)
            if self._seed.cuts(canonical, model, tier) == Cuts():  # one answer for all time needs no second look
                return (), (_seed_hit(self._seed, key, canonical, 0),)
        return tuple(starts), tuple(hits)

    def _seeded(self, seed: Seed, key: _Key, time_us: int) -> PriceHit | None:
        canonical = canonical_provider(key[0])
        known = self._from_seed.get(key)
        if known is None:
            _bound(self._from_seed)
            known = self._from_seed[key] = (seed.cuts(canonical, key[1], key[2]), {})
        cuts, cells = known
        cell = cuts.cell(time_us)
        if cell not in cells:
            cells[cell] = _seed_hit(seed, key, canonical, time_us)
        return cells[cell]


def _costs_alike(one: PriceHit | None, other: PriceHit | None) -> bool:
    """Whether the same counts cost the same by both."""
    if one is None or other is None:
        return one is other
    return (one.prices, one.per, one.currency) == (other.prices, other.per, other.currency)


def _bound(cache: dict[_K, _V]) -> None:
    if len(cache) >= _CACHE_MAX:
        cache.clear()


def _series(entries: Iterable[ProviderPrice]) -> dict[tuple[str, str, str], _Series]:
    grouped: dict[tuple[str, str, str], dict[int, dict[int, list[ProviderPrice]]]] = {}
    for entry in entries:
        whose = (canonical_provider(entry.provider), entry.model, entry.service_tier)
        start = _EVER if entry.from_us is None else entry.from_us
        dated = grouped.setdefault(whose, {}).setdefault(entry.over_input or 0, {})
        dated.setdefault(start, []).append(entry)
    return {
        whose: {over: [_joined(dated[start]) for start in sorted(dated)] for over, dated in series.items()}
        for whose, series in grouped.items()
    }


def _joined(entries: list[ProviderPrice]) -> ProviderPrice:
    """Entries of one date as one: all their classes, for the largest `per`; the first wins where a class repeats."""
    if len(entries) == 1:
        return entries[0]
    if len({entry.currency for entry in entries}) > 1:
        names = f"{entries[0].provider} {entries[0].model}"
        raise ValueError(f"prices of {names} from one date in two currencies: use one currency")
    per = max(entry.per for entry in entries)
    prices: dict[str, Decimal] = {}
    for entry in entries:
        for name, price in entry.prices.items():
            prices.setdefault(name, EXACT_PRICE.divide(EXACT_PRICE.multiply(price, Decimal(per)), Decimal(entry.per)))
    return replace(entries[0], per=per, prices=prices)


def _in_force(series: Mapping[int, list[ProviderPrice]], time_us: int, size_band: int) -> ProviderPrice | None:
    """The newest entry of the largest size that the request reaches and that has one in force."""
    for over in sorted(series, reverse=True):
        if over > size_band:
            continue
        for entry in reversed(series[over]):
            if entry.from_us is None or entry.from_us <= time_us:
                return entry
    return None


def _catalog_hit(key: _Key, name: str, entry: ProviderPrice) -> PriceHit:
    provider, model, tier, _ = key
    return PriceHit(
        provider=provider,
        model=model,
        matched_model=name,
        service_tier=tier,
        from_us=entry.from_us,
        over_input=entry.over_input or 0,
        per=entry.per,
        currency=entry.currency,
        source="catalog",
        prices=entry.prices,
        note=_note(model, name),
    )


def _seed_hit(seed: Seed, key: _Key, canonical: str, time_us: int) -> PriceHit | None:
    provider, model, tier, size_band = key
    found = seed.find(canonical, model, tier, time_us, size_band)
    if found is None:
        return None
    return PriceHit(
        provider=provider,
        model=model,
        matched_model=found.model,
        service_tier=tier,
        from_us=found.from_us,
        over_input=found.over_input,
        per=SEED_PER,
        currency="USD",
        source=seed.source,
        prices=found.prices,
        note=_note(model, found.model),
    )


def _note(model: str, matched: str) -> str:
    return "" if model == matched else f"{model} has no price of its own: priced as {matched}"

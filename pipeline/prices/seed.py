"""The built-in price data: what the installed genai-prices package knows, read as dated facts.

Only its data is used. Its updater would change a bill from outside, and its calculation takes the first price where
none is in force at the date; here that is no price. An entry without a date holds since ever. Prices by time of day
(DeepSeek) hold in their hours. batch, flex and priority have a price only where the data has rules for them, from the
date of the rule on; what such a rule leaves out (a search, a cache) costs as standard, as the data means it. A model
that is also charged for each request, which no token class can carry, has no usable price.
"""

from bisect import bisect_right
from datetime import date, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pipeline.prices.names import model_names
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from schemas.periods import day_start

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

THRESHOLD_MIN: Final = 32_000
"""The smallest size band in the pinned data: a smaller request needs no look into it (a test holds them together)."""

_SEED_IDS: Final = {"xai": "x-ai", "moonshot": "moonshotai", "aws-bedrock": "aws", "voyage": "voyageai"}

# Class, the data's keys in order of preference, and what their price is for.
_KEYS: Final = (
    ("input", ("input_mtok",), 1_000_000),
    ("cache_read", ("cache_read_mtok",), 1_000_000),
    ("cache_write", ("cache_write_5m_mtok", "cache_write_mtok"), 1_000_000),
    ("cache_write_long", ("cache_write_1h_mtok",), 1_000_000),
    ("output", ("output_mtok",), 1_000_000),
    ("reasoning", ("output_reasoning_mtok",), 1_000_000),
    ("input_audio", ("input_audio_mtok",), 1_000_000),
    ("output_audio", ("output_audio_mtok",), 1_000_000),
    ("input_image", ("input_image_mtok",), 1_000_000),
    ("output_image", ("output_image_mtok",), 1_000_000),
    ("web_searches", ("web_searches_kcount",), 1_000),
)
SEED_PER: Final = 1_000_000
_CONTEXT: Final = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}


class SeedPrice(NamedTuple):
    """Prices for each SEED_PER units by class, in USD, and since when (None: ever)."""

    model: str
    prices: dict[str, Decimal]
    from_us: int | None
    over_input: int


class Seed(Protocol):
    """Price data under the catalog's own."""

    @property
    def source(self) -> str:
        """Name and version."""

    @property
    def threshold_min(self) -> int:
        """No model has a size band below this."""

    def thresholds(self, provider: str, model: str) -> tuple[int, ...]:
        """Size bands of the model, ascending."""

    def cuts(self, provider: str, model: str, tier: str) -> "Cuts":
        """When the model's prices of the tier can change."""

    def find(self, provider: str, model: str, tier: str, time_us: int, size_band: int) -> SeedPrice | None:
        """The price in force; None if there is none."""


class Cuts(NamedTuple):
    """Instants, and times of day, at which a price can change; between them it is constant."""

    instants: tuple[int, ...] = ()
    times_of_day: tuple[int, ...] = ()

    def cell(self, time_us: int) -> tuple[int, int]:
        """Which stretch the instant lies in."""
        slot = bisect_right(self.times_of_day, time_us % DAY_US) if self.times_of_day else 0
        return bisect_right(self.instants, time_us), slot


class _Rule(NamedTuple):
    """A set of prices and when it is active."""

    from_us: int | None
    hours: tuple[int, int] | None
    when: dict[str, str]
    prices: dict[str, Any]

    def active(self, time_us: int) -> bool:
        if self.from_us is not None and time_us < self.from_us:
            return False
        if self.hours is None:
            return True
        start, end = self.hours
        now = time_us % DAY_US
        return start <= now < end if start <= end else now >= start or now < end


class _Model(NamedTuple):
    """One model's rules: of the standard ones the last active counts, of the variants the first that has a key."""

    id: str
    standard: tuple[_Rule, ...]
    variants: tuple[_Rule, ...]

    def find(self, tier: str, time_us: int, size_band: int) -> SeedPrice | None:
        base = next((rule for rule in reversed(self.standard) if rule.active(time_us)), None)
        if base is None:
            return None
        values, from_us = dict(base.prices), base.from_us
        if tier != "standard":
            context = _CONTEXT.get(tier)
            overlays = [rule for rule in self.variants if rule.when == context and rule.active(time_us)]
            if not any(rule.prices for rule in overlays):
                return None
            for rule in reversed(overlays):
                values.update(rule.prices)
                from_us = max((at for at in (from_us, rule.from_us) if at is not None), default=None)
        return _seed_price(self.id, values, from_us, size_band)

    def bands(self) -> tuple[int, ...]:
        values = [value for rule in self.standard + self.variants for value in rule.prices.values()]
        return tuple(sorted({tier.start for value in values for tier in getattr(value, "tiers", ())}))

    def cuts(self, tier: str) -> Cuts:
        rules = self.standard if tier == "standard" else self.standard + self.variants
        hours = {bound for rule in rules if rule.hours is not None for bound in rule.hours}
        return Cuts(tuple(sorted({rule.from_us for rule in rules if rule.from_us is not None})), tuple(sorted(hours)))


def _seed_price(model: str, values: dict[str, Any], from_us: int | None, size_band: int) -> SeedPrice | None:
    if "requests_kcount" in values:
        return None
    band = 0
    prices: dict[str, Decimal] = {}
    for name, keys, per in _KEYS:
        value = next((values[key] for key in keys if key in values), None)
        if value is None:
            continue
        for tier in getattr(value, "tiers", ()):
            if tier.start <= size_band:
                band = max(band, tier.start)
        prices[name] = _at_band(value, size_band) * (SEED_PER // per)
    return SeedPrice(model, prices, from_us, band) if prices else None


def _at_band(value: Any, size_band: int) -> Decimal:
    """The price for requests of the band: a cliff, every token at the price of the tier reached."""
    price: Decimal = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):
        if tier.start <= size_band:
            price = tier.price
    return price


class GenaiSeed:
    """The data of the installed genai-prices, loaded at the first question (it takes 0.3 s)."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], _Model | None] = {}

    @property
    def source(self) -> str:
        """Name and version of the data."""
        return f"genai-prices {version('genai-prices')}"

    @property
    def threshold_min(self) -> int:
        """No model has a size band below this."""
        return THRESHOLD_MIN

    def _model(self, provider: str, model: str) -> _Model | None:
        key = (provider, model)
        if key not in self._models:
            if len(self._models) > 65_536:  # names come from outside: forget rather than grow without bound
                self._models.clear()
            self._models[key] = _lookup(provider, model)
        return self._models[key]

    def thresholds(self, provider: str, model: str) -> tuple[int, ...]:
        """Size bands of the model, ascending."""
        found = self._model(provider, model)
        return found.bands() if found is not None else ()

    def cuts(self, provider: str, model: str, tier: str) -> Cuts:
        """When the model's prices of the tier can change."""
        found = self._model(provider, model)
        return found.cuts(tier) if found is not None else Cuts()

    def find(self, provider: str, model: str, tier: str, time_us: int, size_band: int) -> SeedPrice | None:
        """The price in force for the model, by a canonical provider name; None if there is none."""
        found = self._model(provider, model)
        return found.find(tier, time_us, size_band) if found is not None else None


@cache
def _providers() -> dict[str, "Provider"]:
    from genai_prices.data import providers  # noqa: PLC0415 - 0.3 s that a catalog with all prices never needs

    return {provider.id: provider for provider in providers}


def _lookup(provider: str, model: str) -> _Model | None:
    providers = _providers()
    known = providers.get(_SEED_IDS.get(provider, provider))
    if known is None:
        return None
    for name in model_names(model):
        info = known.find_model(name, all_providers=list(providers.values()))
        if info is not None:
            return _rules(info)
    return None


def _rules(info: "ModelInfo") -> _Model:
    listed = info.prices if isinstance(info.prices, list) else None
    if listed is None:
        standard = [_Rule(None, None, {}, _given(info.prices))]
    else:
        standard = [_rule({}, item.constraint, item.prices) for item in listed]
    variants = [_rule(item.when, item.constraint, item.prices) for item in info.price_variants or ()]
    return _Model(info.id, tuple(standard), tuple(variants))


def _rule(when: dict[str, str], constraint: Any, prices: object) -> _Rule:
    start: date | None = getattr(constraint, "start_date", None)
    hours = (
        (_of_day(constraint.start_time), _of_day(constraint.end_time)) if hasattr(constraint, "start_time") else None
    )
    return _Rule(day_start(start, "UTC") if start is not None else None, hours, when, _given(prices))


def _given(prices: object) -> dict[str, Any]:
    return {key: value for key, value in vars(prices).items() if value is not None}


def _of_day(moment: time) -> int:
    """UTC microseconds since midnight."""
    local = moment.hour * HOUR_US + moment.minute * MINUTE_US + moment.second * SECOND_US + moment.microsecond
    offset = moment.utcoffset()
    shift = 0 if offset is None else (offset.days * 86_400 + offset.seconds) * SECOND_US
    return (local - shift) % DAY_US


BUILT_IN: Final = GenaiSeed()
"""The one instance that a process shares."""

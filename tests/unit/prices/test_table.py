"""Which of the catalog's prices holds, at the edges of dates and sizes; and what an exact cost is."""

import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prices import Cost, PriceHit, ProviderPrices
from schemas.catalog import ProviderPrice
from schemas.instants import parse_instant as at
from schemas.money import EXACT
from schemas.tokens import CLASSES, Classes

OCT = at("2026-10-01T00:00:00Z")
NOV = at("2026-11-01T00:00:00Z")


def price(model: str = "m", from_us: int | None = OCT, per: Any = 1_000_000, **options: Any) -> ProviderPrice:
    prices: dict[str, Decimal] = {name: Decimal(str(options.pop(name))) for name in CLASSES if name in options}
    provider = options.pop("provider", "openai")
    return ProviderPrice(provider, model, from_us, per, prices, **options)


def table(*entries: ProviderPrice) -> ProviderPrices:
    return ProviderPrices(entries, seed=None)


def counts(**by_name: int) -> Classes:
    return tuple(by_name.get(name, 0) for name in CLASSES)


def found(
    prices: ProviderPrices, time_us: int = NOV, model: str = "m", tier: str = "standard", band: int = 0
) -> PriceHit:
    hit = prices.find("openai", model, tier, time_us, band)
    assert hit is not None
    return hit


def test_a_price_holds_from_its_instant_on() -> None:
    prices = table(price(input=1), price(from_us=NOV, input=2))
    assert prices.find("openai", "m", "standard", OCT - 1, 0) is None
    assert found(prices, OCT).price("input") == 1
    assert found(prices, NOV - 1).price("input") == 1
    assert found(prices, NOV).price("input") == 2
    assert found(prices, NOV).from_us == NOV


def test_the_order_of_entries_does_not_matter() -> None:
    prices = table(price(from_us=NOV, input=2), price(from_us=None, input=0), price(input=1))
    assert [found(prices, t).price("input") for t in (0, OCT - 1, OCT, NOV)] == [0, 0, 1, 2]


def test_a_later_entry_replaces_the_earlier_one_wholly() -> None:
    prices = table(price(input=1, cache_read="0.1"), price(from_us=NOV, input=2))
    assert found(prices, NOV - 1).price("cache_read") == Decimal("0.1")
    assert found(prices, NOV).price("cache_read") is None


def test_entries_of_one_date_add_up_exactly() -> None:
    prices = table(price(input="0.25"), price(per=1000, web_searches=10))
    hit = found(prices)
    assert (hit.per, hit.price("input"), hit.price("web_searches")) == (
        1_000_000,
        Decimal("0.25"),
        Decimal(10_000),
    )
    assert hit.cost(counts(input=4_000_000, web_searches=3)).amount == Decimal("1.03")


def test_entries_of_one_date_in_two_currencies_are_refused() -> None:
    with pytest.raises(ValueError, match="two currencies"):
        table(price(input=1), price(output=1, currency="EUR"))


@pytest.mark.parametrize(
    ("name", "stands_in"),
    [
        ("reasoning", "output"),
        ("cache_write", "cache_write_long"),
        ("cache_write_long", "cache_write"),
        ("input_audio", "input"),
        ("input_image", "input"),
        ("output_audio", "output"),
        ("output_image", "output"),
    ],
)
def test_a_class_without_a_price_takes_its_neighbours(name: str, stands_in: str) -> None:
    other: dict[str, Any] = {stands_in: 3}
    both: dict[str, Any] = {stands_in: 3, name: 5}
    assert found(table(price(**other))).price(name) == 3
    assert found(table(price(**both))).price(name) == 5
    cost = table(price(per=1, **other)).cost("openai", "m", "standard", NOV, 0, counts(**{name: 2}))
    assert cost == Cost(Decimal(6), "USD", ())


@pytest.mark.parametrize("name", ["cache_read", "cache_write", "cache_write_long", "output", "web_searches"])
def test_nothing_else_stands_in(name: str) -> None:
    prices = table(price(per=1, input=3))
    assert found(prices).price(name) is None
    cost = prices.cost("openai", "m", "standard", NOV, 0, counts(input=2, **{name: 7}))
    assert cost == Cost(Decimal(6), "USD", (name,))


def test_a_price_of_zero_is_a_price() -> None:
    cost = table(price(input=0)).cost("openai", "m", "standard", NOV, 0, counts(input=5))
    assert cost == Cost(Decimal(0), "USD", ())


def test_unknown_stays_unknown() -> None:
    prices = table(price(input=1, output=1))
    usage = counts(input=5, output=2)
    for provider, model in (("openai", "other"), ("anthropic", "m")):
        cost = prices.cost(provider, model, "standard", NOV, 0, usage)
        assert cost == Cost(Decimal(0), "USD", ("input", "output"))
    assert prices.cost("openai", "other", "standard", NOV, 0, counts()).unpriced == ()


@pytest.mark.parametrize("tier", ["batch", "flex", "priority"])
def test_another_service_tier_never_takes_the_standard_price(tier: str) -> None:
    prices = table(price(input=1))
    assert prices.find("openai", "m", tier, NOV, 0) is None
    assert prices.cost("openai", "m", tier, NOV, 0, counts(input=5)).unpriced == ("input",)
    own = table(price(input=1), price(input="0.5", service_tier=tier))
    assert found(own, tier=tier).price("input") == Decimal("0.5")
    assert found(own).price("input") == 1


def test_sizes_are_bands_above_each_threshold() -> None:
    prices = table(price(input=1), price(input=2, over_input=1000), price(input=3, over_input=5000))
    assert prices.thresholds("openai", "m") == (1000, 5000)
    sizes = (0, 1000, 1001, 5000, 5001, 10**9)
    bands = [prices.size_band("openai", "m", size) for size in sizes]
    assert bands == [0, 0, 1000, 1000, 5000, 5000]
    assert [found(prices, band=band).price("input") for band in bands] == [1, 1, 2, 2, 3, 3]
    assert found(prices, band=5000).over_input == 5000


def test_each_size_is_a_series_of_its_own() -> None:
    # The base price changes in November; the price of long requests stays until it gets an entry of its own.
    prices = table(price(input=1), price(input=4, over_input=1000), price(from_us=NOV, input=2))
    assert [found(prices, t, band=0).price("input") for t in (OCT, NOV)] == [1, 2]
    assert [found(prices, t, band=1000).price("input") for t in (OCT, NOV)] == [4, 4]


def test_a_size_whose_price_begins_later_takes_the_smaller_ones_until_then() -> None:
    prices = table(price(input=1), price(from_us=NOV, input=4, over_input=1000))
    assert [found(prices, t, band=1000).price("input") for t in (NOV - 1, NOV)] == [1, 4]


def test_a_price_for_long_requests_alone_leaves_short_ones_without() -> None:
    prices = table(price(input=4, over_input=1000))
    assert prices.find("openai", "m", "standard", NOV, 0) is None
    assert found(prices, band=1000).price("input") == 4


def test_thresholds_of_derived_names_and_every_tier_count() -> None:
    prices = table(
        price(input=1), price(input=2, over_input=1000), price(input=2, over_input=700, service_tier="batch")
    )
    assert prices.thresholds("openai", "m-2026-01-01") == (700, 1000)
    assert prices.size_band("openai", "m-2026-01-01", 800) == 700
    # A band without entries of this tier is the next smaller one's price.
    assert found(prices, band=700).price("input") == 1


def test_a_dated_or_tuned_name_finds_its_base_and_says_so() -> None:
    prices = table(price("gpt-5-mini", input=1))
    for name in ("gpt-5-mini-2026-01-01", "ft:gpt-5-mini:org::id", "openai/gpt-5-mini"):
        hit = found(prices, model=name)
        assert (hit.model, hit.matched_model) == (name, "gpt-5-mini")
        assert hit.note == f"{name} has no price of its own: priced as gpt-5-mini"
    assert found(prices, model="gpt-5-mini").note == ""


def test_an_exact_name_wins_from_its_date_on() -> None:
    prices = table(price("m", input=1), price("m-2026-01-01", from_us=NOV, input=2))
    assert found(prices, NOV - 1, "m-2026-01-01").matched_model == "m"
    hit = found(prices, NOV, "m-2026-01-01")
    assert (hit.matched_model, hit.note, hit.price("input")) == ("m-2026-01-01", "", Decimal(2))


def test_another_name_of_the_provider_is_the_same_provider() -> None:
    prices = table(price("g", provider="gemini", input=1))
    assert prices.find("vertex_ai", "g", "standard", NOV, 0) is not None


def test_the_currency_is_the_entrys() -> None:
    cost = table(price(input=1, currency="EUR")).cost("openai", "m", "standard", NOV, 0, counts(input=1))
    assert (cost.amount, cost.currency) == (Decimal("0.000001"), "EUR")


@given(
    st.lists(st.integers(0, 2**53 - 1), min_size=len(CLASSES), max_size=len(CLASSES)),
    st.lists(
        st.decimals(min_value=0, max_value=10**14, places=18, allow_nan=False),
        min_size=len(CLASSES),
        max_size=len(CLASSES),
    ),
    st.sampled_from([1, 8, 1000, 10**6, 2**29, 5**12]),
)
def test_a_cost_is_exact_to_the_last_digit(usage: list[int], prices: list[Decimal], per: int) -> None:
    entry = ProviderPrice("p", "m", None, per, dict(zip(CLASSES, prices, strict=True)))
    cost = table(entry).cost("p", "m", "standard", 0, 0, tuple(usage))
    # The independent sum: whole numbers of 10**-18, and a fraction for `per`.
    total = sum(n * int(EXACT.scaleb(p, 18)) for n, p in zip(usage, prices, strict=True))
    numerator, denominator = cost.amount.as_integer_ratio()
    assert numerator * per * 10**18 == total * denominator


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=4))
def test_costs_add_up_over_any_split(parts: list[tuple[int, int]]) -> None:
    prices = table(price(input="0.123456789", output="7.1"))

    def cost(inputs: int, outputs: int) -> Decimal:
        return prices.cost("openai", "m", "standard", NOV, 0, counts(input=inputs, output=outputs)).amount

    assert sum((cost(*part) for part in parts), Decimal(0)) == cost(sum(a for a, _ in parts), sum(b for _, b in parts))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9) | st.none(), st.sampled_from([None, 10, 20]), st.sampled_from(["m", "m-2026-01-01"])
        ),
        max_size=8,
        unique=True,
    ),
    st.lists(st.tuples(st.integers(-1, 10), st.sampled_from([0, 10, 20])), min_size=1, max_size=8),
)
def test_the_cached_answer_is_the_rule_spelt_out(
    entries: list[tuple[int | None, int | None, str]], questions: list[tuple[int, int]]
) -> None:
    rows = [price(model, from_us=start, input=i, over_input=over) for i, (start, over, model) in enumerate(entries)]
    prices = table(*rows)
    for now, band in questions:
        expected = None
        for model in ("m-2026-01-01", "m"):
            for over in (20, 10, 0):
                series = [r for r in rows if r.model == model and (r.over_input or 0) == over and over <= band]
                series = [r for r in series if r.from_us is None or r.from_us <= now]
                newest = max(series, key=lambda r: -1 if r.from_us is None else r.from_us, default=None)
                expected = expected or newest
        hit = prices.find("openai", "m-2026-01-01", "standard", now, band)
        assert (hit.prices if hit is not None else None) == (expected.prices if expected is not None else None)


def test_names_from_outside_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.prices.table._CACHE_MAX", 10)
    prices = table(price(input=1))
    for i in range(100):
        prices.find("openai", f"unknown-{i}", "standard", NOV, 0)
        prices.thresholds("openai", f"unknown-{i}")
    assert len(prices._from_catalog) <= 10
    assert len(prices._thresholds) <= 10
    assert len(prices._bands) <= 10
    assert found(prices).price("input") == 1


def test_costs_are_found_fast_enough_for_the_meter() -> None:
    prices = table(price(input="0.25", cache_read="0.025", output=2))
    usage = counts(input=1200, cache_read=1000, output=300, reasoning=120)
    rounds = 20_000
    best = min(_seconds(prices, usage, rounds) for _ in range(5))
    # 400,000 a second on the machine it was written on; a tenth of that would still mean that a cache is gone.
    assert rounds / best > 40_000


def _seconds(prices: ProviderPrices, usage: Classes, rounds: int) -> float:
    start = time.process_time()
    for _ in range(rounds):
        prices.cost("openai", "m", "standard", NOV, 0, usage)
    return time.process_time() - start

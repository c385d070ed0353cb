"""The built-in data: dated by event time, by tier, size and hour; beneath the catalog, and never a guess."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from genai_prices import types as genai
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.prices import BUILT_IN, ProviderPrices
from pipeline.prices.seed import THRESHOLD_MIN, Cuts, _rules
from schemas.catalog import ProviderPrice
from schemas.instants import DAY_US, HOUR_US, to_datetime
from schemas.instants import parse_instant as at
from schemas.tokens import CLASSES, Classes

NOV = at("2026-11-01T00:00:00Z")


def counts(**by_name: int) -> Classes:
    return tuple(by_name.get(name, 0) for name in CLASSES)


def prices_of(
    provider: str, model: str, time_us: int = NOV, tier: str = "standard", band: int = 0
) -> dict[str, Decimal] | None:
    hit = ProviderPrices().find(provider, model, tier, time_us, band)
    return dict(hit.prices) if hit is not None else None


def model_info(
    prices: genai.ModelPrice | list[genai.ConditionalPrice], variants: list[genai.PriceVariant] | None = None
) -> genai.ModelInfo:
    return genai.ModelInfo(
        id="x",
        match=genai.ClauseEquals(equals="x"),
        prices=prices,
        price_variants=variants,
    )


def mtok(price: str | int) -> genai.ModelPrice:
    return genai.ModelPrice(input_mtok=Decimal(price))


def test_a_model_without_a_catalog_entry_has_the_built_in_price_and_says_where_it_is_from() -> None:
    hit = ProviderPrices().find("openai", "gpt-5-mini", "standard", NOV, 0)
    assert hit is not None
    assert hit.source.startswith("genai-prices ")
    assert (hit.per, hit.currency, hit.note) == (1_000_000, "USD", "")
    assert (hit.price("input"), hit.price("cache_read"), hit.price("output")) == (
        Decimal("0.25"),
        Decimal("0.025"),
        Decimal(2),
    )
    # A thousand searches cost ten dollars.
    assert hit.cost(counts(web_searches=1000)).amount == 10
    # No write to the cache has a price, so none is made up.
    assert hit.cost(counts(cache_write=5)).unpriced == ("cache_write",)


def test_the_data_is_the_one_that_bills_were_made_with() -> None:
    # Another version of the data is another set of prices: a change of money, which belongs in the changelog.
    assert BUILT_IN.source == "genai-prices 0.2.3"


def test_the_catalog_wins_from_its_date_on_and_the_built_in_data_holds_before() -> None:
    entry = ProviderPrice("openai", "gpt-5-mini", NOV, 1_000_000, {"input": Decimal("0.30")})
    prices = ProviderPrices((entry,))
    before = prices.find("openai", "gpt-5-mini", "standard", NOV - 1, 0)
    after = prices.find("openai", "gpt-5-mini", "standard", NOV, 0)
    assert before is not None
    assert after is not None
    assert (before.price("input"), before.source) == (Decimal("0.25"), BUILT_IN.source)
    assert (after.price("input"), after.source) == (Decimal("0.30"), "catalog")
    assert after.price("output") is None  # the entry stands alone: what it leaves out is not filled up


def test_the_catalogs_base_price_goes_before_the_built_in_price_of_a_dated_name() -> None:
    entry = ProviderPrice("openai", "gpt-5-mini", None, 1_000_000, {"input": Decimal("0.30")})
    hit = ProviderPrices((entry,)).find("openai", "gpt-5-mini-2025-08-07", "standard", NOV, 0)
    assert hit is not None
    assert (hit.source, hit.matched_model, hit.price("input")) == ("catalog", "gpt-5-mini", Decimal("0.30"))


def test_a_dated_name_finds_its_base_and_says_so() -> None:
    hit = ProviderPrices().find("openai", "gpt-5-mini-2026-01-01", "standard", NOV, 0)
    assert hit is not None
    assert hit.matched_model == "gpt-5-mini"
    assert "priced as gpt-5-mini" in hit.note


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "no-such-model"), ("nobody", "gpt-5-mini"), ("openai", ""), ("", "")]
)
def test_unknown_stays_unknown(provider: str, model: str) -> None:
    assert prices_of(provider, model) is None


def test_tiers_have_a_price_from_the_date_of_their_rule_on() -> None:
    # The data knows OpenAI's flex since 2026-10-12 and batch since 2026-10-14.
    assert prices_of("openai", "gpt-5-mini", at("2026-10-11T23:59:59Z"), "flex") is None
    flex = prices_of("openai", "gpt-5-mini", at("2026-10-12T00:00:00Z"), "flex")
    assert flex is not None
    assert flex["input"] == Decimal("0.125")
    assert prices_of("openai", "gpt-5-mini", at("2026-10-13T23:59:59Z"), "batch") is None
    assert prices_of("openai", "gpt-5-mini", at("2026-10-14T00:00:00Z"), "batch") is not None
    assert prices_of("anthropic", "claude-sonnet-4-5", NOV, "priority") is None


def test_long_requests_have_their_own_price() -> None:
    prices = ProviderPrices()
    assert prices.thresholds("google", "gemini-2.5-pro") == (200_000,)
    assert prices.size_band("google", "gemini-2.5-pro", 200_000) == 0
    assert prices.size_band("google", "gemini-2.5-pro", 200_001) == 200_000
    small, large = prices_of("google", "gemini-2.5-pro"), prices_of("google", "gemini-2.5-pro", band=200_000)
    assert small is not None
    assert large is not None
    assert (small["input"], large["input"]) == (Decimal("1.25"), Decimal("2.5"))
    assert (small["output"], large["output"]) == (Decimal(10), Decimal(15))


def test_a_catalog_entry_for_long_requests_lies_over_the_built_in_price() -> None:
    entry = ProviderPrice("google", "gemini-2.5-pro", None, 1_000_000, {"input": Decimal(9)}, over_input=100_000)
    prices = ProviderPrices((entry,))
    assert prices.thresholds("google", "gemini-2.5-pro") == (100_000, 200_000)
    small = prices.find("google", "gemini-2.5-pro", "standard", NOV, 0)
    large = prices.find("google", "gemini-2.5-pro", "standard", NOV, 200_000)
    assert small is not None
    assert large is not None
    assert (small.price("input"), large.price("input")) == (Decimal("1.25"), Decimal(9))


def test_no_model_of_the_data_has_a_smaller_band_than_the_shortcut_assumes() -> None:
    starts = [
        tier.start
        for provider in providers
        for info in provider.models
        for rule in (*_rules(info).standard, *_rules(info).variants)
        for value in rule.prices.values()
        for tier in getattr(value, "tiers", ())
    ]
    assert min(starts) == THRESHOLD_MIN


def test_a_model_that_also_costs_by_request_has_no_price() -> None:
    assert prices_of("perplexity", "sonar") is None


def test_before_the_first_dated_entry_there_is_no_price() -> None:
    start = genai.StartDateConstraint(start_date=date(2026, 10, 1))
    model = _rules(model_info([genai.ConditionalPrice(start, prices=mtok(1))]))
    october = at("2026-10-01T00:00:00Z")
    assert model.find("standard", october - 1, 0) is None
    price = model.find("standard", october, 0)
    assert price is not None
    assert (price.prices, price.from_us) == ({"input": Decimal(1)}, october)


def test_prices_by_the_hour_hold_in_their_hours_across_midnight_too() -> None:
    zone = timezone(timedelta(hours=2))
    nightly = genai.TimeOfDateConstraint(start_time=time(0, 30, tzinfo=zone), end_time=time(3, tzinfo=zone))
    listed = [genai.ConditionalPrice(prices=mtok(4)), genai.ConditionalPrice(nightly, prices=mtok(1))]
    model = _rules(model_info(listed))
    assert model.cuts("standard") == Cuts((), (HOUR_US, 22 * HOUR_US + HOUR_US // 2))
    asked = [
        at(f"2026-10-05T{clock}Z") for clock in ("22:29:59", "22:30:00", "23:59:59", "00:00:00", "00:59:59", "01:00:00")
    ]
    hits = [model.find("standard", moment, 0) for moment in asked]
    assert [hit.prices["input"] for hit in hits if hit is not None] == [4, 1, 1, 1, 1, 4]


def test_a_tiers_rule_lies_over_the_standard_price_key_by_key() -> None:
    standard = genai.ModelPrice(input_mtok=Decimal(4), cache_read_mtok=Decimal(1))
    rules = [
        genai.PriceVariant(when={"processing": "batch"}, prices=mtok(2)),
        genai.PriceVariant(
            when={"processing": "batch"}, prices=genai.ModelPrice(input_mtok=Decimal(9), output_mtok=Decimal(8))
        ),
        genai.PriceVariant(when={"service_tier": "flex"}, prices=genai.ModelPrice()),
        genai.PriceVariant(when={"processing": "batch", "region": "eu"}, prices=mtok(7)),
    ]
    model = _rules(model_info(standard, rules))
    batch = model.find("batch", NOV, 0)
    assert batch is not None
    assert batch.prices == {"input": 2, "cache_read": 1, "output": 8}
    assert model.find("flex", NOV, 0) is None  # a rule that says nothing is no price
    assert model.find("unheard-of", NOV, 0) is None


CHECKED = [
    (provider, info)
    for provider in providers
    if provider.id in ("openai", "anthropic", "google", "deepseek", "x-ai", "mistral", "groq")
    for info in provider.models
]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(CHECKED),
    st.integers(at("2025-01-01T00:00:00Z") // DAY_US, at("2026-12-01T00:00:00Z") // DAY_US),
    st.integers(0, DAY_US - 1),
    st.sampled_from([0, 100_000, 200_000, 272_000]),
)
def test_a_found_price_is_the_one_that_the_data_means(
    chosen: tuple[genai.Provider, genai.ModelInfo], day: int, of_day: int, band: int
) -> None:
    """Against the package's own choice of a price, where it has an entry in force."""
    _, info = chosen
    moment = day * DAY_US + of_day
    hit = _rules(info).find("standard", moment, band)
    theirs = info.get_prices(to_datetime(moment).astimezone(UTC))
    if hit is None:
        priced = [key for key in ("input_mtok", "output_mtok") if getattr(theirs, key) is not None]
        assert not priced or getattr(theirs, "requests_kcount", None) is not None or not _in_force(info, moment)
        return
    for name, key in (("input", "input_mtok"), ("output", "output_mtok"), ("cache_read", "cache_read_mtok")):
        value = getattr(theirs, key)
        for tier in getattr(value, "tiers", ()):
            if band + 1 > tier.start:
                value = SimpleNamespace(base=tier.price, tiers=getattr(value, "tiers", ()))
        assert hit.prices.get(name) == getattr(value, "base", value)


def _in_force(info: genai.ModelInfo, moment: int) -> bool:
    if isinstance(info.prices, genai.ModelPrice):
        return True
    now: datetime = to_datetime(moment)
    return any(item.constraint is None or item.constraint.active(now) for item in info.prices)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["deepseek-chat", "deepseek-v4-flash", "deepseek-v4-pro"]),
    st.lists(st.integers(at("2026-08-10T00:00:00Z"), at("2026-09-20T00:00:00Z")), min_size=1, max_size=20),
)
def test_answers_kept_between_the_cuts_are_those_of_a_fresh_look(model: str, moments: list[int]) -> None:
    prices = ProviderPrices()
    for moment in moments:
        hit = prices.find("deepseek", model, "standard", moment, 0)
        fresh = BUILT_IN.find("deepseek", model, "standard", moment, 0)
        assert (dict(hit.prices) if hit is not None else None) == (fresh.prices if fresh is not None else None)

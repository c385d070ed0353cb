"""A tenant's usage over a period: cuts, versions, allowances, cost, and what stays unrated."""

from decimal import Decimal
from typing import Any

import pytest

from pipeline.prices import ProviderPrices
from pipeline.rating import RatedCharge, RatedUsage, UsageMismatch, rate_usage
from schemas.catalog import Catalog
from schemas.instants import parse_instant
from schemas.invoice import LinePart
from schemas.periods import Period, month_period
from schemas.usage import UsageRow
from tests.unit.rating.catalogs import catalog_of, markup, per_unit, price, tiered
from tests.unit.rating.usage_memory import MemoryUsage, event

JULY = month_period("2026-07", "UTC")


def at(text: str) -> int:
    return parse_instant(text if "T" in text else f"{text}T00:00:00Z")


def rated(catalog: Catalog, rows: list[UsageRow], period: Period = JULY) -> RatedUsage:
    prices = ProviderPrices(catalog.provider_prices, seed=None)
    return rate_usage(catalog, prices, "acme", period, MemoryUsage(rows), rates_at_us=period.end_us)


def totals(catalog: Catalog, rows: list[UsageRow], period: Period = JULY) -> dict[str, Decimal]:
    """Exact amounts by plan and meter."""
    found: dict[str, Decimal] = {}
    for charge in rated(catalog, rows, period).charges:
        name = f"{charge.plan}:{charge.meter}"
        found[name] = found.get(name, Decimal(0)) + charge.amount
    return found


def plan(*charges: dict[str, Any], **terms: Any) -> dict[str, Any]:
    return {"p": {"charges": list(charges), **terms}}


def test_each_class_is_charged_once() -> None:
    catalog = catalog_of(
        plan(per_unit("input", "1"), per_unit("tokens", "10"), markup("1")),
        provider_prices=[price("m-small", web_searches="100")],
    )
    rows = [event(at("2026-07-02"), input=1, output=2, web_searches=3)]
    assert totals(catalog, rows) == {"p:input": 1, "p:tokens": 20, "p:cost": 600}


def test_requests_are_charged_beside_tokens() -> None:
    catalog = catalog_of(plan(per_unit("tokens", "1"), per_unit("requests", "5")))
    assert totals(catalog, [event(at("2026-07-02"), input=3, requests=2)]) == {"p:tokens": 3, "p:requests": 10}


def test_a_charge_sums_its_models_before_it_prices() -> None:
    catalog = catalog_of(plan(tiered("graduated", "input", (10, "1"), (None, "0.1"), models="m-*")))
    rows = [event(at("2026-07-02"), model="m-a", input=8), event(at("2026-07-03"), model="m-b", input=8)]
    result = rated(catalog, rows)
    assert [(c.quantity, c.amount) for c in result.charges] == [(16, Decimal("10.6"))]
    assert result.charges[0].parts[0].models == ("m-a", "m-b")
    assert result.charges[0].used == ((None, "m-a", "input"), (None, "m-b", "input"))


def test_own_keys_are_never_billed_and_never_unrated() -> None:
    catalog = catalog_of(
        plan(
            per_unit("input", "1"),
            per_unit("requests", "1"),
            allowances=[{"meter": "input", "models": "*", "amount": 5}],
        )
    )
    rows = [event(at("2026-07-02"), pooled=False, key="own", input=9, output=9), event(at("2026-07-03"), input=6)]
    result = rated(catalog, rows)
    assert result.unrated == ()
    assert {c.meter: c.amount for c in result.charges} == {"input": 1, "requests": 1}


def test_a_class_without_a_charge_is_unrated_unless_there_is_none_of_it() -> None:
    catalog = catalog_of(plan(per_unit("input", "1"), per_unit("output", "1", models="m-small")))
    rows = [
        event(at("2026-07-02"), model="m-x", input=1, output=2, cache_read=3),
        event(at("2026-07-02"), input=1, output=1),
    ]
    assert rated(catalog, rows).unrated == (("m-x", "cache_read"), ("m-x", "output"))


def test_zero_priced_is_rated() -> None:
    result = rated(catalog_of(plan(per_unit("input", "0"))), [event(at("2026-07-02"), input=5)])
    assert result.unrated == ()
    assert [(c.quantity, c.amount) for c in result.charges] == [(5, 0)]


def test_the_period_is_half_open_and_prices_start_inclusive() -> None:
    versions = [{"charges": [per_unit("input", "1")]}, {"from": "2026-07-15", "charges": [per_unit("input", "100")]}]
    catalog = catalog_of({"p": versions})
    rows = [
        event(at("2026-06-30T23:59:59.999999Z"), input=7),
        event(at("2026-07-01"), input=1),
        event(at("2026-07-14T23:59:59.999999Z"), input=10),
        event(at("2026-07-15"), input=2),
        event(at("2026-07-31T23:59:59.999999Z"), input=3),
        event(at("2026-08-01"), input=7),
    ]
    result = rated(catalog, rows)
    assert totals(catalog, rows) == {"p:input": 511}
    assert [(part.version_from_us, part.quantity) for part in result.charges[0].parts] == [
        (None, 11),
        (at("2026-07-15"), 5),
    ]


def test_a_version_inside_a_quarter_of_an_hour_cuts_it() -> None:
    versions = [
        {"charges": [per_unit("input", "1")]},
        {"from": "2026-07-15T10:07:00Z", "charges": [per_unit("input", "100")]},
    ]
    rows = [event(at("2026-07-15T10:06:59.999999Z"), input=1), event(at("2026-07-15T10:07:00Z"), input=1)]
    assert totals(catalog_of({"p": versions}), rows) == {"p:input": 101}


def test_a_provider_price_inside_a_quarter_of_an_hour_cuts_it() -> None:
    prices = [price("m-small", input="1"), {**price("m-small", input="100"), "from": "2026-07-15T10:07:00Z"}]
    rows = [event(at("2026-07-15T10:06:59.999999Z"), input=1), event(at("2026-07-15T10:07:00Z"), input=1)]
    assert totals(catalog_of(plan(markup("0")), provider_prices=prices), rows) == {"p:cost": 101}


def test_a_provider_price_without_a_date_holds_since_ever() -> None:
    prices = [{name: value for name, value in price("m-small", input="3").items() if name != "from"}]
    catalog = catalog_of(plan(markup("0")), provider_prices=prices)
    assert totals(catalog, [event(at("2026-07-15"), input=2)]) == {"p:cost": 6}


def test_another_plan_starts_its_tiers_anew_and_a_plan_that_comes_back_goes_on() -> None:
    charge = tiered("graduated", "input", (10, "1"), (None, "0.1"))
    tenant = {
        "plan": [
            {"plan": "a", "from": "2026-01-01"},
            {"plan": "b", "from": "2026-07-11"},
            {"plan": "a", "from": "2026-07-21"},
        ]
    }
    catalog = catalog_of({"a": {"charges": [charge]}, "b": {"charges": [charge]}}, tenant=tenant)
    rows = [event(at(f"2026-07-{day}"), input=8) for day in ("05", "15", "25")]
    assert totals(catalog, rows) == {"a:input": Decimal("10.6"), "b:input": 8}


def test_the_same_plan_assigned_again_is_no_change() -> None:
    charge = tiered("graduated", "input", (10, "1"), (None, "0.1"))
    tenant = {"plan": [{"plan": "p", "from": "2026-01-01"}, {"plan": "p", "from": "2026-07-11"}]}
    rows = [event(at("2026-07-05"), input=8), event(at("2026-07-15"), input=8)]
    assert totals(catalog_of(plan(charge), tenant=tenant), rows) == {"p:input": Decimal("10.6")}


def test_usage_before_the_first_plan_or_version_is_unrated() -> None:
    catalog = catalog_of(plan(per_unit("input", "1")), tenant={"plan": [{"plan": "p", "from": "2026-07-10"}]})
    rows = [
        event(at("2026-07-09"), model="m-a", input=1, output=1),
        event(at("2026-07-09"), model="m-b"),
        event(at("2026-07-09"), model="m-c", key="own", pooled=False, input=1),
        event(at("2026-07-09"), model="m-d", requests=0),
        event(at("2026-07-10"), model="m-e", input=1),
    ]
    result = rated(catalog, rows)
    assert result.unrated == (("m-a", "input"), ("m-a", "output"), ("m-b", "requests"))
    assert [c.amount for c in result.charges] == [1]
    dated = catalog_of({"p": [{"from": "2026-07-10", "charges": [per_unit("input", "1")]}]})
    assert rated(dated, rows).unrated == result.unrated


def test_cost_depends_on_model_tier_size_and_time() -> None:
    prices = [
        price("m-small", input="1"),
        price("m-small", input="10", over_input=100),
        price("m-small", input="0.5", service_tier="batch"),
        {**price("m-small", input="1000"), "from": "2026-07-15"},
    ]
    catalog = catalog_of(plan(markup("0.50")), provider_prices=prices)
    july = [
        event(at("2026-07-02"), input=1),
        event(at("2026-07-02"), input=1, band=100),
        event(at("2026-07-02"), input=1, tier="batch"),
        event(at("2026-07-16"), input=1),
    ]
    assert totals(catalog, july) == {"p:cost": Decimal("1011.5") * Decimal("1.5")}


def test_a_class_without_a_provider_price_is_unrated_and_the_rest_is_charged() -> None:
    catalog = catalog_of(plan(markup("0")), provider_prices=[price("m-small", input="1")])
    result = rated(
        catalog, [event(at("2026-07-02"), input=2, cache_read=1), event(at("2026-07-02"), model="m-new", output=1)]
    )
    assert result.unrated == (("m-new", "output"), ("m-small", "cache_read"))
    assert [(c.meter, c.amount) for c in result.charges] == [("cost", 2)]


@pytest.mark.parametrize(
    ("dates", "amount"),
    [
        ([("2026-06-01", "0.5")], "1.0"),
        ([("2026-06-01", "0.5"), ("2026-07-31", "0.25")], "0.50"),
        ([("2026-07-31", "0.25"), ("2026-06-01", "0.5")], "0.50"),
        ([("2026-06-01", "0.5"), ("2026-08-01", "0.25")], "1.0"),
    ],
)
def test_cost_is_converted_at_the_rate_in_force_at_the_period_s_end(dates: list[tuple[str, str]], amount: str) -> None:
    rates = [{"from": "USD", "to": "EUR", "rate": rate, "date": date} for date, rate in dates]
    catalog = catalog_of(
        plan(markup("0")),
        tenant={"currency": "EUR"},
        provider_prices=[price("m-small", input="1")],
        exchange_rates=rates,
    )
    (charge,) = rated(catalog, [event(at("2026-07-02"), input=2)]).charges
    assert (charge.amount, charge.quantity) == (Decimal(amount), Decimal(amount))


def test_without_an_exchange_rate_the_cost_is_unrated() -> None:
    rates = [
        {"from": "USD", "to": "EUR", "rate": "0.9", "date": "2026-08-01"},
        {"from": "EUR", "to": "USD", "rate": "1.1", "date": "2026-06-01"},
    ]
    catalog = catalog_of(
        plan(markup("0")),
        tenant={"currency": "EUR"},
        provider_prices=[price("m-small", input="1")],
        exchange_rates=rates,
    )
    result = rated(catalog, [event(at("2026-07-02"), input=2)])
    assert result.unrated == (("m-small", "cost"),)
    assert result.charges == ()


def test_sums_that_differ_from_events_are_refused() -> None:
    class Torn(MemoryUsage):
        def events(self, tenant: str, start_us: int, end_us: int) -> list[UsageRow]:
            return super().events(tenant, start_us, end_us)[:1]

        def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = 0) -> list[UsageRow]:
            return [event(at("2026-07-02"), input=16)._replace(events=2)]

    catalog = catalog_of(plan(per_unit("input", "1"), allowances=[{"meter": "input", "models": "*", "amount": 9}]))
    source = Torn([event(at("2026-07-02"), input=8), event(at("2026-07-02"), input=8)])
    with pytest.raises(UsageMismatch, match="acme"):
        rate_usage(catalog, ProviderPrices((), seed=None), "acme", JULY, source, rates_at_us=JULY.end_us)


def test_amounts_of_fifty_digits_are_exact() -> None:
    rows = [event(at("2026-07-02"), input=2**53 - 1)]
    (charge,) = rated(catalog_of(plan(per_unit("input", "123456789012345.000000000000000001"))), rows).charges
    whole = str(123456789012345000000000000000001 * (2**53 - 1))
    assert str(charge.amount) == f"{whole[:-18]}.{whole[-18:]}"


def test_what_a_charge_holds_and_how() -> None:
    terms = plan(per_unit("input", "3", "m-*", per=1000), allowances=[{"meter": "input", "models": "*", "amount": 2}])
    (charge,) = rated(catalog_of(terms), [event(at("2026-07-02"), model="m-b", input=12)]).charges
    free = LinePart(Decimal(2), Decimal(0), 1, Decimal(0), plan="p", models=("m-b",), note="allowance")
    paid = LinePart(Decimal(10), Decimal(3), 1000, Decimal("0.03"), plan="p", models=("m-b",))
    assert charge == RatedCharge(
        "p", "input", "m-*", "per_unit", Decimal(12), Decimal("0.03"), (free, paid), ((None, "m-b", "input"),)
    )

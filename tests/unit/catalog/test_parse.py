"""A catalog is read as the contract says: exact decimals, dates in the right zone, plain defaults."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.catalog import parse_data, parse_yaml
from schemas.catalog import Catalog, Charge, PlanAssignment, Quota, Tier
from schemas.instants import HOUR_US, from_datetime

EXAMPLE = Path(__file__).parents[3] / "examples" / "catalog.yaml"

DOCUMENT = """
currency: USD
seller: {name: Example Cloud Ltd, address: "1 Example Street, Dublin", country: IE, email: b@seller.example}
tenants:
  acme:
    name: Acme GmbH
    tier: standard
    plan: [{plan: team, from: 2026-09-01}, {plan: scale, from: 2026-10-16}]
    timezone: Europe/Berlin
    models: ["gpt-5*", "claude-*"]
    billing: {country: DE, stripe_customer: cus_123, collection: charge_automatically, days_until_due: 14}
    quotas: [{name: daily, meter: cost, limit: "50.00", window: day, action: alert, alert_at: [1.0, 0.5]}]
  bare:
keys:
  openai-pool-1: {provider: openai, kind: pooled, provider_key_id: key_abc, requests_per_minute: 5000}
  acme-own-1: {provider: anthropic, kind: byok, tenant: acme}
plans:
  team:
    fee: {amount: "49.00", proration: daily}
    minimum: "100.00"
    allowances: [{meter: tokens, models: "*-mini", amount: 1000000}]
    charges:
      - {meter: input, models: "gpt-5-mini", model: per_unit, price: "0.30", per: 1000000}
      - meter: output
        models: ["gpt-5*", "o3"]
        model: graduated
        per: 1000000
        tiers: [{up_to: 10000000, price: "2.40"}, {price: 2.00}]
      - {meter: requests, model: package, size: 1000, price: 1}
      - {meter: tokens, models: "x", model: flat, price: "5"}
      - {meter: cost, models: "*", model: markup, markup: "0.20"}
    quotas: [{name: monthly, meter: tokens, limit: 50000000, window: month}]
  scale: [{from: 2026-09-01, minimum: 1}, {from: 2026-10-16, minimum: 2}]
provider_prices:
  - {provider: openai, model: gpt-5-mini, from: 2026-10-01, per: 1000000, input: 0.25, cache_read: "0.025"}
  - {provider: google, model: x, over_input: 200000, per: 1000, web_searches: 14, service_tier: batch, currency: EUR}
credits:
  - {id: cr-1, tenant: acme, amount: "100.00", from: 2026-10-01, expires: 2026-11-01, priority: 3}
  - {id: cr-2, tenant: bare, amount: "5"}
taxes: [{country: DE, rate: "0.19", name: VAT, inclusive: true}]
exchange_rates: [{from: USD, to: EUR, rate: "0.92", date: 2026-10-01}]
invoicing: {grace: 1d12h, adjust: credit_note, auto_finalise: true}
alerts: {sinks: [{url: "json://127.0.0.1:9000/alerts", kinds: ["leak", "quota"]}], on_leak: suspend}
"""


def us(*args: int) -> int:
    return from_datetime(datetime(*args, tzinfo=UTC))  # type: ignore[arg-type, misc]


def read(text: str) -> Catalog:
    catalog = parse_yaml(text)
    assert isinstance(catalog, Catalog), [str(error) for error in catalog]
    return catalog


def test_a_tenants_dates_are_midnights_of_its_zone() -> None:
    catalog = read(DOCUMENT)
    # Berlin is two hours ahead of UTC on both dates.
    assert catalog.tenants["acme"].plans == (
        PlanAssignment("team", us(2026, 8, 31, 22)),
        PlanAssignment("scale", us(2026, 10, 15, 22)),
    )
    credit = catalog.credits[0]
    assert (credit.from_us, credit.expires_us) == (us(2026, 9, 30, 22), us(2026, 10, 31, 23))
    assert (credit.amount, credit.priority) == (Decimal("100.00"), 3)


def test_prices_plan_versions_and_rates_are_dated_in_utc() -> None:
    catalog = read(DOCUMENT)
    assert [version.from_us for version in catalog.plans["scale"].versions] == [us(2026, 9, 1), us(2026, 10, 16)]
    assert catalog.provider_prices[0].from_us == us(2026, 10, 1)
    assert catalog.exchange_rates[0].date_us == us(2026, 10, 1)
    assert (catalog.exchange_rates[0].source, catalog.exchange_rates[0].target) == ("USD", "EUR")


def test_charges_keep_exact_prices_whether_quoted_or_not() -> None:
    charges = read(DOCUMENT).plans["team"].versions[0].charges
    assert charges == (
        Charge("input", "gpt-5-mini", "per_unit", price=Decimal("0.30"), per=1_000_000),
        Charge(
            "output",
            "gpt-5*|o3",
            "graduated",
            per=1_000_000,
            tiers=(Tier(10_000_000, Decimal("2.40")), Tier(None, Decimal(2))),
        ),
        Charge("requests", "*", "package", price=Decimal(1), size=1000),
        Charge("tokens", "x", "flat", price=Decimal(5)),
        Charge("cost", "*", "markup", markup=Decimal("0.20")),
    )
    assert str(read(DOCUMENT).provider_prices[0].prices["input"]) == "0.25"


def test_everything_else_is_read_too() -> None:
    catalog = read(DOCUMENT)
    acme = catalog.tenants["acme"]
    assert acme.models == ("gpt-5*", "claude-*")
    assert acme.quotas == (
        Quota("daily", "cost", Decimal("50.00"), "day", "alert", "*", (Decimal("0.5"), Decimal("1.0"))),
    )
    assert (acme.billing.collection, acme.billing.days_until_due) == ("charge_automatically", 14)
    assert acme.billing.stripe_customer == "cus_123"
    assert catalog.keys["acme-own-1"].tenant == "acme"
    assert catalog.keys["openai-pool-1"].requests_per_minute == 5000
    price = catalog.provider_prices[1]
    assert (price.over_input, price.service_tier, price.currency, price.per) == (200_000, "batch", "EUR", 1000)
    assert price.from_us is None
    assert catalog.taxes[0].inclusive is True
    assert (catalog.invoicing.grace_us, catalog.invoicing.adjust) == (36 * HOUR_US, "credit_note")
    assert catalog.invoicing.auto_finalise is True
    assert catalog.alerts.on_leak == "suspend"
    assert catalog.alerts.sinks[0].kinds == ("leak", "quota")


def test_what_a_tenant_leaves_out_has_a_plain_reading() -> None:
    bare = read(DOCUMENT).tenants["bare"]
    assert (bare.name, bare.tier, bare.timezone, bare.currency) == ("bare", "standard", "UTC", "USD")
    assert (bare.plans, bare.models, bare.quotas) == ((), ("*",), ())
    assert bare.billing.collection == "send_invoice"
    assert bare.billing.reverse_charge is False


def test_a_tenant_without_a_currency_has_the_catalogs() -> None:
    assert read("{currency: JPY, tenants: {a: {}, b: {currency: EUR}}}").tenants["a"].currency == "JPY"
    assert read("{currency: JPY, tenants: {b: {currency: EUR}}}").tenants["b"].currency == "EUR"


def test_a_quota_without_a_limit_is_unlimited_and_zero_is_a_limit() -> None:
    text = "tenants: {a: {quotas: [{name: n, meter: tokens, window: day%s}]}}"
    assert read(text % "").tenants["a"].quotas[0].limit is None
    assert read(text % ", limit: null").tenants["a"].quotas[0].limit is None
    assert read(text % ", limit: 0").tenants["a"].quotas[0].limit == 0


def test_a_whole_number_with_a_point_is_kept_so_that_it_reads_again() -> None:
    catalog = read("plans: {p: {allowances: [{meter: tokens, amount: 5.0}, {meter: tokens, amount: 1e6}]}}")
    assert [allowance.amount for allowance in catalog.plans["p"].versions[0].allowances] == [5, 1_000_000]
    assert parse_data(catalog.source) == catalog


@pytest.mark.parametrize(
    ("written", "hours"), [("48h", 48), ("2d", 48), ("0h", 0), ("0", 0), ("90m", 1.5), ("1h30m", 1.5), ("3600s", 1)]
)
def test_the_grace_is_a_duration_with_units(written: str, hours: float) -> None:
    assert read(f"invoicing: {{grace: {written}}}").invoicing.grace_us == int(hours * HOUR_US)


def test_grace_is_48_hours_where_nothing_is_said() -> None:
    assert read("currency: USD").invoicing.grace_us == 48 * HOUR_US
    assert read("currency: USD").invoicing.adjust == "next_invoice"


def test_norway_and_yes_stay_text() -> None:
    catalog = read("{tenants: {yes: {name: on, billing: {country: NO, tax_id: 0123}}}}")
    assert catalog.tenants["yes"].name == "on"
    assert catalog.tenants["yes"].billing.country == "NO"
    assert catalog.tenants["yes"].billing.tax_id == "0123"


def test_ids_that_look_like_numbers_or_null_keep_their_text() -> None:
    assert list(read("tenants: {007: {}, null: {}, 1.10: {}}").tenants) == ["007", "null", "1.10"]


def test_the_dates_first_instant_counts_where_midnight_does_not_exist() -> None:
    # In Beirut the clock went from 24:00 to 01:00 on the night to 2022-03-27.
    catalog = read("{plans: {p: }, tenants: {a: {timezone: Asia/Beirut, plan: [{plan: p, from: 2022-03-27}]}}}")
    assert catalog.tenants["a"].plans[0].from_us == us(2022, 3, 26, 22)


def test_a_time_with_a_zone_is_that_instant() -> None:
    catalog = read("{plans: {p: {from: 2026-10-01T09:30:00+02:00}}}")
    assert catalog.plans["p"].versions[0].from_us == us(2026, 10, 1, 7, 30)


def test_anchors_and_merge_keys_are_followed() -> None:
    text = """
plans:
  a: &terms {minimum: "5", fee: {amount: "1"}}
  b: {<<: *terms, minimum: "7"}
  c: *terms
"""
    plans = read(text).plans
    assert [plans[name].versions[0].minimum for name in "abc"] == [Decimal(5), Decimal(7), Decimal(5)]
    assert plans["b"].versions[0].fee == plans["a"].versions[0].fee


def test_the_kept_document_is_plain_data_and_reads_the_same() -> None:
    catalog = read(DOCUMENT)
    stored = json.loads(json.dumps(catalog.source))
    assert stored["provider_prices"][0]["input"] == "0.25"
    assert parse_data(stored) == catalog


def test_the_examples_catalog_is_valid_and_has_what_the_demo_needs() -> None:
    catalog = read(EXAMPLE.read_text(encoding="utf-8"))
    standard = [tenant for tenant in catalog.tenants.values() if tenant.tier == "standard"]
    assert len(standard) == 3
    assert len({tenant.timezone for tenant in standard}) == 3
    assert sorted(key.id for key in catalog.keys.values() if key.kind == "pooled") == [
        "anthropic-pool-1",
        "openai-pool-1",
    ]
    assert {key.provider for key in catalog.keys.values()} == {"openai", "anthropic", "google"}
    assert catalog.keys["wayne-own-google"].tenant == "wayne"


def test_data_takes_exact_numbers_and_refuses_floats() -> None:
    document = '{"plans": {"p": {"minimum": 0.1}}}'
    exact = parse_data(json.loads(document, parse_float=Decimal))
    assert isinstance(exact, Catalog)
    assert exact.plans["p"].versions[0].minimum == Decimal("0.1")
    refused = parse_data(json.loads(document))
    assert isinstance(refused, list)
    assert [error.path for error in refused] == ["plans.p.minimum"]
    assert "float" in refused[0].message


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: "---\n" + t])
def test_a_byte_order_mark_windows_lines_and_a_document_mark_change_nothing(change: Callable[[str], str]) -> None:
    assert read(change(DOCUMENT.lstrip())) == read(DOCUMENT)


def test_names_in_any_script_are_kept() -> None:
    assert read('tenants: {a: {name: "काठमाडौं 🏔 Łódź"}}').tenants["a"].name == "काठमाडौं 🏔 Łódź"

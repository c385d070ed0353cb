"""The published JSON Schema and the parser agree about the form of a catalog."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from pipeline.catalog import json_schema, parse_data, parse_yaml
from schemas.catalog import Catalog

EXAMPLE = (Path(__file__).parents[3] / "examples" / "catalog.yaml").read_text(encoding="utf-8")
Document = dict[str, Any]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def example() -> Document:
    catalog = parse_yaml(EXAMPLE)
    assert isinstance(catalog, Catalog)
    document: Document = json.loads(json.dumps(catalog.source))
    return document


def test_the_example_is_valid(validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(example())] == []


def put(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


CHARGE = ("plans", "team", "charges", 0)
FAULTS = {
    "unknown section": put("tenant", value={}),
    "currency": put("currency", value="usd"),
    "seller's country": put("seller", "country", value="Ireland"),
    "tenant's tier": put("tenants", "acme", "tier", value="free"),
    "unknown tenant field": put("tenants", "acme", "plans", value="team"),
    "plan without a name": put("tenants", "acme", "plan", value=[{"from": "2026-01-01"}]),
    "empty models": put("tenants", "acme", "models", value=[]),
    "collection": put("tenants", "acme", "billing", "collection", value="auto"),
    "days until due": put("tenants", "acme", "billing", "days_until_due", value=-1),
    "quota without a name": put("tenants", "acme", "quotas", value=[{"meter": "tokens", "window": "day"}]),
    "quota's window": put("tenants", "acme", "quotas", 0, "window", value="week"),
    "share as a percentage": put("tenants", "acme", "quotas", 0, "alert_at", value=[80]),
    "negative limit": put("tenants", "acme", "quotas", 0, "limit", value="-1"),
    "key without a kind": drop("keys", "openai-pool-1", "kind"),
    "own key without a tenant": drop("keys", "wayne-own-google", "tenant"),
    "pooled key with a tenant": put("keys", "openai-pool-1", "tenant", value="acme"),
    "no versions": put("plans", "scale", value=[]),
    "fee without an amount": drop("plans", "team", "fee", "amount"),
    "negative fee": put("plans", "team", "fee", "amount", value="-1"),
    "proration": put("plans", "team", "fee", "proration", value="weekly"),
    "allowance of cost": put("plans", "team", "allowances", 0, "meter", value="cost"),
    "meter": put(*CHARGE, "meter", value="words"),
    "pricing model": put(*CHARGE, "model", value="tiered"),
    "charge without its price": drop(*CHARGE, "price"),
    "field of another model": put(*CHARGE, "size", value=5),
    "per of zero": put(*CHARGE, "per", value=0),
    "no tiers": put("plans", "team", "charges", 2, "tiers", value=[]),
    "tier without a price": drop("plans", "team", "charges", 2, "tiers", 0, "price"),
    "markup on tokens": put("plans", "team", "charges", 4, "meter", value="tokens"),
    "provider price without per": drop("provider_prices", 0, "per"),
    "provider price of a pattern": put("provider_prices", 0, "model", value="gpt-*"),
    "service tier": put("provider_prices", 0, "service_tier", value="fast"),
    "price with an exponent": put("provider_prices", 0, "input", value="1e3"),
    "credit without an id": drop("credits", 0, "id"),
    "date": put("credits", 0, "from", value="1.10.2026"),
    "tax as a percentage": put("taxes", 0, "rate", value=19),
    "inclusive as text": put("taxes", 0, "inclusive", value="no"),
    "exchange rate without a date": put("exchange_rates", value=[{"from": "USD", "to": "EUR", "rate": "1"}]),
    "grace without a unit": put("invoicing", "grace", value="48"),
    "adjust": put("invoicing", "adjust", value="later"),
    "sink without a scheme": put("alerts", "sinks", value=[{"url": "nowhere"}]),
    "response to a leak": put("alerts", "on_leak", value="panic"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_the_schema_and_the_parser(name: str, validator: Draft202012Validator) -> None:
    document = example()
    FAULTS[name](document)
    assert not validator.is_valid(document)
    assert isinstance(parse_data(document), list)


VARIANTS: dict[str, Callable[[Document], Document]] = {
    "nothing": lambda _: {},
    "null sections": lambda document: document | {"credits": None, "seller": None, "alerts": None},
    "numbers as text": lambda document: document | {"plans": document["plans"] | {"n": {"allowances": [
        {"meter": "tokens", "amount": "1000"}]}}},
    "plain numbers": lambda document: document | {"plans": document["plans"] | {"n": {"minimum": 5}}},
    "an empty plan": lambda document: document | {"plans": document["plans"] | {"n": None}},
    "one pattern": lambda document: document | {"tenants": {"acme": {"models": "gpt-*"}}, "keys": {}, "credits": []},
    "no limit": lambda document: document | {"tenants": document["tenants"] | {"n": {"quotas": [
        {"name": "q", "meter": "cost", "limit": None, "window": "day"}]}}},
    "no grace": lambda document: document | {"invoicing": {"grace": 0, "auto_finalise": True}},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_valid_variant_passes_both(name: str, validator: Draft202012Validator) -> None:
    document = VARIANTS[name](example())
    assert [error.message for error in validator.iter_errors(document)] == []
    assert isinstance(parse_data(document), Catalog)


WORDS = [
    *(
        "0",
        "007",
        "1.50",
        "-1",
        "1e3",
        "48h",
        "2d12h",
        "0h",
        "cost",
        "tokens",
        "input",
        "team",
        "acme",
        "USD",
        "DE",
        "*",
    ),
    *("none", "byok", "pooled", "batch", "flat", "markup", "gpt-*", "2026-10-01", "2026-10-01T00:00:00Z"),
    *("2026-10-01t00:00:00.5+02:00", "2026-10-01T00:00:00", "json://x", "UTC", "Asia/Kathmandu"),
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**19),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-2, max_value=10**16, places=3),
    st.text(max_size=5),
    st.sampled_from(WORDS),
    st.just([]),
    st.just({}),
    st.lists(st.sampled_from(["*", "gpt-5*", "leak", "0.5", 1]), min_size=1, max_size=3),
)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_schema_refuses_nothing_that_the_parser_takes(data: st.DataObject) -> None:
    document = example()
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = document
        key: Any = data.draw(st.sampled_from(sorted(document)))
        while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.integers(0, 4)):
            place = place[key]
            known = sorted(place) if isinstance(place, dict) else range(len(place))
            key = data.draw(st.sampled_from(known))
        place[key] = data.draw(VALUES)
    catalog = parse_data(document)
    if isinstance(catalog, Catalog):
        for accepted in (document, catalog.source):
            assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(accepted)] == []


VALIDATOR = Draft202012Validator(json_schema())

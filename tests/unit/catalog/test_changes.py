"""The plan of changes: what differs, what is refused because it would rewrite the past, what is only worth a note."""

from decimal import Decimal
from typing import Any

import pytest

from pipeline.catalog import (
    Change,
    CostChange,
    PriceChange,
    cost_report,
    diff,
    parse_data,
    price_report,
    render_changes,
    render_price_report,
)
from schemas.catalog import Catalog
from schemas.instants import parse_instant
from schemas.money import Money
from schemas.tokens import CLASSES
from schemas.usage import UsageRow

NOW = parse_instant("2026-10-10T12:00:00Z")


def base() -> dict[str, Any]:
    return {
        "tenants": {
            "acme": {"plan": "team", "timezone": "Europe/Berlin"},
            "globex": {"plan": [{"plan": "team", "from": "2026-09-01"}, {"plan": "scale", "from": "2026-11-01"}]},
        },
        "keys": {"k1": {"provider": "openai", "kind": "pooled"}},
        "plans": {
            "team": {"minimum": "5", "quotas": [{"name": "q", "meter": "tokens", "limit": 5, "window": "day"}]},
            "scale": [{"from": "2026-09-01", "minimum": "1"}, {"from": "2026-11-01", "minimum": "2"}],
        },
        "provider_prices": [
            {"provider": "openai", "model": "m", "from": "2026-09-01", "per": 1, "input": "1", "output": "2"},
            {"provider": "openai", "model": "m", "from": "2026-11-01", "per": 1, "input": "3", "output": "4"},
        ],
        "credits": [{"id": "c", "tenant": "acme", "amount": "10", "from": "2026-09-01", "expires": "2026-12-01"}],
        "exchange_rates": [{"from": "USD", "to": "EUR", "rate": "0.9", "date": "2026-09-01"}],
        "taxes": [{"country": "DE", "rate": "0.19", "name": "VAT"}],
        "alerts": {"sinks": [{"url": "https://user:hidden@hooks.example/secret-path?x=1"}]},
    }


def read(document: dict[str, Any]) -> Catalog:
    catalog = parse_data(document)
    assert isinstance(catalog, Catalog), [str(error) for error in catalog]
    return catalog


def changes(edited: dict[str, Any]) -> list[Change]:
    return diff(read(base()), read(edited), NOW)


def only(edited: dict[str, Any]) -> Change:
    found = changes(edited)
    assert len(found) == 1, found
    return found[0]


def test_the_same_catalog_has_no_changes() -> None:
    assert changes(base()) == []
    assert render_changes([]) == "No changes."


def test_a_first_catalog_is_all_added_without_notes() -> None:
    found = diff(None, read(base()), NOW)
    assert {change.kind for change in found} == {"added"}
    assert not any(change.warning or change.refused for change in found)
    assert "tenants.acme" in {change.path for change in found}


def edit_price(document: dict[str, Any]) -> None:
    document["provider_prices"][0]["input"] = "1.5"


def edit_class(document: dict[str, Any]) -> None:
    document["provider_prices"][0]["cache_read"] = "0.5"


def remove_price(document: dict[str, Any]) -> None:
    del document["provider_prices"][0]


def edit_version(document: dict[str, Any]) -> None:
    document["plans"]["scale"][0]["minimum"] = "7"


def remove_version(document: dict[str, Any]) -> None:
    del document["plans"]["scale"][0]


def edit_undated_plan(document: dict[str, Any]) -> None:
    document["plans"]["team"]["minimum"] = "6"


def switch_plan(document: dict[str, Any]) -> None:
    document["tenants"]["acme"]["plan"] = "scale"


def move_assignment(document: dict[str, Any]) -> None:
    document["tenants"]["globex"]["plan"][0]["from"] = "2026-09-02"


def edit_credit(document: dict[str, Any]) -> None:
    document["credits"][0]["amount"] = "20"


def edit_rate(document: dict[str, Any]) -> None:
    document["exchange_rates"][0]["rate"] = "0.8"


@pytest.mark.parametrize(
    "edit",
    [
        edit_price,
        edit_class,
        remove_price,
        edit_version,
        remove_version,
        edit_undated_plan,
        switch_plan,
        move_assignment,
        edit_credit,
        edit_rate,
    ],
)
def test_an_edit_of_the_past_is_refused_and_says_what_to_do_instead(edit: Any) -> None:
    document = base()
    edit(document)
    refused = [change for change in changes(document) if change.refused]
    assert len(refused) == 1
    assert refused[0].warning is not None
    assert "already in force" in refused[0].warning
    assert "keep it" in refused[0].warning or "later date" in refused[0].warning


def test_the_future_may_be_edited_and_taken_back() -> None:
    document = base()
    document["provider_prices"][1]["input"] = "3.5"
    assert only(document) == Change(
        "provider_prices.openai.m[2026-11-01].input", "changed", "3 USD per 1", "3.5 USD per 1"
    )
    document = base()
    del document["plans"]["scale"][1]
    assert only(document) == Change("plans.scale[2026-11-01]", "removed", "minimum 2", None)


def test_an_entry_that_begins_now_is_in_force() -> None:
    document = base()
    document["provider_prices"][0]["input"] = "9"
    begins = parse_instant("2026-09-01T00:00:00Z")
    assert [c.refused for c in diff(read(base()), read(document), begins)] == [True]
    assert [c.refused for c in diff(read(base()), read(document), begins - 1)] == [False]


def test_a_new_entry_for_an_earlier_date_is_allowed_with_a_note() -> None:
    document = base()
    entry = {"provider": "openai", "model": "new", "from": "2026-07-01", "per": 1, "input": "1"}
    document["provider_prices"].append(entry)
    change = only(document)
    assert (change.kind, change.refused) == ("added", False)
    assert change.warning is not None
    assert "drafts are rated anew" in change.warning


def test_a_dated_version_beside_the_old_terms_is_the_way_to_change_a_plan() -> None:
    document = base()
    terms = document["plans"]["team"]
    document["plans"]["team"] = [terms, {"from": "2026-11-01", "minimum": "6"}]
    assert only(document) == Change("plans.team[2026-11-01]", "added", None, "minimum 6")


def test_quotas_and_the_end_of_a_credit_may_change_at_any_time() -> None:
    document = base()
    document["plans"]["team"]["quotas"][0]["limit"] = 9
    change = only(document)
    assert (change.path, change.refused) == ("plans.team[always].quotas.q", False)
    document = base()
    document["credits"][0]["expires"] = "2027-01-01"
    assert only(document) == Change("credits.c.expires", "changed", "2026-12-01", "2027-01-01")


def test_a_time_zone_moves_bounds_and_says_so() -> None:
    document = base()
    document["tenants"]["acme"]["timezone"] = "UTC"
    change = only(document)
    assert (change.path, change.before, change.after) == ("tenants.acme.timezone", "Europe/Berlin", "UTC")
    assert change.warning is not None
    assert not change.refused


def test_a_tenant_comes_and_goes_as_one_line() -> None:
    document = base()
    document["tenants"]["initech"] = {"plan": "team", "billing": {"email": "ap@initech.example"}}
    change = only(document)
    assert (change.path, change.kind) == ("tenants.initech", "added")
    assert change.after is not None
    assert "billing.email ap@initech.example" in change.after
    del document["tenants"]["initech"], document["tenants"]["globex"]
    gone = only(document)
    assert (gone.path, gone.kind, gone.refused) == ("tenants.globex", "removed", False)
    assert gone.warning is not None
    assert "unknown_tenant" in gone.warning


def test_what_may_be_secret_in_a_sinks_url_is_not_shown() -> None:
    document = base()
    document["alerts"]["sinks"][0]["url"] = "https://user:other@hooks.example/new"
    assert only(document).path == "alerts.sinks[0]"
    text = render_changes(changes(document))
    document["alerts"]["sinks"][0]["url"] = "https://other.example/new"
    text += render_changes(changes(document))
    assert "https://other.example/… (" in text
    assert "hidden" not in text
    assert "secret-path" not in text


def test_the_rendering_has_a_line_a_change_and_a_count() -> None:
    document = base()
    edit_price(document)
    document["taxes"][0]["rate"] = "0.2"
    assert render_changes(changes(document)).splitlines() == [
        "~ provider_prices.openai.m[2026-09-01].input: 1 USD per 1 → 1.5 USD per 1",
        "    REFUSED: is already in force and cannot be edited: keep it, and add an entry with a later from",
        "~ taxes.DE.VAT.rate: 0.19 → 0.2",
        "2 changes, 1 refused: nothing is applied.",
    ]


def test_prices_that_differ_are_reported_by_date_and_class() -> None:
    document = base()
    document["provider_prices"].append(
        {"provider": "openai", "model": "m", "from": "2026-12-01", "per": 1000, "input": "3500", "cache_read": "100"}
    )
    begins = parse_instant("2026-12-01T00:00:00Z")
    report = price_report(read(base()), read(document), seed=None)
    usd = [(c.name, c.per, c.before, c.after) for c in report if c.from_us == begins]
    assert usd == [
        ("input", 1000, Money(Decimal(3000), "USD"), Money(Decimal(3500), "USD")),
        ("cache_read", 1000, None, Money(Decimal(100), "USD")),
        ("output", 1000, Money(Decimal(4000), "USD"), None),
    ]
    assert [c for c in report if c.from_us != begins] == []
    assert price_report(read(base()), read(base()), seed=None) == []


def test_a_first_price_over_the_built_in_data_is_a_change_from_it() -> None:
    document = base()
    document["provider_prices"].append(
        {
            "provider": "openai",
            "model": "gpt-5-mini",
            "from": "2026-10-01",
            "per": 1000000,
            "input": "0.30",
            "output": "2.00",
        }
    )
    report = [c for c in price_report(read(base()), read(document)) if c.name == "input"]
    assert report == [
        PriceChange(
            "openai",
            "gpt-5-mini",
            "standard",
            0,
            parse_instant("2026-10-01T00:00:00Z"),
            "input",
            1_000_000,
            Money(Decimal("0.25"), "USD"),
            Money(Decimal("0.30"), "USD"),
        )
    ]


def row(model: str, *, pooled: bool = True, **classes: int) -> UsageRow:
    counts = tuple(classes.get(name, 0) for name in CLASSES)
    return UsageRow(NOW, "acme", "k1", "openai", model, "standard", 0, pooled, counts, 1)


def test_last_months_usage_is_costed_under_both_versions() -> None:
    document = base()
    document["provider_prices"] = [
        {"provider": "openai", "model": "m", "from": "2026-09-01", "per": 1, "input": "1.5", "output": "2"},
        {"provider": "openai", "model": "n", "from": "2026-09-01", "per": 1, "input": "7", "currency": "EUR"},
    ]
    rows = [
        row("m", input=10),
        row("m", output=3),
        row("m", input=4, pooled=False),
        row("n", input=2, output=1),
        row("x"),
    ]
    assert cost_report(read(base()), read(document), rows, seed=None) == [
        CostChange("openai", "m", (Money.of("16", "USD"),), (Money.of("21", "USD"),), (), ()),
        CostChange("openai", "n", (), (Money.of("14", "EUR"),), ("input", "output"), ("output",)),
    ]
    assert cost_report(read(base()), read(base()), rows, seed=None) == []


def test_the_price_report_reads_as_lines() -> None:
    document = base()
    document["provider_prices"] = [
        {"provider": "openai", "model": "m", "from": "2026-09-01", "per": 1, "input": "1.5", "output": "2"},
        {"provider": "openai", "model": "m", "from": "2026-12-01", "per": 1, "output": "3", "service_tier": "batch"},
    ]
    old, new = read(base()), read(document)
    text = render_price_report(
        price_report(old, new, seed=None), cost_report(old, new, [row("m", input=10, cache_read=1)], seed=None)
    )
    assert text.splitlines() == [
        "openai m, 2026-09-01: input 1 USD → 1.5 USD per 1 (+50.0 %)",
        "openai m, 2026-11-01: input 3 USD → 1.5 USD per 1 (-50.0 %)",
        "openai m, 2026-11-01: output 4 USD → 2 USD per 1 (-50.0 %)",
        "openai m batch, 2026-12-01: output none → 3 USD per 1",
        "openai m: the usage cost 10 USD, now 15 USD (+50.0 %) (no price for cache_read)",
    ]
    assert render_price_report([]) == "No provider price differs."

"""`tollhouse rate`, line by line."""

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.prices import ProviderPrices
from pipeline.rating import card, ndjson
from pipeline.rating.ndjson import RateStream
from schemas.catalog import Catalog
from tests.unit.rating.catalogs import SELLER, catalog_of, markup, per_unit, price, tiered

CHARGES = [
    per_unit("input", "0.30", "gpt-5-mini", 1_000_000),
    tiered("graduated", "output", (10, "2"), (None, "1"), models="gpt-5*"),
    {"meter": "requests", "models": "other-*", "model": "package", "size": 2, "price": "1.00"},
    markup("0.20", "gpt-*"),
]
PRICES = [
    price("gpt-5-mini", cache_read="0.5"),
    price("gpt-5-mini", cache_read="0.25", service_tier="batch"),
    price("gpt-5-mini", cache_read="5", over_input=100),
    {**price("gpt-5-mini", cache_read="50"), "from": "2026-11-01"},
]


def prices_of(catalog: Catalog) -> ProviderPrices:
    return ProviderPrices(catalog.provider_prices, seed=None)


def stream(**sections: Any) -> RateStream:
    return RateStream(catalog_of({"p": {"charges": CHARGES}}, provider_prices=PRICES, **sections), prices_of)


def ask(rates: RateStream, *usage: dict[str, Any], at: str = "2026-10-03T00:00:00Z", **fields: Any) -> Any:
    rows = [{"model": "gpt-5-mini", "provider": "openai", **row} for row in usage]
    line = {"id": "r1", "plan": "p", "at": at, "usage": rows, **fields}
    return json.loads(rates.answer(json.dumps(line).encode()))


def test_a_line_for_a_line() -> None:
    answer = ask(stream(), {"tokens": {"input": 2_450_000, "output": 12}}, {"tokens": {"output": 1, "cache_read": 4}})
    assert answer == {
        "id": "r1",
        "amount": "26.14",
        "currency": "USD",
        "lines": [
            {"meter": "input", "models": "gpt-5-mini", "quantity": 2_450_000, "amount": "0.74", "unrounded": "0.735"},
            {"meter": "output", "models": "gpt-5*", "quantity": 13, "amount": "23.00", "unrounded": "23"},
            {"meter": "cost", "models": "gpt-*", "quantity": "2", "amount": "2.40", "unrounded": "2.4"},
        ],
    }


@pytest.mark.parametrize(
    ("row", "at", "amount"),
    [
        ({"tokens": {"cache_read": 10}}, "2026-10-03T00:00:00Z", "6.00"),
        ({"tokens": {"cache_read": 10}, "service_tier": "batch"}, "2026-10-03T00:00:00Z", "3.00"),
        ({"tokens": {"cache_read": 100}}, "2026-10-03T00:00:00Z", "60.00"),
        ({"tokens": {"cache_read": 100, "input": 1}}, "2026-10-03T00:00:00Z", "600.00"),
        ({"tokens": {"cache_read": 10}}, "2026-10-31T23:59:59.999Z", "6.00"),
        ({"tokens": {"cache_read": 10}}, "2026-11-01T00:00:00Z", "600.00"),
    ],
)
def test_cost_by_tier_size_and_time(row: dict[str, Any], at: str, amount: str) -> None:
    assert ask(stream(), row, at=at)["amount"] == amount


def test_usage_entries_are_calls_unless_they_say_otherwise() -> None:
    rates = stream()
    one = {"model": "other-1", "tokens": {}}
    assert ask(rates, one, one, one)["lines"] == [
        {"meter": "requests", "models": "other-*", "quantity": 3, "amount": "2.00", "unrounded": "2"}
    ]
    assert ask(rates, {**one, "requests": 5})["amount"] == "3.00"
    assert ask(rates, {**one, "requests": 0})["lines"] == []


def test_nothing_costs_nothing() -> None:
    assert ask(stream()) == {"id": "r1", "amount": "0.00", "currency": "USD", "lines": []}


def test_what_has_no_price_is_listed() -> None:
    answer = ask(
        stream(), {"tokens": {"reasoning": 1, "input_image": 2}}, {"model": "x", "tokens": {"input": 1, "output": 0}}
    )
    assert answer["unrated"] == [
        {"model": "gpt-5-mini", "meter": "input_image"},
        {"model": "gpt-5-mini", "meter": "reasoning"},
        {"model": "x", "meter": "input"},
    ]
    assert answer["amount"] == "0.00"


def test_allowances_are_taken_in_the_order_of_the_rows() -> None:
    plan = {
        "allowances": [{"meter": "tokens", "models": "*", "amount": 5}],
        "charges": [per_unit("input", "1"), per_unit("output", "10")],
    }
    rates = RateStream(catalog_of({"p": plan}), prices_of)
    answer = ask(rates, {"tokens": {"output": 2, "input": 2}}, {"tokens": {"output": 2}})
    assert [(line["quantity"], line["amount"]) for line in answer["lines"]] == [(2, "0.00"), (4, "10.00")]
    again = ask(rates, {"tokens": {"input": 5}})
    assert [(line["quantity"], line["unrounded"]) for line in again["lines"]] == [(5, "0")]


def test_free_requests_are_in_the_quantity() -> None:
    plan = {
        "allowances": [{"meter": "requests", "models": "*", "amount": 3}],
        "charges": [per_unit("requests", "1"), per_unit("input", "1", "other")],
    }
    answer = ask(RateStream(catalog_of({"p": plan}), prices_of), {"tokens": {"input": 1}, "requests": 5})
    assert [(line["quantity"], line["amount"]) for line in answer["lines"]] == [(5, "2.00")]
    assert answer["unrated"] == [{"model": "gpt-5-mini", "meter": "input"}]


def test_the_largest_count_is_exact() -> None:
    plan = {"charges": [per_unit("input", "0.000001"), per_unit("requests", "1")]}
    answer = ask(
        RateStream(catalog_of({"p": plan}), prices_of), {"tokens": {"input": 2**53 - 1}, "requests": 2**53 - 1}
    )
    assert [line["unrounded"] for line in answer["lines"]] == ["9007199254.740991", str(2**53 - 1)]


def test_caches_are_bounded_and_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "CACHE_MAX", 2)
    monkeypatch.setattr(ndjson, "CACHE_MAX", 2)
    plan = {"charges": [markup("0")]}
    prices = [price(f"m-{n}", input=str(n), output="7", over_input=n) for n in range(1, 6)]
    prices += [price(f"m-{n}", input=str(n), output="7") for n in range(1, 6)]
    rates = RateStream(catalog_of({"p": plan}, provider_prices=prices), prices_of)
    for _ in range(2):
        for n in range(1, 6):
            row = {"model": f"m-{n}", "tokens": {"input": 10, "output": 1}}
            for day in range(1, 6):
                assert ask(rates, row, at=f"2026-10-0{day}T00:00:00Z")["amount"] == f"{10 * n + 7}.00"
                assert rates._own is not None
                assert len(rates._own._cards) <= 2
            document = {"currency": "USD", "seller": SELLER, "plans": {"p": {"charges": [per_unit("tokens", str(n))]}}}
            assert ask(rates, row, catalog=document)["amount"] == f"{11 * n}.00"
            assert len(rates._given) <= 2
    rows = [{"model": f"m-{n}", "tokens": {"input": 10, "output": 1}} for n in range(1, 6)]
    assert ask(rates, *rows)["amount"] == "185.00"
    for found in rates._own._cards.values():
        assert max(len(found._ways), len(found._sized), len(found._unit_costs)) <= 2


def test_a_full_cache_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "CACHE_MAX", 2)
    cache: dict[str, int] = {}
    assert [card._keep(cache, name, n) for n, name in enumerate("abc")] == [0, 1, 2]
    assert cache == {"c": 2}
    plan = {"allowances": [{"meter": "input", "models": "*", "amount": 3}], "charges": [per_unit("tokens", "1")]}
    rates = RateStream(catalog_of({"p": plan}), prices_of)
    for n in range(5):
        assert ask(rates, {"model": f"m-{n}", "tokens": {"input": 5, "output": 1}})["amount"] == "3.00"
        assert rates._own is not None
        (found,) = rates._own._cards.values()
        assert len(found._covering) == n % 2 + 1


class Asked(ProviderPrices):
    """Counts the questions."""

    asked = 0

    def cost(self, *question: Any) -> Any:
        self.asked += 1
        return super().cost(*question)

    def thresholds(self, provider: str, model: str) -> tuple[int, ...]:
        self.asked += 1
        return super().thresholds(provider, model)


def test_what_was_worked_out_for_a_line_serves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Asked] = []
    routes: list[str] = []
    plain_route = card.route

    def prices(catalog: Catalog) -> Asked:
        made.append(Asked(catalog.provider_prices, seed=None))
        return made[-1]

    def noted(charges: Any, model: str) -> Any:
        routes.append(model)
        return plain_route(charges, model)

    monkeypatch.setattr(card, "route", noted)
    document = {
        "currency": "USD",
        "seller": SELLER,
        "plans": {"p": {"charges": [markup("0")]}},
        "provider_prices": [{**price("gpt-5-mini", input="2"), "from": "2026-01-01T00:00:00Z"}],
    }
    rates = RateStream(None, prices)
    for _ in range(3):
        row = {"tokens": {"input": 3}}
        assert ask(rates, row, row, catalog=document)["amount"] == "12.00"
    assert (len(made), made[0].asked, routes) == (1, 2, ["gpt-5-mini"])


def test_the_calls_of_a_line_add_up_under_each_charge() -> None:
    plan = {
        "allowances": [{"meter": "requests", "models": "*", "amount": 3}],
        "charges": [per_unit("requests", "1"), tiered("volume", "input", (5, "3"), (None, "2")), markup("0.5")],
    }
    rates = RateStream(catalog_of({"p": plan}, provider_prices=[price("gpt-5-mini", output="4")]), prices_of)
    row = {"tokens": {"input": 3, "output": 1}, "requests": 2}
    answer = ask(rates, row, row)
    assert [(line["meter"], line["quantity"], line["amount"]) for line in answer["lines"]] == [
        ("requests", 4, "1.00"),
        ("input", 6, "12.00"),
        ("cost", "8", "12.00"),
    ]


def test_amounts_of_fifty_digits_are_exact() -> None:
    plan = {"charges": [per_unit("input", "123456789012345.000000000000000001")]}
    answer = ask(RateStream(catalog_of({"p": plan}), prices_of), {"tokens": {"input": 2**53 - 1}})
    whole = str(123456789012345000000000000000001 * (2**53 - 1))
    assert answer["lines"][0]["unrounded"] == f"{whole[:-18]}.{whole[-18:]}"
    assert answer["amount"] == f"{whole[:-18]}.01"
    assert whole[-18:-15] == "009"


def test_a_price_written_as_a_number_is_the_decimal_it_shows() -> None:
    charge = {**per_unit("input", "1"), "price": 0.3}
    document = {"currency": "USD", "seller": SELLER, "plans": {"p": {"charges": [charge]}}}
    assert ask(RateStream(None, prices_of), {"tokens": {"input": 10}}, catalog=document)["lines"][0]["unrounded"] == "3"


def test_a_faulty_line_keeps_its_id_as_far_as_ids_are_exact() -> None:
    assert refusal(json.dumps({"id": 2**53 - 1}).encode()) == (2**53 - 1, "malformed")
    assert refusal(json.dumps({"id": 2**53}).encode()) == (None, "malformed")
    assert refusal(json.dumps({"id": 1 - 2**53}).encode()) == (1 - 2**53, "malformed")


def test_the_plan_version_at_the_instant_decides() -> None:
    versions = [
        {"from": "2026-10-01", "charges": [per_unit("input", "1")]},
        {"from": "2026-10-16", "charges": [per_unit("input", "2")]},
    ]
    rates = RateStream(catalog_of({"p": versions}), prices_of)
    row = {"tokens": {"input": 1}}
    assert ask(rates, row, at="2026-10-16T00:00:00+02:00")["amount"] == "1.00"
    assert ask(rates, row, at="2026-10-16T00:00:00Z")["amount"] == "2.00"
    assert ask(rates, row, at="2026-09-30T23:59:59Z")["error"] == {
        "reason": "no_terms",
        "detail": "plan 'p' has no version in force at 2026-09-30T23:59:59Z",
    }


def test_exchange_rates_are_those_of_the_month_s_end() -> None:
    rates = [{"from": "USD", "to": "EUR", "rate": "0.5", "date": "2026-10-31"}]
    made = stream(currency="EUR", tenants={"acme": {"plan": "p", "currency": "EUR"}}, exchange_rates=rates)
    row = {"tokens": {"cache_read": 10}}
    assert (ask(made, row)["amount"], ask(made, row)["currency"]) == ("3.00", "EUR")
    assert ask(made, row, at="2026-09-30T00:00:00Z")["unrated"] == [{"model": "gpt-5-mini", "meter": "cost"}]


def test_a_line_may_bring_its_own_catalog() -> None:
    document = {"currency": "JPY", "seller": SELLER, "plans": {"q": {"charges": [per_unit("input", "0.5")]}}}
    for rates in (stream(), RateStream(None, prices_of)):
        for _ in range(2):
            answer = ask(rates, {"tokens": {"input": 2469}}, plan="q", catalog=document)
            assert (answer["amount"], answer["currency"]) == ("1235", "JPY")


def test_a_line_without_a_catalog_takes_the_last_one_brought_unless_one_was_given() -> None:
    document = {"currency": "JPY", "seller": SELLER, "plans": {"p": {"charges": [per_unit("output", "2")]}}}
    row = {"tokens": {"output": 3}}
    alone = RateStream(None, prices_of)
    assert ask(alone, row)["error"]["reason"] == "no_catalog"
    assert ask(alone, row, catalog=document)["amount"] == "6"
    assert ask(alone, row)["amount"] == "6"
    assert ask(alone, row, catalog={**document, "currency": "KWD"})["amount"] == "6.000"
    assert ask(alone, row, catalog=None)["amount"] == "6.000"
    given = stream()
    assert ask(given, row, catalog=document)["amount"] == "6"
    assert ask(given, row)["amount"] == "6.00"


def test_built_in_prices_count_unless_told_otherwise() -> None:
    rates = RateStream(catalog_of({"p": {"charges": [markup("0")]}}))
    answer = ask(rates, {"model": "gpt-5-mini", "tokens": {"input": 1_000_000}})
    assert "unrated" not in answer
    assert Decimal(answer["amount"]) > 0


def refusal(line: bytes, rates: RateStream | None = None) -> tuple[Any, str]:
    answer = json.loads((rates or stream()).answer(line))
    assert set(answer) == {"id", "error"}
    assert answer["error"]["detail"] not in ("", "None")
    return answer["id"], answer["error"]["reason"]


GOOD: dict[str, Any] = {
    "id": 7,
    "plan": "p",
    "at": "2026-10-03T00:00:00Z",
    "usage": [{"model": "m", "provider": "openai", "tokens": {}}],
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"plan": "q"}, "unknown_plan"),
        ({"plan": None}, "malformed"),
        ({"at": "yesterday"}, "malformed"),
        ({"at": "2026-10-03"}, "malformed"),
        ({"usage": {}}, "malformed"),
        ({"usage": [{"model": "m", "tokens": {}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {"inputs": 1}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {"input": -1}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {"input": 2**53}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {"input": 1.5}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {"input": "1"}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {"input": True}}]}, "malformed"),
        ({"usage": [{"model": "m", "provider": "openai", "tokens": {}, "requests": -1}]}, "malformed"),
        ({"catalog": {"plans": 3}}, "invalid_catalog"),
        ({"catalog": [1]}, "invalid_catalog"),
    ],
)
def test_a_fault_is_an_answer(change: dict[str, Any], reason: str) -> None:
    assert refusal(json.dumps({**GOOD, **change}).encode()) == (7, reason)


def test_faults_of_the_line_itself() -> None:
    assert refusal(b"not json") == (None, "malformed")
    assert refusal(b"[1]") == (None, "malformed")
    assert refusal(b"\xff") == (None, "malformed")
    assert refusal(b'{"id": "a", "usage": ' + b"[" * 100_000) == (None, "malformed")
    assert refusal(json.dumps(GOOD).encode(), RateStream(None, prices_of)) == (7, "no_catalog")
    assert refusal(b'{"id": 1' + b"0" * 30 + b"}")[1] == "malformed"


def test_a_line_without_an_id_is_answered() -> None:
    line = {name: value for name, value in GOOD.items() if name != "id"}
    assert json.loads(stream().answer(json.dumps(line).encode()))["id"] is None


def test_half_up_to_the_cent_and_sums_of_rounded_lines() -> None:
    rates = RateStream(
        catalog_of({"p": {"charges": [per_unit("input", "0.005"), per_unit("output", "0.005")]}}), prices_of
    )
    answer = ask(rates, {"tokens": {"input": 1, "output": 3}})
    assert [line["amount"] for line in answer["lines"]] == ["0.01", "0.02"]
    assert answer["amount"] == "0.03"
    assert Decimal(answer["lines"][1]["unrounded"]) == Decimal("0.015")

"""Allowances: who is served first, and to the unit."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.prices import ProviderPrices
from pipeline.rating import rate_usage
from schemas.catalog import Catalog
from schemas.instants import QUARTER_US
from schemas.usage import UsageRow
from tests.unit.rating.catalogs import catalog_of, markup, per_unit, price, tiered
from tests.unit.rating.test_usage import JULY, at, rated, totals
from tests.unit.rating.usage_memory import MemoryUsage, event


def allowance(meter: str, amount: int, models: str = "*") -> dict[str, Any]:
    return {"meter": meter, "models": models, "amount": amount}


def plan(allowances: list[dict[str, Any]], *charges: dict[str, Any]) -> dict[str, Any]:
    return {"p": {"allowances": allowances, "charges": list(charges)}}


def test_within_a_quarter_the_earlier_event_is_served_first() -> None:
    catalog = catalog_of(plan([allowance("input", 10)], per_unit("input", "1", "m-z"), per_unit("input", "100", "m-a")))
    rows = [
        event(at("2026-07-02T10:01:00Z"), model="m-z", input=8),
        event(at("2026-07-02T10:02:00Z"), model="m-a", input=8),
    ]
    assert sum(totals(catalog, rows).values()) == 600
    late_first = [row._replace(time_us=row.time_us + shift) for row, shift in zip(rows, (120_000_000, 0), strict=True)]
    assert sum(totals(catalog, late_first).values()) == 6


def test_within_an_event_classes_are_served_in_their_order() -> None:
    catalog = catalog_of(
        plan([allowance("tokens", 10)], per_unit("input", "1"), per_unit("cache_read", "10"), per_unit("output", "100"))
    )
    rows = [event(at("2026-07-02"), input=4, cache_read=4, output=4)]
    assert totals(catalog, rows) == {"p:input": 0, "p:cache_read": 0, "p:output": 200}


def test_the_first_allowance_with_room_takes_the_unit() -> None:
    charges = (per_unit("input", "1"), per_unit("output", "1"))
    rows = [event(at("2026-07-02"), input=10, output=10)]
    own_first = catalog_of(plan([allowance("input", 6), allowance("tokens", 6)], *charges))
    assert totals(own_first, rows) == {"p:input": 0, "p:output": 8}
    tokens_first = catalog_of(plan([allowance("tokens", 6), allowance("input", 6)], *charges))
    assert totals(tokens_first, rows) == {"p:input": 0, "p:output": 10}


def test_free_units_do_not_count_towards_tiers_but_towards_the_quantity() -> None:
    catalog = catalog_of(plan([allowance("input", 5)], tiered("graduated", "input", (10, "1"), (None, "0.1"))))
    (charge,) = rated(catalog, [event(at("2026-07-02"), input=16)]).charges
    assert (charge.quantity, charge.amount) == (16, Decimal("10.1"))
    assert (charge.parts[0].unit_price, charge.parts[0].per) == (0, 1)
    assert [(part.note, part.quantity, part.amount) for part in charge.parts] == [
        ("allowance", 5, 0),
        ("", 10, 10),
        ("", 1, Decimal("0.1")),
    ]


def test_searches_are_no_tokens_for_an_allowance() -> None:
    catalog = catalog_of(plan([allowance("tokens", 100)], per_unit("input", "1"), per_unit("web_searches", "1")))
    assert totals(catalog, [event(at("2026-07-02"), input=1, web_searches=3)]) == {"p:input": 0, "p:web_searches": 3}


def test_requests_have_an_allowance_of_their_own() -> None:
    catalog = catalog_of(plan([allowance("requests", 3)], per_unit("requests", "1"), per_unit("input", "1")))
    rows = [event(at("2026-07-02T10:01:00Z"), input=1) for _ in range(5)]
    assert totals(catalog, rows) == {"p:requests": 2, "p:input": 5}
    assert {charge.meter: charge.quantity for charge in rated(catalog, rows).charges} == {"requests": 5, "input": 5}


def test_a_new_version_does_not_refill_but_may_enlarge() -> None:
    def versions(second: int) -> dict[str, Any]:
        terms = [("2026-01-01", 10, "1"), ("2026-07-15", second, "1")]
        return {
            "p": [
                {"from": d, "allowances": [allowance("input", n)], "charges": [per_unit("input", p)]}
                for d, n, p in terms
            ]
        }

    rows = [event(at("2026-07-02"), input=8), event(at("2026-07-20"), input=8)]
    assert totals(catalog_of(versions(10)), rows) == {"p:input": 6}
    assert totals(catalog_of(versions(12)), rows) == {"p:input": 4}
    assert totals(catalog_of(versions(5)), rows) == {"p:input": 8}


def test_another_plan_has_its_own_allowance() -> None:
    terms = plan([allowance("input", 10)], per_unit("input", "1"))["p"]
    tenant = {"plan": [{"plan": "a", "from": "2026-01-01"}, {"plan": "b", "from": "2026-07-11"}]}
    catalog = catalog_of({"a": terms, "b": terms}, tenant=tenant)
    rows = [event(at("2026-07-02"), input=11), event(at("2026-07-20"), input=12)]
    assert totals(catalog, rows) == {"a:input": 1, "b:input": 2}


def test_free_units_without_a_charge_are_not_unrated_but_the_next_one_is() -> None:
    catalog = catalog_of(plan([allowance("output", 5)], per_unit("input", "1")))
    assert rated(catalog, [event(at("2026-07-02"), output=5)]).unrated == ()
    assert rated(catalog, [event(at("2026-07-02"), output=6)]).unrated == (("m-small", "output"),)


def test_free_tokens_cost_nothing_under_a_markup() -> None:
    catalog = catalog_of(
        plan([allowance("tokens", 5)], markup("1")), provider_prices=[price("m-small", input="1", output="10")]
    )
    assert totals(catalog, [event(at("2026-07-02"), input=4, output=3)]) == {"p:cost": 40}


def test_a_quarter_is_split_where_the_allowance_ends_inside_it_and_nowhere_else() -> None:
    catalog = catalog_of(plan([allowance("input", 20, "m-a")], per_unit("input", "1")))
    rows = [event(at("2026-07-02T10:01:00Z"), model="m-a", input=1) for _ in range(30)]
    rows += [event(at("2026-07-02T10:02:00Z"), model="m-b", input=1) for _ in range(30)]
    assert totals(catalog, rows) == {"p:input": 40}


class Counted(MemoryUsage):
    """Notes which quarters are read event by event."""

    def __init__(self, events: Sequence[UsageRow]) -> None:
        super().__init__(events)
        self.asked: list[tuple[int, int]] = []

    def events(self, tenant: str, start_us: int, end_us: int) -> list[UsageRow]:
        self.asked.append((start_us, end_us))
        return super().events(tenant, start_us, end_us)


def read_singly(catalog: Catalog, rows: list[UsageRow]) -> list[int]:
    """Starts of the quarters that rating read event by event (the sums themselves are read over the whole month)."""
    source = Counted(rows)
    rate_usage(catalog, ProviderPrices((), seed=None), "acme", JULY, source, rates_at_us=JULY.end_us)
    assert all(end - start in (QUARTER_US, JULY.end_us - JULY.start_us) for start, end in source.asked)
    return [start for start, end in source.asked if end - start == QUARTER_US]


def test_only_the_quarter_in_which_an_allowance_runs_out_is_read_singly() -> None:
    catalog = catalog_of(plan([allowance("tokens", 10), allowance("requests", 4)], per_unit("tokens", "1")))
    rows = [
        event(at(f"2026-07-02T{hour}:0{n}:00Z"), model=f"m-{n}", input=2, output=1)
        for hour in (10, 11, 12, 13)
        for n in (1, 2)
    ]
    # tokens: 6, 12, 18, 24 against 10; requests: 2, 4, 6, 8 against 4, so its end falls between two quarters
    assert read_singly(catalog, rows) == [at("2026-07-02T11:00:00Z")]
    assert read_singly(catalog_of(plan([allowance("tokens", 24)], per_unit("tokens", "1"))), rows) == []
    assert read_singly(catalog_of(plan([allowance("tokens", 0)], per_unit("tokens", "1"))), rows) == []
    assert read_singly(catalog_of(plan([allowance("tokens", 6)], per_unit("tokens", "1"))), rows) == []
    assert read_singly(catalog_of(plan([allowance("input", 5)], per_unit("tokens", "1"))), rows[:3]) == []


def test_an_allowance_of_tokens_ends_inside_a_quarter_at_the_right_event() -> None:
    catalog = catalog_of(
        plan([allowance("tokens", 10)], per_unit("tokens", "1", "m-z"), per_unit("tokens", "100", "m-a"))
    )
    rows = [
        event(at("2026-07-02T10:01:00Z"), model="m-z", input=4, output=4),
        event(at("2026-07-02T10:02:00Z"), model="m-a", input=4, output=4),
        event(at("2026-07-02T10:16:00Z"), model="m-a", input=1),
    ]
    assert sum(totals(catalog, rows).values()) == 700


def test_a_quarter_cut_by_a_version_is_expanded_up_to_the_cut_only() -> None:
    terms = {
        "allowances": [allowance("input", 10)],
        "charges": [per_unit("input", "1", "m-z"), per_unit("input", "100", "m-a")],
    }
    catalog = catalog_of({"p": [terms, {"from": "2026-07-02T10:07:00Z", **terms}]})
    rows = [
        event(at(f"2026-07-02T10:0{minute}:00Z"), model=model, input=4)
        for minute, model in ((1, "m-z"), (5, "m-a"), (6, "m-z"), (7, "m-a"))
    ]
    assert sum(totals(catalog, rows).values()) == 402


def test_own_keys_take_nothing_of_an_allowance_that_runs_out_beside_them() -> None:
    catalog = catalog_of(plan([allowance("input", 5)], per_unit("input", "1")))
    rows = [
        event(at("2026-07-02T10:01:00Z"), key="own", pooled=False, input=4),
        event(at("2026-07-02T10:02:00Z"), input=4),
        event(at("2026-07-02T10:03:00Z"), input=4),
    ]
    assert totals(catalog, rows) == {"p:input": 3}


def test_the_last_free_unit_goes_to_the_earlier_event() -> None:
    charges = (per_unit("input", "1", "m-z"), per_unit("input", "100", "m-a"))
    rows = [
        event(at("2026-07-02T10:01:00Z"), model="m-z", input=1),
        event(at("2026-07-02T10:02:00Z"), model="m-a", input=1),
    ]
    assert sum(totals(catalog_of(plan([allowance("input", 1)], *charges)), rows).values()) == 100
    assert sum(totals(catalog_of(plan([allowance("input", 2)], *charges)), rows).values()) == 0

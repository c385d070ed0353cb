"""Report minus metered: like with like, what the sums mean, the bill beside our reckoning."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.reconcile import CostRow, MeteredRow, ReportRow, compare, compare_costs
from pipeline.reconcile.compare import LEAST_TOKENS, NO_KEY
from pipeline.reconcile.rows import merged
from schemas.money import Money
from schemas.tokens import CLASSES

KEYS = {"key_abc": "pool-1", "key_def": "pool-2"}
HAS = ("input", "cache_read", "output")


def reported(key: str | None, model: str = "m", requests: int | None = None, **counts: int) -> ReportRow:
    return ReportRow(0, 1, key, model, counts, requests)


def metered(key: str, model: str = "m", requests: int = 0, cost: str = "0", **counts: int) -> MeteredRow:
    classes = tuple(counts.get(name, 0) for name in CLASSES)
    return MeteredRow(key, model, classes, requests, Money.of(cost, "USD"))


def test_a_class_that_the_report_lacks_is_counted_within_its_parent() -> None:
    counts = {"input": 1, "cache_write_long": 10, "reasoning": 100, "output": 1000, "web_searches": 7}
    assert merged(counts, HAS) == {"input": 11, "output": 1100}
    assert merged(counts, (*HAS, "cache_write", "web_searches")) == {
        "input": 1, "cache_write": 10, "output": 1100, "web_searches": 7,
    }  # fmt: skip


def test_a_line_for_each_key_model_and_class() -> None:
    outcome = compare(
        [reported("key_abc", "m-2026-01-01", 3, input=900, output=50), reported("key_abc", "m", 1, input=100)],
        [metered("pool-1", "m", 4, input=700, cache_read=0, reasoning=30, output=20, cache_write=300)],
        has=HAS,
        keys=KEYS,
    )
    assert [(line.key, line.model, line.meter, line.reported, line.metered) for line in outcome.lines] == [
        ("pool-1", "m", "input", 1000, 1000),
        ("pool-1", "m", "output", 50, 50),
        ("pool-1", "m", "requests", 4, 4),
    ]
    assert outcome.verdict == "agrees"


@pytest.mark.parametrize(
    ("report", "meter", "verdict"),
    [
        (1_000_000, 1_000_000, "agrees"),
        (1_005_000, 1_000_000, "agrees"),
        (1_005_001, 1_000_000, "unmetered"),
        (994_999, 1_000_000, "unreported"),
        (LEAST_TOKENS, 0, "agrees"),
        (LEAST_TOKENS + 1, 0, "unmetered"),
    ],
)
def test_what_a_keys_total_means(report: int, meter: int, verdict: str) -> None:
    outcome = compare([reported("key_abc", input=report)], [metered("pool-1", input=meter)], has=HAS, keys=KEYS)
    assert [(t.key, t.difference, t.verdict) for t in outcome.totals] == [("pool-1", report - meter, verdict)]
    assert outcome.verdict == ("agrees" if verdict == "agrees" else "differs")


def test_keys_that_only_one_side_knows() -> None:
    outcome = compare(
        [reported("key_gone", input=5), reported(None, input=5000)], [metered("pool-2", input=5000)], has=HAS, keys=KEYS
    )
    assert {total.key: total.verdict for total in outcome.totals} == {
        NO_KEY: "unmetered", "key_gone": "unknown_key", "pool-2": "no_report",
    }  # fmt: skip


def test_the_bill_beside_our_reckoning() -> None:
    bill = [
        CostRow(0, 1, "key_abc", "m, input_tokens", Money.of("1.10", "USD"), "m-2026-01-01"),
        CostRow(1, 2, "key_abc", "m, input_tokens", Money.of("0.15", "USD"), "m"),
        CostRow(0, 1, None, "storage", Money.of("3", "USD")),
    ]
    lines = compare_costs(bill, [metered("pool-1", cost="1.2"), metered("pool-2", cost="9")], KEYS)
    assert [(c.key, c.model, c.billed.amount, c.reckoned.amount) for c in lines] == [
        (NO_KEY, "(no model)", Decimal(3), Decimal(0)),
        ("pool-1", "m", Decimal("1.25"), Decimal("1.2")),
        ("pool-2", "m", Decimal(0), Decimal(9)),
    ]
    assert lines[1].lines == (("m, input_tokens", Money.of("1.25", "USD")),)
    mine = [metered("pool-1", cost="1"), metered("pool-2", cost="2")]
    (line,) = compare_costs(bill[1:2], mine, KEYS, by_key=False)
    assert (line.key, line.reckoned.amount) == ("(all keys)", Decimal(3))


def test_two_currencies_are_not_added() -> None:
    bill = [CostRow(0, 1, None, "x", Money.of(1, "USD")), CostRow(0, 1, None, "x y", Money.of(1, "EUR"))]
    with pytest.raises(ValueError, match="EUR, USD"):
        compare_costs(bill, [], KEYS)

"""`tollhouse explain` from a cold start: the events behind each usage line are counted anew here, and sum to it.

The ledger is small but like a real one: two plans in a month, an allowance, fallback classes, packages, a share of the
cost, own keys, a failed call, a duplicate and a void.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.installation import Installation, event

CATALOG = """\
currency: USD
seller: {name: Example Cloud Ltd, address: "1 Example Street, Dublin", country: IE, tax_id: IE1234567A}
tenants:
  acme:
    name: Acme GmbH
    tier: standard
    plan: [{plan: team, from: 2026-10-01}, {plan: scale, from: 2026-10-16}]
    timezone: Asia/Kathmandu
keys:
  pool-1: {provider: openai, kind: pooled}
  own-1: {provider: openai, kind: byok, tenant: acme}
plans:
  team:
    allowances: [{meter: input, models: "*", amount: 700}]
    charges:
      - meter: input
        models: "gpt-5*"
        model: graduated
        per: 1000
        tiers: [{up_to: 5000, price: "2.00"}, {price: "1.00"}]
      - {meter: output, models: "*", model: per_unit, price: "9.00", per: 1000}
      - {meter: requests, models: "*", model: package, size: 7, price: "0.10"}
      - {meter: tokens, models: "o3*", model: volume, per: 1000, tiers: [{up_to: 100, price: "4.00"}, {price: "3.00"}]}
      - {meter: cost, models: "*", model: markup, markup: "0.20"}
  scale:
    fee: {amount: "31.00", proration: daily}
    charges:
      - {meter: tokens, models: "*", model: per_unit, price: "5.00", per: 1000}
provider_prices:
  - {provider: openai, model: gpt-5-mini, from: 2026-01-01, per: 1000, input: "0.25", cache_read: "0.05", output: "2"}
  - {provider: openai, model: o3, from: 2026-01-01, per: 1000, input: "0.25", cache_read: "0.05", output: "2"}
"""
CHANGE = "2026-10-15T18:15:00Z"  # midnight of the 16th in Kathmandu
MODELS = ("gpt-5-mini", "o3")
Call = dict[str, Any]


def calls() -> list[Call]:
    """Two hundred calls of October; seeded."""
    chance = random.Random(6)
    made = []
    for number in range(200):
        at = f"2026-10-{chance.randint(2, 30):02d}T{chance.randint(0, 23):02d}:{chance.randint(0, 59):02d}:00Z"
        classes = chance.sample(("input", "cache_read", "output", "reasoning"), chance.randint(1, 4))
        tokens = {name: chance.randint(1, 300) for name in classes}
        made.append(event(f"e{number}", at, model=chance.choice(MODELS), **tokens))
    made.append(event("edge-before", "2026-10-15T18:14:59.999999Z", input=11))
    made.append(event("edge-after", CHANGE, input=13))
    return made


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    made = Installation(tmp_path / "data", monkeypatch.setenv)
    assert made.at("2026-10-01T00:00:00Z").apply(CATALOG).code == 0
    return made


def units(call: Call, *names: str) -> int:
    return sum(call["data"]["tokens"].get(name, 0) for name in names)


def on(model: str, *names: str) -> Callable[[Call], int]:
    return lambda call: units(call, *names) if call["data"]["model"].startswith(model) else 0


EVERY = ("input", "cache_read", "output", "reasoning")
HELD: dict[str, tuple[str, Callable[[Call], int]]] = {
    "usage:team:input:gpt-5*": ("before", on("gpt-5", "input")),
    # reasoning has a charge of its own through `cost` on gpt-5-mini, and through `tokens` on o3
    "usage:team:output:*": ("before", on("", "output")),
    "usage:team:requests:*": ("before", lambda _: 1),
    "usage:team:tokens:o3*": ("before", on("o3", "input", "cache_read", "reasoning")),
    "usage:scale:tokens:*": ("after", on("", *EVERY)),
}
"""What each line holds, said anew: the part of the month, and the units of a call."""


def test_the_events_of_every_usage_line_sum_to_its_quantity(installation: Installation) -> None:
    pooled = calls()
    own = event("own", "2026-10-03T00:00:00Z", input=9999)
    own["data"]["key"] = "own-1"
    failed = event("failed", "2026-10-03T00:00:00Z", input=9999)
    failed["data"] |= {"status": "error"}
    gone = event("gone", "2026-10-03T00:00:00Z", input=9999)
    void = {**event("void", "2026-10-04T00:00:00Z"), "type": "com.tollhouse.usage.void.v1"}
    void["data"] = {"voids": {"source": gone["source"], "id": "gone"}, "reason": "test"}
    installation.take(*pooled, own, failed, gone, void, pooled[0])
    closing = installation.at("2026-11-04T00:00:00Z")
    closed = closing("invoices", "finalise", "--month", "2026-10", "--json")
    assert closed.code == 0, closed
    (invoice,) = closed.json()["invoices"]
    shown = {line["id"]: line for line in invoice["lines"] if line["type"] == "usage"}
    # a process of its own: nothing is left from the one that made the invoice
    cold = subprocess.run(
        [sys.executable, "-m", "tollhouse", "explain", "acme/2026-10", "--json", "--dir", str(installation.dir)],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
        timeout=100,
    )
    assert cold.returncode == 0, cold.stderr
    explained = {line["id"]: line for line in json.loads(cold.stdout)["lines"] if line["type"] == "usage"}
    assert explained.keys() == shown.keys() == {*HELD, "usage:team:cost:*"}
    for name, (part, of) in HELD.items():
        mine = [call for call in pooled if (call["time"] < CHANGE) == (part == "before")]
        assert explained[name]["events"]["count"] == sum(of(call) > 0 for call in mine), name
        assert Decimal(shown[name]["quantity"]) == sum(of(call) for call in mine), name
        assert sum(Decimal(p["amount"]) for p in explained[name]["parts"]) == Decimal(explained[name]["unrounded"])
    # by its share of the cost: cached input at 0.05 and reasoning as output at 2, a thousand
    mine = [call for call in pooled if call["time"] < CHANGE and call["data"]["model"] == "gpt-5-mini"]
    cost = sum(
        units(call, "cache_read") * Decimal("0.00005") + units(call, "reasoning") * Decimal("0.002") for call in mine
    )
    assert Decimal(shown["usage:team:cost:*"]["quantity"]) == cost
    assert explained["usage:team:cost:*"]["events"]["count"] == sum(
        units(c, "cache_read", "reasoning") > 0 for c in mine
    )

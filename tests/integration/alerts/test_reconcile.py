"""`tollhouse reconcile` against a served report, and the watch that finds a pooled key in other hands."""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from billing.provider_reports import Client, OpenAI
from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from pipeline.ledger.alerts import list_alerts
from schemas.catalog import Catalog
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_instant, parse_instant
from schemas.usage_event import USAGE_TYPE, Delivery, Evidence
from tests.unit.cli.command import tollhouse
from tests.unit.provider_reports.provider import Answer, Asked, Provider
from tollhouse.reconciling import feed

START_US = parse_instant("2026-10-01T00:00:00Z")
DAYS = 2
CATALOG = """
currency: USD
seller: {name: Example Cloud Ltd, country: IE}
tenants:
  acme: {name: Acme GmbH, tier: standard, plan: team}
keys:
  pool-1: {provider: openai, kind: pooled, provider_key_id: key_abc}
plans:
  team: {charges: [{meter: tokens, models: "*", model: per_unit, price: "1.00", per: 1000000}]}
provider_prices:
  - {provider: openai, model: gpt-5-mini, from: 2026-01-01, per: 1000000, input: "1.00", output: "2.00"}
"""


class House:
    """A ledger with two days of calls, and what the provider makes of them."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.ledger = Ledger(f"sqlite:///{directory / 'tollhouse.db'}")
        self.ledger.create()
        catalog = parse_yaml(CATALOG)
        assert isinstance(catalog, Catalog)
        self.ledger.apply(catalog, 0, "test")
        rng = Random(1)
        self.minutes = {START_US + n * MINUTE_US: rng.randrange(8_000, 12_000) for n in range(DAYS * 1440)}
        self.reported = dict(self.minutes)
        made = []
        for n, (minute_us, tokens) in enumerate(self.minutes.items()):
            event = {
                "specversion": "1.0", "id": f"e{n}", "source": "p", "type": USAGE_TYPE, "subject": "acme",
                "time": format_instant(minute_us + SECOND_US),
                "data": {
                    "key": "pool-1", "provider": "openai", "model": "gpt-5-mini",
                    "tokens": {"input": tokens - 100, "output": 60, "reasoning": 40},
                },
            }  # fmt: skip
            place = Evidence("usage.events", 0, n, 0)
            made.append(Delivery(json.dumps(event).encode(), minute_us + 2 * SECOND_US, place))
        self.ledger.take(made, START_US + DAYS * DAY_US)

    def answer(self, asked: Asked, _number: int) -> Answer:
        """Buckets of the width that was asked for; costs by day."""
        start_us, end_us = (int(asked.query[name][0]) * SECOND_US for name in ("start_time", "end_time"))
        width_us = {"1m": MINUTE_US, "1h": HOUR_US, "1d": DAY_US}[asked.query["bucket_width"][0]]
        return Answer(
            200,
            json.dumps(
                {
                    "data": [self._bucket(asked, at, width_us) for at in range(start_us, end_us, width_us)],
                    "has_more": False,
                    "next_page": None,
                }
            ),
        )

    def _bucket(self, asked: Asked, at_us: int, width_us: int) -> dict[str, Any]:
        inside = [n for minute_us, n in self.reported.items() if at_us <= minute_us < at_us + width_us]
        named = {"api_key_id": "key_abc", "model": "gpt-5-mini-2026-01-01"}
        counts = {"input_tokens": sum(inside) - 100 * len(inside), "output_tokens": 100 * len(inside)}
        result: dict[str, Any] = {**counts, "num_model_requests": len(inside)}
        if asked.path.endswith("costs"):
            result = {"amount": {"value": "12.34", "currency": "usd"}, "line_item": "gpt-5-mini, input_tokens"}
        bounds = {"start_time": at_us // SECOND_US, "end_time": (at_us + width_us) // SECOND_US}
        return {**bounds, "results": [result | named] if inside else []}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@pytest.fixture
def house(made: House) -> House:
    made.reported = dict(made.minutes)
    return made


def run(house: House, provider: Provider, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-key-of-a-test")
    monkeypatch.setenv("TOLLHOUSE_OPENAI_REPORTS_URL", provider.base)
    return tollhouse("reconcile", "--dir", house.dir, *arguments)


SPAN = ("--from", "2026-10-01", "--to", "2026-10-02")


def test_rows_totals_costs_and_a_verdict(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider(house.answer) as provider:
        result = run(house, provider, monkeypatch, *SPAN, "--json")
    assert result.code == 0, result
    found = result.json()
    assert found["verdict"] == "agrees"
    assert {row["class"]: row["difference"] for row in found["rows"]} == {"input": 0, "output": 0, "requests": 0}
    (total,) = found["totals"]
    assert total["metered"] == sum(list(house.minutes.values())[:1440])
    (cost,) = found["costs"]
    assert (cost["billed"], cost["lines"]) == ("12.34", [{"line": "gpt-5-mini, input_tokens", "amount": "12.34"}])
    assert "admin-key-of-a-test" not in result.out + result.err


def test_a_difference_is_an_exit_code_and_a_line(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.reported[START_US] += 500_000
    with Provider(house.answer) as provider:
        result = run(house, provider, monkeypatch, *SPAN)
    assert result.code == 1
    assert "pool-1 (unmetered)" in result.err
    assert "500000" in result.out


def test_what_has_not_settled_is_left_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = START_US + DAYS * DAY_US
    monkeypatch.setenv("TOLLHOUSE_CLOCK_OFFSET_S", str(now_us // SECOND_US - int(time.time()) + 1))
    with Provider(house.answer) as provider:
        result = run(house, provider, monkeypatch, "--settle", "5h", "--json")
    found = result.json()
    assert (found["from"], found["to"]) == ("2026-10-01T19:00:00Z", "2026-10-02T19:00:00Z")


def test_a_csv_does_for_other_providers(house: House, tmp_path: Path) -> None:
    tokens = sum(list(house.minutes.values())[:1440])
    file = tmp_path / "report.csv"
    file.write_text(
        f"start,end,key,model,input,output\n2026-10-01,2026-10-02,key_abc,gpt-5-mini,{tokens - 144_000},144000\n"
    )
    result = tollhouse("reconcile", "--dir", house.dir, "--csv", file, "--json")
    assert result.code == 0, result
    assert result.json()["verdict"] == "agrees"


def test_without_an_admin_key_it_says_which(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    result = tollhouse("reconcile", "--dir", house.dir)
    assert result.code == 1
    assert "OPENAI_ADMIN_KEY is not set" in result.err


def test_the_watch_finds_a_pooled_key_in_other_hands_and_settles_before_it_judges(house: House) -> None:
    ordinary_us = START_US + DAYS * DAY_US - 3 * HOUR_US
    for minute_us in house.reported:
        if minute_us >= ordinary_us:
            house.reported[minute_us] += 6_000
    with Provider(house.answer) as provider:
        connector = OpenAI(Client("openai", provider.base, {}))
        told = [
            (now_us, alert)
            for now_us in range(ordinary_us, START_US + DAYS * DAY_US, 5 * MINUTE_US)
            for alert in feed(house.ledger, connector, "openai", now_us, 15 * MINUTE_US)
        ]
    first_us, alert = told[0]
    assert alert.startswith("residual:pool-1/")
    assert ordinary_us + 15 * MINUTE_US < first_us <= ordinary_us + 60 * MINUTE_US
    rows = [row for row in house.ledger.read(list_alerts) if row["kind"] == "residual"]
    assert {row["severity"] for row in rows} == {"page"}
    assert "more than were metered" in rows[0]["detail"]

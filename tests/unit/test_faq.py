"""What the page of questions answers is so: what outsiders ask for first, asked of the product itself."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tollhouse.simulate import run_scenario
from tollhouse_client.spool import DEFAULT_MAX_BYTES

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
ANSWERS: Final = dict(re.findall(r"^### ([^\n]+)\n\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL))

CATALOG: Final[dict[str, Any]] = {
    "currency": "EUR",
    "seller": {"name": "Example Cloud Ltd", "address": "1 Example Street, Dublin", "country": "IE"},
    "tenants": {
        "acme": {
            "plan": "team",
            "billing": {"country": "DE"},
            "quotas": [{"name": "monthly", "meter": "tokens", "limit": 1000, "window": "month"}],
        }
    },
    "keys": {"pool-1": {"provider": "openai", "kind": "pooled"}, "pool-2": {"provider": "openai", "kind": "pooled"}},
    "plans": {
        "team": {"charges": [{"meter": "tokens", "models": "*", "model": "per_unit", "price": "1.00", "per": 100}]}
    },
    "taxes": [{"country": "DE", "rate": "0.19", "name": "VAT", "inclusive": False}],
    "invoicing": {"grace": "48h", "adjust": "next_invoice"},
}


def event(name: str, tokens: int, at: str = "2026-10-05T10:00:00Z", **data: Any) -> dict[str, Any]:
    use = {"key": "pool-1", "provider": "openai", "model": "gpt-5-mini", "tokens": {"input": tokens}}
    return {"id": name, "time": at, "subject": "acme", "data": use | data}


def play(*steps: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run_scenario({"catalog": CATALOG, "start": "2026-10-01T00:00:00Z", "steps": list(steps)})
    return found


def at(day: str, **what: Any) -> dict[str, Any]:
    return {"at": f"{day}T12:00:00Z", **what}


@pytest.mark.parametrize(
    "question",
    [
        "What does a duplicate do?",
        "What if Kafka is down for an hour?",
        "How far can a quota be passed?",
        "How do I prove this line?",
        "What happens to the old key?",
        "How is tax done?",
        "How big a machine for 1,000 events a second?",
    ],
)
def test_what_an_outsider_asks_first_has_an_answer(question: str) -> None:
    assert len(ANSWERS[question].split()) > 30


def test_a_duplicate_does_nothing_and_other_content_is_a_conflict() -> None:
    found = play(at("2026-10-06", events=[event("a", 100), event("a", 100), event("a", 101)]))
    assert found["duplicates"] == 1
    assert [row["reason"] for row in found["rejected"]] == ["conflict"]
    assert found["usage"][0]["tokens"]["input"] == 100
    assert "counted once" in ANSWERS["What does a duplicate do?"]
    assert "`conflict`: the first stands" in ANSWERS["What does a duplicate do?"]


def test_the_spool_holds_an_hour_of_a_thousand_events_a_second() -> None:
    answer = ANSWERS["What if Kafka is down for an hour?"]
    assert DEFAULT_MAX_BYTES == 4 * 2**30
    assert "4 GiB by default, an hour at 1,000 events a second" in answer
    data = {"key": "openai-pool-1", "provider": "openai", "api": "responses", "model": "gpt-5-mini-2026-01-01",
            "usage": {"input_tokens": 123_456, "input_tokens_details": {"cached_tokens": 100_000},
                      "output_tokens": 12_345, "output_tokens_details": {"reasoning_tokens": 12_000}},
            "upstream_id": "resp_" + "0" * 48, "request_id": "req_" + "0" * 32, "user": "u-17", "network": "AS3320/DE",
            "agent": "codex-cli/1.4", "labels": {"project": "blue", "team": "search"}}  # fmt: skip
    large = {"specversion": "1.0", "id": "0" * 36, "source": "proxy/eu-1", "type": "com.tollhouse.usage.v1",
             "time": "2026-10-03T10:11:12.345678Z", "subject": "a-tenant-with-a-long-name", "data": data}  # fmt: skip
    assert len(json.dumps(large)) * 1000 * 3600 < DEFAULT_MAX_BYTES


def test_a_quota_is_passed_by_under_estimates_in_flight_and_by_nothing_else() -> None:
    ask = {"tenant": "acme", "model": "gpt-5-mini", "estimate": {"tokens": 400}, "ttl_s": 600}
    asks = [at("2026-10-05", authorize=ask | {"id": name}) for name in ("a", "b", "c")]
    found = play(*asks)
    assert [one["allowed"] for one in found["decisions"]] == [True, True, False]
    # Two calls in flight, each 100 over its estimate: the limit is passed by 200 at most, here by 0, and then it holds.
    used = [event(name, 500, "2026-10-05T12:00:00Z", reservation=name) for name in ("a", "b")]
    found = play(*asks, at("2026-10-05", events=used), at("2026-10-05", authorize=ask | {"id": "d"}))
    assert found["quotas"][0]["used"] == "1000"
    assert found["decisions"][-1]["reason"] == "quota"
    assert "never, at any concurrency" in ANSWERS["How far can a quota be passed?"]
    assert "sum of the under-estimates" in ANSWERS["How far can a quota be passed?"]


@pytest.mark.parametrize(("state", "late"), [("rotating", []), ("revoked", ["revoked_key_used"])])
def test_an_old_key_gets_no_calls_and_its_late_usage_counts(state: str, late: list[str]) -> None:
    ask = {"id": "a", "tenant": "acme", "model": "gpt-5-mini", "estimate": {"tokens": 1}}
    found = play(
        at("2026-10-05", key={"id": "pool-1", "state": state}),
        at("2026-10-05", authorize=ask),
        at("2026-10-05", event=event("late", 10, "2026-10-05T12:00:00Z")),
    )
    assert found["decisions"][0]["key"] == "pool-2"
    assert found["usage"][0]["tokens"]["input"] == 10
    assert [alert["kind"] for alert in found["alerts"]] == late
    assert "no new calls" in ANSWERS["What happens to the old key?"]
    assert "`revoked_key_used`" in ANSWERS["What happens to the old key?"]


def test_tax_is_by_country_once_a_rate_on_the_sum_half_up() -> None:
    month = {"month": "2026-10", "finalise": True}
    found = play(at("2026-10-06", events=[event("a", 113), event("b", 37)]), at("2026-11-05", invoice=month))
    invoice = found["invoices"][0]
    assert (invoice["subtotal"], invoice["tax"], invoice["total"]) == ("1.50", "0.29", "1.79"), "0.285 is rounded up"
    assert "half up" in ANSWERS["How is tax done?"]


def test_late_usage_is_an_adjustment_on_the_next_invoice() -> None:
    found = play(
        at("2026-10-06", event=event("a", 300)),
        at("2026-11-03", invoice={"month": "2026-10", "finalise": True}),
        at("2026-11-05", event=event("late", 100, "2026-10-31T10:00:00Z")),
        at("2026-12-05", invoice={"month": "2026-11", "finalise": True}),
    )
    first, second = found["invoices"]
    assert (first["month"], first["subtotal"]) == ("2026-10", "3.00")
    assert [(line["type"], line["amount"]) for line in second["lines"][:1]] == [("adjustment", "1.00")]
    assert "adjustment line on the next invoice" in ANSWERS["What if usage arrives after the month was invoiced?"]


def test_a_model_without_a_price_holds_its_invoice() -> None:
    plan = {"charges": [{"meter": "tokens", "models": "gpt-*", "model": "per_unit", "price": "1.00", "per": 100}]}
    scenario = {
        "catalog": {**CATALOG, "plans": {"team": plan}},
        "start": "2026-10-01T00:00:00Z",
        "steps": [
            at("2026-10-06", event=event("a", 300, model="brand-new-1")),
            at("2026-11-05", invoice={"month": "2026-10", "finalise": True}),
        ],
    }
    found = run_scenario(scenario)
    assert found["invoices"][0]["status"] == "draft"
    assert found["unrated"][0]["model"] == "brand-new-1"
    assert "unrated" in [alert["kind"] for alert in found["alerts"]]
    assert "its invoice is held" in ANSWERS["A new model came out. What happens?"]

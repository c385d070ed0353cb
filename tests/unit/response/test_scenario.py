"""A leak in a scenario is answered as in production: the tenant is refused, others are not."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.instants import MINUTE_US, format_instant, parse_instant
from tollhouse.simulate import run_scenario

START_US = parse_instant("2026-10-01T00:00:00Z")
LEAK_US = parse_instant("2026-10-17T03:00:00Z")


def catalog(on_leak: str) -> dict[str, Any]:
    tenant = {"name": "A tenant", "tier": "standard", "plan": "team"}
    charge = {"meter": "tokens", "models": "*", "model": "per_unit", "price": "1.00", "per": 1000000}
    return {
        "currency": "USD",
        "seller": {"name": "Example Cloud Ltd", "country": "IE"},
        "tenants": {"acme": tenant, "bolt": tenant},
        "keys": {"pool-1": {"provider": "openai", "kind": "pooled"}},
        "plans": {"team": {"charges": [charge]}},
        "alerts": {"on_leak": on_leak},
    }


def call(name: str, at_us: int, network: str, tokens: int) -> dict[str, Any]:
    data = {
        "key": "pool-1",
        "provider": "openai",
        "model": "gpt-5-mini",
        "tokens": {"input": tokens},
        "network": network,
    }
    return {"id": name, "source": "p", "time": format_instant(at_us), "subject": "acme", "data": data}


def ask(name: str, tenant: str, at_us: int) -> dict[str, Any]:
    return {"at": format_instant(at_us), "authorize": {"id": name, "tenant": tenant, "model": "gpt-5-mini"}}


@pytest.mark.parametrize(("on_leak", "reason"), [("alert", "ok"), ("suspend", "key_unavailable")])
def test_a_leak_in_a_scenario(on_leak: str, reason: str) -> None:
    steps: list[dict[str, Any]] = []
    for n, at_us in enumerate(range(START_US, LEAK_US, 60 * MINUTE_US)):
        steps.append({"at": format_instant(at_us), "event": call(f"o{n}", at_us, "AS64500/ZZ", 1000)})
    leak = [call(f"x{n}", LEAK_US + n * 1_000_000, "AS64666/ZZ", 20_000) for n in range(120)]
    told_us = LEAK_US + 3 * MINUTE_US
    steps += [{"at": format_instant(told_us), "events": leak}, ask("a", "acme", told_us), ask("b", "bolt", told_us)]
    result = run_scenario({"catalog": catalog(on_leak), "start": format_instant(START_US), "steps": steps})
    assert [alert["severity"] for alert in result["alerts"] if alert["kind"] == "leak"] == ["page"]
    assert {decision["id"]: decision["reason"] for decision in result["decisions"]} == {"a": reason, "b": "ok"}

"""LiteLLM's own proxy behind the gate: a tenant gets through, stops at its quota, and never sees the pooled key."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # before the import: no network

from pipeline.ledger.tables import quota_windows, reservations
from schemas.instants import SECOND_US
from schemas.usage_event import Delivery, Evidence
from tests.integration.api.kit import House, catalog
from tests.sdk.fakes import make_topic, read_topic
from tests.sdk.litellm_server import litellm_proxy
from tests.sdk.serving import Served
from tests.sdk.upstream import upstream
from tollhouse.clock import clock
from tollhouse_client import GateDecision, GateUnavailableError
from tollhouse_client.litellm_estimate import estimate_of
from tollhouse_client.litellm_gate import GateHook, user_api_key_auth

POOLED = "pooled-secret-of-the-provider"


def configuration(address: str) -> dict[str, Any]:
    parameters = {"model": "openai/gpt-5-mini", "api_base": f"{address}/v1", "api_key": POOLED}
    return {
        "model_list": [
            {"model_name": "chat", "litellm_params": parameters, "model_info": {"tollhouse_key": "openai-pool-1"}}
        ],
        "general_settings": {"custom_auth": "tollhouse_client.litellm_gate.user_api_key_auth"},
        "litellm_settings": {
            "callbacks": ["tollhouse_client.litellm_gate.gate_hook", "tollhouse_client.litellm_callback.logger"],
            "num_retries": 0,
        },
    }


def held(house: House, name: str) -> tuple[int, int]:
    """used, reserved"""
    (row,) = house.ledger.rows(quota_windows, quota_windows.c.name == name)
    return row["used"], row["reserved"]


@pytest.mark.timeout(300)
def test_a_tenant_gets_through_is_stopped_at_its_quota_and_never_sees_the_key(
    embedded_broker: str, topic_prefix: str, sqlite_url: str, tmp_path: Path
) -> None:
    topic = make_topic(embedded_broker, topic_prefix + "events", partitions=1)
    house = House(sqlite_url, tmp_path / "house")
    quotas = [
        {"name": "monthly", "meter": "tokens", "limit": 4000, "window": "month"},
        {"name": "money", "meter": "cost", "limit": "1000.00", "window": "month"},
    ]
    tenants = {"acme": {"plan": "team", "quotas": quotas}}
    keys = {"openai-pool-1": {"provider": "openai", "kind": "pooled"}}
    house.now_us = clock()()  # LiteLLM stamps its events with the machine's clock
    with upstream() as address:
        house.ledger.apply(catalog(tenants=tenants, keys=keys), house.now_us - SECOND_US, "test")
        served = Served(house)
        environment = {
            "LITELLM_MASTER_KEY": f"sk-{uuid.uuid4().hex}{uuid.uuid4().hex}",
            "TOLLHOUSE_GATE_URL": served.url,
            "TOLLHOUSE_GATE_TTL_S": "2",
            "TOLLHOUSE_PROXY_TOKEN": house.token("proxy", "eu-1"),
        }
        with litellm_proxy(tmp_path, configuration(address), embedded_broker, topic, **environment) as proxy:

            def body(maximum: int, text: str = "hello") -> dict[str, Any]:
                spoof = {"tollhouse_tenant": "globex"}
                said = [{"role": "user", "content": text}]
                return {"model": "chat", "messages": said, "metadata": spoof, "max_tokens": maximum}

            def ask(token: str, maximum: int) -> httpx.Response:
                url, headers = f"{proxy.address}/v1/chat/completions", {"authorization": f"Bearer {token}"}
                return httpx.post(url, json=body(maximum), headers=headers, timeout=30)

            token = house.token("tenant", "acme")
            first = ask(token, 2000)
            assert first.status_code == 200, first.text + proxy.log.read_text()[-2000:]
            assert 2000 < held(house, "monthly")[1] < 2100
            assert held(house, "money")[1] > 0  # LiteLLM knows the model's price
            (event,) = proxy.events(1)
            assert event["subject"] == "acme"
            assert event["data"]["key"] == "openai-pool-1"
            delivery = Delivery(json.dumps(event).encode(), house.now_us, Evidence(topic, 0, 0, 0))
            assert house.ledger.take([delivery], house.now_us).counted == 1
            (settled,) = house.ledger.rows(reservations)
            assert (settled["id"], settled["state"]) == (event["data"]["reservation"], "settled")
            assert held(house, "monthly") == (1500, 0)

            over = ask(token, 2600)
            assert over.status_code == 402, over.text
            assert "quota" in over.text
            odd = [ask(token + "x", 10), ask("sk-" + uuid.uuid4().hex, 10)]
            assert [answer.status_code for answer in odd] == [401, 401]
            said = "".join(answer.text + str(answer.headers) for answer in (first, over, *odd))
            assert POOLED not in said + json.dumps(event)
            assert len(read_topic(embedded_broker, topic)) == 1

            house.now_us += 2 * SECOND_US - 1
            url, headers = f"{proxy.address}/v1/chat/completions", {"authorization": f"Bearer {token}"}
            slowly = body(100, "slowly") | {"stream": True}  # ten seconds
            with httpx.stream("POST", url, json=slowly, headers=headers, timeout=30) as answer:
                assert answer.status_code == 200
                lines = answer.iter_lines()
                next(lines)
                (running,) = house.ledger.rows(reservations, reservations.c.state == "open")
                house.now_us += 1 * SECOND_US
                for _ in lines:
                    (extended,) = house.ledger.rows(reservations, reservations.c.state == "open")
                    if extended["expires_us"] > running["expires_us"]:
                        break
                assert extended["expires_us"] == house.now_us + 2 * SECOND_US
        served.close()
    house.close()


class FakeGate:
    """Counts extensions; ends the hold, or is away, when told."""

    def __init__(self) -> None:
        self.extended: list[tuple[str, int, str]] = []
        self.away = False

    def extend(self, reservation: str, ttl_s: int, *, tenant: str) -> str | None:
        self.extended.append((reservation, ttl_s, tenant))
        if self.away:
            raise GateUnavailableError("away")
        return "2026-11-01T10:20:00Z" if len(self.extended) < 3 else None


@pytest.mark.parametrize("away", [False, True])
def test_a_streams_hold_is_extended_while_it_lasts_and_no_longer(away: bool) -> None:
    gate = FakeGate()
    gate.away = away
    hook = GateHook(gate, ttl_s=1)  # type: ignore[arg-type]
    hook._ttl_s = 0.02  # type: ignore[assignment]
    said = {"tollhouse_tenant": "acme", "tollhouse_reservation": "rsv_1"}
    data = {"metadata": {"user_api_key_auth_metadata": said}}

    async def chunks() -> AsyncIterator[int]:
        for number in range(3):
            while len(gate.extended) < number + 1:  # noqa: ASYNC110 - the gate is asked in a thread
                await asyncio.sleep(0.005)
            yield number

    async def read() -> list[int]:
        found = [chunk async for chunk in hook.async_post_call_streaming_iterator_hook(None, chunks(), data)]
        seen = len(gate.extended)
        await asyncio.sleep(0.1)
        assert len(gate.extended) == seen
        return found

    assert asyncio.run(read()) == [0, 1, 2]
    assert gate.extended[0] == ("rsv_1", 0.02, "acme")


def test_a_key_that_a_client_brings_along_is_not_told_to_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    own_key, asked = "0f3c9a7e5b1d4826" * 2, []

    class Asked(FakeGate):
        def authorize(self, *arguments: object, **more: object) -> GateDecision:
            asked.append(repr((arguments, more)))
            return GateDecision(allowed=True, reason="ok", tenant="acme", key="acme-own", reservation="rsv_1")

    monkeypatch.setattr("tollhouse_client.litellm_gate._deployments", lambda _group: [])
    said = [{"role": "user", "content": "hello"}]
    data = {"model": "gpt-4o-mini", "messages": said, "api_key": own_key, "extra_headers": {"x-own-key": own_key}}

    async def ask() -> Any:
        caller = await user_api_key_auth(None, "Bearer a.b.c")
        return await GateHook(Asked()).async_pre_call_hook(caller, None, data, "completion")  # type: ignore[arg-type]

    marked = asyncio.run(ask())["metadata"]
    assert marked["user_api_key_auth_metadata"]["tollhouse_key"] == "acme-own"
    assert len(asked) == 1
    assert own_key not in asked[0] + repr(marked)


def test_a_stream_without_a_hold_passes_as_it_is() -> None:
    async def read(data: dict[str, Any]) -> list[int]:
        async def chunks() -> AsyncIterator[int]:
            yield 1

        hook = GateHook(FakeGate())  # type: ignore[arg-type]
        return [chunk async for chunk in hook.async_post_call_streaming_iterator_hook(None, chunks(), data)]

    assert asyncio.run(read({})) == asyncio.run(read({"metadata": None})) == [1]


def test_cost_is_estimated_by_the_dearest_price_that_may_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = {
        "input_cost_per_token": 1e-06,
        "cache_creation_input_token_cost": 1.25e-06,
        "input_cost_per_token_above_200k_tokens": 2e-06,
        "output_cost_per_token": 5e-06,
        "output_cost_per_reasoning_token": None,
    }
    counted = SimpleNamespace(model_cost={"openai/known": prices}, token_counter=lambda **_: 1000)
    monkeypatch.setattr("tollhouse_client.litellm_estimate.litellm", counted)
    data = {"messages": [], "max_tokens": 200}
    assert estimate_of(data, "known", priced_as="openai/known") == {"tokens": 1200, "cost": Decimal("0.00225")}
    assert estimate_of(data, "unknown", priced_as="openai/unknown") == {"tokens": 1200}
    own = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.02}
    assert estimate_of(data, "unknown", own_prices=own)["cost"] == Decimal("14.00")
    counted.token_counter = lambda **_: 300_000
    assert estimate_of(data, "known", priced_as="openai/known")["cost"] == Decimal("0.601")

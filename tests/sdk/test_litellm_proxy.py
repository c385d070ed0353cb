"""The callback in LiteLLM's own proxy server: every call once, with the classes of LiteLLM's own answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.normalise import normalise
from tests.sdk.fakes import make_topic
from tests.sdk.litellm_server import MASTER_KEY, Proxy, litellm_proxy
from tests.sdk.upstream import upstream


def _configuration(address: str) -> dict[str, Any]:
    def deployment(name: str, model: str, base: str, key: str) -> dict[str, Any]:
        parameters = {"model": model, "api_base": base, "api_key": "none"}
        return {"model_name": name, "litellm_params": parameters, "model_info": {"tollhouse_key": key}}

    mocked = {"model": "openai/gpt-4o-mini", "mock_response": "a mocked answer", "api_key": "none"}
    return {
        "model_list": [
            deployment("chat", "openai/gpt-5-mini", f"{address}/v1", "openai-pool-1"),
            deployment("claude", "anthropic/claude-sonnet-4-5", address, "anthropic-pool-1"),
            deployment("embedder", "openai/text-embedding-3-small", f"{address}/v1", "openai-pool-1"),
            {"model_name": "mocked", "litellm_params": mocked, "model_info": {"tollhouse_key": "openai-pool-2"}},
        ],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"callbacks": "tollhouse_client.litellm_callback.logger", "num_retries": 0},
    }


@pytest.fixture
def proxy(embedded_broker: str, topic_prefix: str, tmp_path: Path) -> Iterator[Proxy]:
    topic = make_topic(embedded_broker, topic_prefix + "events", partitions=1)
    named = {"TOLLHOUSE_SOURCE": "litellm/test", "TOLLHOUSE_TENANT": "acme"}
    with (
        upstream() as address,
        litellm_proxy(tmp_path, _configuration(address), embedded_broker, topic, **named) as made,
    ):
        yield made


def classes(provider: str, usage: Any) -> Any:
    counted = normalise(provider, "chat", usage)
    assert isinstance(counted, tuple), counted
    return counted


@pytest.mark.timeout(300)
def test_every_call_is_found_once_with_the_classes_of_the_answer(proxy: Proxy) -> None:
    answers = {name: proxy.chat(name) for name in ("chat", "claude", "mocked")}
    streamed = {
        name: proxy.stream(name, stream_options={"include_usage": True}) for name in ("chat", "claude", "mocked")
    }
    unasked = proxy.stream("chat")
    with pytest.raises(httpx.HTTPStatusError):
        proxy.chat("chat", "fail")
    cut = proxy.stream("chat", "slowly", chunks_max=10)
    assert len(cut) == 10
    found = proxy.events(9)

    by_upstream = {event["data"]["upstream_id"]: event for event in found if "upstream_id" in event["data"]}
    expected_provider = {"chat": "openai", "claude": "anthropic", "mocked": "openai"}
    expected_key = {"chat": "openai-pool-1", "claude": "anthropic-pool-1", "mocked": "openai-pool-2"}
    for name, key in expected_key.items():
        whole = answers[name]
        final = next(chunk for chunk in reversed(streamed[name]) if chunk.get("usage"))
        for identity, usage in ((whole["id"], whole["usage"]), (streamed[name][0]["id"], final["usage"])):
            event = by_upstream[identity]
            data = event["data"]
            assert event["subject"] == "acme"
            assert (data["key"], data["provider"]) == (key, expected_provider[name])
            assert (data["status"], data["agent"]) == ("ok", "test-agent/1")
            assert classes(data["provider"], data["usage"]) == classes(data["provider"], usage)
    assert classes("openai", by_upstream[answers["chat"]["id"]]["data"]["usage"])[:2] == (200, 1000)
    assert classes("anthropic", by_upstream[answers["claude"]["id"]]["data"]["usage"])[:4] == (100, 1000, 100, 300)
    assert by_upstream[unasked[0]["id"]]["data"]["usage"]["total_tokens"] > 0

    aborted = by_upstream[cut[0]["id"]]["data"]
    assert (aborted["status"], aborted["estimated"]) == ("aborted", True)
    assert aborted["usage"]["completion_tokens"] >= 10
    (failed,) = [event["data"] for event in found if event["data"]["status"] == "error"]
    assert "usage" not in failed
    assert MASTER_KEY not in json.dumps(found)


OPENAI_CLASSES = (200, 1000, 0, 0, 180, 120, 0, 0, 0, 0, 0)
ANTHROPIC_CLASSES = (100, 1000, 100, 300, 50, 0, 0, 0, 0, 0, 0)


@pytest.mark.timeout(300)
def test_other_endpoints_and_translations_count_alike(proxy: Proxy) -> None:
    """Anthropic's and OpenAI's newer APIs, native and translated into one another, whole and streamed."""
    said = [{"role": "user", "content": "hello"}]
    expected: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    for streamed in (False, True):
        proxy.post("/v1/messages", {"model": "claude", "max_tokens": 50, "messages": said, "stream": streamed})
        expected.setdefault(("anthropic", "anthropic-pool-1"), []).append(ANTHROPIC_CLASSES)
        proxy.post("/v1/responses", {"model": "chat", "input": "hello", "stream": streamed})
        expected.setdefault(("openai", "openai-pool-1"), []).append(OPENAI_CLASSES)
        proxy.post("/v1/responses", {"model": "claude", "input": "hello", "stream": streamed})
        expected["anthropic", "anthropic-pool-1"].append(ANTHROPIC_CLASSES)
        proxy.post("/v1/messages", {"model": "chat", "max_tokens": 50, "messages": said, "stream": streamed})
        expected["openai", "openai-pool-1"].append(OPENAI_CLASSES)
    proxy.post("/v1/embeddings", {"model": "embedder", "input": "hello"})
    expected["openai", "openai-pool-1"].append((7,) + (0,) * 10)
    found = proxy.events(9)
    counted: dict[tuple[str, str], list[Any]] = {}
    for event in found:
        data = event["data"]
        classes_of = normalise(data["provider"], data.get("api"), data["usage"])
        counted.setdefault((data["provider"], data["key"]), []).append(classes_of)
    assert {who: sorted(rows) for who, rows in counted.items()} == {who: sorted(rows) for who, rows in expected.items()}

"""The LiteLLM callback in LiteLLM's own SDK: mock responses, and a provider of our own with cached tokens."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # before the import: no network

import litellm

from pipeline.normalise import normalise
from tests.sdk.fakes import FakeBroker
from tests.sdk.upstream import upstream
from tollhouse_client import SpoolFullError, UsagePublisher
from tollhouse_client.litellm_callback import CallRefusedError, TollhouseLogger
from tollhouse_client.litellm_reading import LoggerSettings

HELLO = [{"role": "user", "content": "hello"}]
OPENAI_CLASSES = (200, 1000, 0, 0, 180, 120, 0, 0, 0, 0, 0)
ANTHROPIC_CLASSES = (100, 1000, 100, 300, 50, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with upstream() as address:
        yield address


@pytest.fixture(scope="module")
def callback() -> Iterator[TollhouseLogger]:
    """Installed once: LiteLLM copies its list of callbacks into several others at the first call."""
    installed = TollhouseLogger(_nothing, keys={"openai": "openai-pool-1", "anthropic": "anthropic-pool-1"})
    litellm.callbacks.append(installed)
    yield installed
    litellm.callbacks.remove(installed)


def _nothing() -> UsagePublisher:
    raise AssertionError("a test puts its own publisher in")


@pytest.fixture
def events(tmp_path: Path, callback: TollhouseLogger) -> Iterator[Callable[[int], list[dict[str, Any]]]]:
    """Waits for so many events, and a little for one too many."""
    broker = FakeBroker()
    publisher = UsagePublisher(
        "unused:1", source="litellm/test", spool_dir=tmp_path / "spool", connect=broker.connect, linger_s=0.01
    )
    callback._publisher = publisher

    def wait(number: int) -> list[dict[str, Any]]:
        deadline_s = time.monotonic() + 5
        while publisher.stats().enqueued < number and time.monotonic() < deadline_s:
            time.sleep(0.02)
        time.sleep(0.3)
        assert publisher.flush(5)
        found = [event for _, batch in broker.messages for event in batch]
        assert len(found) == number
        return found

    yield wait
    publisher.close(1)


OWN_KEY = "0f3c9a7e5b1d4826" * 2
"""A tenant's own key, of no form that redaction knows."""


def test_a_tenants_own_key_is_in_no_event_and_not_in_the_spool(
    events: Callable[[int], list[dict[str, Any]]], provider: str, tmp_path: Path
) -> None:
    own = {"api_base": f"{provider}/v1", "api_key": OWN_KEY, "extra_headers": {"x-own-key": OWN_KEY}, "num_retries": 0}
    litellm.completion(**call(**own))
    list(litellm.completion(**call(**own, stream=True)))
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**call(**own, messages=[{"role": "user", "content": "fail"}]))
    found = events(3)
    assert {event["data"]["key"] for event in found} == {"openai-pool-1"}
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").iterdir())
    assert b'"subject":"acme"' in spooled
    assert OWN_KEY.encode() not in spooled
    assert OWN_KEY not in json.dumps(found)


def classes(event: dict[str, Any]) -> tuple[int, ...]:
    counted = normalise(event["data"]["provider"], event["data"].get("api"), event["data"]["usage"])
    assert isinstance(counted, tuple), counted
    return counted


def call(**more: Any) -> dict[str, Any]:
    return {"model": "openai/gpt-4o-mini", "messages": HELLO, "metadata": {"tollhouse_tenant": "acme"}} | more


def test_a_mocked_call_is_one_event(events: Callable[[int], list[dict[str, Any]]]) -> None:
    response = litellm.completion(**call(mock_response="hi"))
    (event,) = events(1)
    assert event["subject"] == "acme"
    assert event["source"] == "litellm/test"
    data = event["data"]
    assert (data["key"], data["provider"], data["api"], data["model"]) == (
        "openai-pool-1",
        "openai",
        "chat",
        "gpt-4o-mini",
    )
    assert data["status"] == "ok"
    assert data["upstream_id"] == response.id
    assert data["usage"]["prompt_tokens"] == response.usage.prompt_tokens
    assert data["usage"]["completion_tokens"] == response.usage.completion_tokens


def test_sync_async_whole_and_streamed_are_one_event_each(events: Callable[[int], list[dict[str, Any]]]) -> None:
    litellm.completion(**call(mock_response="one"))
    list(litellm.completion(**call(mock_response="two", stream=True)))

    async def others() -> None:
        await litellm.acompletion(**call(mock_response="three"))
        async for _ in await litellm.acompletion(**call(mock_response="four", stream=True)):
            pass
        await asyncio.sleep(1.0)  # LiteLLM's logging worker is a task of this loop

    asyncio.run(others())
    found = events(4)
    assert len({event["id"] for event in found}) == 4
    assert len({event["data"]["upstream_id"] for event in found}) == 4
    assert {event["data"]["status"] for event in found} == {"ok"}


@pytest.mark.parametrize("streamed", [False, True])
def test_cached_and_reasoning_tokens_of_openai(
    events: Callable[[int], list[dict[str, Any]]], provider: str, streamed: bool
) -> None:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    answer = litellm.completion(**call(api_base=provider + "/v1", api_key="none", **options))
    if streamed:
        list(answer)
    (event,) = events(1)
    assert classes(event) == OPENAI_CLASSES
    assert "estimated" not in event["data"]
    assert event["data"]["upstream_id"].startswith("chatcmpl-000")


@pytest.mark.parametrize("streamed", [False, True])
def test_cached_tokens_of_anthropic_are_not_counted_twice(
    events: Callable[[int], list[dict[str, Any]]], provider: str, streamed: bool
) -> None:
    answer = litellm.completion(
        **call(model="anthropic/claude-sonnet-4-5", api_base=provider, api_key="none", stream=streamed)
    )
    if streamed:
        list(answer)
    (event,) = events(1)
    assert (event["data"]["provider"], event["data"]["key"]) == ("anthropic", "anthropic-pool-1")
    assert classes(event) == ANTHROPIC_CLASSES


def test_a_stream_without_usage_is_marked_as_estimated(
    events: Callable[[int], list[dict[str, Any]]], provider: str
) -> None:
    list(litellm.completion(**call(api_base=provider + "/v1", api_key="none", stream=True)))
    (event,) = events(1)
    assert event["data"]["estimated"] is True
    assert event["data"]["usage"]["prompt_tokens"] > 0
    assert 5 <= event["data"]["usage"]["completion_tokens"] <= 20, "five words"


def test_a_failed_call_is_an_error_without_usage(events: Callable[[int], list[dict[str, Any]]], provider: str) -> None:
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(
            **call(api_base=provider + "/v1", api_key="none", messages=[{"role": "user", "content": "fail"}])
        )
    (event,) = events(1)
    assert event["data"]["status"] == "error"
    assert "usage" not in event["data"]


def test_a_stream_that_its_caller_leaves_is_aborted_with_an_estimate(
    events: Callable[[int], list[dict[str, Any]]], callback: TollhouseLogger, provider: str
) -> None:
    slowly = call(
        api_base=provider + "/v1", api_key="none", messages=[{"role": "user", "content": "slowly"}], stream=True
    )
    chunks = callback.watch(litellm.completion(**slowly))
    for _ in range(3):
        next(chunks)
    chunks.close()

    async def leave() -> None:
        async def read() -> None:
            async for _ in callback.awatch(await litellm.acompletion(**slowly)):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    found = events(2)
    for event in found:
        assert (event["data"]["status"], event["data"]["estimated"]) == ("aborted", True)
        assert event["data"]["usage"]["completion_tokens"] > 0
        assert event["subject"] == "acme"


def test_a_watched_stream_that_ends_is_not_counted_twice(
    events: Callable[[int], list[dict[str, Any]]], callback: TollhouseLogger
) -> None:
    assert len(list(callback.watch(litellm.completion(**call(mock_response="a b c", stream=True))))) > 1
    (event,) = events(1)
    assert event["data"]["status"] == "ok"


def test_two_calls_under_one_call_id_are_two_events(events: Callable[[int], list[dict[str, Any]]]) -> None:
    """A client of the proxy server may choose the call id; it must not get a second call for free by repeating it."""
    for _ in range(2):
        litellm.completion(**call(mock_response="hi", litellm_call_id="mine"))
    found = events(2)
    assert found[0]["id"] != found[1]["id"]


def test_a_call_that_names_nobody_is_sent_to_be_rejected_not_dropped(
    events: Callable[[int], list[dict[str, Any]]],
) -> None:
    litellm.completion(**call(mock_response="hi", metadata={}))
    (event,) = events(1)
    assert event["subject"] == "unassigned"


def test_behind_the_proxy_a_clients_own_metadata_names_no_tenant(
    events: Callable[[int], list[dict[str, Any]]],
) -> None:
    metadata = {"tollhouse_tenant": "victim", "user_api_key_hash": "abc", "user_api_key_team_id": "acme"}
    litellm.completion(**call(mock_response="hi", metadata=metadata))
    (event,) = events(1)
    assert event["subject"] == "acme"


def test_a_full_spool_refuses_new_calls_and_loses_none(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.away = True
    publisher = UsagePublisher(
        "unused:1", source="litellm/test", spool_dir=tmp_path / "spool", connect=broker.connect, max_spool_bytes=16_384
    )
    callback = TollhouseLogger(publisher, tenant="acme")
    for number in range(100):
        callback._record({"litellm_call_id": str(number), "model": "m"}, {"usage": {"prompt_tokens": number}}, "ok")
    with pytest.raises(CallRefusedError, match="try again later") as refused:
        asyncio.run(callback.async_pre_call_hook(None, None, {}, "completion"))
    assert refused.value.status_code == 503
    broker.away = False
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        try:
            asyncio.run(callback.async_pre_call_hook(None, None, {}, "completion"))
        except SpoolFullError:
            time.sleep(0.05)
        else:
            break
    assert callback.close(10) == 0
    counted = [event["data"]["usage"]["prompt_tokens"] for _, batch in broker.messages for event in batch]
    assert sorted(counted) == list(range(100))


def test_settings_come_from_the_environment() -> None:
    with pytest.raises(ValueError, match="TOLLHOUSE_BROKER"):
        LoggerSettings.from_environment({})
    with pytest.raises(ValueError, match="TOLLHOUSE_KEYS must be a JSON object"):
        LoggerSettings.from_environment({"TOLLHOUSE_BROKER": "b:1", "TOLLHOUSE_KEYS": "[1]"})
    settings = LoggerSettings.from_environment({"TOLLHOUSE_BROKER": "b:1", "TOLLHOUSE_KEYS": '{"openai": "pool"}'})
    assert settings.keys == {"openai": "pool"}
    assert settings.topic == "usage.events"

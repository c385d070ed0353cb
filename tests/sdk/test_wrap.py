"""The helpers for SDK responses: OpenAI's own classes, and plain mappings in Anthropic's shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from pipeline.normalise import normalise
from tests.sdk.fakes import FakeBroker
from tests.sdk.upstream import ANTHROPIC_USAGE, upstream
from tollhouse_client import UsagePublisher
from tollhouse_client.wrap import (
    arecord_anthropic_stream,
    arecord_openai_stream,
    record_anthropic,
    record_anthropic_stream,
    record_openai,
    record_openai_stream,
)

OPENAI_CLASSES = (200, 1000, 0, 0, 180, 120, 0, 0, 0, 0, 0)
ANTHROPIC_CLASSES = (100, 1000, 100, 300, 50, 0, 0, 0, 0, 0, 0)
WHO: dict[str, Any] = {"tenant": "acme", "key": "pool-1"}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with upstream() as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


class Taken:
    """A publisher, and what it has sent."""

    def __init__(self, directory: Path) -> None:
        self.broker = FakeBroker()
        self.publisher = UsagePublisher(
            "unused:1", source="proxy/test", spool_dir=directory, connect=self.broker.connect, linger_s=0.01
        )

    def events(self) -> list[dict[str, Any]]:
        assert self.publisher.flush(5)
        return [event for _, batch in self.broker.messages for event in batch]


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Taken]:
    made = Taken(tmp_path / "spool")
    yield made
    made.publisher.close(1)


def classes(event: dict[str, Any]) -> Any:
    data = event["data"]
    return normalise(data["provider"], data.get("api"), data["usage"])


def chat(client: openai.OpenAI, text: str = "hello", **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": text}], **more)


def test_a_tenants_own_key_is_in_no_event(client: openai.OpenAI, taken: Taken) -> None:
    own_key = "0f3c9a7e5b1d4826" * 2  # of no form that redaction knows
    own = client.with_options(api_key=own_key)  # shares the connections of the other, so it is not closed
    record_openai(taken.publisher, chat(own, extra_headers={"x-own-key": own_key}), **WHO)
    list(record_openai_stream(taken.publisher, chat(own, stream=True), **WHO, model="gpt-5-mini", provider="openai"))
    found = taken.events()
    assert len(found) == 2
    assert own_key not in json.dumps(found)


def test_an_openai_response(client: openai.OpenAI, taken: Taken) -> None:
    response = chat(client)
    identity = record_openai(taken.publisher, response, user="u-17", **WHO)
    (event,) = taken.events()
    assert event["id"] == identity
    data = event["data"]
    assert (data["provider"], data["api"], data["model"], data["user"]) == ("openai", "chat", "gpt-5-mini", "u-17")
    assert data["upstream_id"] == response.id
    assert classes(event) == OPENAI_CLASSES


def test_an_openai_stream(client: openai.OpenAI, taken: Taken) -> None:
    stream = chat(client, stream=True, stream_options={"include_usage": True})
    chunks = list(record_openai_stream(taken.publisher, stream, model="gpt-5-mini", **WHO))
    (event,) = taken.events()
    assert event["data"]["upstream_id"] == chunks[0].id
    assert event["data"]["status"] == "ok"
    assert classes(event) == OPENAI_CLASSES


def test_an_openai_stream_that_is_left(client: openai.OpenAI, taken: Taken) -> None:
    stream = record_openai_stream(
        taken.publisher,
        chat(client, "slowly", stream=True),
        model="gpt-5-mini",
        estimate=lambda: {"prompt_tokens": 9, "completion_tokens": 2},
        **WHO,
    )
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    (event,) = taken.events()
    assert (event["data"]["status"], event["data"]["estimated"]) == ("aborted", True)
    assert classes(event)[:5] == (9, 0, 0, 0, 2)


def test_a_failed_stream_is_an_error(taken: Taken) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"object": "chat.completion.chunk", "id": "chatcmpl-1", "choices": []}
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        list(record_openai_stream(taken.publisher, broken(), model="gpt-5-mini", **WHO))
    (event,) = taken.events()
    assert event["data"]["status"] == "error"


RESPONSES_EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
    {"type": "response.output_text.delta", "delta": "hi", "item_id": "msg_1"},
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "service_tier": "flex",
            "usage": {
                "input_tokens": 1200,
                "input_tokens_details": {"cached_tokens": 1000},
                "output_tokens": 300,
                "output_tokens_details": {"reasoning_tokens": 120},
            },
        },
    },
]
ANTHROPIC_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "usage": ANTHROPIC_USAGE | {"output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
    {"type": "message_stop"},
]


def test_a_responses_stream(taken: Taken) -> None:
    assert list(record_openai_stream(taken.publisher, RESPONSES_EVENTS, model="gpt-5", **WHO)) == RESPONSES_EVENTS
    (event,) = taken.events()
    assert (event["data"]["upstream_id"], event["data"]["service_tier"]) == ("resp_1", "flex")
    assert classes(event) == OPENAI_CLASSES


def test_an_anthropic_message(taken: Taken) -> None:
    message = {"id": "msg_1", "model": "claude-sonnet-4-5", "usage": ANTHROPIC_USAGE}
    record_anthropic(taken.publisher, message, **WHO)
    (event,) = taken.events()
    assert (event["data"]["provider"], event["data"]["api"]) == ("anthropic", "messages")
    assert classes(event) == ANTHROPIC_CLASSES


def test_an_anthropic_stream_whole_and_left(taken: Taken) -> None:
    list(record_anthropic_stream(taken.publisher, ANTHROPIC_EVENTS, model="claude-sonnet-4-5", **WHO))
    left = record_anthropic_stream(taken.publisher, ANTHROPIC_EVENTS, model="claude-sonnet-4-5", **WHO)
    next(left)
    left.close()  # type: ignore[attr-defined]
    whole, cut = taken.events()
    assert classes(whole) == ANTHROPIC_CLASSES
    assert (cut["data"]["status"], cut["data"]["estimated"]) == ("aborted", True)
    assert classes(cut)[:5] == (100, 1000, 100, 300, 1), "the input is known from the first event on"


async def _slow(events: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for event in events:
        yield event
        await asyncio.sleep(0.05)


def test_asynchronous_streams_whole_and_cancelled(taken: Taken) -> None:
    async def read(stream: AsyncIterator[Any]) -> None:
        async for _ in stream:
            pass

    async def story() -> None:
        await read(arecord_openai_stream(taken.publisher, _slow(RESPONSES_EVENTS), model="gpt-5", **WHO))
        stream = arecord_anthropic_stream(taken.publisher, _slow(ANTHROPIC_EVENTS), model="claude", **WHO)
        task = asyncio.create_task(read(stream))
        await asyncio.sleep(0.03)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    whole, cut = taken.events()
    assert classes(whole) == OPENAI_CLASSES
    assert cut["data"]["status"] == "aborted"


def test_what_is_no_response_is_refused(taken: Taken) -> None:
    with pytest.raises(TypeError, match="int is neither a mapping nor a response"):
        record_openai(taken.publisher, 5, **WHO)

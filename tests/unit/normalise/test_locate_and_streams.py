"""Where usage lies in responses and events, and how the events of a stream merge."""

from typing import Any

import pytest

from pipeline.normalise import Rejection, normalise
from pipeline.normalise.locate import locate
from pipeline.normalise.streams import merge

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


@pytest.mark.parametrize(
    "response",
    [
        USAGE,
        {"usage": USAGE},
        {"response": {"usage": USAGE}},
        {"response": {"body": {"usage": USAGE}}},
        {"result": {"message": {"usage": USAGE}}},
        {"result": {"usage": USAGE}},
        {"delta": {"usage": USAGE}},
        {"metadata": {"usage": USAGE}},
        {"modelOutput": {"usage": USAGE}},
        {"usage": None, "x_groq": {"usage": USAGE}},
        {"usage": None, "choices": [{"index": 0}, {"usage": USAGE}]},
    ],
)
def test_places(response: dict[str, Any]) -> None:
    found = locate(response)
    assert found is not None
    assert found[0] == USAGE


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": 5},
        {"metadata": USAGE},
        {"message": USAGE},
        {"choices": [USAGE]},
        {"choices": "usage"},
        {"response": {"response": {"response": {"response": {"response": {"usage": USAGE}}}}}},
    ],
)
def test_no_place(response: dict[str, Any]) -> None:
    assert locate(response) is None


def test_merge_replaces_and_keeps() -> None:
    merged = merge(
        [
            {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}},
            None,
            {"usage": {"completion_tokens": 2, "prompt_tokens": None, "prompt_tokens_details": {"audio_tokens": 1}}},
        ]
    )
    assert not isinstance(merged, Rejection)
    assert merged[0] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 1},
    }


def test_merge_leaves_the_events_alone() -> None:
    first = {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}}
    merge([first, {"usage": {"prompt_tokens_details": {"cached_tokens": 0}}}])
    assert first["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}


def test_an_empty_list_erases_no_details() -> None:
    parts = [{"modality": "AUDIO", "tokenCount": 3}]
    chunks = [
        {"usageMetadata": {"promptTokenCount": 3, "promptTokensDetails": parts}},
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "promptTokensDetails": []}},
    ]
    assert normalise("google", None, chunks) == (0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0)


@pytest.mark.parametrize("events", [[1], ["data: {}"], [[USAGE]], [USAGE, True]])
def test_events_are_objects(events: list[Any]) -> None:
    merged = merge(events)
    assert isinstance(merged, Rejection)
    assert merged.reason == "malformed"


def test_server_sent_events_with_their_names() -> None:
    events = [
        {"event": "message_start", "data": {"type": "message_start", "message": {"usage": {"input_tokens": 9}}}},
        {"event": "message_delta", "data": {"type": "message_delta", "usage": {"output_tokens": 4}}},
    ]
    assert normalise("anthropic", "messages", events) == (9, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.in_progress", "response": {"usage": {"input_tokens": 1, "output_tokens": 0}}},
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"done": False, "prompt_eval_count": 4, "eval_count": 1},
    ],
)
def test_an_event_before_the_last_is_not_final(event: dict[str, Any]) -> None:
    for raw in (event, [event]):
        result = normalise(None, None, raw)
        assert isinstance(result, Rejection)
        assert result.reason == "no_usage"


def test_grounding_in_an_earlier_chunk_counts() -> None:
    chunks = [
        {"candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}}]},
        {"modelVersion": "gemini-3-pro", "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1}},
    ]
    assert normalise("google", None, chunks) == (3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2)

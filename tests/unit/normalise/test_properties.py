"""What holds for every input: no exception, no negative class, no class out of range, tokens conserved."""

import copy
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.normalise import REASONS, Classes, Rejection, classes_from_tokens, normalise
from pipeline.normalise.ndjson import answer_line
from schemas.tokens import CLASSES, COUNT_MAX, index_of, total_tokens

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parents[2] / "golden" / "usage.jsonl").read_text().splitlines()
]
KEYS = sorted({key for case in CASES for key in json.dumps(case["raw"]).split('"')[1::2] if key.isidentifier()})
NAMES = st.sampled_from([None, *sorted({case["provider"] for case in CASES if case["provider"]})])
APIS = st.sampled_from([None, *sorted({case["api"] for case in CASES if case["api"]})])

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 50),
    st.integers(),
    st.sampled_from([COUNT_MAX, COUNT_MAX + 1, -COUNT_MAX, 10**300, 5.0, 5.5, -0.0, math.inf, math.nan]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["AUDIO", "IMAGE", "TEXT", "5m", "1h", "compaction", "message_start", "response.done"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner),
    max_leaves=20,
)
COUNTS = st.integers(0, 10**6)


def sound(result: Classes | Rejection) -> None:
    if isinstance(result, Rejection):
        assert result.reason in REASONS
        assert result.detail
        assert len(result.detail.splitlines()) == 1
        assert len(result.detail) < 400
    else:
        assert len(result) == len(CLASSES)
        assert all(type(count) is int and 0 <= count <= COUNT_MAX for count in result)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(provider=NAMES, api=APIS, raw=JSON)
def test_any_json_gives_classes_or_a_rejection(provider: str | None, api: str | None, raw: object) -> None:
    sound(normalise(provider, api, raw))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(case=st.sampled_from([case for case in CASES if places(case["raw"])]), data=st.data())
def test_mutated_golden_payloads(case: dict[str, Any], data: st.DataObject) -> None:
    raw = copy.deepcopy(case["raw"])
    path = data.draw(st.sampled_from(places(raw)))
    parent = raw
    for step in path[:-1]:
        parent = parent[step]
    if isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[path[-1]]
    else:
        parent[path[-1]] = data.draw(JSON)
    before = json.dumps(raw, default=str)
    sound(normalise(data.draw(NAMES) if data.draw(st.booleans()) else case["provider"], case["api"], raw))
    assert json.dumps(raw, default=str) == before, "the payload is evidence and stays as it came"


@settings(max_examples=300, deadline=None)
@given(line=st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b'{"id": "\xff", "raw": null}')
@example(b"[" * 100_000)
@example(b'{"raw": ' + b'{"usage":' * 5000 + b"1" + b"}" * 5000 + b"}")
@example(b'{"id": 1' + b"0" * 5000 + b"}")
def test_every_line_has_one_answer(line: bytes) -> None:
    answer = answer_line(line, 7)
    assert b"\n" not in answer
    fields = json.loads(answer.replace(b"1" + b"0" * 5000, b"1"))
    assert set(fields) in ({"id", "tokens"}, {"id", "error"})


@given(
    prompt=COUNTS,
    completion=COUNTS,
    shares=st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_chat_conserves_tokens(prompt: int, completion: int, shares: list[float]) -> None:
    """Whatever parts are told, the classes add up to prompt and completion."""
    cached = int(prompt * shares[0])
    audio = int(prompt * shares[1])
    written = int((prompt - cached) * shares[2])
    reasoning = int(completion * shares[3])
    spoken = int((completion - reasoning) * shares[4])
    result = normalise(
        "openai",
        "chat",
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": spoken},
        },
    )
    assert not isinstance(result, Rejection)
    assert total_tokens(result) == prompt + completion
    assert result[index_of("cache_read")] == cached
    assert result[index_of("cache_write")] == written
    assert result[index_of("reasoning")] == reasoning
    assert result[index_of("output_audio")] == spoken


@given(counts=st.lists(COUNTS, min_size=4, max_size=4), split=st.floats(0, 1))
def test_messages_conserve_tokens(counts: list[int], split: float) -> None:
    uncached, read, write, output = counts
    short = int(write * split)
    usage = {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": write - short},
        "output_tokens": output,
    }
    assert normalise("anthropic", "messages", usage) == (uncached, read, short, write - short, output, *(0,) * 6)


@given(cuts=st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=6))
def test_a_cumulative_stream_is_its_last_usage(cuts: list[tuple[int, int]]) -> None:
    usages = [{"prompt_tokens": p, "completion_tokens": c} for p, c in cuts]
    chunks = [{"choices": [], "usage": usage} for usage in usages]
    last = normalise("openai", "chat", usages[-1])
    assert normalise("openai", "chat", chunks) == last
    assert normalise("openai", "chat", [*chunks, {"choices": [], "usage": None}]) == last
    assert normalise("openai", "chat", usages) == last


@given(tokens=st.dictionaries(st.sampled_from(CLASSES) | st.text(max_size=8), SCALARS, max_size=5) | JSON)
def test_tokens_of_an_event(tokens: object) -> None:
    sound(classes_from_tokens(tokens))


@given(counts=st.lists(st.integers(0, COUNT_MAX), min_size=len(CLASSES), max_size=len(CLASSES)))
def test_tokens_come_back(counts: list[int]) -> None:
    assert classes_from_tokens(dict(zip(CLASSES, counts, strict=True))) == tuple(counts)

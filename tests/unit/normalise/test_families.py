"""Each family's own rules beyond the golden cases: reasons, details, and what the shape decides."""

from typing import Any

import pytest

from pipeline.normalise import Rejection, classes_from_tokens, normalise
from pipeline.normalise.names import Route
from pipeline.normalise.recognise import choose
from schemas.tokens import COUNT_MAX


def refusal(provider: str | None, api: str | None, raw: object) -> tuple[str, str]:
    result = normalise(provider, api, raw)
    assert isinstance(result, Rejection), result
    return result


@pytest.mark.parametrize(
    ("provider", "api", "raw", "reason", "detail"),
    [
        (
            "openai",
            "chat",
            {"prompt_tokens": -5, "completion_tokens": 1},
            "negative_usage",
            "prompt_tokens is -5, below zero",
        ),
        (
            "openai",
            "chat",
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 128}},
            "inconsistent_usage",
            "cached tokens in prompt_tokens: 128 exceeds 100",
        ),
        (
            "openai",
            "responses",
            {"input_tokens": 1, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 6}},
            "inconsistent_usage",
            "reasoning, audio and image in output_tokens: 6 exceeds 5",
        ),
        (
            "anthropic",
            "messages",
            {
                "input_tokens": 1,
                "output_tokens": 1,
                "cache_creation_input_tokens": 1,
                "cache_creation": {"ephemeral_1h_input_tokens": 2},
            },
            "inconsistent_usage",
            "cache writes by lifetime in cache_creation_input_tokens: 2 exceeds 1",
        ),
        (
            "anthropic",
            "messages",
            {"input_tokens": 1, "output_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": 2}]},
            "malformed",
            "iterations[0].output_tokens is missing beside other counts",
        ),
        (
            "bedrock",
            "converse",
            {"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": 5, "inputTokens": 1}]},
            "malformed",
            "cacheDetails[0].ttl is not a lifetime like 5m or 1h",
        ),
        (
            "deepseek",
            "chat",
            {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 3},
            "inconsistent_usage",
            "prompt_cache hit 3 and miss 3 do not make prompt_tokens 10",
        ),
        (
            "cohere",
            "rerank",
            {"meta": {"billed_units": {"search_units": 2}}},
            "no_usage",
            "billed_units.search_units is not a count of tokens",
        ),
        ("openai", "transcription", {"type": "duration", "seconds": 3}, "no_usage", "seconds is not a count of tokens"),
        (None, None, {"a": 1, "b": 2}, "no_usage", "no count of tokens (fields: a, b)"),
        (None, None, {}, "no_usage", "usage is empty"),
        (None, None, None, "no_usage", "usage is null"),
        (None, None, True, "malformed", "usage is True, not an object or a list of objects"),
    ],
)
def test_refusals_name_field_and_figures(provider: str, api: str, raw: object, reason: str, detail: str) -> None:
    assert refusal(provider, api, raw) == (reason, detail)


def test_sums_stay_countable() -> None:
    """Each count fits, their sum does not: refused, as no ledger could hold it."""
    usage = {
        "input_tokens": COUNT_MAX,
        "output_tokens": 1,
        "iterations": [{"type": "compaction", "input_tokens": 1, "output_tokens": 1}],
    }
    assert refusal("anthropic", "messages", usage)[0] == "malformed"


@pytest.mark.parametrize(
    ("usage", "name"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 1}, "chat"),
        ({"prompt_tokens": 1, "total_tokens": 1}, "embeddings"),
        ({"prompt_tokens": 1, "total_tokens": 2}, "chat"),
        ({"input_tokens": 1, "output_tokens": 1}, "responses"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0}, "messages"),
        ({"input_tokens": 1, "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 1}}, "messages"),
        ({"input_tokens": 1, "output_tokens": 1, "output_token_details": {"reasoning": 1}}, "langchain"),
        ({"promptTokenCount": 1}, "generate_content"),
        ({"inputTokens": 1, "outputTokens": 1}, "converse"),
        ({"inputTokens": 1, "outputTokens": 1, "cachedInputTokens": 0}, "ai_sdk"),
        ({"prompt_eval_count": 1}, "generate"),
        ({"billed_units": {}}, "billed"),
        ({"inputTextTokenCount": 1}, "titan"),
        ({"prompt_token_count": 1, "generation_token_count": 1}, "llama"),
        ({"prompt_token_count": 1, "candidates_token_count": 1}, "generate_content_snake"),
        ({"inputTokenCount": 1, "outputTokenCount": 1}, "metrics"),
        ({"seconds": 1}, "foreign"),
        ({"tokens": {}}, "unbilled"),
        ({"total_tokens": 1}, None),
        ({"prompt_tokens": None}, None),
        ({}, None),
    ],
)
def test_shapes(usage: dict[str, Any], name: str | None) -> None:
    parser = choose(Route("", ""), usage)
    assert (parser.__name__ if parser else None) == name


@pytest.mark.parametrize(
    ("provider", "api", "usage", "name"),
    [
        ("xai", "chat", {"prompt_tokens": 1, "completion_tokens": 1}, "xai"),
        ("xai", "responses", {"input_tokens": 1, "output_tokens": 1}, "xai_responses"),
        ("perplexity", "", {"input_tokens": 1, "output_tokens": 1}, "perplexity_responses"),
        ("openai", "responses", {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 3}, "responses"),
        ("openai", "messages", {"input_tokens": 1, "output_tokens": 1}, "messages"),
        ("moonshot", "messages", {"prompt_tokens": 9, "input_tokens": 1, "output_tokens": 1}, "messages"),
        ("openai", "images", {"input_tokens": 1, "output_tokens": 1}, "images"),
        ("voyage", "", {"total_tokens": 1}, "total_only"),
        ("openai", "embeddings", {"total_tokens": 1}, "missing_prompt"),
        ("", "embeddings", {"input_tokens": 1}, "input_only"),
        ("vercel", "", {"inputTokens": 1, "outputTokens": 1}, "ai_sdk"),
    ],
)
def test_provider_and_api_settle_what_fields_leave_open(
    provider: str, api: str, usage: dict[str, Any], name: str
) -> None:
    parser = choose(Route(provider, api), usage)
    assert parser is not None
    assert parser.__name__ == name


def test_xai_realtime_by_the_second_is_refused() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "billable_audio_seconds": 12.5}
    assert refusal("xai", "realtime", usage) == ("no_usage", "billable_audio_seconds is not a count of tokens")


def test_xai_all_reasoning_leaves_the_completion_out() -> None:
    usage = {"prompt_tokens": 32, "reasoning_tokens": 94, "total_tokens": 126}
    assert normalise("xai", "grpc", usage) == (32, 0, 0, 0, 0, 94, 0, 0, 0, 0, 0)
    assert refusal("xai", "grpc", {**usage, "total_tokens": 130})[0] == "malformed"


@pytest.mark.parametrize(
    ("provider", "usage", "classes"),
    [
        ("vercel", {"promptTokens": 9, "completionTokens": 4}, (9, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)),
        (
            "openrouter",
            {
                "promptTokens": 9,
                "completionTokens": 4,
                "promptTokensDetails": {"cachedTokens": 5},
                "completionTokensDetails": {"reasoningTokens": 3},
            },
            (4, 5, 0, 0, 1, 3, 0, 0, 0, 0, 0),
        ),
        (
            "xai",
            {"promptTokens": 32, "completionTokens": 9, "reasoningTokens": 94, "cachedPromptTextTokens": 6},
            (26, 6, 0, 0, 9, 94, 0, 0, 0, 0, 0),
        ),
        ("mistral", {"promptTokens": 9, "completionTokens": 4, "connectorTokens": 5}, (14, 0, 0, 0, 4, *(0,) * 6)),
        ("cohere", {"billedUnits": {"inputTokens": 5, "outputTokens": 4}}, (5, 0, 0, 0, 4, *(0,) * 6)),
    ],
)
def test_camel_case_of_sdks_reads_as_the_api(provider: str, usage: dict[str, Any], classes: tuple[int, ...]) -> None:
    assert normalise(provider, None, usage) == classes


@pytest.mark.parametrize("usage", [{"promptTokens": None}, {"promptTokens": "4", "completionTokens": 1}])
def test_camel_case_is_checked_alike(usage: dict[str, Any]) -> None:
    assert refusal("vercel", None, usage)[0] in {"no_usage", "malformed"}


def test_perplexity_responses_count_their_searches() -> None:
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"cache_read_input_tokens": 20},
        "output_tokens": 5,
        "tool_calls_details": {"search_web": {"invocation": 3}},
    }
    assert normalise("perplexity", "responses", usage) == (30, 20, 0, 0, 5, 0, 0, 0, 0, 0, 3)


@pytest.mark.parametrize("ttl", ["1h", "12h", "60m", "1d", "3600s"])
def test_an_hour_or_longer_is_long(ttl: str) -> None:
    usage = {"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": ttl, "inputTokens": 4}]}
    assert normalise("bedrock", "converse", usage) == (1, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("ttl", ["5m", "30m", None])
def test_shorter_or_untold_is_short(ttl: str | None) -> None:
    usage = {"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": ttl, "inputTokens": 4}]}
    assert normalise("bedrock", "converse", usage) == (1, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0)


def test_cohere_text_and_image_make_the_input_or_are_beside_it() -> None:
    units = {"input_tokens": 520, "text_tokens": 20, "image_tokens": 500}
    assert normalise("cohere", "embed", {"billed_units": units}) == (20, 0, 0, 0, 0, 0, 0, 0, 500, 0, 0)
    assert refusal("cohere", "embed", {"billed_units": {**units, "input_tokens": 400}})[0] == "inconsistent_usage"
    assert refusal("cohere", "embed", {"billed_units": {"images": 2}})[0] == "no_usage"
    assert refusal("cohere", "embed", {"billed_units": {}})[0] == "no_usage"


def test_tokens_given_as_classes() -> None:
    assert classes_from_tokens({"input": 5.0, "output": None, "web_searches": 1}) == (5, *(0,) * 9, 1)
    assert classes_from_tokens({"input": 0}) == (0,) * 11
    assert classes_from_tokens({}) == ("no_usage", "tokens is empty")
    assert classes_from_tokens(None) == ("no_usage", "tokens is empty")
    assert classes_from_tokens([]) == ("malformed", "tokens is a list, not an object")
    assert classes_from_tokens({"input": 1, "total": 1}) == (
        "malformed",
        "tokens holds total, which is not a token class",
    )
    assert classes_from_tokens({"input": -1}) == ("negative_usage", "tokens.input is -1, below zero")

"""Providers that speak OpenAI's chat dialect with a difference that changes a count. The rest use `openai.chat`."""

from pipeline.normalise.counts import Fields, Reading
from pipeline.normalise.locate import FOREIGN
from pipeline.normalise.openai import cached_read, chat_classes, responses
from pipeline.normalise.result import INCONSISTENT, NO_USAGE, NOTHING, Classes

_XAI_WEB_SEARCH = (1, "SERVER_SIDE_TOOL_WEB_SEARCH")
"""xai-sdk 1.21.0, proto usage.ServerSideTool: number and name of the same value."""


def deepseek(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """DeepSeek: `prompt_tokens` is the sum of cache hits and misses, given under names of their own."""
    del holder
    prompt = reading.required(usage, "prompt_tokens")
    miss = reading.optional(usage, "prompt_cache_miss_tokens")
    if miss is not None:
        hit = cached_read(reading, usage, reading.section(usage, "prompt_tokens_details"), "prompt_tokens_details.")
        if hit + miss != prompt:
            reading.reject(INCONSISTENT, f"prompt_cache hit {hit} and miss {miss} do not make prompt_tokens {prompt}")
    return chat_classes(reading, usage, prompt, reading.required(usage, "completion_tokens"))


def mistral(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Mistral: connector tokens lie outside the prompt and are tool results, so input; audio by seconds is no token.

    Source: mistralai 3.7.0 usageinfo and conversationusageinfo.
    """
    del holder
    if reading.count(usage, "prompt_audio_seconds"):
        reading.not_tokens("prompt_audio_seconds")
    prompt = reading.required(usage, "prompt_tokens")
    completion = reading.required(usage, "completion_tokens")
    connectors = reading.section(usage, "connectors")
    searches = sum(reading.count(connectors, k, "connectors.") for k in ("web_search", "web_search_premium"))
    counted = chat_classes(reading, usage, prompt, completion, extra_input=reading.count(usage, "connector_tokens"))
    return (*counted[:10], counted[10] + searches)


def xai(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """xAI: reasoning lies outside `completion_tokens`, unless the total says that a gateway folded it in.

    The flat names of the gRPC API (`reasoning_tokens`, `cached_prompt_text_tokens`, `prompt_image_tokens`) are read
    as the details of the HTTP API. xAI caches prompt text only, so cached tokens must fit in the text.
    """
    del holder
    prompt = reading.required(usage, "prompt_tokens")
    details = _xai_details(reading, usage)
    out = reading.section(usage, "completion_tokens_details")
    found = reading.one_of((out, "reasoning_tokens", "completion_tokens_details."), (usage, "reasoning_tokens", ""))
    reasoning = found or 0
    completion = reading.optional(usage, "completion_tokens")
    if completion is None:  # protocol buffers leave zeros out: all was reasoning, if the total says so
        if not reasoning or usage.get("total_tokens") != prompt + reasoning:
            reading.required(usage, "completion_tokens")
        completion = 0
    folded = _xai_folded(reading, usage, prompt, completion, reasoning)
    plain = {k: v for k, v in usage.items() if k not in ("reasoning_tokens", "cached_prompt_text_tokens")}
    flat = {**plain, "prompt_tokens_details": details or None}
    if folded:
        flat["completion_tokens_details"] = {**out, "reasoning_tokens": reasoning}
    counted = chat_classes(reading, flat, prompt, completion, outside=None if folded else reasoning)
    return (*counted[:10], counted[10] + xai_searches(reading, usage))


def _xai_details(reading: Reading, usage: Fields) -> dict[str, object]:
    details = dict(reading.section(usage, "prompt_tokens_details"))
    for flat, nested in (
        ("prompt_text_tokens", "text_tokens"),
        ("prompt_image_tokens", "image_tokens"),
        ("cached_prompt_text_tokens", "cached_tokens"),
    ):
        found = reading.one_of((details, nested, "prompt_tokens_details."), (usage, flat, ""))
        if found is not None:
            details[nested] = found
    text, cached = details.get("text_tokens"), details.get("cached_tokens")
    if isinstance(text, int) and isinstance(cached, int) and text:
        reading.within(cached, text, "cached prompt text tokens in the prompt's text tokens")
    return details


def _xai_folded(reading: Reading, usage: Fields, prompt: int, completion: int, reasoning: int) -> bool:
    """Whether the completion holds the reasoning: the total decides, and must be one of the two sums."""
    total = reading.optional(usage, "total_tokens")
    if not reasoning or total is None:
        return False
    if total == prompt + completion:
        return True
    if total != prompt + completion + reasoning:
        reading.reject(
            INCONSISTENT,
            f"total_tokens {total} is neither prompt {prompt} + completion {completion} nor that with "
            f"reasoning {reasoning}",
        )
    return False


def xai_searches(reading: Reading, usage: Fields) -> int:
    """Web searches among xAI's server-side tools: by count (HTTP) or by a list with one entry a call (gRPC)."""
    details = reading.section(usage, "server_side_tool_usage_details")
    counted = reading.count(details, "web_search_calls", "server_side_tool_usage_details.")
    listed = usage.get("server_side_tools_used")
    if isinstance(listed, list) and not counted:
        return sum(1 for tool in listed if isinstance(tool, (int, str)) and tool in _XAI_WEB_SEARCH)
    return counted


def perplexity(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Perplexity: reasoning and citation tokens lie outside completion and prompt; citations are read, so input."""
    del holder
    prompt = reading.required(usage, "prompt_tokens")
    completion = reading.required(usage, "completion_tokens")
    outside = reading.optional(usage, "reasoning_tokens")
    plain = {k: v for k, v in usage.items() if k != "reasoning_tokens"} if outside is not None else usage
    citations = reading.count(usage, "citation_tokens")
    counted = chat_classes(reading, plain, prompt, completion, outside=outside, extra_input=citations)
    return (*counted[:10], counted[10] + reading.count(usage, "num_search_queries"))


def xai_responses(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """xAI's Responses API: reasoning inside the output as in OpenAI's; search calls in the usage itself."""
    if usage.get("billable_audio_seconds"):
        reading.not_tokens("billable_audio_seconds")  # its realtime bills audio by time, beside the tokens of text
    counted = responses(reading, usage, holder)
    searches = xai_searches(reading, usage)
    return (*counted[:10], counted[10] or searches)


def perplexity_responses(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Perplexity's Responses API: search calls under the details of its tools."""
    counted = responses(reading, usage, holder)
    tools = reading.section(usage, "tool_calls_details")
    search = reading.section(tools, "search_web", "tool_calls_details.")
    return (*counted[:10], counted[10] + reading.count(search, "invocation", "tool_calls_details.search_web."))


def missing_prompt(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """A total alone from a provider that always gives prompt_tokens: the parts are not backed out of it."""
    del holder
    reading.required(usage, "prompt_tokens")
    return NOTHING


def unknown(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """No count that is known, after all."""
    del usage, holder
    reading.reject(NO_USAGE, "no count of tokens")
    return NOTHING


def foreign(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Usage in seconds, pages, characters or search units."""
    del holder
    reading.not_tokens(", ".join(sorted(FOREIGN.intersection(usage))) or "duration")
    return NOTHING

"""Usage objects of client libraries that proxies pass on: AI SDK and LangChain. Totals there include their parts."""

import re
from typing import Final

from pipeline.normalise.counts import Fields, Reading, split_input, split_write
from pipeline.normalise.result import Classes

_HUMP: Final = re.compile("[A-Z]")
_AI_SDK_FIELDS: Final = ("cachedInputTokens", "reasoningTokens", "inputTokenDetails", "outputTokenDetails")
_LANGCHAIN_INPUT: Final = ("cache_read", "cache_creation", "audio")


def is_ai_sdk(provider: str, usage: Fields) -> bool:
    """Whether camel-case counts are the AI SDK's (cache inside the input) and not Bedrock's (cache beside it)."""
    return provider == "vercel" or any(name in usage for name in _AI_SDK_FIELDS)


def ai_sdk(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """AI SDK 5 and later: inputTokens with cached and written tokens inside, outputTokens with reasoning inside."""
    del holder
    whole, made = reading.required(usage, "inputTokens"), reading.required(usage, "outputTokens")
    details = reading.section(usage, "inputTokenDetails")
    out = reading.section(usage, "outputTokenDetails")
    read = reading.one_of((details, "cacheReadTokens", "inputTokenDetails."), (usage, "cachedInputTokens", "")) or 0
    write = reading.count(details, "cacheWriteTokens", "inputTokenDetails.")
    thought = reading.one_of((out, "reasoningTokens", "outputTokenDetails."), (usage, "reasoningTokens", "")) or 0
    reading.within(read + write, whole, "cached tokens in inputTokens")
    reading.within(thought, made, "reasoning in outputTokens")
    return whole - read - write, read, write, 0, made - thought, thought, 0, 0, 0, 0, 0


def snake(fields: Fields, depth: int = 2) -> Fields:
    """The same object with the names of the HTTP API: TypeScript SDKs and protocol buffers write promptTokens
    for prompt_tokens, down into the details."""
    return {
        _HUMP.sub(_lowered, key): snake(value, depth - 1) if depth and type(value) is dict else value
        for key, value in fields.items()
    }


def _lowered(hump: re.Match[str]) -> str:
    return "_" + hump[0].lower()


def is_langchain(usage: Fields) -> bool:
    """Whether the details have LangChain's short names."""
    details, out = usage.get("input_token_details"), usage.get("output_token_details")
    if isinstance(details, dict) and any(name in details for name in _LANGCHAIN_INPUT):
        return True
    return isinstance(out, dict) and "reasoning" in out


def langchain(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """LangChain usage_metadata: every part lies inside its total."""
    del holder
    whole, made = reading.required(usage, "input_tokens"), reading.required(usage, "output_tokens")
    details, where = reading.section(usage, "input_token_details"), "input_token_details."
    out, out_where = reading.section(usage, "output_token_details"), "output_token_details."
    read = reading.count(details, "cache_read", where)
    short = reading.count(details, "ephemeral_5m_input_tokens", where)
    long = reading.count(details, "ephemeral_1h_input_tokens", where)
    created = reading.optional(details, "cache_creation", where)
    if created == 0 and short + long:
        created = None  # with the split given, the library sets the sum to 0
    write, write_long = split_write(reading, created, short, long, where + "cache_creation")
    audio = reading.count(details, "audio", where)
    text, audio, image = split_input(reading, whole, audio, 0, read + write + write_long, None, "input_tokens")
    thought, out_audio = reading.count(out, "reasoning", out_where), reading.count(out, "audio", out_where)
    reading.within(thought + out_audio, made, "reasoning and audio in output_tokens")
    return text, read, write, write_long, made - thought - out_audio, thought, audio, out_audio, image, 0, 0


def input_only(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Embeddings that report input_tokens alone."""
    del holder
    return (reading.required(usage, "input_tokens"), *(0,) * 10)

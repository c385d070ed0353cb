"""Anthropic messages, also as served by Bedrock InvokeModel, Vertex AI and gateways.

`input_tokens` excludes the cache; the counts beside it add up to the input side. `output_tokens` includes thinking.
Source: anthropic 2.14.0, types usage, message_delta_usage, output_tokens_details and beta/beta_usage.
"""

from pipeline.normalise.counts import Fields, Reading, split_write
from pipeline.normalise.result import Classes


def messages(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """One message. Compaction iterations are not in the top-level counts and are added; all others are in them."""
    del holder
    counted = _counts(reading, usage, "")
    if usage.get("iterations") is not None:
        for index, iteration in enumerate(reading.entries(usage, "iterations")):
            if iteration.get("type") == "compaction":
                extra = _counts(reading, iteration, f"iterations[{index}].")
                counted = tuple(a + b for a, b in zip(counted, extra, strict=True))
    return counted


def _counts(reading: Reading, usage: Fields, where: str) -> Classes:
    uncached = reading.required(usage, "input_tokens", where)
    output = reading.required(usage, "output_tokens", where)
    read = reading.count(usage, "cache_read_input_tokens", where)
    write = reading.optional(usage, "cache_creation_input_tokens", where)
    long = 0
    if usage.get("cache_creation") is not None:
        split, path = reading.section(usage, "cache_creation", where), f"{where}cache_creation."
        short = reading.count(split, "ephemeral_5m_input_tokens", path)
        long = reading.count(split, "ephemeral_1h_input_tokens", path)
        write, long = split_write(reading, write, short, long, f"{where}cache_creation_input_tokens")
    thinking = searches = 0
    if usage.get("output_tokens_details") is not None:
        details, path = reading.section(usage, "output_tokens_details", where), f"{where}output_tokens_details."
        thinking = reading.one_of((details, "thinking_tokens", path), (details, "reasoning_tokens", path)) or 0
        reading.within(thinking, output, f"{path}thinking_tokens in {where}output_tokens")
    if usage.get("server_tool_use") is not None:
        tools = reading.section(usage, "server_tool_use", where)
        searches = reading.count(tools, "web_search_requests", f"{where}server_tool_use.")
    return uncached, read, write or 0, long, output - thinking, thinking, 0, 0, 0, 0, searches

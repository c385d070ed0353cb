"""AWS Bedrock: Converse, and the bodies of InvokeModel that are Bedrock's own (Nova, Titan, Llama, metrics).

Claude's bodies are `anthropic.messages`, those of Mistral, Jamba and others `openai.chat`; the shape tells.
`inputTokens` excludes cache reads and writes. Source: API reference, TokenUsage and CacheDetail.
"""

import re
from typing import Final

from pipeline.normalise.counts import Fields, Reading, split_write
from pipeline.normalise.result import MALFORMED, Classes

_LIFETIME: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONG_FROM_S: Final = 3600
"""Writes that live an hour or longer are long-lived (contract, section 2)."""


def converse(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Converse and ConverseStream; also Nova's InvokeModel body, whose cache counts have longer names."""
    del holder
    uncached = reading.required(usage, "inputTokens")
    output = reading.required(usage, "outputTokens")
    read = reading.one_of((usage, "cacheReadInputTokens", ""), (usage, "cacheReadInputTokenCount", "")) or 0
    total = reading.one_of((usage, "cacheWriteInputTokens", ""), (usage, "cacheWriteInputTokenCount", ""))
    if usage.get("cacheDetails") is None:
        return uncached, read, total or 0, 0, output, 0, 0, 0, 0, 0, 0
    short = long = 0
    for index, entry in enumerate(reading.entries(usage, "cacheDetails")):
        tokens = reading.count(entry, "inputTokens", f"cacheDetails[{index}].")
        if _is_long(reading, entry.get("ttl"), index):
            long += tokens
        else:
            short += tokens
    write, write_long = split_write(reading, total, short, long, "cacheWriteInputTokens")
    return uncached, read, write, write_long, output, 0, 0, 0, 0, 0, 0


def _is_long(reading: Reading, ttl: object, index: int) -> bool:
    if ttl is None:
        return False
    match = _LIFETIME.fullmatch(ttl) if isinstance(ttl, str) else None
    if match is None:
        reading.reject(MALFORMED, f"cacheDetails[{index}].ttl is not a lifetime like 5m or 1h")
        return False
    return int(match[1]) * _SECONDS[match[2]] >= _LONG_FROM_S


def metrics(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """`amazon-bedrock-invocationMetrics`, which ends an InvokeModel stream of any model."""
    del holder
    read = reading.count(usage, "cacheReadInputTokenCount")
    write = reading.count(usage, "cacheWriteInputTokenCount")
    uncached = reading.required(usage, "inputTokenCount")
    return uncached, read, write, 0, reading.required(usage, "outputTokenCount"), 0, 0, 0, 0, 0, 0


def titan(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Titan: one input count, and an output count for each result (a running one in a stream); embeddings have none."""
    del holder
    output = reading.count(usage, "totalOutputTextTokenCount")
    for result in reading.entries(usage, "results"):
        output += reading.required(result, "tokenCount", "results[].")
    return reading.required(usage, "inputTextTokenCount"), 0, 0, 0, output, 0, 0, 0, 0, 0, 0


def llama(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Llama: prompt and generation counts at the top level of the body."""
    del holder
    prompt = reading.required(usage, "prompt_token_count")
    return prompt, 0, 0, 0, reading.required(usage, "generation_token_count"), 0, 0, 0, 0, 0, 0

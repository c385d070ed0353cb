"""The three commonest usage objects, read straight: what the parsers make of them, at a fifth of their cost.

Only where nothing is unusual: known members, whole numbers below 2^40, parts within their wholes. Everything else is
None, which means "ask `normalise`"; a property test holds that the two never differ.
"""

from collections.abc import Mapping
from typing import Any, Final

from pipeline.normalise.names import route
from schemas.tokens import Classes

LIMIT: Final = 2**40
"""No call counts so much; below it, sums of a batch stay far inside 64 bits."""

_CHAT: Final = frozenset(
    ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details")
)
_RESPONSES: Final = frozenset(
    ("input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details")
)
_MESSAGES: Final = frozenset(
    (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "service_tier",
    )
)
_IN: Final = frozenset(("cached_tokens", "audio_tokens"))
_OUT: Final = frozenset(
    ("reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
)
_LIFETIMES: Final = frozenset(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"))
_OWN_DIALECTS: Final = frozenset(("deepseek", "mistral", "xai", "perplexity"))
"""Providers whose chat or responses mean something else by the same members."""


def common(provider: str | None, api: str | None, usage: Any) -> Classes | None:
    """Classes of an ordinary usage object; None where `normalise` has to look."""
    if type(usage) is not dict:
        return None
    if "prompt_tokens" in usage:
        if _CHAT.issuperset(usage) and route(provider, api).provider not in _OWN_DIALECTS:
            return _whole(
                usage, "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"
            )
        return None
    if "input_tokens" not in usage:
        return None
    known = route(provider, api)
    if known.api == "messages":
        return _messages(usage) if _MESSAGES.issuperset(usage) else None
    if known.api == "responses" and known.provider not in _OWN_DIALECTS and _RESPONSES.issuperset(usage):
        return _whole(usage, "input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
    return None


def _whole(usage: Mapping[str, Any], into: str, out: str, into_details: str, out_details: str) -> Classes | None:
    """OpenAI's dialects: the details are parts of their wholes."""
    given, made = usage[into], usage.get(out)
    if not (type(given) is int and type(made) is int and 0 <= given < LIMIT and 0 <= made < LIMIT):
        return None
    read = reasoning = 0
    details = usage.get(into_details)
    if details is not None:
        if type(details) is not dict or not _IN.issuperset(details) or details.get("audio_tokens"):
            return None
        read = details.get("cached_tokens", 0)
        if not (type(read) is int and 0 <= read <= given) or type(details.get("audio_tokens", 0)) is not int:
            return None
    details = usage.get(out_details)
    if details is not None:
        if type(details) is not dict or not _OUT.issuperset(details):
            return None
        reasoning = details.get("reasoning_tokens", 0)
        if not (type(reasoning) is int and 0 <= reasoning <= made):
            return None
        for name in ("audio_tokens", "rejected_prediction_tokens"):
            if type(details.get(name, 0)) is not int or details.get(name, 0):
                return None
    return given - read, read, 0, 0, made - reasoning, reasoning, 0, 0, 0, 0, 0


def _messages(usage: Mapping[str, Any]) -> Classes | None:
    """Anthropic's messages: the cache lies beside the input."""
    given, made = usage["input_tokens"], usage.get("output_tokens")
    read, write = usage.get("cache_read_input_tokens", 0), usage.get("cache_creation_input_tokens", 0)
    if not (type(given) is int and type(made) is int and type(read) is int and type(write) is int):
        return None
    if min(given, made, read, write) < 0 or max(given, made, read, write) >= LIMIT:
        return None
    long = 0
    split = usage.get("cache_creation")
    if split is not None:
        if type(split) is not dict or not _LIFETIMES.issuperset(split):
            return None
        short, long = split.get("ephemeral_5m_input_tokens", 0), split.get("ephemeral_1h_input_tokens", 0)
        if type(short) is not int or type(long) is not int or short < 0 or long < 0 or short + long != write:
            return None
    return given, read, write - long, long, made, 0, 0, 0, 0, 0, 0

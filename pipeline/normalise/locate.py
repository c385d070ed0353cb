"""Finds the usage object in what a proxy has: the object itself, a whole response, or one event of a stream.

Gives the usage and its holder, the object that it lies in: some figures (hosted tools, grounding) are its siblings.
"""

from typing import Any, Final

from pipeline.normalise.counts import Fields

DIRECT: Final = frozenset(
    (
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "promptTokenCount",
        "candidatesTokenCount",
        "responseTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "inputTokens",
        "outputTokens",
        "prompt_eval_count",
        "eval_count",
        "billed_units",
        "inputTextTokenCount",
        "totalOutputTextTokenCount",
        "prompt_token_count",
        "generation_token_count",
        "candidates_token_count",
        "inputTokenCount",
        "outputTokenCount",
        "total_input_tokens",
        "total_output_tokens",
        "promptTokens",
        "billedUnits",
        "completionTokens",
        "total_tokens",
        "predictions",
    )
)
"""A field of a usage object by which it is known; none of them is a field of a response around one."""

_USAGE_KEYS: Final = ("usage", "usageMetadata", "usage_metadata", "tokenUsage")
_WRAPPERS: Final = (
    ("response", True),
    ("body", True),
    ("modelOutput", True),
    ("result", False),
    ("message", False),
    ("meta", True),
    ("x_groq", False),
    ("delta", False),
    ("metadata", False),
    ("data", False),
)
"""Objects around a usage or a response (stream events, batch lines, envelopes), and whether they may themselves be the
usage object. `metadata` is the caller's own in some APIs: only a `usage` inside it counts."""
_DEPTH_MAX: Final = 4
"""Deepest wrapping known: a batch line's response.body.usage, with one to spare."""
_METRICS: Final = "amazon-bedrock-invocationMetrics"

Found = tuple[Fields, Fields]


def locate(raw: Fields, depth: int = _DEPTH_MAX, *, itself: bool = True) -> Found | None:
    """(usage, holder) of a response, an event or a usage object; None if there is no usage in it."""
    usage = raw.get("usage")
    if type(usage) is dict and usage:
        return usage, raw
    if itself and not DIRECT.isdisjoint(raw):
        return raw, raw
    for key in _USAGE_KEYS:
        usage = raw.get(key)
        if type(usage) is dict and usage:
            return usage, raw
    if depth:
        for key, may_be in _WRAPPERS:
            inner = raw.get(key)
            if type(inner) is dict and (found := locate(inner, depth - 1, itself=may_be)) is not None:
                return found
        if (found := _in_choices(raw.get("choices"))) is not None:
            return found
    usage = raw.get(_METRICS)
    if type(usage) is dict and usage:
        return usage, raw
    return _foreign(raw) if itself else None


def _in_choices(choices: Any) -> Found | None:
    """Moonshot streams the usage inside a choice."""
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if type(choice) is dict:
            usage = choice.get("usage")
            if type(usage) is dict and usage:
                return usage, choice
    return None


FOREIGN: Final = frozenset(("seconds", "search_units", "pages_processed", "characters", "duration_seconds"))
"""Fields of usage in units that are not tokens."""


def _foreign(raw: Fields) -> Found | None:
    info = raw.get("usage_info")
    if type(info) is dict and info:
        return info, raw
    return (raw, raw) if not FOREIGN.isdisjoint(raw) or raw.get("tokens") is not None else None

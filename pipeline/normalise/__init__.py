"""Normalises a provider's own usage report into exclusive token classes (contract, section 2).

    normalise("openai", "chat", {"prompt_tokens": 19, "completion_tokens": 10})
    -> (19, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0), in the order of schemas.tokens.CLASSES

Pure and total: any decoded JSON gives classes that are each 0 to 2^53 - 1, or a Rejection that says what is wrong.
"""

from typing import Final

from pipeline.normalise.counts import Reading, shown, shown_name
from pipeline.normalise.locate import locate
from pipeline.normalise.names import route
from pipeline.normalise.recognise import choose
from pipeline.normalise.result import INCONSISTENT, MALFORMED, NEGATIVE, NO_USAGE, REASONS, Classes, Rejection
from pipeline.normalise.streams import may_be_final, merge
from schemas.tokens import CLASSES, COUNT_MAX

__all__ = ["REASONS", "Classes", "Rejection", "classes_from_tokens", "normalise"]

_NAMED_MAX: Final = 5
"""Unknown fields that a detail names."""


def normalise(provider: str | None, api: str | None, raw: object) -> Classes | Rejection:
    """Classes of one call. `raw`: a usage object, a whole response, or the list of a stream's events in order.

    `provider` and `api` may be any of their common names (pipeline.normalise.names), unknown or None: then the shape
    decides. Reasons: no_usage (none at all, an aborted stream, units that are not tokens), malformed (not a whole
    number, a required count missing beside others), negative_usage, inconsistent_usage (parts that exceed their whole,
    two names of one count that disagree).
    """
    if type(raw) is dict:
        if raw.get("type") == "message_start" or not may_be_final(raw):
            return Rejection(NO_USAGE, "an event before the last one of its stream is not final usage")
        found = locate(raw)
        if found is None:
            return Rejection(NO_USAGE, _none_in(raw))
    elif type(raw) is list:
        merged = merge(raw)
        if isinstance(merged, Rejection):
            return merged
        found = merged
    elif raw is None:
        return Rejection(NO_USAGE, "usage is null")
    else:
        return Rejection(MALFORMED, f"usage is {shown(raw)}, not an object or a list of objects")
    usage, holder = found
    parser = choose(route(provider, api), usage)
    if parser is None:
        return Rejection(NO_USAGE, _none_in(usage))
    reading = Reading()
    counted = parser(reading, usage, holder)
    if reading.fault is not None:
        return reading.fault
    return counted if max(counted) <= COUNT_MAX and min(counted) >= 0 else _beyond(counted)


def _none_in(fields: dict[str, object] | object) -> str:
    names = [shown_name(name) for name in list(fields)[:_NAMED_MAX]] if isinstance(fields, dict) else []
    return f"no count of tokens (fields: {', '.join(names)})" if names else "usage is empty"


def _beyond(counted: Classes) -> Rejection:
    """A sum above the largest count, or a difference below zero that a parser should have named: never passed on."""
    for name, value in zip(CLASSES, counted, strict=True):
        if value < 0:
            return Rejection(INCONSISTENT, f"{name} comes out at {value}, below zero")
        if value > COUNT_MAX:
            return Rejection(MALFORMED, f"{name} comes out at {value}, above 2^53 - 1")
    raise AssertionError("called for classes that are in range")


_CLASS_NAMES: Final = frozenset(CLASSES)


def classes_from_tokens(tokens: object) -> Classes | Rejection:
    """Classes of an event that carries `data.tokens`: counts by class name, null or absent is 0."""
    if tokens is None or tokens == {}:
        return Rejection(NO_USAGE, "tokens is empty")
    if not isinstance(tokens, dict):
        return Rejection(MALFORMED, f"tokens is {shown(tokens)}, not an object")
    if not _CLASS_NAMES.issuperset(tokens):
        unknown = min(shown_name(name) for name in tokens if name not in _CLASS_NAMES)
        return Rejection(MALFORMED, f"tokens holds {unknown}, which is not a token class")
    reading = Reading()
    counted = tuple([reading.count(tokens, name, "tokens.") for name in CLASSES])
    return reading.fault or counted


assert set(REASONS) == {NO_USAGE, INCONSISTENT, NEGATIVE, MALFORMED}

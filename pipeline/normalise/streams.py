"""Merges the events of one stream: cumulative figures replace, nulls erase nothing, the last one given wins."""

from typing import Any, Final

from pipeline.normalise.counts import Fields
from pipeline.normalise.locate import Found, locate
from pipeline.normalise.result import MALFORMED, NO_USAGE, Rejection

_MERGE_DEPTH_MAX: Final = 4
"""Deepest nesting inside a usage object known (responses: details of details)."""
_FINAL_RESPONSE_EVENTS: Final = frozenset(
    ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done")
)
"""The events of the Responses and Realtime APIs that carry usage which is not going to change."""


def merge(events: list[Any]) -> Found | Rejection:
    """(usage, holder) of a stream: its events, or the usage objects taken from them, in order.

    Anthropic's message_start alone is not final usage: its output count is a placeholder until a message_delta comes.
    """
    for index, event in enumerate(events):
        if event is not None and type(event) is not dict:
            return Rejection(MALFORMED, f"event {index} of the stream is not an object")
    events = [_payload(event) for event in events if event is not None]
    usage: dict[str, Any] = {}
    holder: Fields = {}
    placeholder: tuple[str, ...] = ()
    turns: dict[str, dict[str, Any]] = {}
    for event in events:
        found = locate(event) if may_be_final(event) else None
        if found is None:
            continue
        holder = found[1]
        if event.get("type") == "message_start":
            placeholder = tuple(found[0])
        elif "output_tokens" in found[0]:
            placeholder = ()
        turn = _turn(event)
        _replace(turns.setdefault(turn, {}) if turn else usage, found[0], _MERGE_DEPTH_MAX)
    if placeholder:
        usage = {key: value for key, value in usage.items() if key not in placeholder}
        if "outputTokenCount" not in usage:  # Bedrock's metrics come with the last event and are final
            return Rejection(NO_USAGE, "the stream ends before a message_delta: message_start is not final usage")
    if len(turns) > 1:
        return Rejection(
            MALFORMED, f"{len(turns)} realtime responses in one event: each response.done is its own event"
        )
    for only in turns.values():
        usage = only
    return (usage, _with_candidates(holder, events)) if usage else Rejection(NO_USAGE, "no event carries usage")


def _payload(event: Fields) -> Fields:
    """The event itself where a reader of server-sent events kept it as {"event": name, "data": {...}}."""
    data = event.get("data")
    return data if type(data) is dict and "type" not in event and "usage" not in event else event


def may_be_final(event: Fields) -> bool:
    """False for events whose figures are sure to change: parts before the last one."""
    kind = event.get("type")
    if isinstance(kind, str) and kind.startswith("response.") and kind not in _FINAL_RESPONSE_EVENTS:
        return False
    return event.get("done") is not False  # Ollama: counts are those of the last part


def _with_candidates(holder: Fields, events: list[Any]) -> Fields:
    """Gemini reports its searches with the part of the answer that used them, not with the last usage."""
    parts = [event["candidates"] for event in events if isinstance(event.get("candidates"), list)]
    return {**holder, "candidates": [candidate for part in parts for candidate in part]} if parts else holder


def _turn(event: Fields) -> str:
    """The id of a realtime response: figures of one response must not replace those of another."""
    if event.get("type") != "response.done":
        return ""
    response = event.get("response")
    ident = response.get("id") if isinstance(response, dict) else None
    return ident if isinstance(ident, str) else ""


def _replace(into: dict[str, Any], new: Fields, depth: int) -> None:
    for key, value in new.items():
        if value is None or value == []:
            continue
        if type(value) is dict and depth:
            old = into.get(key)
            into[key] = old = dict(old) if type(old) is dict else {}
            _replace(old, value, depth - 1)
        else:
            into[key] = value

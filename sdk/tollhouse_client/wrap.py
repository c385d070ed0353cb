"""From the response objects of the OpenAI and Anthropic SDKs to events, without importing either.

    response = client.responses.create(model="gpt-5-mini", input="…")
    record_openai(publisher, response, tenant="acme", key="openai-pool-1")

    with client.messages.stream(…) as stream:
        record_anthropic_stream(publisher, stream, tenant="acme", key="anthropic-pool-1", model="…")

A whole response is an object with `usage`, `id` and `model` (or the same as a mapping). A stream is read through: the
functions ending in `_stream` give its events on unchanged, and record when it ends or is left.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from tollhouse_client.publisher import UsagePublisher

__all__ = [
    "arecord_anthropic_stream",
    "arecord_openai_stream",
    "record_anthropic",
    "record_anthropic_stream",
    "record_openai",
    "record_openai_stream",
]

_SERVICE_TIERS: Final = frozenset({"standard", "batch", "flex", "priority"})


def record_openai(publisher: UsagePublisher, response: Any, *, tenant: str, key: str, **fields: Any) -> str:
    """Publish a response of `chat.completions`, `responses`, `embeddings`, `images` or `audio`; the event's id.

    Further fields as `UsagePublisher.record` takes them; `provider` is `openai` unless given (`azure`, …). A response
    without usage is published as it is, and the service rejects and keeps it.
    """
    plain = _plain(response)
    fields.setdefault("provider", "openai")
    fields.setdefault("api", _openai_api(plain))
    return _record(publisher, plain, tenant, key, fields)


def record_anthropic(publisher: UsagePublisher, response: Any, *, tenant: str, key: str, **fields: Any) -> str:
    """Publish a response of `messages`; the event's id. Further fields as in `record_openai`."""
    fields.setdefault("provider", "anthropic")
    fields.setdefault("api", "messages")
    return _record(publisher, _plain(response), tenant, key, fields)


def record_openai_stream(
    publisher: UsagePublisher, stream: Iterable[Any], *, tenant: str, key: str, model: str, **fields: Any
) -> Iterator[Any]:
    """Give the chunks of a chat or responses stream on, and publish its usage at the end.

    Chat streams carry usage only with `stream_options={"include_usage": True}`. A stream that is left early is
    recorded as aborted with the usage seen so far; if there was none yet, the event goes without, to be rejected as
    `no_usage`, unless `estimate` is passed: a function without arguments that gives a usage object.
    """
    fields |= {"tenant": tenant, "key": key, "model": model}
    return _through(stream, _collector(publisher, "openai", fields))


def record_anthropic_stream(
    publisher: UsagePublisher, stream: Iterable[Any], *, tenant: str, key: str, model: str, **fields: Any
) -> Iterator[Any]:
    """Give the events of a `messages` stream on, and publish its usage at the end; early leaving as for OpenAI.

    The first event already carries the whole input, so an aborted stream is estimated well.
    """
    fields |= {"tenant": tenant, "key": key, "model": model}
    return _through(stream, _collector(publisher, "anthropic", fields))


def arecord_openai_stream(
    publisher: UsagePublisher, stream: AsyncIterable[Any], *, tenant: str, key: str, model: str, **fields: Any
) -> AsyncIterator[Any]:
    """`record_openai_stream` for an asynchronous stream."""
    fields |= {"tenant": tenant, "key": key, "model": model}
    return _athrough(stream, _collector(publisher, "openai", fields))


def arecord_anthropic_stream(
    publisher: UsagePublisher, stream: AsyncIterable[Any], *, tenant: str, key: str, model: str, **fields: Any
) -> AsyncIterator[Any]:
    """`record_anthropic_stream` for an asynchronous stream."""
    return _athrough(
        stream, _collector(publisher, "anthropic", {"tenant": tenant, "key": key, "model": model} | fields)
    )


def _plain(response: Any) -> Mapping[str, Any]:
    """The response as a mapping: as it is, by `to_dict` (fields as received), or by `model_dump`."""
    if isinstance(response, Mapping):
        return response
    for name in ("to_dict", "model_dump"):
        method = getattr(response, name, None)
        if callable(method):
            return dict(method())
    raise TypeError(f"{type(response).__name__} is neither a mapping nor a response object of an SDK")


def _openai_api(plain: Mapping[str, Any]) -> str | None:
    """The API by the object's own name; None lets the service recognise the shape."""
    name = plain.get("object")
    if name == "list":
        return "embeddings"
    return {"chat.completion": "chat", "text_completion": "completions", "response": "responses"}.get(str(name))


def _record(publisher: UsagePublisher, plain: Mapping[str, Any], tenant: str, key: str, fields: dict[str, Any]) -> str:
    fields.setdefault("model", plain.get("model") or "unknown")
    fields.setdefault("upstream_id", plain.get("id"))
    usage = plain.get("usage")
    if plain.get("service_tier") in _SERVICE_TIERS:
        fields.setdefault("service_tier", plain["service_tier"])
    return publisher.record(tenant=tenant, key=key, usage=usage, **fields)


class _Collector:
    """Sees the events of one stream, and publishes once when it is over."""

    def __init__(self, publisher: UsagePublisher, fields: dict[str, Any]) -> None:
        self._publisher = publisher
        self._estimate: Callable[[], Mapping[str, Any]] | None = fields.pop("estimate", None)
        self._fields = fields
        self._usages: list[Mapping[str, Any]] = []

    def see(self, event: Any) -> None:
        """Keep what bears usage. Responses events hold it in `response`, Anthropic's in `message` or themselves."""
        plain = _plain(event)
        inner = plain.get("response") or plain.get("message")
        whole = inner if isinstance(inner, Mapping) else plain
        if whole.get("usage"):
            self._usages.append(whole["usage"])
        if whole is not plain or plain.get("object") == "chat.completion.chunk":  # other events' ids are their own
            self._fields.setdefault("upstream_id", whole.get("id"))
            if whole.get("service_tier") in _SERVICE_TIERS:
                self._fields["service_tier"] = whole["service_tier"]

    def over(self, status: str) -> None:
        """Publish: `ok` at the end of the stream, `aborted` when it was left, `error` when it failed at once."""
        if status == "error" and self._usages:
            status = "aborted"  # the provider has counted, and bills
        if status == "aborted" and not self._usages and self._estimate is not None:
            self._usages.append(self._estimate())
        estimated = status == "aborted" and bool(self._usages)
        self._publisher.record(status=status, estimated=estimated, usage=self._usages or None, **self._fields)


def _collector(publisher: UsagePublisher, provider: str, fields: dict[str, Any]) -> _Collector:
    fields.setdefault("provider", provider)
    if provider == "anthropic":
        fields.setdefault("api", "messages")
    return _Collector(publisher, fields)


def _through(stream: Iterable[Any], collector: _Collector) -> Iterator[Any]:
    status = "aborted"
    try:
        for event in stream:
            collector.see(event)
            yield event
        status = "ok"
    except Exception:
        status = "error"
        raise
    finally:
        collector.over(status)


async def _athrough(stream: AsyncIterable[Any], collector: _Collector) -> AsyncIterator[Any]:
    status = "aborted"  # also when the reading task is cancelled
    try:
        async for event in stream:
            collector.see(event)
            yield event
        status = "ok"
    except Exception:
        status = "error"
        raise
    finally:
        collector.over(status)

"""Trace context from the proxy's call to the Kafka message, where the proxy traces with OpenTelemetry.

A call that is being traced (and sampled) when its usage is published has its context kept beside the event. The
message that carries the event then has a span of its own, below the first such call and linked to the others, and its
`traceparent` in its headers. Without OpenTelemetry, or outside a sampled span, nothing happens. What is sent by a later
process, after a crash, goes without: the spool keeps events, not traces.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

_otel: Any = None  # stays so where the proxy does not trace
try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    _otel = trace
except ImportError:
    pass

REMEMBERED: Final = 20_000
"""As many as the sender holds in memory; older ones go without, they wait for a broker anyway."""
LINKS_MAX: Final = 64

_log = logging.getLogger("tollhouse_client")

Headers = Sequence[tuple[str, bytes]]


class Sending:
    """A message on its way. headers: to go with it."""

    headers: Headers = ()

    def end(self, error: BaseException | None) -> None:
        """The broker has it, or why not."""


class _Spanned(Sending):
    def __init__(self, span: Any) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, _otel.set_span_in_context(span))
        self.headers = [(name, value.encode()) for name, value in carrier.items()]

    def end(self, error: BaseException | None) -> None:
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
        self._span.end()


class Traces:
    """Which call's trace an accepted event belongs to, by the event's position. From any thread."""

    def __init__(self) -> None:
        self._calls: dict[int, Any] = {}
        self._lock = threading.Lock()

    def note(self, position: int) -> None:
        """The call that is being traced now, if one is, published the event at the position."""
        if _otel is None:
            return
        context = _otel.get_current_span().get_span_context()
        if not context.is_valid or not context.trace_flags.sampled:
            return
        with self._lock:
            self._calls[position] = context
            while len(self._calls) > REMEMBERED:
                del self._calls[next(iter(self._calls))]

    def sending(self, positions: Iterable[int], key: bytes, topic: str = "usage.events") -> Sending:
        """A span for the message with these events; nothing where none of their calls was traced.

        A fault in here, or in the proxy's tracing, costs a trace and never an event.
        """
        if not self._calls:
            return Sending()
        try:
            return self._sending(positions, key, topic)
        except Exception:  # noqa: BLE001 - logged, and the event goes without
            _log.exception("no trace goes with a message")
            return Sending()

    def _sending(self, positions: Iterable[int], key: bytes, topic: str) -> Sending:
        with self._lock:
            calls = [self._calls.pop(position) for position in positions if position in self._calls]
        if not calls:
            return Sending()
        first, *others = {(call.trace_id, call.span_id): call for call in calls}.values()
        span = _otel.get_tracer("tollhouse_client").start_span(
            f"send {topic}",
            context=_otel.set_span_in_context(_otel.NonRecordingSpan(first)),
            kind=_otel.SpanKind.PRODUCER,
            links=[_otel.Link(context) for context in others[:LINKS_MAX]],
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": topic,
                "messaging.kafka.message.key": key.decode("utf-8", "replace"),
                "messaging.batch.message_count": len(calls),
            },
        )
        return _Spanned(span)

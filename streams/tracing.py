"""Traces of a worker: from the message to the ledger to the alert and its delivery. One span a batch, not an event.

Sampling is the proxy's: a batch has spans if one of its messages carries a sampled `traceparent` (the client puts it
there), and is linked to each of those. An alert that a batch raised is a span below it; its delivery, by the same
worker, is one below that.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.delivery import Notice, Sender
from streams.watching import CountedBatch, Watch

LINKS_MAX: Final = 128
"""The default bound of OpenTelemetry SDKs; more would be dropped there."""
ALERTS_MAX: Final = 1_000
"""Alerts that wait for their delivery, by this worker, at a time."""
PROPAGATOR: Final = TraceContextTextMapPropagator()


def context_of(headers: Any) -> SpanContext | None:
    """The sampled context in a message's headers (pairs or a mapping of name and bytes); None if there is none."""
    pairs = headers.items() if hasattr(headers, "items") else headers or ()
    for name, value in pairs:
        if name == "traceparent" and value:
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
            found = trace.get_current_span(PROPAGATOR.extract({"traceparent": text})).get_span_context()
            return found if found.is_valid and found.trace_flags.sampled else None
    return None


class TraceWatch(Watch):
    """Spans of batches, and of what follows from them."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._alerts: dict[str, SpanContext] = {}
        self._lock = threading.Lock()

    def counted(self, batch: CountedBatch) -> None:
        """After the fact: begun and ended at the batch's own times."""
        found = [context_of(message.message.headers) for message in batch.messages]
        sent = list({(context.trace_id, context.span_id): context for context in found if context is not None}.values())
        if not sent:
            return
        recorded = batch.recorded
        first = batch.messages[0].message
        span = self._tracer.start_span(
            f"process {first.topic}",
            # One message's batch goes on in its trace; that of several is in a trace of its own, linked to theirs.
            context=trace.set_span_in_context(NonRecordingSpan(sent[0])) if len(sent) == 1 else None,
            kind=SpanKind.CONSUMER,
            links=[Link(context) for context in sent[:LINKS_MAX]],
            start_time=batch.began_ns,
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": first.topic,
                "messaging.batch.message_count": len(batch.messages),
                "tollhouse.events.counted": recorded.counted,
                "tollhouse.events.duplicate": recorded.duplicates,
                "tollhouse.events.rejected": len(recorded.rejected),
            },
        )
        below = trace.set_span_in_context(span)
        ledger = self._tracer.start_span("record in the ledger", context=below, start_time=batch.began_ns)
        ledger.end(batch.ended_ns)
        now_ns = time.time_ns()
        for alert in recorded.alerts:
            raised = self._tracer.start_span(
                f"raise {alert.kind}",
                context=below,
                start_time=batch.ended_ns,
                attributes={"tollhouse.alert.id": alert.id, "tollhouse.alert.severity": alert.severity},
            )
            raised.end(now_ns)
            self._remember(alert.id, raised.get_span_context())
        span.end(now_ns)

    def _remember(self, alert: str, context: SpanContext) -> None:
        with self._lock:
            self._alerts[alert] = context
            while len(self._alerts) > ALERTS_MAX:
                del self._alerts[next(iter(self._alerts))]

    def delivering(self, send: Sender) -> Sender:
        """The sender, with a span for each try to bring a traced alert to a sink."""

        def traced(url: str, notice: Notice, /) -> None:
            with self._lock:
                context = self._alerts.get(notice.alert.id)
            if context is None:
                send(url, notice)
                return
            span = self._tracer.start_span(
                "deliver alert",
                context=trace.set_span_in_context(NonRecordingSpan(context)),
                kind=SpanKind.CLIENT,
                attributes={"tollhouse.alert.id": notice.alert.id, "url.scheme": url.partition(":")[0]},
            )
            try:
                send(url, notice)
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                span.end()

        return traced


def exporting(service: str) -> tuple[Tracer, Callable[[], None]]:
    """A tracer whose spans go out by OTLP over HTTP, where the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, …) say;
    and what ends it, with what is left sent. ImportError without the extra `tracing`.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=2)))
    return provider.get_tracer("tollhouse"), provider.shutdown

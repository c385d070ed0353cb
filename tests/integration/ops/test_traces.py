"""Traces: a call's usage is followed from publish to Kafka, into the ledger, to the alert and its delivery."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler

from pipeline.alerting import Alert
from pipeline.ledger.record import Recorded
from streams.delivery import Notice
from streams.tracing import LINKS_MAX, TraceWatch, context_of
from streams.watching import CountedBatch
from tests.simulation.driver import Driver
from tests.simulation.world import World
from tollhouse_client import UsagePublisher
from tollhouse_client import tracing as client_tracing


class Tracing:
    """Spans of a proxy and of a worker, in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.tracer = self.provider.get_tracer("test")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracing]:
    made = Tracing()
    monkeypatch.setattr(trace, "get_tracer", lambda *_a, **_k: made.tracer)
    yield made
    made.provider.shutdown()


def sent(traces: client_tracing.Traces, positions: list[int]) -> Any:
    sending = traces.sending(positions, b"acme")
    sending.end(None)
    return SimpleNamespace(
        message=SimpleNamespace(topic="usage.events", partition=0, offset=positions[0], headers=list(sending.headers))
    )


def test_from_publish_over_the_ledger_to_the_alert_and_its_delivery(tracing: Tracing) -> None:
    traces = client_tracing.Traces()
    with tracing.tracer.start_as_current_span("chat one") as one:
        traces.note(1)
    with tracing.tracer.start_as_current_span("chat two") as two:
        traces.note(2)
    message = sent(traces, [1, 2, 3])
    (send,) = tracing.named("send usage.events")
    assert send.parent is not None
    assert send.parent.span_id == one.get_span_context().span_id
    assert [link.context.span_id for link in send.links] == [two.get_span_context().span_id]

    watch = TraceWatch(tracing.tracer)
    alert = Alert("leak:acme", 0, "leak", "page", "acme/k", "another network")
    watch.counted(CountedBatch([message], Recorded(counted=3, alerts=[alert]), 5_000, 9_000))
    (process,) = tracing.named("process usage.events")
    (ledger,) = tracing.named("record in the ledger")
    (raised,) = tracing.named("raise leak")
    trace_id = one.get_span_context().trace_id
    assert {span.context.trace_id for span in (send, process, ledger, raised)} == {trace_id}
    assert process.attributes is not None
    assert process.attributes["tollhouse.events.counted"] == 3
    assert (ledger.start_time, ledger.end_time) == (5_000, 9_000)

    told: list[Notice] = []
    deliver = watch.delivering(lambda _url, notice: told.append(notice))
    deliver("json://user:secret@sink.example/token", Notice("n.1", 1, alert, "open", 0, 1))
    (delivery,) = tracing.named("deliver alert")
    assert delivery.parent is not None
    assert (delivery.parent.span_id, delivery.context.trace_id) == (raised.context.span_id, trace_id)
    assert "secret" not in delivery.to_json()
    assert "token" not in delivery.to_json()
    assert len(told) == 1


def test_a_batch_of_many_messages_is_a_trace_of_its_own_linked_to_theirs(tracing: Tracing) -> None:
    traces, messages = client_tracing.Traces(), []
    for position in range(LINKS_MAX + 10):
        with tracing.tracer.start_as_current_span("chat"):
            traces.note(position)
        messages.append(sent(traces, [position]))
    TraceWatch(tracing.tracer).counted(CountedBatch(messages, Recorded(counted=1), 1, 2))
    (process,) = tracing.named("process usage.events")
    assert process.parent is None
    assert len(process.links) == LINKS_MAX


def test_what_nobody_traces_makes_no_span_and_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    off = Tracing(ALWAYS_OFF)
    traces = client_tracing.Traces()
    traces.note(1)  # outside any span
    with off.tracer.start_as_current_span("not sampled"):
        traces.note(2)
    message = sent(traces, [1, 2])
    assert message.message.headers == []
    watch, on = TraceWatch(Tracing().tracer), Tracing()
    watch._tracer = on.tracer
    headers: list[Any] = [
        None, [], [("content-type", b"x")], [("traceparent", b"rubbish")], [("traceparent", b"\xff")],
        [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")],
    ]  # fmt: skip
    for each in headers:
        assert context_of(each) is None
        watch.counted(CountedBatch([SimpleNamespace(message=SimpleNamespace(headers=each))], Recorded(), 1, 2))
    assert on.memory.get_finished_spans() == ()
    monkeypatch.setattr(client_tracing, "_otel", None)
    traces.note(3)
    assert traces.sending([3], b"acme").headers == ()


def test_a_fault_of_tracing_costs_a_trace_and_no_event(tracing: Tracing, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = client_tracing.Traces()
    with tracing.tracer.start_as_current_span("chat"):
        traces.note(1)
    monkeypatch.setattr(trace, "get_tracer", lambda *_a: 1 / 0)
    assert traces.sending([1], b"acme").headers == ()


def test_calls_that_wait_for_ever_are_forgotten(tracing: Tracing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_tracing, "REMEMBERED", 3)
    traces = client_tracing.Traces()
    for position in range(5):
        with tracing.tracer.start_as_current_span("chat"):
            traces.note(position)
    assert traces.sending([0, 1], b"acme").headers == ()
    assert traces.sending([4], b"acme").headers


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP."""

    spans: list[Any] = []  # noqa: RUF012 - one a test: see the fixture

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        type(self).spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_worker_process_sends_its_spans_to_a_collector(
    kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path, tracing: Tracing
) -> None:
    Collector.spans = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        world = World(kafka, postgresql_url, tmp_path, topic_prefix, embedded=False)
        try:
            worker = world.start_worker(
                TOLLHOUSE_TRACING="otlp",
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
                OTEL_BSP_SCHEDULE_DELAY="200",
            )
            events = Driver(81, datetime.now(UTC)).traffic(3)
            with (
                UsagePublisher(kafka, source="proxy/t", spool_dir=tmp_path / "s", topic=world.topic) as publisher,
                tracing.tracer.start_as_current_span("chat") as call,
            ):
                for one in events:
                    publisher.publish(one.body)
                assert publisher.flush(60)
            wanted = call.get_span_context().trace_id.to_bytes(16, "big")

            def found() -> bool:
                names = {span.name for span in list(Collector.spans)}
                return {f"process {world.topic}", "record in the ledger"} <= names

            world.wait_for(found, "the worker's spans", 60)
            links = {link.trace_id for span in Collector.spans for link in span.links}
            assert wanted in links | {span.trace_id for span in Collector.spans}
            worker.terminate()
            assert worker.wait(20) == 0
        finally:
            world.close()
            server.shutdown()

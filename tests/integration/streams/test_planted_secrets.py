"""More than forty kinds of secrets planted in every place of an event: none is found in what client and service write.

Searched are what the client puts on `usage.events`, the database, every topic that the service writes, the worker's
logs, figures and traces. What a sender puts on `usage.events` past the client is the sender's own.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import create_engine, text

from pipeline.ledger.tables import metadata
from tests.simulation.world import World
from tests.unit.pipeline.test_redact import KINDS, PLACES
from tollhouse.ports import free_port
from tollhouse_client import InvalidEventError, UsagePublisher

WRITTEN = ("usage.rejected", "quota.states", "alerts", "key.minutes")


@pytest.fixture(params=["embedded", "real"])
def world(request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> Iterator[World]:
    names = {"embedded": ("embedded_broker", "sqlite_url"), "real": ("kafka", "postgresql_url")}[request.param]
    broker, url = (str(request.getfixturevalue(name)) for name in names)
    made = World(broker, url, tmp_path, topic_prefix, embedded=request.param == "embedded")
    yield made
    made.close()


class Taken(BaseHTTPRequestHandler):
    """Keeps what the worker sends to a collector of traces."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def planted() -> list[dict[str, Any]]:
    """An event for every kind and place; some of them cannot count, and are kept as rejected."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = []
    for kind, (secret, _) in KINDS.items():
        for place, put in PLACES.items():
            event: dict[str, Any] = {
                "specversion": "1.0",
                "id": f"{kind}-{place}",
                "source": "proxy/planted",
                "type": "com.tollhouse.usage.v1",
                "time": now,
                "subject": "alpha",
                "data": {
                    "key": "openai-pool",
                    "provider": "openai",
                    "api": "responses",
                    "model": "gpt-5",
                    "tokens": {"input": 1},
                },
            }
            put(event, secret)
            found.append(event)
    return found


def everything_in(url: str) -> str:
    """All cells of all tables as text."""
    engine = create_engine(url)
    parts = []
    with engine.connect() as connection:
        for table in metadata.tables:
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                parts += [
                    bytes(c).decode("utf-8", "replace") if isinstance(c, bytes | memoryview) else str(c) for c in row
                ]
    engine.dispose()
    return "\n".join(parts)


@pytest.mark.timeout(240)
def test_none_of_forty_kinds_is_found_in_database_topics_or_logs(world: World) -> None:
    port = free_port()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taken)
    Taken.bodies.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.start_worker(
        TOLLHOUSE_LOG_LEVEL="debug",
        TOLLHOUSE_WORKER_PORT=str(port),
        TOLLHOUSE_TRACING="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    with (
        UsagePublisher(
            world.broker, source="proxy/planted", spool_dir=world.directory / "spool", topic=world.topic
        ) as publisher,
        TracerProvider().get_tracer("test").start_as_current_span("chat"),
    ):
        for event in planted():
            try:
                publisher.publish(event)
            except InvalidEventError:
                continue  # a name of several lines: the client takes it no more than the service does
        assert publisher.flush(60)
    sent = b"\n".join(world.read("usage.events", world.partitions)).decode()
    world.publish_raw([b'{"broken": "' + secret.encode() + b'"' for secret, _ in KINDS.values()], poison=True)
    world.settle(120)
    places = {name: b"\n".join(world.read(name, _partitions(world, name))).decode() for name in WRITTEN}
    places["database"] = everything_in(world.database_url)
    places["logs"] = "\n".join(p.read_text(errors="replace") for p in world.directory.glob("worker-*.log"))
    places["usage.events by the client"] = sent
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        places["metrics"] = answer.read().decode()
    world.wait_for(lambda: b"record in the ledger" in b"".join(list(Taken.bodies)), "the worker's spans", 60)
    server.shutdown()
    places["traces"] = b"".join(Taken.bodies).decode("utf-8", "replace")
    assert "tollhouse_worker_" in places["metrics"]
    assert "proxy/planted" in sent
    assert "proxy/planted" in places["database"]
    assert "secret_in_event" in places["alerts"]
    assert "secret_in_event" in places["database"]
    for place, content in places.items():
        leaked = [kind for kind, (_, body) in KINDS.items() if body in content or json.dumps(body)[1:-1] in content]
        assert leaked == [], f"{place}: {leaked}"


def _partitions(world: World, topic: str) -> int:
    return 1 if topic == "alerts" else world.partitions

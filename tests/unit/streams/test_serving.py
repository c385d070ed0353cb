"""A worker's port: figures that add up, answers with the right status, no tenant named, and an end."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.alerting import Alert
from pipeline.ledger.record import Recorded
from pipeline.screen import Refused
from schemas.usage_event import Evidence
from streams.figures import WorkerFigures, WorkerState
from streams.serving import serve
from streams.watching import CountedBatch, Watch, Watches
from tests.unit.streams.test_progress import LOOK_S, STALL_S, Parts
from tollhouse.ports import listen


def refused(reason: str) -> Refused:
    return Refused(b"{}", reason, "", "acme", "proxy/1", "e1", 0, Evidence("usage.events", 0, 0, 0))


def batch(**recorded: Any) -> CountedBatch:
    messages = [SimpleNamespace(message=SimpleNamespace(timestamp=999.0, partition=0, offset=n)) for n in range(3)]
    return CountedBatch(messages, Recorded(**recorded), 1_000_000_000_000, 1_000_250_000_000)


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """Value by sample name and its first label."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[sample.name, next(iter(sample.labels.values()), "")] = sample.value
    return found


def test_a_batch_is_counted_once_by_outcome_reason_and_kind() -> None:
    figures = WorkerFigures()
    alert = Alert("a", 0, "unrated", "ticket", "acme", "no price")
    rejected = [refused("conflict"), refused("conflict"), refused("malformed")]
    figures.counted(batch(counted=5, duplicates=2, held=1, rejected=rejected, alerts=[alert]))
    figures.counted(batch(counted=1))
    figures.retried("away")
    figures.unpublished()
    found = samples(figures.text())
    outcomes = {
        name: found["tollhouse_worker_events_total", name] for name in ("counted", "duplicate", "held", "reread")
    }
    assert outcomes == {"counted": 6, "duplicate": 2, "held": 1, "reread": 0}
    assert found["tollhouse_worker_events_total", "rejected"] == 3
    assert found["tollhouse_worker_rejected_total", "conflict"] == 2
    assert found["tollhouse_worker_rejected_total", "malformed"] == 1
    assert found["tollhouse_worker_alerts_total", "unrated"] == 1
    assert found["tollhouse_worker_messages_total", ""] == 6
    assert found["tollhouse_worker_batches_total", ""] == 2
    assert found["tollhouse_worker_ledger_seconds_sum", ""] == pytest.approx(0.5)
    assert found["tollhouse_worker_age_seconds_sum", ""] == pytest.approx(2 * 1.25)
    assert found["tollhouse_worker_retries_total", ""] == found["tollhouse_worker_unpublished_total", ""] == 1
    assert b"acme" not in figures.text()


def test_everyone_who_watches_is_told() -> None:
    heard: list[object] = []

    class Ear(Watch):
        def counted(self, batch: CountedBatch) -> None:
            heard.append(batch)

        def retried(self, reason: str) -> None:
            heard.append(reason)

        def unpublished(self) -> None:
            heard.append("unpublished")

    class Broken(Watch):
        def counted(self, batch: CountedBatch) -> None:
            raise ZeroDivisionError("a fault of whoever watches")

    both, one = Watches(Ear(), Broken(), Ear()), batch()
    both.counted(one)
    both.retried("why")
    both.unpublished()
    assert heard == [one, one, "why", "why", "unpublished", "unpublished"]


def test_the_port_tells_the_truth_and_goes() -> None:
    parts = Parts(ends={0: 40, 1: 2}, taken={0: 10, 1: 2})
    figures = WorkerFigures()
    figures.registry.register(WorkerState(parts.progress, lambda: 7, time.monotonic, None))
    listener = listen("127.0.0.1", 0)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    end = serve(listener, parts.progress, figures.text)

    def get(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(base + path, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    status, body = get("/readyz")
    assert (status, json.loads(body)["status"]) == (200, "ready")
    assert get("/healthz") == (200, b'{"status": "ok"}\n')
    parts.wait(STALL_S + 2 * LOOK_S)
    status, body = get("/readyz?verbose")
    assert status == 503
    assert json.loads(body)["checks"]["progress"] == "30 messages wait, and none came into the ledger for 40 s"
    found = samples(get("/metrics")[1])
    assert found["tollhouse_worker_ready", ""] == 0
    assert found["tollhouse_worker_check", "progress"] == 0
    assert found["tollhouse_worker_check", "database"] == 1
    assert found["tollhouse_worker_lag_messages", "0"] == 30
    assert found["tollhouse_worker_partitions", ""] == 2
    assert found["tollhouse_worker_queue_messages", ""] == 7
    parts.wait(400)
    status, body = get("/healthz")
    assert (status, json.loads(body)["status"]) == (503, "dead")
    assert get("/anything")[0] == 404
    end()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(base.rpartition(":")[2]))) != 0

"""A worker's figures for Prometheus: counted once a batch, the rest read when somebody asks. No tenant is named."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.delivery import Deliverer
from streams.progress import OK, Progress
from streams.watching import CountedBatch, Watch

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
AGES: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
EVENTS: Final = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
OUTCOMES: Final = ("counted", "duplicate", "held", "reread", "rejected")


class WorkerFigures(Watch):
    """One worker's registry."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.messages = Counter("tollhouse_worker_messages", "Messages counted and acknowledged.", registry=registry)
        self.batches = Counter("tollhouse_worker_batches", "Transactions, one a batch.", registry=registry)
        self.events = Counter(
            "tollhouse_worker_events", "Events by what became of them.", ("outcome",), registry=registry
        )
        self.rejected = Counter(
            "tollhouse_worker_rejected", "Events rejected, by reason.", ("reason",), registry=registry
        )
        self.alerts = Counter("tollhouse_worker_alerts", "Alerts that batches raised.", ("kind",), registry=registry)
        self.ledger = Histogram(
            "tollhouse_worker_ledger_seconds", "A batch's way into the ledger, tries and waits included.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.sizes = Histogram("tollhouse_worker_batch_events", "Events a batch.", buckets=EVENTS, registry=registry)
        self.age = Histogram(
            "tollhouse_worker_age_seconds", "From the broker's time of a batch's oldest message to its commit.",
            buckets=AGES, registry=registry,
        )  # fmt: skip
        self.retries = Counter("tollhouse_worker_retries", "Tries of a batch that failed.", registry=registry)
        self.unsent = Counter(
            "tollhouse_worker_unpublished", "Batches whose states and alerts could not be sent to their topics.",
            registry=registry,
        )  # fmt: skip
        for outcome in OUTCOMES:
            self.events.labels(outcome)

    def counted(self, batch: CountedBatch) -> None:
        """Once a batch: some ten additions."""
        recorded = batch.recorded
        self.batches.inc()
        self.messages.inc(len(batch.messages))
        numbers = (recorded.counted, recorded.duplicates, recorded.held, recorded.reread, len(recorded.rejected))
        for outcome, number in zip(OUTCOMES, numbers, strict=True):
            if number:
                self.events.labels(outcome).inc(number)
        for reason, number in Tally(refused.reason for refused in recorded.rejected).items():
            self.rejected.labels(reason).inc(number)
        for kind, number in Tally(alert.kind for alert in recorded.alerts).items():
            self.alerts.labels(kind).inc(number)
        self.ledger.observe((batch.ended_ns - batch.began_ns) / 1e9)
        self.sizes.observe(sum(numbers))
        if batch.messages and batch.messages[0].message.timestamp:
            self.age.observe(max(0.0, batch.ended_ns / 1e9 - batch.messages[0].message.timestamp))

    def retried(self, reason: str) -> None:  # noqa: ARG002 - the reason is for logs and readiness
        """A try failed."""
        self.retries.inc()

    def unpublished(self) -> None:
        """States of a batch did not go out."""
        self.unsent.inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class WorkerState(Collector):
    """What is asked for when Prometheus asks: progress, queues, deliveries."""

    def __init__(
        self,
        progress: Progress,
        queued: Callable[[], int],
        committed_s: Callable[[], float],
        deliverer: Deliverer | None,
    ) -> None:
        self._progress, self._queued, self._committed_s, self._deliverer = progress, queued, committed_s, deliverer

    def collect(self) -> Iterator[Metric]:
        """Gauges of now."""
        checks = self._progress.checks()
        ready = all(word == OK for word in checks.values())
        yield GaugeMetricFamily("tollhouse_worker_ready", "Whether /readyz says so.", value=int(ready))
        each = GaugeMetricFamily("tollhouse_worker_check", "Each check of /readyz: 1 is ok.", labels=["check"])
        for name, word in checks.items():
            each.add_metric([name], int(word == OK))
        yield each
        lag = GaugeMetricFamily("tollhouse_worker_lag_messages", "Messages that wait.", labels=["partition"])
        end = GaugeMetricFamily("tollhouse_worker_end_offset", "Where the partition ends.", labels=["partition"])
        taken = GaugeMetricFamily("tollhouse_worker_taken_offset", "How far the ledger came.", labels=["partition"])
        places = dict(self._progress.places)
        for partition, place in sorted(places.items()):
            label = [str(partition)]
            lag.add_metric(label, place.lag)
            end.add_metric(label, place.end)
            taken.add_metric(label, place.taken)
        yield from (lag, end, taken)
        yield GaugeMetricFamily("tollhouse_worker_partitions", "Partitions that are this worker's.", value=len(places))
        yield GaugeMetricFamily(
            "tollhouse_worker_queue_messages", "Messages taken and not in a batch.", value=self._queued()
        )
        yield GaugeMetricFamily(
            "tollhouse_worker_commit_age_seconds", "Since the last commit in the ledger.",
            value=time.monotonic() - self._committed_s(),
        )  # fmt: skip
        if self._deliverer is not None:
            tries = CounterMetricFamily(
                "tollhouse_worker_deliveries", "Tries to bring alerts to sinks.", labels=["outcome"]
            )
            tries.add_metric(["sent"], self._deliverer.delivered)
            tries.add_metric(["failed"], self._deliverer.failed_tries)
            yield tries

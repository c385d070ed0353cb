"""Figures of the process for Prometheus, in a registry of its own. No label names a tenant."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """Counted while requests pass; what the ledger knows is added when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "tollhouse_http_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "tollhouse_http_request_seconds",
            "Time to the answer.",
            ("route",),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.decisions = Counter(
            "tollhouse_authorize_decisions", "Admission decisions.", ("reason",), registry=self.registry
        )
        self.events = Counter(
            "tollhouse_http_events", "Events that came over HTTP.", ("outcome",), registry=self.registry
        )
        self.fail_open = Counter(
            "tollhouse_authorize_fail_open", "Calls admitted while the database was away.", registry=self.registry
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

"""Decisions of `LocalGate` while it follows a busy installation.

    python -m bench.local_gate [--tenants 1000] [--changes 100] [--json]

The states of all tenants, three quotas each, come from an embedded broker, and go on changing at a given rate while
decisions are timed one by one. Two runs: paced, and one after the other. `own` is the CPU time of a decision: without
what other processes of a busy machine, and this process's other threads, took.
"""

import argparse
import json
import statistics
import threading
import time
from decimal import Decimal
from typing import Any, Final

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pipeline.context import WindowKey
from pipeline.ledger.record import QuotaState
from schemas.catalog import Quota
from schemas.periods import window_period
from streams.embedded_broker import EmbeddedBroker
from streams.publishing import clock_message, key_state_message, quota_state_message
from streams.topics import KEY_STATES, QUOTA_STATES
from tollhouse_client import LocalGate

PARTITIONS: Final = 4
QUOTAS: Final = (("tokens", "minute"), ("cost", "day"), ("requests", "month"))
LIMIT: Final = Decimal(10**9)
WARM: Final = 2_000


def now_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


class Teller:
    """Tells the states as the worker does."""

    def __init__(self, bootstrap: str, tenants: int) -> None:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([NewTopic(QUOTA_STATES, PARTITIONS, 1), NewTopic(KEY_STATES, 1, 1)])
        admin.close()
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        self.tenants, self.version = tenants, 0
        self.done = threading.Event()

    def quota(self, number: int) -> None:
        """One window of one tenant, with more used each time."""
        at_us, (meter, window) = now_us(), QUOTAS[number % len(QUOTAS)]
        period = window_period(window, at_us, "UTC")
        tenant = f"tenant-{number // len(QUOTAS) % self.tenants}"
        quota = Quota(f"{window}ly", meter, LIMIT, window)
        key = WindowKey(f"tenant:{tenant}", quota.name, f"{meter}/*/{window}", period.start_us, period.end_us)
        self.version += 1
        name, value = quota_state_message(QuotaState(key, quota, self.version, 0, self.version), at_us)
        self.producer.send(QUOTA_STATES, value, key=name)

    def subject(self, name: str, **facts: Any) -> None:
        """A key or tenant."""
        row = {"key": name, "state": "active", "reason": "", "changed_us": 0, "changed_by": "catalog", "version": 0}
        key, value = key_state_message({**row, "catalog": 1, "models": ["*"], **facts}, now_us())
        self.producer.send(KEY_STATES, value, key=key)

    def clock(self) -> None:
        """To every partition."""
        self.producer.flush()
        key, value = clock_message(now_us(), 0, 1)
        for number in range(PARTITIONS):
            self.producer.send(QUOTA_STATES, value, key=key, partition=number)
        self.producer.send(KEY_STATES, value, key=key)

    def everything(self) -> None:
        """All of it once."""
        for number in range(8):
            self.subject(f"pool-{number}", provider="openai", kind="pooled", tenant=None)
        for number in range(self.tenants):
            self.subject(f"tenant:tenant-{number}", tier="standard")
        for number in range(self.tenants * len(QUOTAS)):
            self.quota(number)
        self.clock()
        self.producer.flush()

    def go_on(self, rate: int) -> None:
        """Changes at the rate, and a clock each second."""
        started_s, number, clock_s = time.perf_counter(), 0, 0.0
        while not self.done.is_set():
            self.quota(number * 7919)
            number += 1
            if time.perf_counter() - clock_s > 1:
                clock_s = time.perf_counter()
                self.clock()
            time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))


def timed(gate: LocalGate, tenants: int, count: int, rate: int) -> dict[str, float]:
    """Quantiles in microseconds over so many decisions; rate 0: one after the other."""
    taken_us, own_us = [], []
    estimate = {"tokens": 5000, "cost": "0.02"}
    started_s = time.perf_counter()
    for number in range(WARM + count):
        if rate:
            time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))
        tenant = f"tenant-{number % tenants}"
        before_ns, own_ns = time.perf_counter_ns(), time.thread_time_ns()
        decision = gate.decide(tenant, "gpt-5-mini", estimate)
        own_ns = time.thread_time_ns() - own_ns
        taken_ns = time.perf_counter_ns() - before_ns
        if not decision.allowed:
            raise RuntimeError(f"refused, which this bench does not mean: {decision}")
        gate.settle(decision)
        if number >= WARM:
            taken_us.append(taken_ns / 1000)
            own_us.append(own_ns / 1000)
    parts, own = statistics.quantiles(taken_us, n=1000), statistics.quantiles(own_us, n=100)
    found = {"p50_us": parts[499], "p99_us": parts[989], "p999_us": parts[998], "max_us": max(taken_us)}
    return {**found, "own_p50_us": own[49], "own_p99_us": own[98]}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Both runs on one gate."""
    with EmbeddedBroker() as broker:
        teller = Teller(broker.bootstrap, options.tenants)
        teller.everything()
        began_s = time.perf_counter()
        with LocalGate(broker.bootstrap) as gate:
            if not gate.wait_ready(60):
                raise RuntimeError(f"the gate was not ready within a minute: {gate.stats()}")
            ready_s = time.perf_counter() - began_s
            thread = threading.Thread(target=teller.go_on, args=(options.changes,), daemon=True)
            thread.start()

            paced = timed(gate, options.tenants, options.rate * options.seconds, options.rate)
            flat = timed(gate, options.tenants, options.count, 0)
            stats = gate.stats()
            teller.done.set()
            thread.join()
    return {
        "ready_s": ready_s,
        "paced": paced,
        "flat_out": flat,
        "staleness_s": stats.staleness_s,
        "lag_s": stats.lag_s,
    }


def main() -> None:
    """Print a line each, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000, help="decisions a second in the paced run")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--count", type=int, default=50_000, help="decisions of the run flat out")
    parser.add_argument("--changes", type=int, default=100, help="told states a second meanwhile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.tenants} tenants, {options.changes} changes/s: ready after {found['ready_s']:.1f} s")
    for name in ("paced", "flat_out"):
        shown = ", ".join(
            f"{quantile.removesuffix('_us').replace('_', ' ')} {value:.0f} us"
            for quantile, value in found[name].items()
        )
        print(f"{name.replace('_', ' '):>9}: {shown}")


if __name__ == "__main__":
    main()

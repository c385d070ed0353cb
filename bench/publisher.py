"""What `UsagePublisher` costs its caller, and how fast it drains: `python bench/publisher.py [--rate 1000]`.

Starts an embedded broker of its own. Two runs: paced (the time of each `record` call at a given rate, as a proxy has
it) and flat out (the caller and the sending thread share one interpreter and compete for it).
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sdk")]

from streams.embedded_broker import EmbeddedBroker  # noqa: E402  after the path is set
from tollhouse_client import UsagePublisher  # noqa: E402

USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1000},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 120},
    "total_tokens": 1500,
}


def run(bootstrap: str, count: int, rate: int, tenants: int) -> None:
    """Publish `count` events at `rate` a second (0: flat out) and print what it took."""
    with (
        tempfile.TemporaryDirectory() as directory,
        UsagePublisher(bootstrap, source="proxy/bench", spool_dir=directory) as publisher,
    ):
        publisher.record(tenant="warm", key="pool-1", provider="openai", model="gpt-5-mini", usage=USAGE)
        publisher.flush(20)
        taken_us: list[float] = []
        own_us: list[float] = []
        started_s = time.perf_counter()
        for number in range(count):
            if rate:
                time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))
            before_ns, own_before_ns = time.perf_counter_ns(), time.thread_time_ns()
            publisher.record(
                tenant=f"tenant-{number % tenants}",
                key="openai-pool-1",
                provider="openai",
                api="responses",
                model="gpt-5-mini",
                usage=USAGE,
                upstream_id=f"resp_{number}",
            )
            own_us.append((time.thread_time_ns() - own_before_ns) / 1000)
            taken_us.append((time.perf_counter_ns() - before_ns) / 1000)
        enqueued_s = time.perf_counter() - started_s
        complete = publisher.flush(60)
        drained_s = time.perf_counter() - started_s
        stats = publisher.stats()
    quantiles = statistics.quantiles(taken_us, n=1000)
    own = statistics.quantiles(own_us, n=100)  # without what other processes of a busy machine took
    print(
        f"{f'{rate}/s' if rate else 'flat out':>9}, {count} events, {tenants} tenants: "
        f"record p50 {quantiles[499]:.0f} us, p99 {quantiles[989]:.0f} us, p99.9 {quantiles[998]:.0f} us, "
        f"max {max(taken_us):.0f} us; own CPU p50 {own[49]:.0f} us, p99 {own[98]:.0f} us; "
        f"accepted {count / enqueued_s:,.0f}/s, at the broker {count / drained_s:,.0f}/s; "
        f"complete {complete}, resent {stats.resent}, {stats.spooled_bytes / stats.enqueued:.0f} spool bytes an event"
    )


def main() -> None:
    """The two runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000, help="events a second in the paced run")
    parser.add_argument("--seconds", type=int, default=10, help="length of the paced run")
    parser.add_argument("--count", type=int, default=50_000, help="events of the run flat out")
    parser.add_argument("--tenants", type=int, default=20)
    options = parser.parse_args()
    with EmbeddedBroker() as broker:
        run(broker.bootstrap, options.rate * options.seconds, options.rate, options.tenants)
        run(broker.bootstrap, options.count, 0, options.tenants)


if __name__ == "__main__":
    main()

"""Does counting slow down as the ledger grows? `python -m bench.ledger_growth [--database URL] [--events 10000000]`.

Straight into the ledger, without a broker: batches of 5,000 events, a line for each million with its rate. Time-ordered
ids, as the client makes them. The times move on as a real installation's would: a million events in ten minutes.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sdk")]

from pipeline.catalog import parse_data  # noqa: E402  after the path is set
from pipeline.ledger import Ledger  # noqa: E402
from pipeline.ledger.scratch import scratch_database, size_bytes  # noqa: E402
from schemas.usage_event import Delivery, Evidence, split_message  # noqa: E402
from tollhouse.bench.traffic import catalog, messages  # noqa: E402

BATCH_MESSAGES = 100
STEP = 1_000_000


def grow(url: str, events: int) -> None:
    """Fill a fresh ledger and print the rate of each step."""
    ledger = Ledger(url)
    ledger.create()
    parsed = parse_data(catalog())
    assert not isinstance(parsed, list)
    ledger.apply(parsed, 0, "bench")
    done, offset, taken_s = 0, 0, 0.0
    step = min(STEP, events)
    start_us = time.time_ns() // 1000
    while done < events:
        now_us = start_us + done * 600
        batch: list[Delivery] = []
        for _, value, _ in messages(BATCH_MESSAGES * 50, 50, now_us, first=done):
            batch += [
                Delivery(raw, now_us, Evidence("usage.events", 0, offset, i))
                for i, raw in enumerate(split_message(value))
            ]
            offset += 1
        before_s = time.perf_counter()
        recorded = ledger.take(batch, now_us)
        assert recorded.counted == len(batch), recorded
        done += len(batch)
        taken_s += time.perf_counter() - before_s  # making the events is not the ledger's time
        if done % step == 0:
            size = size_bytes(ledger.engine) / done
            print(f"{done:>12,} events  {step / taken_s:>9,.0f} events/s  {size:>6.0f} bytes an event", flush=True)
            taken_s = 0.0
    ledger.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="SQLAlchemy URL; a database is made and dropped. Default: SQLite")
    parser.add_argument("--events", type=int, default=3_000_000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        scratch_database(given.database or f"sqlite:///{directory}/x.db", f"growth_{time.time_ns()}") as address,
    ):
        grow(address, given.events)

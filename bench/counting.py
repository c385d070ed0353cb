"""What an event costs inside one process, without a broker: screening, counting, and the database's own work.

    python -m bench.counting [--database URL] [--batches 20] [--json]

Batches of 5,000 events in messages of 50, shaped as `tollhouse bench` makes them. CPU time of this process, which other
work on the machine changes less than the clock; on PostgreSQL the server's beside it.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from pipeline.ledger.scratch import scratch_database
from schemas.usage_event import Message
from tollhouse.bench import parts
from tollhouse.bench.traffic import catalog, messages

NOW_US = 1_790_000_000_000_000
BATCH_MESSAGES, A_MESSAGE = 100, 50
WARM = 3
"""Batches that are not measured: caches fill, the server prepares its statements."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--database", help="URL of a PostgreSQL; a scratch database is made beside it")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = options.database or f"sqlite:///{Path(folder) / 'ledger.db'}"
        with scratch_database(base, f"tollhouse_counting_{time.time_ns()}") as url:
            figures = measure(url, options.batches)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:24} {value:10.1f} µs an event")


def measure(url: str, batches: int) -> dict[str, float]:
    """Microseconds an event of each part."""
    ledger = Ledger(url)
    ledger.create()
    parsed = parse_data(catalog())
    if isinstance(parsed, list):
        sys.exit(f"the bench's catalog is not valid: {parsed[0]}")
    ledger.apply(parsed, 0, "bench")
    port = urlsplit(url).port
    server = parts.listening_pid(port) if port else None
    events = (WARM + batches) * BATCH_MESSAGES * A_MESSAGE
    load = [
        Message(value, NOW_US, "bench", 0, offset)
        for offset, (_, value, _) in enumerate(messages(events, A_MESSAGE, NOW_US))
    ]
    screening_s = counting_s = 0.0
    before = None
    for number in range(WARM + batches):
        if number == WARM:
            screening_s = counting_s = 0.0
            before = parts.use_of(server, family=True) if server else None
        batch = load[number * BATCH_MESSAGES : (number + 1) * BATCH_MESSAGES]
        began_s = time.process_time()
        context, screened = ledger.screen(batch)
        screening_s += time.process_time() - began_s
        began_s = time.process_time()
        ledger.record(screened, context, NOW_US)
        counting_s += time.process_time() - began_s
    after = parts.use_of(server, family=True) if server else None
    ledger.close()
    measured = batches * BATCH_MESSAGES * A_MESSAGE
    figures = {"screening": screening_s / measured * 1e6, "counting": counting_s / measured * 1e6}
    if before is not None and after is not None:
        figures["server"] = (after.cpu_s - before.cpu_s) / measured * 1e6
    return figures


if __name__ == "__main__":
    main()

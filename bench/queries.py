"""A month's usage and invoices of many tenants: `python -m bench.queries [--database URL] [--rollups 5000000]`.

Fills rollups directly (1,000 tenants over one month) and sums them up as the worker does, then times usage of all
tenants for the month, as `tollhouse usage` sums it, and the drafts of all tenants' invoices; and both from the quarters
of an hour alone, as they are read before the worker has summed up.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sdk")]

from pipeline.catalog import parse_data  # noqa: E402  after the path is set
from pipeline.ledger import Connection, Ledger  # noqa: E402
from pipeline.ledger.rows import insert_rows  # noqa: E402
from pipeline.ledger.scratch import scratch_database  # noqa: E402
from pipeline.ledger.tables import rollups  # noqa: E402
from schemas.instants import QUARTER_US  # noqa: E402
from schemas.periods import month_period  # noqa: E402
from tollhouse.bench.traffic import catalog  # noqa: E402
from tollhouse.closing import run_tenants  # noqa: E402
from tollhouse.margins import usage_records  # noqa: E402

TENANTS = 1_000
MONTH = "2026-09"


def fill(ledger: Ledger, count: int) -> None:
    """Rollup rows, a tenant at a time in the order of the table's key."""
    period, rng = month_period(MONTH, "UTC"), Random(1)
    quarters = (period.end_us - period.start_us) // QUARTER_US
    each = count // TENANTS
    combinations = -(-each // quarters)
    for number in range(TENANTS):
        rows = []
        for i in range(each):
            quarter_us = period.start_us + (i // combinations) * QUARTER_US
            model = f"gpt-bench-{i % combinations}"
            counts = (rng.randrange(10**6), rng.randrange(10**5), 0, 0, rng.randrange(10**5), 0, 0, 0, 0, 0, 0)
            rows.append(
                (f"tenant-{number:03d}", "pool-1", "openai", model, "standard", 0, 1, quarter_us, *counts, 9, 0, 9)
            )

        def write(connection: Connection, rows: list[tuple[object, ...]] = rows) -> None:
            insert_rows(connection, rollups, rows)

        ledger.write(write)


def main(url: str, count: int) -> None:
    """Fill and time."""
    ledger = Ledger(url)
    ledger.create()
    data = catalog()
    data["tenants"] |= {
        f"tenant-{n:03d}": {"name": f"Tenant {n}", "tier": "standard", "plan": "team"} for n in range(TENANTS)
    }
    parsed = parse_data(data)
    assert not isinstance(parsed, list)
    ledger.apply(parsed, 0, "bench")
    fill(ledger, count)
    now_us = month_period(MONTH, "UTC").end_us + 3 * 96 * QUARTER_US
    ask(ledger, f"from {count:,} rollups, not summed up", now_us, list(parsed.tenants)[:100])
    started_s = time.perf_counter()
    days = ledger.compact(now_us)
    print(f"{days:,} days and their months summed up: {time.perf_counter() - started_s:.1f} s", flush=True)
    ask(ledger, f"over {count:,} rollups", now_us, list(parsed.tenants))
    ledger.close()


def ask(ledger: Ledger, what: str, now_us: int, tenants: list[str]) -> None:
    """Time both questions."""
    period = month_period(MONTH, "UTC")
    for groups in (["tenant"], ["tenant", "model"], ["tenant", "day"]):
        started_s = time.perf_counter()
        records = usage_records(ledger, groups, None, period.start_us, period.end_us)
        took_s = time.perf_counter() - started_s
        print(f"usage by {','.join(groups)} {what}: {len(records):,} rows, {took_s:.1f} s", flush=True)
    started_s = time.perf_counter()
    made = sum(one.invoice is not None for _, one in run_tenants(ledger, tenants, MONTH, now_us, finalise=False))
    print(f"invoices of {made:,} tenants {what}: {time.perf_counter() - started_s:.1f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="SQLAlchemy URL; a database is made and dropped. Default: SQLite")
    parser.add_argument("--rollups", type=int, default=5_000_000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        scratch_database(given.database or f"sqlite:///{directory}/x.db", f"queries_{time.time_ns()}") as address,
    ):
        main(address, given.rollups)

"""What keeping takes on a big ledger: `python -m bench.migrations [--database URL] [--events 1000000]`.

Fills a fresh ledger through the ledger itself, then times a migration back and forward, the audit, a backup, its
restoring into a second database, and the dropping of everything by the retention. A line for each, with its seconds.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sdk")]

from pipeline.catalog import parse_data  # noqa: E402  after the path is set
from pipeline.ledger import Ledger  # noqa: E402
from pipeline.ledger.archive import export, restore  # noqa: E402
from pipeline.ledger.auditing import differences  # noqa: E402
from pipeline.ledger.retention import drop_month  # noqa: E402
from pipeline.ledger.schema import HEAD, VERSIONS, migrate  # noqa: E402
from pipeline.ledger.scratch import scratch_database, size_bytes  # noqa: E402
from pipeline.ledger.spans import tenants_with_events  # noqa: E402
from schemas.usage_event import Message  # noqa: E402
from tollhouse.bench.traffic import catalog, messages  # noqa: E402

T = TypeVar("T")
BATCH_EVENTS = 5_000
LOG_LINES = 1_000


def fill(ledger: Ledger, events: int) -> None:
    """A fresh ledger with so many events, and an audit log of some length."""
    parsed = parse_data(catalog())
    assert not isinstance(parsed, list)
    ledger.apply(parsed, 0, "bench")
    for n in range(LOG_LINES):
        ledger.set_key_state("pool-1", "active", n, "bench")
    start_us, offset = time.time_ns() // 1000, 0
    for done in range(0, events, BATCH_EVENTS):
        now_us = start_us + done * 600
        batch = []
        for _, value, _ in messages(BATCH_EVENTS, 50, now_us, first=done):
            batch.append(Message(value, now_us, "usage.events", 0, offset))
            offset += 1
        ledger.take_messages(batch, now_us)


def timed(what: str, work: Callable[[], T]) -> T:
    """Run and print how long it took."""
    began_s = time.perf_counter()
    result = work()
    print(f"{what:<28} {time.perf_counter() - began_s:>8.1f} s", flush=True)
    return result


def main(url: str, other: str, directory: Path, events: int) -> None:
    """Fill and time."""
    ledger = Ledger(url)
    ledger.create()
    timed(f"fill: {events:,} events", lambda: fill(ledger, events))
    print(f"{size_bytes(ledger.engine) / 1e6:,.0f} MB", flush=True)
    for version in (*reversed(VERSIONS[:-1]), *VERSIONS[1:]):
        timed(f"migrate to {version}", lambda version=version: migrate(ledger.engine, version))  # type: ignore[misc]
    assert migrate(ledger.engine) == (HEAD, HEAD)
    found: list[str] = timed("audit", lambda: ledger.read(differences))
    assert found == [], found[:3]
    timed("backup", lambda: export(url, directory / "backup", "now"))
    size = sum(path.stat().st_size for path in (directory / "backup").iterdir())
    print(f"{size / 1e6:,.0f} MB of Parquet", flush=True)
    timed("restore, with its check", lambda: restore(other, directory / "backup"))

    def drop() -> None:
        for tenant in ledger.read(tenants_with_events):
            ledger.write(lambda c, t=tenant: drop_month(c, t, "all", 0, 2**62, "", 0, "bench"))  # type: ignore[misc]

    timed("retention, of every event", drop)
    ledger.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="SQLAlchemy URL; two databases are made and dropped. Default: SQLite")
    parser.add_argument("--events", type=int, default=1_000_000)
    given = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, mark = given.database or f"sqlite:///{home}/x.db", time.time_ns()
        first, second = (stack.enter_context(scratch_database(server, f"keeping_{mark}_{n}")) for n in (1, 2))
        main(first, second, home, given.events)

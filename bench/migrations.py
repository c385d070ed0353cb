"""What keeping takes on a big ledger: `python -m bench.migrations [--database URL] [--events 1000000]`.

Fills a fresh ledger, then times a migration back and forward and the audit; up to a million events, or with --all, also
a backup, its restoring into a second database, and the dropping of everything by the retention. A line for each, with
its seconds. The first 100,000 events go through the ledger itself; the database multiplies them, sums and counters with
them, so that the audit finds a ledger as if all had come one by one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, text

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sdk")]

from pipeline.catalog import parse_data  # noqa: E402  after the path is set
from pipeline.ledger import Ledger  # noqa: E402
from pipeline.ledger.archive import export, restore  # noqa: E402
from pipeline.ledger.auditing import differences  # noqa: E402
from pipeline.ledger.retention import drop_month  # noqa: E402
from pipeline.ledger.schema import HEAD, VERSIONS, migrate  # noqa: E402
from pipeline.ledger.scratch import scratch_database, size_bytes  # noqa: E402
from pipeline.ledger.spans import tenants_with_events  # noqa: E402
from pipeline.ledger.tables import ROLLUP_SUMS, events  # noqa: E402
from schemas.usage_event import Message  # noqa: E402
from tollhouse.bench.traffic import catalog, messages  # noqa: E402

T = TypeVar("T")
BATCH_EVENTS = 5_000
SEED_EVENTS = 100_000
ALL_UP_TO_EVENTS = 1_000_000
LOG_LINES = 1_000


def fill(ledger: Ledger, count: int) -> None:
    """A fresh ledger with so many events, and an audit log of some length."""
    parsed = parse_data(catalog())
    assert not isinstance(parsed, list)
    ledger.apply(parsed, 0, "bench")
    for n in range(LOG_LINES):
        ledger.set_key_state("pool-1", "active", n, "bench")
    start_us, offset = time.time_ns() // 1000, 0
    for done in range(0, count, BATCH_EVENTS):
        now_us = start_us + done * 600
        batch = []
        for _, value, _ in messages(BATCH_EVENTS, 50, now_us, first=done):
            batch.append(Message(value, now_us, "usage.events", 0, offset))
            offset += 1
        ledger.take_messages(batch, now_us)


def multiply(ledger: Ledger, times: int) -> None:
    """Every event `times` times, under ids, upstream ids and offsets of its own; with its sums and counters.

    Indexes are made anew afterwards: sorting ten million entries once takes a fraction of inserting each in its place.
    """
    own = {"id": "id || '-' || i", "upstream_id": "upstream_id || '-' || i", "offset": '"offset" + i * :seed'}
    names = [column.name for column in events.columns]
    listed = ", ".join(f'"{name}"' for name in names)
    copied = ", ".join(own.get(name, f'"{name}"') for name in names)
    insert = (
        f"INSERT INTO events ({listed}) "  # noqa: S608 - our own names
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :times) "
        f"SELECT {copied} FROM events CROSS JOIN n"
    )

    def work(connection: Connection) -> None:
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
            connection.execute(text("ALTER TABLE events DROP CONSTRAINT events_pkey"))
        for index in events.indexes:
            index.drop(connection)
        seed = connection.execute(text("SELECT sum(next_offset) FROM intake")).scalar_one()
        connection.execute(text(insert), {"times": times, "seed": seed})
        if postgresql:
            connection.execute(text("ALTER TABLE events ADD CONSTRAINT events_pkey PRIMARY KEY (tenant, source, id)"))
        for index in events.indexes:
            index.create(connection)
        for table, columns in (
            ("rollups", ROLLUP_SUMS),
            ("quota_windows", ("used",)),
            ("intake", ("next_offset", "received", "counted")),
        ):
            changed = ", ".join(f'"{name}" = "{name}" * :times' for name in columns)
            connection.execute(text(f"UPDATE {table} SET {changed}"), {"times": times})  # noqa: S608 - our own names

    ledger.write(work)


def timed(what: str, work: Callable[[], T]) -> T:
    """Run and print how long it took."""
    began_s = time.perf_counter()
    result = work()
    print(f"{what:<28} {time.perf_counter() - began_s:>8.1f} s", flush=True)
    return result


def main(url: str, other: str, directory: Path, wanted: int, *, everything: bool) -> None:
    """Fill and time. wanted: events; beyond SEED_EVENTS a multiple of them."""
    ledger = Ledger(url)
    ledger.create()
    seed, times = min(wanted, SEED_EVENTS), max(1, wanted // SEED_EVENTS)
    timed(f"fill: {seed:,} events", lambda: fill(ledger, seed))
    if times > 1:
        timed(f"multiply to {seed * times:,}", lambda: multiply(ledger, times))
    print(f"{size_bytes(ledger.engine) / 1e6:,.0f} MB", flush=True)
    for version in (*reversed(VERSIONS[:-1]), *VERSIONS[1:]):
        timed(f"migrate to {version}", lambda version=version: migrate(ledger.engine, version))  # type: ignore[misc]
    assert migrate(ledger.engine) == (HEAD, HEAD)
    found: list[str] = timed("audit", lambda: ledger.read(differences))
    assert found == [], found[:3]
    if not everything:
        ledger.close()
        return
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
    parser.add_argument("--all", action="store_true", help="backup, restore and retention of more than a million too")
    given = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, mark = given.database or f"sqlite:///{home}/x.db", time.time_ns()
        first, second = (stack.enter_context(scratch_database(server, f"keeping_{mark}_{n}")) for n in (1, 2))
        main(first, second, home, given.events, everything=given.all or given.events <= ALL_UP_TO_EVENTS)

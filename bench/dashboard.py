"""How long the pages take over a year of many tenants, from a ledger that is made for it.

    python bench/dashboard.py [--database URL] [--tenants 1000] [--days 365] [--json]

Two rollups a tenant and day, summed up to days and months as the worker does, quota windows and an invoice a tenant and
month; `first` is a process's first view of a page, `again` the best of three right after it. Exit 1 if a page misses
the target when it is seen first.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, literal, select
from starlette.testclient import TestClient

from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from pipeline.ledger.rows import insert_rows
from pipeline.ledger.scratch import scratch_database
from pipeline.ledger.tables import invoices, quota_windows, rollups
from schemas.catalog import Catalog
from schemas.instants import DAY_US, HOUR_US
from schemas.periods import day_start, month_of, previous_month
from schemas.tokens import CLASSES
from tollhouse.api.app import make_app
from tollhouse.closing import run_tenants
from tollhouse.settings import Settings
from tollhouse.tokens import Claims
from tollhouse.tokens.issue import issue
from tollhouse.tokens.keys import signing_key

TARGET_S: Final = 0.5
NOW_US: Final = 1_793_527_200_000_000
PAGES: Final = (
    "/", "/tenants", "/tenants/tenant-00007", "/invoices", "/alerts", "/pipeline", "/keys", "/keys/pool-1", "/catalog",
    "/plots/usage.svg", "/plots/usage.svg?tenant=tenant-00007", "/plots/key.svg?key=pool-1",
    "/plots/months.svg?currency=USD",
)  # fmt: skip


def main() -> int:
    """Make the ledger, time the pages, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="SQLAlchemy URL; a database is made and dropped. Default: SQLite")
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = given.database or f"sqlite:///{directory}/x.db"
        with scratch_database(url, f"dashboard_{time.time_ns()}") as address:
            found = measure(Path(directory), address, given.tenants, given.days)
    if given.json:
        print(json.dumps(found))
    else:
        for path, times in found.items():
            print(f"{path:28} first {times['first_s']:7.3f} s   again {times['again_s']:7.3f} s")
    return 0 if all(times["first_s"] <= TARGET_S for times in found.values()) else 1


def measure(directory: Path, url: str, tenants: int, days: int) -> dict[str, dict[str, float]]:
    """Seconds of each page, first and again."""
    ledger = Ledger(url)
    ledger.create()
    catalog = _catalog(tenants)
    ledger.apply(catalog, NOW_US - 400 * DAY_US, "bench")
    for n in range(0, tenants, 50):
        names = list(catalog.tenants)[n : n + 50]
        ledger.write(lambda c, names=names: _fill(c, names, days))
    started_s = time.perf_counter()
    summed = ledger.compact(NOW_US)
    print(f"{summed} days summed up: {time.perf_counter() - started_s:.0f} s", file=sys.stderr)
    month = previous_month(month_of(NOW_US, "UTC"))
    started_s = time.perf_counter()
    for _ in run_tenants(ledger, list(catalog.tenants), month, NOW_US, finalise=False):
        pass
    print(f"drafts of {month}: {time.perf_counter() - started_s:.0f} s", file=sys.stderr)
    ledger.write(lambda c: _copy_invoices(c, month, days // 31))
    settings = Settings(dir=directory, database_url=url, broker="127.0.0.1:9")
    app = make_app(settings, ledger, lambda: NOW_US)
    app.state.api.warm()  # as a process does when it starts
    claims = Claims("operator", "bench", "bench", NOW_US, NOW_US + HOUR_US, role="viewer")
    token = issue(signing_key(settings, ledger, NOW_US), claims)
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    client.post("/sign-in", data={"token": token}, follow_redirects=False)  # what it leads to is to be timed
    found = {}
    for path in PAGES:
        seconds = [_timed(client, path) for _ in range(4)]
        found[path] = {"first_s": round(seconds[0], 3), "again_s": round(min(seconds[1:]), 3)}
    ledger.close()
    return found


def _timed(client: TestClient, path: str) -> float:
    started = time.perf_counter()
    answer = client.get(path)
    seconds = time.perf_counter() - started
    if answer.status_code != 200:
        raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:200]}")
    return seconds


def _catalog(tenants: int) -> Catalog:
    quota = {"name": "monthly", "meter": "tokens", "limit": 50_000_000, "window": "month"}
    charge = {"meter": "tokens", "models": "*", "model": "per_unit", "price": "2.00", "per": 1_000_000}
    document = {
        "currency": "USD",
        "seller": {"name": "Example Cloud Ltd", "address": "1 Example Street", "country": "IE"},
        "tenants": {f"tenant-{n:05}": {"plan": "team", "quotas": [quota]} for n in range(tenants)},
        "keys": {"pool-1": {"provider": "openai", "kind": "pooled"}},
        "plans": {"team": {"charges": [charge]}},
    }
    found = parse_data(document)
    if not isinstance(found, Catalog):
        raise SystemExit(f"the catalog of the bench does not parse: {found[0]}")
    return found


def _fill(connection: Any, tenants: Sequence[str], days: int) -> None:
    today_us = NOW_US // DAY_US * DAY_US
    counts = {"input": 30_000, "output": 9_000, "requests": 40, "errors": 1, "events": 40}
    sums = [counts.get(name, 0) for name in (*CLASSES, "requests", "errors", "events")]
    rows = [
        (tenant, "pool-1", "openai", model, "standard", 0, 1, today_us - day * DAY_US + hour * HOUR_US, *sums)
        for tenant in tenants
        for day in range(days)
        for hour, model in ((3, "gpt-5-mini"), (9, "gpt-5"))
    ]
    insert_rows(connection, rollups, rows)
    kind, start_us = "tokens/*/month", day_start(date(2026, 11, 1), "UTC")
    windows = [(f"tenant:{t}", "monthly", kind, start_us, start_us + 30 * DAY_US, 10**6, 0, 1) for t in tenants]
    insert_rows(connection, quota_windows, windows)


def _copy_invoices(connection: Any, month: str, months: int) -> None:
    """The month's drafts again for the months before it: lists do not care for whose usage they are."""
    c = invoices.c
    for _ in range(months - 1):
        before = previous_month(month)
        row = select(c.tenant, literal(before), c.revision, c.status, c.number, c.changed_us, c.document, c.summary)
        names = ["tenant", "month", "revision", "status", "number", "changed_us", "document", "summary"]
        connection.execute(insert(invoices).from_select(names, row.where(c.month == month)))
        month = before


if __name__ == "__main__":
    sys.exit(main())

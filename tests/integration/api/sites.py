"""Whole installations to look at in a browser: the demo's data, and a thousand tenants; each served on a free port."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import insert

from billing.records import invoice_to_data
from pipeline.catalog import parse_data
from pipeline.ledger.key_history import Residual, keep_residuals, keep_scores
from pipeline.ledger.minutes import minutes_of
from pipeline.ledger.tables import intake, invoices, rollups
from pipeline.watch import LeakWatch
from schemas.catalog import Catalog
from schemas.instants import DAY_US, HOUR_US, parse_instant
from schemas.periods import month_period
from schemas.tokens import CLASSES
from schemas.usage_event import Delivery, Evidence
from tests.integration.api.kit import CATALOG, House
from tollhouse.api.server import listen
from tollhouse.cli.pure import read_catalog
from tollhouse.closing import run_tenant
from tollhouse.demo.traffic import LANES, Plan, history_events, leak_events, trace_events
from tollhouse.stripe_double.server import start

ROOT = Path(__file__).resolve().parents[3]
SECRET = "sk_test_" + "d4" * 12
SEED = 7
TENANTS = 1000
DAYS = 31


@dataclass
class Site:
    """A house with its address. leak: the id of the demo's leak, if it has one."""

    house: House
    address: str
    leak: str = ""

    def token(self, role: str) -> str:
        """A token of an operator of the role."""
        return self.house.token("operator", f"{role}-1", role=role)


@contextmanager
def served(house: House, listener: socket.socket | None = None) -> Iterator[str]:
    """The house's address while it is served. listener: where its own address has to be known before."""
    listener = listener or listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(house.app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        house.close()


@contextmanager
def demo_site(directory: Path) -> Iterator[Site]:
    """The demo's fortnight and its leak, a part of its trace, closed invoices of October, drafts of November."""
    with start() as stripe:
        house = House(
            f"sqlite:///{directory / 'ledger.db'}", directory, broker="127.0.0.1:9",
            stripe_api_base=stripe.url, environment={"STRIPE_SECRET_KEY": SECRET},
        )  # fmt: skip
        house.now_us = parse_instant("2026-11-03T12:00:00Z")
        catalog = read_catalog(ROOT / "examples" / "catalog.yaml")
        house.ledger.apply(catalog, parse_instant("2026-09-30T00:00:00Z"), "demo")
        plan = Plan(parse_instant("2026-10-01T00:00:00Z"))
        leaked = list(leak_events(plan, SEED))
        ordinary = sorted([*history_events(plan, SEED), *leaked], key=lambda event: str(event["time"]))
        _take(house, [*trace_events(plan, SEED)[0][::20], *ordinary])
        _take(house, [{**leaked[0], "id": "lost-1", "subject": "nobody"}])
        leak = _watch(house)
        for tenant in house.ledger.context().catalog.tenants:
            for month, closed in (("2026-10", True), ("2026-11", False)):
                run_tenant(house.ledger, tenant, month, house.now_us, finalise=closed)
        end_us = plan.leak_us - plan.leak_us % HOUR_US
        rows = [Residual(end_us - n * DAY_US, end_us - n * DAY_US + HOUR_US, 5000 + n, 5000) for n in range(3)]
        house.ledger.write(lambda c: keep_residuals(c, "openai-pool-1", rows))
        with served(house) as address:
            yield Site(house, address, leak)


def _take(house: House, events: Sequence[dict[str, Any]]) -> None:
    offset = max((row["next_offset"] for row in house.ledger.rows(intake)), default=0)
    for first in range(0, len(events), 5000):
        batch = [
            Delivery(json.dumps(e).encode(), parse_instant(e["time"]) + 1, Evidence("usage.events", 0, offset + n, 0))
            for n, e in enumerate(events[first : first + 5000], first)
        ]
        house.ledger.take(batch, house.now_us)


def _watch(house: House) -> str:
    """As the leaks agent does: every minute of every key judged, alerts raised, scores kept; the leak's id."""
    watch, found = LeakWatch(), []
    for tenant in sorted({lane.tenant for lane in LANES}):
        keys = {lane.key: 0 for lane in LANES if lane.tenant == tenant}
        found += watch.add(house.ledger.read(lambda c, t=tenant, k=keys: minutes_of(c, {t: k})))  # type: ignore[misc]
    house.ledger.raise_alerts(found)
    subjects = {f"{lane.tenant}/{lane.key}" for lane in LANES}
    house.ledger.write(lambda c: keep_scores(c, watch.take_peaks(subjects)))
    return next(alert.id for alert in found if alert.severity == "page")


@contextmanager
def big_site(directory: Path) -> Iterator[Site]:
    """A thousand tenants, two keys and some of their own, a month of a rollup a day, two invoices each."""
    house = House(f"sqlite:///{directory / 'ledger.db'}", directory, broker="127.0.0.1:9")
    names = [f"tenant-{n:04d}" for n in range(TENANTS)]
    house.ledger.apply(_big_catalog(names), house.now_us - 100 * DAY_US, "test")
    end_us = house.now_us - house.now_us % DAY_US
    zeros = dict.fromkeys((*CLASSES, "errors"), 0)
    rows = [
        zeros | {
            "tenant": name, "key": f"openai-pool-{1 + n % 2}", "provider": "openai", "model": "gpt-5-mini",
            "service_tier": "standard", "size_band": 0, "pooled": 1, "quarter_us": end_us - day * DAY_US,
            "input": 1000 + n, "output": 100, "requests": 10, "events": 10,
        }
        for n, name in enumerate(names) for day in range(DAYS)
    ]  # fmt: skip
    house.ledger.write(lambda c: c.execute(insert(rollups), rows))
    _bills(house, names)
    with served(house) as address:
        yield Site(house, address)


def _big_catalog(names: Sequence[str]) -> Catalog:
    quota = {"name": "monthly", "meter": "tokens", "limit": 100_000, "window": "month"}
    tenants = {name: {"name": f"Customer {name[-4:]}", "plan": "team", "quotas": [quota]} for name in names}
    keys = dict(CATALOG["keys"])
    for name in names[:150]:
        keys[f"{name}-own"] = {"provider": "anthropic", "kind": "byok", "tenant": name}
        tenants[name]["tier"] = "byok"
    found = parse_data({**CATALOG, "tenants": {**CATALOG["tenants"], **tenants}, "keys": keys})
    assert isinstance(found, Catalog), found
    return found


def _bills(house: House, names: Sequence[str]) -> None:
    """One invoice is worked out; the others are its copies, for looking at."""
    made = run_tenant(house.ledger, names[-1], "2026-10", house.now_us, finalise=False).invoice
    assert made is not None
    rows = []
    for month in ("2026-09", "2026-10"):
        period = month_period(month, "UTC")
        for n, name in enumerate(names[:-1]):
            copy = replace(
                made, tenant=name, month=month, status="finalised", number=f"INV-{month}-{n:04d}",
                period_start_us=period.start_us, period_end_us=period.end_us,
            )  # fmt: skip
            rows.append(
                {
                    "tenant": name,
                    "month": month,
                    "revision": 1,
                    "status": copy.status,
                    "number": copy.number,
                    "changed_us": house.now_us,
                    "document": json.dumps(invoice_to_data(copy)),
                }
            )
    house.ledger.write(lambda c: c.execute(insert(invoices), rows))

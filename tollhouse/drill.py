"""`tollhouse alerts drill`: a leak, played end to end on a tenant and a key of its own, with the seconds to each step.

The tenant brings its own key, so its usage is counted and never billed; both leave the catalog when the drill is over.
What they leave in the ledger is marked by the tenant's name.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from pipeline.ledger.alerts import change_alert, find_alert
from pipeline.ledger.catalogs import list_key_states
from pipeline.ledger.deliveries import list_deliveries
from pipeline.ledger.responses import list_responses, release
from pipeline.ledger.tables import alerts, events
from schemas.catalog import Catalog
from schemas.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_instant
from schemas.usage_event import USAGE_TYPE
from tollhouse.brokers import security_of
from tollhouse.clock import clock
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse_client import UsagePublisher

TENANT: Final = "tollhouse-drill"
WHO: Final = "drill"
LEARNING_US: Final = 16 * DAY_US
"""Ordinary use before the leak: past the detector's fortnight, well within the 35 days in which events are taken."""
LEAK_US: Final = 90 * SECOND_US
LEAK_CALLS: Final = 240
POLL_S: Final = 0.05


class Step(NamedTuple):
    """One step: seconds after the leak's first event was sent; None if it did not come in time."""

    step: str
    seconds: str | None
    detail: str


def run_drill(settings: Settings, timeout_s: float) -> list[Step]:
    """Play it. UserError where it cannot begin; otherwise every step, with or without a time."""
    from tollhouse.cli.shared import open_ledger  # noqa: PLC0415 - the one place that words its failures

    ledger: Ledger = open_ledger(settings)
    now_us = clock(settings.clock_offset_s)
    key = f"{TENANT}-{now_us() // SECOND_US}"
    with in_catalog(ledger, key, now_us), tempfile.TemporaryDirectory() as spool:
        publisher = UsagePublisher(
            settings.broker,
            source=WHO,
            spool_dir=Path(spool),
            batch_events=50,
            linger_s=0.01,
            topic=f"{settings.topic_prefix}usage.events",
            kafka=security_of(settings).client(),
        )
        try:
            return _play(ledger, key, publisher, now_us, timeout_s)
        finally:
            publisher.close(1.0)


@contextmanager
def in_catalog(ledger: Ledger, key: str, now_us: Callable[[], int]) -> Iterator[None]:
    """The catalog with the drill's tenant and key in it; afterwards as it was, unless somebody applied another."""
    before = ledger.context().catalog
    source: dict[str, Any] = dict(before.source)
    plan = next(iter(source["plans"]), None)
    if plan is None:
        raise UserError("the catalog has no plan for the drill's tenant to be on")
    tenant = {"name": "Drill, not a customer", "tier": "byok", "plan": plan}
    source["tenants"] = {**source["tenants"], TENANT: tenant}
    source["keys"] = {**source["keys"], key: {"provider": "openai", "kind": "byok", "tenant": TENANT}}
    ours = _parsed(source)
    version = ledger.apply(ours, now_us(), WHO)
    try:
        yield
    finally:
        if ledger.context().version == version:
            ledger.apply(before, now_us(), WHO)


def _parsed(source: dict[str, Any]) -> Catalog:
    catalog = parse_data(source)
    if isinstance(catalog, list):
        raise UserError(f"the drill's tenant does not fit into the catalog: {catalog[0]}")
    return catalog


def _play(
    ledger: Ledger, key: str, publisher: UsagePublisher, now_us: Callable[[], int], timeout_s: float
) -> list[Step]:
    start_us = now_us() - LEAK_US
    ordinary = list(ordinary_events(key, start_us))
    _send(publisher, ordinary)
    steps = [_timed("learnt", lambda: _learnt(ledger, key, len(ordinary)), timeout_s, time.monotonic())]
    if steps[0].seconds is None:
        return steps
    begun_s = time.monotonic()
    _send(publisher, leak_events(key, start_us))
    found: list[str] = []
    steps.append(_timed("counted", lambda: _counted(ledger, key, len(ordinary) + LEAK_CALLS), timeout_s, begun_s))
    steps.append(_timed("alerted", lambda: _alerted(ledger, key, start_us, found), timeout_s, begun_s))
    if not found:
        return steps
    settings = ledger.context().catalog.alerts
    if settings.on_leak == "alert":
        steps.append(Step("answered", "0.00", "nothing to do: alerts.on_leak is alert"))
    else:
        steps.append(_timed("answered", lambda: _answered(ledger, found[0]), timeout_s, begun_s))
    if any(not sink.kinds or "leak" in sink.kinds for sink in settings.sinks):
        steps.append(_timed("delivered", lambda: _delivered(ledger, found[0]), timeout_s, begun_s))
    else:
        steps.append(Step("delivered", "0.00", "to nobody: the catalog names no sink for leaks"))
    steps.append(_timed("released", lambda: _closed(ledger, found[0], key, now_us()), timeout_s, begun_s))
    return steps


def ordinary_events(key: str, until_us: int) -> Iterator[dict[str, Any]]:
    """Two calls an hour from one network, for longer than a fortnight."""
    rng = Random(key)  # noqa: S311 - made-up traffic, no secret
    first_us = until_us - LEARNING_US
    for n in range(2 * LEARNING_US // HOUR_US):
        at_us = first_us + n * HOUR_US // 2 + rng.randrange(20 * MINUTE_US)
        yield _event(key, f"o{n}", at_us, rng.randrange(200, 2000), "AS64500/ZZ", "drill-app/1.0")


def leak_events(key: str, start_us: int) -> Iterator[dict[str, Any]]:
    """The key in other hands: many large calls within 90 s, from a network and an agent never seen before."""
    for n in range(LEAK_CALLS):
        yield _event(key, f"x{n}", start_us + n * LEAK_US // LEAK_CALLS, 20_000, "AS64666/ZZ", "curl/8.9")


def _event(key: str, name: str, at_us: int, tokens: int, network: str, agent: str) -> dict[str, Any]:
    data = {
        "key": key, "provider": "openai", "model": "gpt-5-mini", "tokens": {"input": tokens, "output": tokens // 10},
        "network": network, "agent": agent,
    }  # fmt: skip
    return {
        "specversion": "1.0", "id": f"{key}-{name}", "source": WHO, "type": USAGE_TYPE, "subject": TENANT,
        "time": format_instant(at_us - at_us % 1000), "data": data,
    }  # fmt: skip


def _send(publisher: UsagePublisher, made: Any) -> None:
    for event in made:
        publisher.publish(event)
    if not publisher.flush(20):
        raise UserError(f"the broker does not take events: {publisher.stats().last_error or 'no answer in 20 s'}")


def _timed(name: str, test: Callable[[], str | None], timeout_s: float, begun_s: float) -> Step:
    """Ask until there is an answer, or the time is over. test: what to show, or None as long as it is not so."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        detail = test()
        if detail is not None:
            return Step(name, f"{time.monotonic() - begun_s:.2f}", detail)
        if time.monotonic() > deadline_s:
            return Step(name, None, f"not within {timeout_s:.0f} s")
        time.sleep(POLL_S)


def _counted(ledger: Ledger, key: str, wanted: int) -> str | None:
    there = len(ledger.rows(events, events.c.tenant == TENANT, events.c.key == key))
    return f"{there} events" if there >= wanted else None


def _learnt(ledger: Ledger, key: str, wanted: int) -> str | None:
    done = _counted(ledger, key, wanted)
    if done is not None:
        time.sleep(1.0)  # the detector follows the meter by a message
    return done


def _alerted(ledger: Ledger, key: str, start_us: int, found: list[str]) -> str | None:
    rows = ledger.rows(alerts, alerts.c.kind == "leak", alerts.c.subject == f"{TENANT}/{key}",
                       alerts.c.severity == "page")  # fmt: skip
    if not rows:
        return None
    found.append(rows[0]["id"])
    event_s = max(0, rows[0]["first_us"] - start_us) // SECOND_US
    return f"{rows[0]['id']}, {event_s} s of event time after the first call"


def _answered(ledger: Ledger, alert: str) -> str | None:
    rows = ledger.read(lambda c: list_responses(c, alert))
    return str(rows[0]["detail"]) if rows else None


def _delivered(ledger: Ledger, alert: str) -> str | None:
    rows = ledger.read(lambda c: list_deliveries(c, alert))
    # The newest version's: of an alert that got worse before it went out, the older one is left out.
    done = [row for row in rows if row["state"] == "sent"]
    waiting = {row["target"] for row in rows} - {row["target"] for row in done}
    return ", ".join(sorted({row["target"] for row in done})) if rows and not waiting else None


def _closed(ledger: Ledger, alert: str, key: str, at_us: int) -> str | None:
    """Resolve the alert and end what it set off."""

    def work(connection: Any) -> list[str]:
        change_alert(connection, alert, state="resolved", feedback="expected")
        return release(connection, alert, at_us, WHO)

    ledger.write(work)
    row = ledger.read(lambda c: find_alert(c, alert))
    states = {state["key"]: state["state"] for state in ledger.read(list_key_states)}
    if row is None or row["state"] != "resolved" or states.get(key, "active") != "active":
        return None
    return "the alert is resolved, the key active"

"""What the ledger knows, as figures for Prometheus. Sums by kind and state; no label names a tenant."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, and_, func, select, text

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import (
    alerts,
    billing_documents,
    catalogs,
    deliveries,
    intake,
    invoices,
    rejected,
    reservations,
)
from schemas.instants import SECOND_US

STRIPE: Final = "stripe"
"""Kind of the gateway's records among the billing documents."""
DRIFT: Final = "drift/"
"""Of its records of comparisons with Stripe: one by month,"""
DRIFT_WHOLE: Final = "drift_whole"
"""and when all months were compared last."""
AT_STRIPE: Final = ("pushed", "paid", "uncollectible")
OPEN_STATES: Final = ("open", "acked")


class Figure(NamedTuple):
    """name: without the product's prefix. labels: their names. values: by the labels' values; () without labels."""

    name: str
    text: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]


def figures(connection: Connection, now_us: int) -> list[Figure]:
    """Every figure, of one consistent view."""
    return [
        *_events(connection),
        *_alerts(connection, now_us),
        *_billing(connection, now_us),
        *_catalog(connection, now_us),
        _one("database_bytes", "Bytes that the database holds.", _bytes(connection)),
    ]


def _one(name: str, words: str, value: float) -> Figure:
    return Figure(name, words, (), {(): value})


def _count(connection: Connection, table: Table, by: Sequence[Any], *where: Any) -> dict[tuple[str, ...], float]:
    query = select(*by, func.count()).select_from(table).where(*where).group_by(*by)
    return {tuple(str(part) for part in row[:-1]): int(row[-1]) for row in connection.execute(query)}


def _events(connection: Connection) -> list[Figure]:
    c, r = intake.c, rejected.c
    columns = (c.received, c.counted, c.duplicates, c.rejected, c.held)
    row = connection.execute(select(*(func.coalesce(func.sum(column), 0) for column in columns))).one()
    messages, counted, duplicates, refused, held = (int(n) for n in row)
    open_rejected = _count(connection, rejected, [r.reason], r.state == "open")
    return [
        _one("messages_received", "Messages taken from the events' topic.", messages),
        _one("events_counted", "Events counted.", counted),
        _one("events_duplicate", "Events seen again.", duplicates),
        _one("events_rejected", "Events rejected from the topic.", refused),
        _one("events_held", "Corrections that wait for their event.", held),
        _one("rejected_open", "Rejected events not replayed.", sum(open_rejected.values())),
        Figure("rejected_waiting", "Rejected events not replayed, by reason.", ("reason",), open_rejected),
        _one(
            "reservations_open",
            "Reservations open.",
            sum(_count(connection, reservations, [reservations.c.state], reservations.c.state == "open").values()),
        ),
    ]


def _alerts(connection: Connection, now_us: int) -> list[Figure]:
    a, d = alerts.c, deliveries.c
    known = _count(connection, alerts, [a.kind, a.severity, a.state], a.state.in_(OPEN_STATES))
    due = and_(d.state == "due", d.tries > 0)
    oldest_us = connection.execute(select(func.min(d.next_us)).where(d.state == "due", d.next_us > 0)).scalar()
    raised_us = connection.execute(
        select(func.min(a.last_us))
        .select_from(deliveries)
        .join(alerts, a.id == d.alert)
        .where(d.state == "due", d.next_us == 0)
    ).scalar()
    waits = [now_us - int(us) for us in (oldest_us, raised_us) if us is not None]
    residuals = connection.execute(select(a.facts).where(a.kind == "residual", a.state.in_(OPEN_STATES))).scalars()
    tokens = [abs(int(json.loads(facts).get("residual_tokens", 0))) for facts in residuals]
    return [
        _one("alerts_open", "Alerts nobody has taken.", sum(n for k, n in known.items() if k[2] == "open")),
        Figure("alerts", "Alerts that are not resolved.", ("kind", "severity", "state"), known),
        Figure(
            "deliveries",
            "Deliveries of alerts to sinks.",
            ("state",),
            _count(connection, deliveries, [d.state], d.sink != ""),
        ),
        _one(
            "deliveries_retrying",
            "Deliveries that failed and are tried again.",
            sum(_count(connection, deliveries, [d.state], due).values()),
        ),
        _one(
            "delivery_overdue_seconds",
            "How long the oldest delivery should have been taken up by a worker.",
            max(0.0, max(waits, default=0) / SECOND_US),
        ),
        _one("residual_tokens", "The largest open difference to a provider's report.", max(tokens, default=0)),
    ]


def _billing(connection: Connection, now_us: int) -> list[Figure]:
    i, b = invoices.c, billing_documents.c
    pushed_us = connection.execute(select(func.min(i.changed_us)).where(i.status == "finalised")).scalar()
    query = select(b.document).where(b.kind == STRIPE, b.id.like("invoice/%"))
    records = [json.loads(document) for document in connection.execute(query).scalars()]
    statuses: Counter[tuple[str, ...]] = Counter((str(record.get("status", "")) or "unknown",) for record in records)
    failed = sum(bool(record.get("payment_error")) and record.get("status") != "paid" for record in records)
    return [
        Figure("invoices", "Invoices by status.", ("status",), _count(connection, invoices, [i.status])),
        _one(
            "invoice_unpushed_seconds",
            "How long the oldest finalised invoice waits to be pushed.",
            max(0.0, (now_us - int(pushed_us)) / SECOND_US) if pushed_us is not None else 0,
        ),
        Figure("stripe_invoices", "Invoices at Stripe, by what Stripe said last.", ("status",), {**statuses}),
        _one("stripe_payments_failed", "Invoices at Stripe whose charge was declined.", failed),
        *_drift(connection, now_us),
    ]


def _drift(connection: Connection, now_us: int) -> list[Figure]:
    """What `tollhouse stripe drift` found last, by kind, over all months; and since when nobody has looked."""
    i, b = invoices.c, billing_documents.c
    query = select(b.document).where(b.kind == STRIPE, b.id.like(f"{DRIFT}%"))
    kinds: Counter[tuple[str, ...]] = Counter()
    for document in connection.execute(query).scalars():
        kinds.update({(kind,): int(n) for kind, n in json.loads(document)["kinds"].items()})
    there_us = connection.execute(select(func.min(i.changed_us)).where(i.status.in_(AT_STRIPE))).scalar()
    whole = connection.execute(select(b.document).where(b.kind == STRIPE, b.id == DRIFT_WHOLE)).scalar()
    since_us = max(int(there_us or 0), int(json.loads(whole)["at_us"]) if whole else 0)
    waits = max(0.0, (now_us - since_us) / SECOND_US) if there_us is not None else 0.0
    return [
        Figure("stripe_drift", "Differences to Stripe when it was compared last.", ("kind",), {**kinds}),
        _one("stripe_uncompared_seconds", "How long invoices at Stripe were not compared with ours.", waits),
    ]


def _catalog(connection: Connection, now_us: int) -> list[Figure]:
    query = select(catalogs.c.version, catalogs.c.applied_us).order_by(catalogs.c.version.desc()).limit(1)
    row = connection.execute(query).first()
    return [
        _one("catalog_version", "The catalog in force; 0: none.", int(row.version) if row else 0),
        _one("catalog_age_seconds", "Since it was applied.", (now_us - row.applied_us) / SECOND_US if row else 0),
    ]


def _bytes(connection: Connection) -> int:
    if is_sqlite(connection):
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

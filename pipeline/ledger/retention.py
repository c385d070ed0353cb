"""Months whose events are dropped: what goes, and what is kept in its place.

The events of a tenant's month go, and the rejected ones of a month. Rollups, quota windows, invoices and counters stay,
and for each month a digest of the events, their number by partition (so that the intake still adds up), and a digest of
the rollups; the audit log's chain has them too. What is dropped never counts again: see dropped.py.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select
from sqlalchemy.orm import aliased
from sqlalchemy.sql import ColumnElement

from pipeline.ledger import chain
from pipeline.ledger.compaction import take_turn
from pipeline.ledger.digests import Rows
from pipeline.ledger.dropped import REJECTED, Dropped
from pipeline.ledger.tables import dropped_months, dropped_places, events, rejected, rollups
from pipeline.ledger.turns import lock_tenants

_e, _r, _x = events.c, rollups.c, rejected.c

ACTION: Final = "retention.drop"
CHUNK: Final = 20_000


def drop_month(
    connection: Connection, tenant: str, month: str, start_us: int, end_us: int, evidence: str, now_us: int, who: str
) -> Dropped:
    """Drop the tenant's events of [start_us, end_us). Nothing before start_us may be left.

    evidence: digest of what was kept of the month's invoices. A void of an event outside of the month stays, as long as
    what it voids: the event's state is explained by it. What is held stays until it is decided.
    """
    take_turn(connection)
    lock_tenants(connection, [tenant])  # a void that came between would make what was digested another thing
    gone = _leaves(tenant, start_us, end_us)
    rows, redelivered = Rows(), 0
    columns = (_e.source, _e.id, _e.digest, _e.state, _e.time_us, _e.redelivered)
    found = connection.execute(select(*columns).where(gone), execution_options={"yield_per": CHUNK})
    for source, name, digest, state, time_us, again in found:
        rows.add((source, name, bytes(digest), state, int(time_us)))
        redelivered += int(again)
    query = select(_e.topic, _e.partition, func.count(), func.max(_e.offset)).where(gone)
    places = connection.execute(query.group_by(_e.topic, _e.partition)).all()
    connection.execute(delete(events).where(gone))
    kept = rollups_digest(connection, tenant, start_us, end_us)
    made = Dropped(tenant, month, start_us, end_us, rows.rows, redelivered, rows.figures.digest, kept)
    _note(connection, made, places, evidence, now_us, who)
    return made


def drop_rejected(connection: Connection, month: str, start_us: int, end_us: int, now_us: int, who: str) -> Dropped:
    """Drop what was rejected in [start_us, end_us) by its arrival: bytes, reason and all. The counters stay."""
    gone = (_x.arrival_us >= start_us, _x.arrival_us < end_us)
    rows = Rows()
    for n, digest in connection.execute(select(_x.n, _x.digest).where(*gone)):
        rows.add((int(n), bytes(digest)))
    spots = select(_x.topic, _x.partition, _x.offset, _x.item).where(*gone).distinct().subquery()
    query = select(spots.c.topic, spots.c.partition, func.count(), func.max(spots.c.offset))
    places = connection.execute(query.group_by(spots.c.topic, spots.c.partition)).all()
    connection.execute(delete(rejected).where(*gone))
    made = Dropped(REJECTED, month, start_us, end_us, rows.rows, 0, rows.figures.digest, Rows().figures.digest)
    _note(connection, made, places, "", now_us, who)
    return made


def rollups_digest(connection: Connection, tenant: str, start_us: int, end_us: int) -> str:
    """Of the tenant's rollups whose quarter begins in [start_us, end_us)."""
    rows = Rows()
    where = (_r.tenant == tenant, _r.quarter_us >= start_us, _r.quarter_us < end_us)
    for row in connection.execute(select(rollups).where(*where)):
        rows.add(tuple(row))
    return rows.figures.digest


def _leaves(tenant: str, start_us: int, end_us: int) -> ColumnElement[bool]:
    """Of an event: it goes with the month."""
    target = aliased(events)
    outside = exists().where(
        target.c.tenant == _e.tenant,
        target.c.source == _e.target_source,
        target.c.id == _e.target_id,
        or_(target.c.time_us < start_us, target.c.time_us >= end_us),
    )
    within = and_(_e.tenant == tenant, _e.time_us >= start_us, _e.time_us < end_us)
    return and_(within, _e.state != "held", or_(_e.kind != "void", ~outside))


def _note(connection: Connection, made: Dropped, places: Sequence[Any], evidence: str, now_us: int, who: str) -> None:
    connection.execute(insert(dropped_months).values(dropped_us=now_us, **made._asdict()))
    for topic, partition, n, last in places:
        connection.execute(
            insert(dropped_places).values(
                tenant=made.tenant, start_us=made.start_us, topic=topic, partition=partition, events=n, last_offset=last
            )
        )
    chain.append(connection, now_us, who, ACTION, made.subject, made.line(evidence))

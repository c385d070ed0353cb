"""What is still to be told to whom: an outbox, filled in the transaction that raises an alert.

A row with an empty sink is the alert itself; opening it makes one row for each sink that wants it. A row is claimed by
moving its next try into the future, so that of several workers one sends it, and a worker that dies in the middle
leaves it to be sent again: at least once, always under the same id.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import alerts, deliveries
from schemas.instants import DAY_US, HOUR_US, SECOND_US

_d = deliveries.c

CLAIM_US: Final = 60 * SECOND_US
"""How long a try may take before another worker takes it up: twice a sink's time limit."""
FIRST_WAIT_US: Final = 2 * SECOND_US
WAIT_MAX_US: Final = HOUR_US
GIVE_UP_US: Final = 3 * DAY_US
"""A sink that was away for a long weekend still gets its alerts."""


class Due(NamedTuple):
    """A delivery to be made now. sink '': the alert is to be given to its sinks first."""

    alert: str
    version: int
    sink: str
    tries: int
    next_us: int


def queue_delivery(connection: Connection, alert_id: str) -> int:
    """Queue the alert as it now is, as its next version, due at once; the version."""
    newest = connection.execute(select(func.max(_d.version)).where(_d.alert == alert_id)).scalar()
    version = int(newest or 0) + 1
    connection.execute(
        insert(deliveries).values(
            alert=alert_id, version=version, sink="", target="", state="due", tries=0, next_us=0, error=""
        )
    )
    return version


def due(connection: Connection, now_us: int, limit: int = 50) -> list[Due]:
    """What is to be done now, the oldest first."""
    query = (
        select(_d.alert, _d.version, _d.sink, _d.tries, _d.next_us)
        .where(_d.state == "due", _d.next_us <= now_us)
        .order_by(_d.next_us, _d.alert, _d.version, _d.sink)
        .limit(limit)
    )
    return [Due(*row) for row in connection.execute(query)]


def claim(connection: Connection, one: Due, now_us: int) -> bool:
    """Take a delivery for CLAIM_US; False if another worker has it."""
    values = {"next_us": now_us + CLAIM_US, "tries": one.tries + 1}
    return _change(connection, one, values, _d.next_us == one.next_us, _d.tries == one.tries)


def finish(connection: Connection, one: Due, state: str, now_us: int, error: str = "") -> None:
    """Close a delivery: opened, sent, skipped or failed."""
    _change(connection, one, {"state": state, "done_us": now_us, "error": error})


def postpone(connection: Connection, one: Due, until_us: int, error: str = "") -> None:
    """Try again then."""
    _change(connection, one, {"next_us": until_us, "error": error})


def _change(connection: Connection, one: Due, values: dict[str, Any], *more: Any) -> bool:
    where = (_d.alert == one.alert, _d.version == one.version, _d.sink == one.sink, _d.state == "due", *more)
    return connection.execute(update(deliveries).where(*where).values(**values)).rowcount == 1


def wait_us(tries: int) -> int:
    """Back-off after so many tries: 2 s, doubled each time, at most an hour."""
    return min(WAIT_MAX_US, FIRST_WAIT_US << min(tries - 1, 20))


def add_sinks(connection: Connection, one: Due, sinks: Sequence[tuple[str, str]], now_us: int) -> None:
    """Give an alert to its sinks, (id, target) each; a second time changes nothing."""
    dialect = sqlite if is_sqlite(connection) else postgresql
    for sink, target in sinks:
        values = {
            "alert": one.alert, "version": one.version, "sink": sink, "target": target, "state": "due", "tries": 0,
            "next_us": now_us, "error": "",
        }  # fmt: skip
        connection.execute(dialect.insert(deliveries).values(**values).on_conflict_do_nothing())
    finish(connection, one, "opened", now_us)


def is_newest(connection: Connection, one: Due) -> bool:
    """Whether no later version of the alert is queued."""
    return connection.execute(select(func.max(_d.version)).where(_d.alert == one.alert)).scalar() == one.version


def first_sent_us(connection: Connection, one: Due) -> int | None:
    """When this version of the alert was opened; the start of the time after which a delivery is given up."""
    query = select(_d.done_us).where(_d.alert == one.alert, _d.version == one.version, _d.sink == "")
    return connection.execute(query).scalar()


def last_told_us(connection: Connection, kind: str, subject: str) -> int | None:
    """When an alert of this kind about this subject last went out."""
    query = (
        select(func.max(_d.done_us))
        .join_from(deliveries, alerts, alerts.c.id == _d.alert)
        .where(alerts.c.kind == kind, alerts.c.subject == subject, _d.sink == "", _d.state == "opened")
    )
    return connection.execute(query).scalar()


def list_deliveries(connection: Connection, alert_id: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
    """Deliveries to sinks, the newest version last; times in UTC microseconds."""
    query = select(deliveries).where(_d.sink != "").order_by(_d.alert, _d.version, _d.sink).limit(limit)
    if alert_id is not None:
        query = query.where(_d.alert == alert_id)
    return [dict(row) for row in connection.execute(query).mappings()]

"""Alerts in the ledger: one row an incident, told apart by the alert's own id."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.alerting import Alert
from pipeline.ledger import outbox
from pipeline.ledger.deliveries import queue_delivery
from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import alerts

_a = alerts.c

EXPECTED: Final = "expected"
"""Feedback to an alert: it is as it should be."""


def insert_alerts(connection: Connection, found: Sequence[Alert]) -> list[Alert]:
    """Note the alerts; the ones that are new, have become a page or come back after they were resolved are returned,
    open, and queued for delivery and for their topic. A known incident only grows: told again, it has the newest
    detail, a later last time and a larger count."""
    told: dict[str, list[Alert]] = {}
    for alert in found:
        told.setdefault(alert.id, []).append(alert)
    new = []
    # In order of their ids, so that two workers with the same incidents wait for one another and do not lock up.
    for alert_id, alerts_ in sorted(told.items()):
        first, last = alerts_[0], alerts_[-1]
        page = any(alert.severity == "page" for alert in alerts_)
        known = None
        if not _made(connection, first, page=page):
            # Locked, so that of two workers that tell it at the same moment one sees what the other made of it.
            query = select(_a.severity, _a.state, _a.feedback).where(_a.id == alert_id).with_for_update()
            known = connection.execute(query).one()
        _tell(connection, last, page=page, count=len(alerts_))
        if known is None:
            new.append(replace(first, severity="page") if page else first)
        elif known.feedback == EXPECTED:
            continue  # a person said that this is as it should be: it is counted, and nobody is called
        elif page and known.severity != "page":
            new.append(next(alert for alert in alerts_ if alert.severity == "page"))
        elif known.state == "resolved":
            new.append(last)
    for alert in new:
        connection.execute(update(alerts).where(_a.id == alert.id, _a.state != "open").values(state="open"))
        version = queue_delivery(connection, alert.id)
        outbox.queue(connection, outbox.ALERTS, [(alert.id, version)])
    return new


def _made(connection: Connection, alert: Alert, *, page: bool) -> bool:
    """Make the incident's row, told by nobody yet; False if there is one."""
    statement = (sqlite if is_sqlite(connection) else postgresql).insert(alerts)
    statement = statement.values(
        id=alert.id,
        first_us=alert.at_us,
        last_us=alert.at_us,
        kind=alert.kind,
        severity="page" if page else alert.severity,
        subject=alert.subject,
        detail=alert.detail,
        facts="{}",
        state="open",
        count=0,
        muted_until_us=None,
        feedback="",
    )
    return connection.execute(statement.on_conflict_do_nothing().returning(_a.id)).first() is not None


def _tell(connection: Connection, last: Alert, *, page: bool, count: int) -> None:
    later = func.max if is_sqlite(connection) else func.greatest
    values = {
        "last_us": later(_a.last_us, last.at_us),
        "count": _a.count + count,
        "detail": last.detail,
        "facts": json.dumps(last.facts, sort_keys=True),
        **({"severity": "page"} if page else {}),
    }
    connection.execute(update(alerts).where(_a.id == last.id).values(**values))


def list_alerts(connection: Connection, *, state: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
    """Alerts, the oldest first; times in UTC microseconds."""
    query = select(alerts).order_by(_a.first_us, _a.id).limit(limit)
    if state is not None:
        query = query.where(_a.state == state)
    return [{**row, "facts": json.loads(row["facts"])} for row in map(dict, connection.execute(query).mappings())]


def change_alert(connection: Connection, alert_id: str, **values: Any) -> bool:
    """Ack, mute or mark an alert; False if there is none with this id."""
    return connection.execute(update(alerts).where(_a.id == alert_id).values(**values)).rowcount == 1


def find_alert(connection: Connection, alert_id: str) -> dict[str, Any] | None:
    """One alert with its facts; None if there is none with this id."""
    row = connection.execute(select(alerts).where(_a.id == alert_id)).mappings().first()
    return None if row is None else {**row, "facts": json.loads(row["facts"])}


def expected_leaks(connection: Connection) -> list[dict[str, Any]]:
    """Leak alerts that a person called expected, the oldest first."""
    query = select(alerts).where(_a.kind == "leak", _a.feedback == EXPECTED).order_by(_a.first_us, _a.id)
    return [{**row, "facts": json.loads(row["facts"])} for row in map(dict, connection.execute(query).mappings())]

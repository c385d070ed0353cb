"""Responses to leaks in the ledger: done with the state they bring about, released by a person or by time.

The state itself is in key_states, absolute and with a version, where admission and key.states read it; here is why it
is so, what its limits are and when it ends. Nothing here takes back a state that a person has set.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.key_states import set_key_state, state_row
from pipeline.ledger.tables import alerts, responses
from pipeline.response import BY, Response, throttle_quotas
from schemas.catalog import Quota

_r = responses.c

_RANK: Final = {"active": 0, "throttled": 1, "rotating": 2, "suspended": 3, "revoked": 4}
"""A response never takes a key to a milder state."""


def respond(
    connection: Connection, alert_id: str, version: int, response: Response, now_us: int, release_us: int | None
) -> str:
    """Do it, once a version of the alert; what to tell people was done. The same again changes nothing, but an incident
    that came back after it was resolved is a later version, and is answered anew."""
    one = (_r.subject == response.subject, _r.alert == alert_id)
    known = connection.execute(select(_r.detail, _r.version).where(*one)).first()
    if known is not None and known.version >= version:
        return str(known.detail)
    row = state_row(connection, response.subject)
    before = row["state"] if row else "active"
    if _RANK[before] >= _RANK[response.state] and not (before == response.state and _ours(row)):
        return f"{response.subject} was {before} already"
    limits = {"tenant": response.tenant, "key": response.key, **response.limits} if response.limits else {}
    insert = (sqlite if is_sqlite(connection) else postgresql).insert(responses)
    values = {
        "version": version, "action": response.action, "limits": json.dumps(limits), "detail": response.detail,
        "since_us": now_us, "release_us": release_us, "released_us": None,
    }  # fmt: skip
    statement = insert.values(subject=response.subject, alert=alert_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["subject", "alert"], set_=values))
    # Also where another incident has brought it about already: a throttle's limits are new to every reader.
    set_key_state(connection, response.subject, response.state, now_us, BY, f"{alert_id}: {response.detail}")
    return response.detail


def _ours(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["changed_by"] == BY


def release(connection: Connection, alert_id: str, now_us: int, who: str) -> list[str]:
    """End what the alert set off; the subjects that are active again."""
    rows = connection.execute(select(_r.subject, _r.alert).where(_r.alert == alert_id, _r.released_us.is_(None))).all()
    return _release(connection, [tuple(row) for row in rows], now_us, who)


def release_due(connection: Connection, now_us: int) -> list[str]:
    """End what was to end by itself by now, and what belongs to alerts that a person has resolved or called expected;
    the subjects that are active again."""
    return _release(connection, due_releases(connection, now_us), now_us, BY)


def due_releases(connection: Connection, now_us: int) -> list[tuple[str, str]]:
    """(subject, alert) of the responses that are over and not released yet."""
    over = select(alerts.c.id).where(or_(alerts.c.state == "resolved", alerts.c.feedback == "expected"))
    query = select(_r.subject, _r.alert).where(
        _r.released_us.is_(None), or_(_r.release_us <= now_us, _r.alert.in_(over))
    )
    return [(row.subject, row.alert) for row in connection.execute(query)]


def _release(connection: Connection, ended: list[tuple[str, str]], now_us: int, who: str) -> list[str]:
    freed = []
    for subject, alert_id in sorted(ended):
        one = (_r.subject == subject, _r.alert == alert_id, _r.released_us.is_(None))
        if connection.execute(update(responses).where(*one).values(released_us=now_us)).rowcount != 1:
            continue  # another worker was first
        others = connection.execute(select(_r.action).where(_r.subject == subject, _r.released_us.is_(None))).scalars()
        left = {"suspended" if action == "suspend" else "throttled" for action in others}
        row = state_row(connection, subject)
        if row is None or not _ours(row):
            continue  # a person has decided meanwhile
        state = max(left, key=lambda name: _RANK[name]) if left else "active"
        # What is left of other incidents is still a response, and is released as one.
        by = who if state == "active" else BY
        set_key_state(connection, subject, state, now_us, by, f"{alert_id}: released")
        if state == "active":
            freed.append(subject)
    return freed


def throttles(connection: Connection) -> dict[tuple[str, str], tuple[Quota, ...]]:
    """Throttles in force: (tenant, key) to quotas; of several the latest."""
    query = select(_r.limits).where(_r.released_us.is_(None), _r.action == "throttle").order_by(_r.since_us, _r.alert)
    found = {}
    for text in connection.execute(query).scalars():
        limits = json.loads(text)
        tenant, key = limits.pop("tenant"), limits.pop("key")
        found[tenant, key] = throttle_quotas(key, limits)
    return found


def list_responses(connection: Connection, alert_id: str | None = None) -> list[dict[str, Any]]:
    """Responses, the oldest first; times in UTC microseconds."""
    query = select(responses).order_by(_r.since_us, _r.alert, _r.subject)
    if alert_id is not None:
        query = query.where(_r.alert == alert_id)
    return [{**row, "limits": json.loads(row["limits"])} for row in map(dict, connection.execute(query).mappings())]

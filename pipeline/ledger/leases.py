"""Leases: reservations for a block of calls, which a proxy spends by itself.

A lease holds its block in the quotas' windows like any reservation. Usage that names it moves what it measured from
held to used, so that used + reserved stays what it was; the rest goes back when the lease is closed, or at its time to
live. It ends for new calls before that, and never after the first of its windows turns: a window's block must not be
spent in the next one, where nothing holds it.
"""

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, RowMapping, select, tuple_, update

from pipeline.admission import MAX_TTL_S, estimated
from pipeline.catalog import matches
from pipeline.context import Context, shown
from pipeline.ledger import windows
from pipeline.ledger.reservations import CHUNK, find
from pipeline.ledger.tables import quota_windows, reservations
from schemas.catalog import Quota
from schemas.instants import SECOND_US

_r, _w = reservations.c, quota_windows.c

PREFIX: Final = "lease_"
"""Every lease's id begins so: a batch of events that name none costs no look."""

Window = tuple[str, str, str, int]
"""scope, quota name, kind, window start."""


class Lease(NamedTuple):
    """A block that is held. granted: units by meter that its calls may use together; what no quota counts is not in it.

    until_us: no call begins at or after it. expires_us: what is left goes back.
    """

    id: str
    tenant: str
    key: str
    model: str
    granted: Mapping[str, Decimal]
    until_us: int
    expires_us: int
    open: bool = True


def is_lease(reservation: str | None) -> bool:
    """Whether usage that names this may be a lease's."""
    return reservation is not None and reservation.startswith(PREFIX)


def limited_meters(tenant: str, key: str, model: str, context: Context, now_us: int) -> set[str]:
    """Meters of the limited, blocking quotas on this tenant's use of the key and model: what a lease has to grant."""
    return {
        quota.meter
        for _, quota, _ in context.quotas(tenant, key, now_us)
        if quota.limit is not None and quota.action == "block" and matches(quota.models, model)
    }


def begin(
    connection: Connection, tenant: str, lease: str, meters: Collection[str], ttl_s: int, call_s: int, now_us: int
) -> Lease | None:
    """Make an open reservation a lease: calls begin for ttl_s at most, the hold lasts call_s longer. One that is a
    lease already is given as it is; None if there is no such open reservation.

    meters: which it grants. How much is read off what it holds, and not off what was asked: a repeat may ask for more.
    """
    row = _open(connection, tenant, lease, now_us)
    if row is None:
        return None
    if row["leased"] is not None:
        return _lease(dict(row), json.loads(row["leased"]), row["expires_us"])
    holds = json.loads(row["holds"])
    document = {
        "holds": holds,
        "granted": {meter: str(_held(holds, meter)) for meter in sorted(meters)},
        "call_us": call_s * SECOND_US,
        "until_us": 0,
    }
    return _prolong(connection, row, document, ttl_s, now_us)


def _held(holds: list[list[Any]], meter: str) -> Decimal:
    """What is held of a meter in each of its windows, as people read it."""
    units = min((int(hold[4]) for hold in holds if hold[2].partition("/")[0] == meter), default=0)
    return shown(meter, units)


def renew(connection: Connection, tenant: str, lease: str, ttl_s: int, now_us: int) -> Lease | None:
    """Let calls begin for ttl_s from now, within the windows of its block and a day of life; None if it has ended."""
    row = _open(connection, tenant, lease, now_us)
    if row is None or row["leased"] is None:
        return None
    document = json.loads(row["leased"])
    if document.get("closed"):
        return None
    return _prolong(connection, row, document, ttl_s, now_us)


def _open(connection: Connection, tenant: str, lease: str, now_us: int) -> RowMapping | None:
    """The row, locked until the transaction's end, if it is open and its time is not over."""
    query = select(reservations).where(_r.tenant == tenant, _r.id == lease, _r.state == "open", _r.expires_us > now_us)
    return connection.execute(query.with_for_update()).mappings().first()


def _prolong(connection: Connection, row: RowMapping, document: dict[str, Any], ttl_s: int, now_us: int) -> Lease:
    turn_us = _first_turn_us(connection, document["holds"])
    day_us = int(row["created_us"]) + MAX_TTL_S * SECOND_US - document["call_us"]
    until_us = min(now_us + ttl_s * SECOND_US, day_us, *(() if turn_us is None else (turn_us,)))
    document["until_us"] = max(document["until_us"], until_us)
    expires_us = document["until_us"] + document["call_us"]
    values = {"leased": json.dumps(document), "expires_us": expires_us}
    connection.execute(update(reservations).where(_r.tenant == row["tenant"], _r.id == row["id"]).values(**values))
    return _lease(dict(row), document, expires_us)


def _lease(row: Mapping[str, Any], document: Mapping[str, Any], expires_us: int) -> Lease:
    granted = {meter: Decimal(units) for meter, units in document["granted"].items()}
    return Lease(row["id"], row["tenant"], row["key"], row["model"], granted, document["until_us"], expires_us)


def _first_turn_us(connection: Connection, holds: list[list[Any]]) -> int | None:
    """When the first of the windows turns that hold something; None if none does."""
    where = [tuple(hold[:4]) for hold in holds]
    if not where:
        return None
    names = tuple_(_w.scope, _w.name, _w.kind, _w.start_us)
    ends = connection.execute(select(_w.end_us).where(names.in_(where))).scalars().all()
    return min(map(int, ends), default=None)


def close(connection: Connection, tenant: str, lease: str, spent: Mapping[str, Decimal], now_us: int) -> bool:
    """No call begins any more, and what its calls cannot use goes back; False if it has ended already.

    spent: upper bound by meter of all that its calls used and will use. What of it has not arrived stays held until it
    does, or until the time to live.
    """
    row = _open(connection, tenant, lease, now_us)
    if row is None or row["leased"] is None:
        return False
    document = json.loads(row["leased"])
    first = {tuple(hold[:4]): int(hold[4]) for hold in document["holds"]}
    kept, back = [], []
    for *window, units in json.loads(row["holds"]):
        arrived = first[tuple(window)] - units
        stays = min(units, max(0, _units(window[2], spent) - arrived))
        if stays:
            kept.append([*window, stays])
        if units > stays:
            back.append((*window, units - stays))
    values = {
        "holds": json.dumps(kept),
        "leased": json.dumps({**document, "closed": True}),
        "state": "open" if kept else "released",
    }
    connection.execute(update(reservations).where(_r.tenant == tenant, _r.id == lease).values(**values))
    windows.give_back(connection, sorted(back))
    return True


def _units(kind: str, amount: Mapping[str, Decimal]) -> int:
    """Units of a window's kind ("cost/*/month") that an amount by meter comes to, started ones whole."""
    meter = kind.partition("/")[0]
    quota = Quota(name="", meter=meter, limit=None, window="")
    return estimated(quota, {meter: amount.get(meter, Decimal(0))})


def spend(connection: Connection, measured: Mapping[tuple[str, str], Mapping[Window, int]]) -> None:
    """Move from held to used what usage has brought. measured: units by window of each (tenant, reservation) named.

    Only this ends the hold: adding to used is the caller's, in the same transaction. What is beyond the hold, or in
    another window than its own, finds nothing held. A correction downwards does not hold again.
    """
    back: dict[Window, int] = {}
    wanted = sorted(measured)
    for start in range(0, len(wanted), CHUNK):
        query = (
            select(_r.tenant, _r.id, _r.holds)
            .where(tuple_(_r.tenant, _r.id).in_(wanted[start : start + CHUNK]))
            .where(_r.state == "open", _r.leased.is_not(None))
            .order_by(_r.tenant, _r.id)
            .with_for_update()
        )
        for tenant, lease, holds in connection.execute(query).all():
            brought = measured[tenant, lease]
            left: list[list[Any]] = []
            for *window, units in json.loads(holds):
                at: Window = (window[0], window[1], window[2], int(window[3]))
                moved = min(units, max(0, brought.get(at, 0)))
                back[at] = back.get(at, 0) + moved
                left.append([*window, units - moved])
            change = update(reservations).where(_r.tenant == tenant, _r.id == lease)
            connection.execute(change.values(holds=json.dumps(left)))
    windows.give_back(connection, [(*at, units) for at, units in sorted(back.items()) if units])


def known(connection: Connection, tenant: str, lease: str) -> Lease | None:
    """The lease; None if there never was one of this id. open: whether it is held and not closed, whatever the time."""
    row = find(connection, tenant, lease)
    if row is None or row["leased"] is None:
        return None
    document = json.loads(row["leased"])
    is_open = row["state"] == "open" and not document.get("closed")
    return _lease(dict(row), document, int(row["expires_us"]))._replace(open=is_open)

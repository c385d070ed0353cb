"""Quota windows against the ledger: used against a recount of what was counted, reserved against the open holds.

Both counters are kept by increments, in the transactions that cause them, so they should never differ. This recounts
them from what they were made of, reports what differs, and puts it right.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select, update

from pipeline.admission import BUCKET
from pipeline.context import Context, WindowKey
from pipeline.ledger import dropped, windows
from pipeline.ledger.key_states import audit
from pipeline.ledger.tables import quota_windows, reservations

_w, _r = quota_windows.c, reservations.c

ROOM: Final = "room:"
"""Windows of a provider's limits a minute: nothing is counted in them and nothing returned, they pass."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A window whose counters differ from what they are made of; units as in the table."""

    window: WindowKey
    used: int
    counted: int
    reserved: int
    held: int


@dataclass(frozen=True, slots=True)
class Checked:
    """windows: how many were compared. skipped: of quotas that the catalog no longer has, so nothing to count by, and
    of months whose events were dropped, so nothing to count."""

    windows: int
    skipped: int
    drifts: tuple[Drift, ...]


def check_quotas(connection: Connection, context: Context) -> Checked:
    """Compare every window, past ones included, in the connection's one view."""
    held = _held(connection)
    gone = dropped.floors(connection)
    compared, skipped, drifts = 0, 0, []
    order = (_w.scope, _w.name, _w.kind, _w.start_us)
    rows = connection.execute(select(quota_windows).order_by(*order)).mappings().all()
    for row in rows:
        if row["scope"].startswith((ROOM, BUCKET)):
            continue
        window = WindowKey(row["scope"], row["name"], row["kind"], row["start_us"], row["end_us"])
        quota = windows.quota_of(window, context)
        if quota is None or window.start_us < dropped.floor_of(gone, window.scope):
            skipped += 1
            continue
        compared += 1
        counted = windows.counted(connection, window, quota, context)
        holds = held.get(window[:4], 0)
        if (row["used"], row["reserved"]) != (counted, holds):
            drifts.append(Drift(window, row["used"], counted, row["reserved"], holds))
    return Checked(compared, skipped, tuple(drifts))


def repair_quotas(connection: Connection, context: Context, now_us: int, who: str) -> Checked:
    """Check, and set what differs to what it should be: each window is written to the audit log.

    connection: a writing transaction. Every window is locked before anything is counted, so nothing is counted or held
    between the comparison and the repair.
    """
    order = (_w.scope, _w.name, _w.kind, _w.start_us)
    connection.execute(select(_w.version).order_by(*order).with_for_update()).all()
    checked = check_quotas(connection, context)
    for drift in checked.drifts:
        scope, name, kind, start_us, _ = drift.window
        at = (_w.scope == scope, _w.name == name, _w.kind == kind, _w.start_us == start_us)
        values: dict[str, Any] = {"used": drift.counted, "reserved": drift.held, "version": _w.version + 1}
        connection.execute(update(quota_windows).where(*at).values(values))
        detail = f"used {drift.used} to {drift.counted}, reserved {drift.reserved} to {drift.held}"
        audit(connection, now_us, who, "quota.repair", f"{scope}/{name}/{start_us}", detail)
    return checked


def _held(connection: Connection) -> dict[tuple[Any, ...], int]:
    """Units by (scope, name, kind, window start) that open reservations hold."""
    found: dict[tuple[Any, ...], int] = defaultdict(int)
    for holds in connection.execute(select(_r.holds).where(_r.state == "open")).scalars():
        for scope, name, kind, start_us, units in json.loads(holds):
            found[scope, name, kind, start_us] += units
    return found

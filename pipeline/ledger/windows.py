"""Quota windows: used and reserved units, changed by single statements only.

On PostgreSQL the counters are exact at any size. On SQLite they stop at UNITS_MAX (some 4.6 million of the currency in
one window of a cost quota): past it a window stays full instead of an event that no counter can hold stopping the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.context import Context, Meterable, WindowKey, measured
from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.readers import usage_rows
from pipeline.ledger.tables import quota_windows
from schemas.catalog import Quota

_w = quota_windows.c
_KEY: Final = ("scope", "name", "kind", "start_us")

UNITS_MAX: Final = 2**62
"""Two of these still add up within SQLite's 64 bits."""
CHUNK: Final = 500
"""Windows in one statement: 500 of 7 values stay well below SQLite's 32,766 bound values."""


class WindowRow(NamedTuple):
    """A window's state: units used, units reserved, and a version that grows with every change."""

    used: int
    reserved: int
    version: int


class Delta(NamedTuple):
    """Units metered anew in a window (negative for a correction)."""

    window: WindowKey
    quota: Quota
    units: int


def _where(window: WindowKey) -> Mapping[str, object]:
    return {"scope": window.scope, "name": window.name, "kind": window.kind, "start_us": window.start_us}


def _bounded(connection: Connection, units: int) -> int:
    return max(-UNITS_MAX, min(UNITS_MAX, units)) if is_sqlite(connection) else units


def ensure(connection: Connection, window: WindowKey, quota: Quota, context: Context) -> bool:
    """Make the window if it is missing, and say so. One that began before the catalog did starts from the usage
    already there."""
    found = connection.execute(select(_w.version).where(*(_w[name] == v for name, v in _where(window).items())))
    missing = found.first() is None
    if missing:
        used = already_used(connection, window, quota, context) if context.applied_us > window.start_us else 0
        insert = (sqlite if is_sqlite(connection) else postgresql).insert(quota_windows)
        values = {**_where(window), "end_us": window.end_us, "used": _bounded(connection, used)}
        connection.execute(insert.values(**values, reserved=0, version=0).on_conflict_do_nothing())
    return missing


def already_used(connection: Connection, window: WindowKey, quota: Quota, context: Context) -> int:
    """What the ledger's usage comes to in the window, at the context's prices, while the quota applied to it."""
    kind, _, name = window.scope.partition(":")
    tenants = [name] if kind == "tenant" else list(context.catalog.tenants)
    total = 0
    for tenant in tenants:
        for row in usage_rows(connection, tenant, window.start_us, window.end_us):
            if kind == "key" and row.key != name:
                continue
            if not any((s, q.name) == window[:2] for s, q, _ in context.quotas(tenant, row.key, row.time_us)):
                continue  # a quota of a plan that the tenant was not on at that time
            cost = context.cost_units(
                (row.provider, row.model, row.service_tier, row.time_us, row.size_band, row.classes), pooled=row.pooled
            )
            total += measured(quota, Meterable(row.model, row.classes, row.requests, cost))
    return total


def counted(connection: Connection, window: WindowKey, quota: Quota, context: Context) -> int:
    """`already_used`, as far as this database's counter reaches."""
    return _bounded(connection, already_used(connection, window, quota, context))


def recount_costs(connection: Connection, context: Context, now_us: int) -> int:
    """Count the open windows of cost quotas anew: after new prices, what is in them was priced by the old ones."""
    rows = connection.execute(
        select(_w.scope, _w.name, _w.kind, _w.start_us, _w.end_us).where(_w.end_us > now_us, _w.kind.like("cost/%"))
    ).all()
    changed = 0
    for row in rows:
        window = WindowKey(*row)
        quota = quota_of(window, context)
        if quota is not None:
            used = counted(connection, window, quota, context)
            at = (_w[name] == value for name, value in _where(window).items())
            statement = quota_windows.update().where(*at, _w.used != used)
            changed += connection.execute(statement.values(used=used, version=_w.version + 1)).rowcount
    return changed


def quota_of(window: WindowKey, context: Context) -> Quota | None:
    """The catalog's quota that the window belongs to, if it still has it."""
    kind, _, name = window.scope.partition(":")
    tenant, key = (name, "") if kind == "tenant" else ("", name)
    for at_us in (window.end_us - 1, window.start_us):
        for scope, quota, _ in context.quotas(tenant, key, at_us):
            if (scope, quota.name, f"{quota.meter}/{quota.models}/{quota.window}") == window[:3]:
                return quota
    return None


def add_used(connection: Connection, deltas: Sequence[Delta], context: Context) -> list[WindowRow]:
    """Add metered units to windows, each once; their states after it, in the same order."""
    for delta in deltas:
        if context.applied_us > delta.window.start_us:
            ensure(connection, delta.window, delta.quota, context)
    found: dict[tuple[Any, ...], WindowRow] = {}
    for start in range(0, len(deltas), CHUNK):
        part = deltas[start : start + CHUNK]
        values = [v for d in part for v in (*d.window, _bounded(connection, d.units))]
        # The text by hand: SQLAlchemy makes a statement of hundreds of rows anew each time, a tenth of a batch's time.
        for row in connection.exec_driver_sql(_add_statement(len(part), sqlite=is_sqlite(connection)), tuple(values)):
            found[tuple(row[:4])] = WindowRow(*map(int, row[4:]))
    return [found[tuple(_where(delta.window).values())] for delta in deltas]


def _add_statement(rows: int, *, sqlite: bool) -> str:
    used = "quota_windows.used + excluded.used"
    if sqlite:
        used = f"max(min({used}, {UNITS_MAX}), -{UNITS_MAX})"
    mark = "?" if sqlite else "%s"
    one = f"({', '.join([mark] * 6)}, 0, 1)"
    return (
        "INSERT INTO quota_windows (scope, name, kind, start_us, end_us, used, reserved, version) "
        f"VALUES {', '.join([one] * rows)} ON CONFLICT (scope, name, kind, start_us) "
        f"DO UPDATE SET used = {used}, version = quota_windows.version + 1 "
        "RETURNING scope, name, kind, start_us, used, reserved, version"
    )


_RESERVE: Final = text(
    "UPDATE quota_windows SET reserved = reserved + :units, version = version + 1 "
    "WHERE scope = :scope AND name = :name AND kind = :kind AND start_us = :start_us "
    "AND used + reserved + :units <= :limit RETURNING used, reserved, version"
)
_HOLD: Final = text(
    "UPDATE quota_windows SET reserved = reserved + :units, version = version + 1 "
    "WHERE scope = :scope AND name = :name AND kind = :kind AND start_us = :start_us "
    "RETURNING used, reserved, version"
)


def reserve(connection: Connection, window: WindowKey, units: int, limit: int | None) -> WindowRow | None:
    """Hold the units if used + reserved + units is within the limit (None: always): decided by this one statement.

    units: 0 to UNITS_MAX // 4 (admission sees to it). None: refused.
    """
    values: dict[str, object] = {"units": units, **_where(window)}
    if limit is not None:
        values["limit"] = min(limit, UNITS_MAX - 1) if is_sqlite(connection) else limit
    row = connection.execute(_HOLD if limit is None else _RESERVE, values).first()
    return WindowRow(*map(int, row)) if row is not None else None


_GIVE_BACK: Final = text(
    "UPDATE quota_windows SET reserved = reserved - :units, version = version + 1 "
    "WHERE scope = :scope AND name = :name AND kind = :kind AND start_us = :start_us"
)


def give_back(connection: Connection, holds: Sequence[tuple[str, str, str, int, int]]) -> None:
    """End holds (scope, name, kind, window start, units): exactly what they held goes back to their windows."""
    if holds:
        names = (*_KEY, "units")
        connection.execute(_GIVE_BACK, [dict(zip(names, hold, strict=True)) for hold in holds])


def state_of(connection: Connection, window: WindowKey) -> WindowRow:
    """The window as it is; all zero if nothing happened in it yet."""
    row = connection.execute(
        select(_w.used, _w.reserved, _w.version).where(*(_w[name] == value for name, value in _where(window).items()))
    ).first()
    return WindowRow(*row) if row is not None else WindowRow(0, 0, 0)


def states_of(connection: Connection, wanted: Sequence[WindowKey]) -> dict[tuple[str, str, str, int], WindowRow]:
    """Many windows as they are, by scope, name, kind and start; those in which nothing happened yet are not there."""
    found: dict[tuple[str, str, str, int], WindowRow] = {}
    one = "(?, ?, ?, ?)" if is_sqlite(connection) else "(%s::text, %s::text, %s::text, %s::bigint)"
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        rows = connection.exec_driver_sql(
            "SELECT w.scope, w.name, w.kind, w.start_us, w.used, w.reserved, w.version "
            f"FROM (VALUES {', '.join([one] * len(part))}) v CROSS JOIN quota_windows w WHERE w.scope = v.column1 "
            "AND w.name = v.column2 AND w.kind = v.column3 AND w.start_us = v.column4",
            tuple(value for window in part for value in window[:4]),
        )
        found.update(((row[0], row[1], row[2], row[3]), WindowRow(*map(int, row[4:]))) for row in rows)
    return found

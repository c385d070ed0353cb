"""Token buckets on the ledger: the instant at which a bucket is full again, moved on by single conditional statements.

They lie among the quota windows (scope `rate:…`, `used`: nanoseconds UTC), so that the statement that holds a call's
quotas draws from its buckets as well. What was drawn is not given back by a release: a bucket fills by itself.
"""

from typing import Final

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.admission import BUCKET_END_US, Check
from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import quota_windows

_w = quota_windows.c
_AT: Final = "WHERE scope = :scope AND name = :name AND kind = :kind AND start_us = :start_us"
_DRAW: Final = {
    most: text(
        f"UPDATE quota_windows SET used = {most}(used, :floor) + :units, version = version + 1 {_AT} "
        f"AND {most}(used, :floor) - :floor + :units <= :limit RETURNING used"
    )
    for most in ("max", "greatest")
}
_UNDO: Final = text(f"UPDATE quota_windows SET used = used - :units, version = version + 1 {_AT}")


def _where(check: Check) -> dict[str, object]:
    window = check.window
    return {"scope": window.scope, "name": window.name, "kind": window.kind, "start_us": window.start_us}


def ensure(connection: Connection, check: Check) -> None:
    """Make the bucket if it is missing: full."""
    insert = (sqlite if is_sqlite(connection) else postgresql).insert(quota_windows)
    values = {**_where(check), "end_us": BUCKET_END_US, "used": 0, "reserved": 0, "version": 0}
    connection.execute(insert.values(**values).on_conflict_do_nothing())


def draw(connection: Connection, check: Check) -> int | None:
    """Take what the call needs if the bucket holds it; how much of the bucket is taken then. None: refused."""
    ensure(connection, check)
    values = {**_where(check), "units": check.units, "limit": check.limit, "floor": check.floor}
    used = connection.execute(_DRAW["max" if is_sqlite(connection) else "greatest"], values).scalar()
    return int(used) - check.floor if used is not None and check.floor is not None else None


def undo(connection: Connection, check: Check) -> None:
    """Put back what was drawn in this same transaction, for a call that another limit refused."""
    connection.execute(_UNDO, {**_where(check), "units": check.units})


def taken(connection: Connection, check: Check) -> int:
    """How much of the bucket is taken."""
    query = select(_w.used).where(*(_w[name] == value for name, value in _where(check).items()))
    used, floor = connection.execute(query).scalar(), check.floor or 0
    return max(0, int(used or 0) - floor)

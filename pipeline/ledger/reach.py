"""How far a tenant's rollups are summed up to days and months, and what of that holds.

A stretch of time is read as the coarsest sums that cover it: months, days, quarters of an hour, single events. Sums of
days and months are by the tenant's local calendar, so that a month is one row of each kind of usage, and they follow
the quarters: usage that comes into a day after it was summed up leaves a mark in the same transaction, and the marked
day is read from its quarters until it is summed up again (compaction.py).
"""

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.rows import add_sums, insert_many
from pipeline.ledger.tables import compacted, late_quarters
from schemas.instants import QUARTER_US
from schemas.periods import Period, window_period

EVENTS, QUARTERS, DAYS, MONTHS = range(4)
"""Grains, from single events to the coarsest sums."""
_WINDOWS: Final = {DAYS: "day", MONTHS: "month"}

EVERYBODY: Final = ""
"""The row of `compacted` that says how far anybody's days were ever summed up; it never goes back."""

_c, _l = compacted.c, late_quarters.c


class Reach(NamedTuple):
    """Of one tenant: everything before the two instants is summed up by its zone's calendar, but for the stale starts.

    stale: (grain, start) of days and months that have to be read from finer sums.
    """

    zone: str
    days_until_us: int
    months_until_us: int
    stale: frozenset[tuple[int, int]] = frozenset()


class Piece(NamedTuple):
    """[start_us, end_us) and the grain that covers it."""

    start_us: int
    end_us: int
    grain: int


class Stretch(NamedTuple):
    """[start_us, end_us) of a tenant, and the number of the group that its sums belong to."""

    group: int
    tenant: str
    start_us: int
    end_us: int


@lru_cache(maxsize=65_536)
def unit_of(grain: int, instant_us: int, zone: str) -> Period:
    """The local day or month that holds the instant; tenants of one zone ask for the same ones."""
    return window_period(_WINDOWS[grain], instant_us, zone)


def first_from(grain: int, instant_us: int, zone: str) -> int:
    """The first start of a local day or month at or after the instant."""
    unit = unit_of(grain, instant_us, zone)
    return instant_us if unit.start_us == instant_us else unit.end_us


def reaches(connection: Connection, tenant: str | Collection[str] | None = None) -> dict[str, Reach]:
    """How far each tenant's sums reach, of one tenant, of some or of all."""
    known, late = select(compacted), select(_l.tenant, _l.quarter_us).where(_l.changes > _l.done)
    if tenant is None:
        known = known.where(_c.tenant != EVERYBODY)
    else:
        names = [tenant] if isinstance(tenant, str) else list(tenant)
        known, late = known.where(_c.tenant.in_(names)), late.where(_l.tenant.in_(names))
    c = _c.tenant, _c.zone, _c.days_until_us, _c.months_until_us
    found = {name: Reach(*rest) for name, *rest in connection.execute(known.with_only_columns(*c)).fetchall()}
    stale: dict[str, set[tuple[int, int]]] = {}
    for name, quarter_us in connection.execute(late):
        reach = found.get(name)
        if reach is not None and quarter_us < reach.days_until_us:
            marks = stale.setdefault(name, set())
            marks.update((grain, unit_of(grain, quarter_us, reach.zone).start_us) for grain in (DAYS, MONTHS))
    return found | {name: found[name]._replace(stale=frozenset(marks)) for name, marks in stale.items()}


def pieces(reach: Reach | None, zone: str, start_us: int, end_us: int, coarsest: int = MONTHS) -> list[Piece]:
    """[start_us, end_us) without gap or overlap, in order of time, in grains up to the coarsest.

    zone: the tenant's now. Sums by another zone's calendar are of no use until they are made anew.
    """
    if reach is None or reach.zone != zone:
        return _cut(_NOWHERE, start_us, end_us, min(coarsest, QUARTERS))
    return _cut(reach, start_us, end_us, coarsest)


_NOWHERE: Final = Reach("UTC", 0, 0)


def _cut(reach: Reach, start_us: int, end_us: int, grain: int) -> list[Piece]:
    if start_us >= end_us:
        return []
    if grain == EVENTS:
        return [Piece(start_us, end_us, EVENTS)]
    if grain == QUARTERS:
        first, last = -(-start_us // QUARTER_US) * QUARTER_US, end_us - end_us % QUARTER_US
    else:
        until_us = reach.days_until_us if grain == DAYS else reach.months_until_us
        first = first_from(grain, start_us, reach.zone)
        last = min(unit_of(grain, end_us, reach.zone).start_us, until_us)
    if first >= last:
        return _cut(reach, start_us, end_us, grain - 1)
    found = _cut(reach, start_us, first, grain - 1)
    at_us = first
    for stale_us in sorted(start for of, start in reach.stale if of == grain and first <= start < last):
        if at_us < stale_us:
            found.append(Piece(at_us, stale_us, grain))
        at_us = unit_of(grain, stale_us, reach.zone).end_us
        found += _cut(reach, stale_us, at_us, grain - 1)
    if at_us < last:
        found.append(Piece(at_us, last, grain))
    return found + _cut(reach, last, end_us, grain - 1)


def mark_late(connection: Connection, quarters: Iterable[tuple[str, int]]) -> None:
    """Note usage that came into quarters (tenant, start) whose day may be summed up already.

    In the transaction that changes their rollups. Its tenants' locks are held, so that no day of theirs is summed up
    between this look and the commit; that a day of another tenant is, does no harm.
    """
    until_us = connection.exec_driver_sql("SELECT days_until_us FROM compacted WHERE tenant = ''").scalar()
    if until_us is None:
        return
    late = sorted({(tenant, quarter_us) for tenant, quarter_us in quarters if quarter_us < until_us})
    rows = [(*one, 1, 0) for one in late]
    add_sums(connection, late_quarters, ("tenant", "quarter_us"), ("changes", "done"), rows)


def late_changes(connection: Connection, tenants: Collection[str]) -> dict[str, list[tuple[int, int]]]:
    """By tenant: quarters into which usage came after their day was over and summed up, and how often. While a tenant's
    days are summed up beyond a stretch of time, its usage there changes only as these do."""
    found: dict[str, list[tuple[int, int]]] = {}
    query = select(_l.tenant, _l.quarter_us, _l.changes).where(_l.tenant.in_(list(tenants)))
    for tenant, quarter_us, changes in connection.execute(query):
        found.setdefault(tenant, []).append((quarter_us, changes))
    return found


def placed(connection: Connection, stretches: Sequence[Stretch]) -> tuple[str, tuple[list[object], ...]]:
    """Stretches as something to select from, `p (n, tenant, lo, hi)`, and the parameters of that text."""
    if is_sqlite(connection):
        connection.exec_driver_sql("CREATE TEMP TABLE IF NOT EXISTS stretches (n INT, tenant TEXT, lo INT, hi INT)")
        connection.exec_driver_sql("DELETE FROM stretches")
        insert_many(connection, "INSERT INTO stretches VALUES", 4, stretches)
        return "stretches p", ()
    columns = tuple(list(column) for column in zip(*stretches, strict=True))
    return "unnest(%s::int[], %s::text[], %s::bigint[], %s::bigint[]) AS p(n, tenant, lo, hi)", columns

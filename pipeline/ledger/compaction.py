"""Rollups summed up to days and months of each tenant's local calendar, once the days are over.

Nothing depends on it but speed: what is not summed up is read from the quarters. A day is summed up anew when usage
came into it later, and all of a tenant's days when its time zone changed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, delete, func, literal, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from pipeline.ledger.engine import LedgerUnavailable, is_sqlite, reading, run_transaction
from pipeline.ledger.reach import DAYS, EVERYBODY, MONTHS, Reach, Stretch, first_from, placed, reaches, unit_of
from pipeline.ledger.sums import usage_bounds
from pipeline.ledger.tables import ROLLUP_SUMS, compacted, late_quarters, rollup_days, rollup_months, rollups
from pipeline.ledger.turns import lock_tenants
from schemas.instants import HOUR_US, MINUTE_US, format_instant
from schemas.periods import Period

SETTLE_US: Final = HOUR_US
"""How long after its end a day is summed up: most of what is late comes within minutes, and would make it stale."""
DAYS_MAX: Final = 200
"""Days in one transaction: some 30,000 rollups of busy tenants, a tenth of a second in which their events wait."""
TENANTS_MAX: Final = 50
"""Tenants in one transaction, whose locks it takes."""
CHECK_US: Final = 10 * MINUTE_US
"""How often is looked whether a day is over that was not, once there was nothing left to do."""
TRANSACTIONS: Final = 20
"""At most so many at a time: a year of a thousand tenants, should it be new, is done in minutes beside the rest."""

_r, _l, _c = rollups.c, late_quarters.c, compacted.c
_KINDS: Final = ("key", "provider", "model", "service_tier", "size_band", "pooled")


def compact(
    engine: Engine, zones: Mapping[str, str], now_us: int, transactions: int | None = TRANSACTIONS
) -> int | None:
    """Sum up what is over and not summed up yet; how many days, None where another process is at it.

    zones: time zone by tenant; UTC for one that is not in it. transactions: at most so many (None: until all is done).
    """
    with reading(engine) as connection:
        due = _due(connection, zones, now_us)
    days, size = 0, TENANTS_MAX
    while due and (transactions is None or transactions > 0):
        batch = due[:size]
        try:
            done = run_transaction(engine, lambda connection: _sum_up(connection, batch, zones, now_us))  # noqa: B023 - runs now
        except (DBAPIError, LedgerUnavailable) as error:
            if not _too_large(error):
                raise
            # Counts that no column can hold: their tenant alone stays as it is, and is read from its quarters.
            due, size = due[1:] if size == 1 else due, 1
            continue
        if done is None:
            return None
        days += done.days
        due = [tenant for tenant in due if tenant not in done.tenants]
        transactions = None if transactions is None else transactions - 1
    return days


def _too_large(error: Exception) -> bool:
    """Whether a sum passes 64 bits: some thousand of the largest events that there can be."""
    return any(text in str(error) for text in ("integer overflow", "bigint out of range"))


def has_stale(connection: Connection) -> bool:
    """Whether usage came into a day that was summed up before."""
    late = select(_l.tenant).join(compacted, _c.tenant == _l.tenant)
    late = late.where(_l.changes > _l.done, _l.quarter_us < _c.days_until_us)
    return connection.execute(late.limit(1)).first() is not None


def take_turn(connection: Connection) -> None:
    """Wait until nobody sums up, and keep them waiting: for one who changes rollups other than by new events."""
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tollhouse compaction'))"))


def mark_model(connection: Connection, provider: str, model: str) -> None:
    """Note that the rollups of a model are about to be made anew: the days that have any are no longer right."""
    late = select(_r.tenant, _r.quarter_us).where(_r.provider == provider, _r.model == model).distinct()
    rows = [(*row, 1, 0) for row in connection.execute(late)]
    insert = (sqlite if is_sqlite(connection) else postgresql).insert(late_quarters)
    statement = insert.on_conflict_do_update(
        index_elements=["tenant", "quarter_us"], set_={"changes": _l.changes + insert.excluded.changes}
    )
    if rows:
        names = ("tenant", "quarter_us", "changes", "done")
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])


def _target(zone: str, now_us: int) -> int:
    """The midnight until which days are over for good."""
    return unit_of(DAYS, now_us - SETTLE_US, zone).start_us


def _due(connection: Connection, zones: Mapping[str, str], now_us: int) -> list[str]:
    known = reaches(connection)
    found = []
    for tenant, bounds in usage_bounds(connection).items():
        zone, reach = zones.get(tenant, "UTC"), known.get(tenant)
        target_us = _target(zone, now_us)
        if reach is None:
            # Not before a day of it is over: a new ledger's tenants are many, and events wait for their locks.
            due = unit_of(DAYS, bounds.start_us, zone).start_us < target_us
        else:
            due = reach.zone != zone or bool(reach.stale) or reach.days_until_us < target_us
        if due:
            found.append(tenant)
    return found


class _Done(NamedTuple):
    """Days that were summed up, and the tenants that have none left to do."""

    days: int
    tenants: frozenset[str]


def _sum_up(connection: Connection, tenants: Sequence[str], zones: Mapping[str, str], now_us: int) -> _Done | None:
    if not _turn(connection, tenants):
        return None
    known = reaches(connection)
    room, finished = DAYS_MAX, set()
    days, months = _Work(), _Work()
    after: dict[str, Reach] = {}
    for tenant in tenants:
        if room <= 0:
            break
        zone, reach = zones.get(tenant, "UTC"), known.get(tenant)
        if reach is None or reach.zone != zone:
            for table in (rollup_days, rollup_months):
                connection.execute(delete(table).where(table.c.tenant == tenant))
            reach = _from_the_start(connection, tenant, zone)
        before = len(days.stretches)
        target_us = _target(zone, now_us)
        days.again(tenant, reach, DAYS, reach.days_until_us)
        until_us = days.further(tenant, zone, DAYS, reach.days_until_us, target_us, room)
        room -= len(days.stretches) - before
        months.again(tenant, reach, MONTHS, reach.months_until_us)
        last_us = unit_of(MONTHS, until_us, zone).start_us
        after[tenant] = Reach(zone, until_us, months.further(tenant, zone, MONTHS, reach.months_until_us, last_us))
        if until_us >= target_us:
            finished.add(tenant)
    days.write(connection, rollups, "quarter_us", rollup_days)
    months.write(connection, rollup_days, "start_us", rollup_months)
    _note(connection, after)
    return _Done(len(days.stretches), frozenset(finished))


def _turn(connection: Connection, tenants: Iterable[str]) -> bool:
    """One process sums up at a time, and with the tenants' locks held no event of theirs is counted meanwhile."""
    if is_sqlite(connection):
        return True
    asked = text("SELECT pg_try_advisory_xact_lock(hashtext('tollhouse compaction'))")
    if not connection.execute(asked).scalar_one():
        return False
    lock_tenants(connection, tenants)
    return True


def _from_the_start(connection: Connection, tenant: str, zone: str) -> Reach:
    """Nothing summed up yet: from the day and month of the tenant's first usage on."""
    first_us = connection.execute(select(func.min(_r.quarter_us)).where(_r.tenant == tenant)).scalar_one()
    return Reach(zone, unit_of(DAYS, first_us, zone).start_us, unit_of(MONTHS, first_us, zone).start_us)


class _Work:
    """Days, or months, to be summed up in one transaction. stale: those of them that have sums already."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.stale: list[tuple[str, int]] = []

    def again(self, tenant: str, reach: Reach, grain: int, until_us: int) -> None:
        """The stale ones before the instant; a later one is yet to be summed up for the first time."""
        for start_us in sorted(start for of, start in reach.stale if of == grain and start < until_us):
            self.stale.append((tenant, start_us))
            self._add(tenant, start_us, unit_of(grain, start_us, reach.zone).end_us)

    def further(self, tenant: str, zone: str, grain: int, from_us: int, until_us: int, most: int = 10**6) -> int:
        """Those that follow, from one instant to another; where they end."""
        at_us = first_from(grain, from_us, zone)
        while at_us < until_us and most > 0:
            end_us = unit_of(grain, at_us, zone).end_us
            self._add(tenant, at_us, end_us)
            at_us, most = end_us, most - 1
        return at_us

    def _add(self, tenant: str, start_us: int, end_us: int) -> None:
        self.stretches.append(Stretch(0, tenant, start_us, end_us))

    def write(self, connection: Connection, source: Table, at: str, target: Table) -> None:
        """Sums of the source's rows, whose time is in the column `at`, into the target."""
        t = target.c
        for tenant, start_us in self.stale:
            connection.execute(delete(target).where(t.tenant == tenant, t.start_us == start_us))
        if not self.stretches:
            return
        kinds = ", ".join(f't."{name}"' for name in _KINDS)
        names = ", ".join(f'"{name}"' for name in ("tenant", "start_us", *_KINDS, *ROLLUP_SUMS))
        sums = ", ".join(f'sum(t."{name}")' for name in ROLLUP_SUMS)
        place, values = placed(connection, self.stretches)
        connection.exec_driver_sql(
            f'INSERT INTO "{target.name}" ({names}) SELECT p.tenant, p.lo, {kinds}, {sums} '
            f'FROM {place} CROSS JOIN "{source.name}" t '
            f'WHERE t.tenant = p.tenant AND t."{at}" >= p.lo AND t."{at}" < p.hi GROUP BY p.tenant, p.lo, {kinds}',
            values,
        )


def _note(connection: Connection, after: Mapping[str, Reach]) -> None:
    """Keep how far the sums reach now; what was late before is in them."""
    insert = (sqlite if is_sqlite(connection) else postgresql).insert(compacted)
    names = ("zone", "days_until_us", "months_until_us")
    farthest_us = connection.execute(select(_c.days_until_us).where(_c.tenant == EVERYBODY)).scalar() or 0
    farthest_us = max(farthest_us, *(reach.days_until_us for reach in after.values()))
    for tenant, reach in (*after.items(), (EVERYBODY, Reach("UTC", farthest_us, 0))):
        values = dict(zip(names, reach[:3], strict=True))
        connection.execute(
            insert.values(tenant=tenant, **values).on_conflict_do_update(index_elements=["tenant"], set_=values)
        )
        connection.execute(
            update(late_quarters)
            .where(_l.tenant == tenant, _l.changes > _l.done, _l.quarter_us < reach.days_until_us)
            .values(done=_l.changes)
        )


def differences(connection: Connection) -> Iterator[str]:
    """Where sums of days and months are not what they were made of, or are of no day or month that is summed up. Those
    that are known to be stale are passed over: nothing reads them."""
    known = reaches(connection)
    for tenant in sorted(known):
        reach = known[tenant]
        for grain, source, at, table in (
            (DAYS, rollups, "quarter_us", rollup_days),
            (MONTHS, rollup_days, "start_us", rollup_months),
        ):
            until_us = reach.days_until_us if grain == DAYS else reach.months_until_us
            times = set(_column(connection, source, at, tenant, until_us))
            starts = {unit_of(grain, time_us, reach.zone).start_us for time_us in times}
            stale = {start_us for of, start_us in reach.stale if of == grain}
            # Made of days that are stale themselves, a month has nothing to be compared with.
            said = _rows(connection, table, "start_us", tenant, None)
            for start_us in sorted((starts | set(said)) - stale):
                unit = unit_of(grain, start_us, reach.zone)
                name = f"{tenant}: the {'day' if grain == DAYS else 'month'} from {format_instant(start_us)}"
                if unit.start_us != start_us or unit.end_us > until_us:
                    yield f"{name} is not over, or none of {reach.zone}"
                elif said.get(start_us, {}) != _rows(connection, source, at, tenant, unit).get(0, {}):
                    yield f"{name} is not the sum of what it is made of"


def _column(connection: Connection, table: Table, at: str, tenant: str, until_us: int) -> Iterable[int]:
    t = table.c
    return connection.execute(select(t[at]).where(t.tenant == tenant, t[at] < until_us).distinct()).scalars()


def _rows(
    connection: Connection, table: Table, at: str, tenant: str, unit: Period | None
) -> dict[int, dict[tuple[object, ...], tuple[int, ...]]]:
    """The tenant's rows by start and kind; of one unit, summed up and under 0."""
    t = table.c
    kinds, sums = [t[name] for name in _KINDS], [func.sum(t[name]) for name in ROLLUP_SUMS]
    start = t[at] if unit is None else literal(0)
    query = select(start, *kinds, *sums).where(t.tenant == tenant)
    if unit is not None:
        query = query.where(t[at] >= unit.start_us, t[at] < unit.end_us).group_by(*kinds)
    else:
        query = query.group_by(start, *kinds)
    found: dict[int, dict[tuple[object, ...], tuple[int, ...]]] = {}
    for row in connection.execute(query):
        found.setdefault(row[0], {})[tuple(row[1 : 1 + len(kinds)])] = tuple(map(int, row[1 + len(kinds) :]))
    return found

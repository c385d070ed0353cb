"""Reading usage: rows for rating and quotas, sums for people, evidence for auditors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select

from pipeline.ledger.engine import reading
from pipeline.ledger.reach import DAYS, EVENTS, MONTHS, QUARTERS, Reach, pieces, reaches, unit_of
from pipeline.ledger.tables import events, rollup_days, rollup_months, rollups
from schemas.instants import DAY_US, HOUR_US, QUARTER_US
from schemas.tokens import CLASSES, ZERO
from schemas.usage import UsageRow

_r, _e = rollups.c, events.c
_ROLLUP_COLUMNS: Final = (
    _r.quarter_us,
    _r.tenant,
    _r.key,
    _r.provider,
    _r.model,
    _r.service_tier,
    _r.size_band,
    _r.pooled,
    *(rollups.c[name] for name in CLASSES),
    _r.requests,
    _r.events,
)
_EVENT_COLUMNS: Final = (
    _e.time_us,
    _e.tenant,
    _e.key,
    _e.provider,
    _e.model,
    _e.service_tier,
    _e.size_band,
    _e.pooled,
    *(events.c[name] for name in CLASSES),
    _e.requests,
    _e.status,
    _e.cache_hit,
)
_N: Final = len(CLASSES)
_SUMS: Final = {QUARTERS: rollups, DAYS: rollup_days, MONTHS: rollup_months}
_DAY_MAX_US: Final = 25 * HOUR_US
_MONTH_MAX_US: Final = 32 * DAY_US
"""Longer than any local day or month: with the hour that a change of the clocks brings."""


def _rollup_row(row: Sequence[Any]) -> UsageRow:
    time_us, tenant, key, provider, model, tier, band, pooled = row[:8]
    classes = tuple(row[8 : 8 + _N])
    return UsageRow(time_us, tenant, key, provider, model, tier, band, bool(pooled), classes, row[8 + _N], row[9 + _N])


def _event_row(row: Sequence[Any]) -> UsageRow:
    time_us, tenant, key, provider, model, tier, band, pooled = row[:8]
    unbilled = row[9 + _N] == "error" or row[10 + _N]
    classes = ZERO if unbilled else tuple(row[8 : 8 + _N])
    return UsageRow(time_us, tenant, key, provider, model, tier, band, bool(pooled), classes, row[8 + _N], 1)


def event_rows(connection: Connection, tenant: str, start_us: int, end_us: int) -> list[UsageRow]:
    """Counted events one by one, ordered by (time, source, id)."""
    query = (
        select(*_EVENT_COLUMNS)
        .where(_e.tenant == tenant, _e.time_us >= start_us, _e.time_us < end_us)
        .where(_e.state == "counted", _e.kind == "usage")
        .order_by(_e.time_us, _e.source, _e.id)
    )
    return [_event_row(row) for row in connection.execute(query)]


def usage_rows(
    connection: Connection,
    tenant: str,
    start_us: int,
    end_us: int,
    span_max_us: int = QUARTER_US,
    known: Mapping[str, Reach] | None = None,
) -> list[UsageRow]:
    """Sums by quarter of an hour, and by the tenant's days and months where spans may be so long and there are such;
    the quarters that a bound cuts come as single events. known: how far sums reach, if that was read in this view."""
    coarsest = MONTHS if span_max_us >= _MONTH_MAX_US else DAYS if span_max_us >= _DAY_MAX_US else QUARTERS
    if known is None:
        known = reaches(connection, tenant) if coarsest > QUARTERS else {}
    reach = known.get(tenant)
    zone = reach.zone if reach is not None else "UTC"  # whosever midnights the sums are cut at, they are sums
    found: list[UsageRow] = []
    for start, end, grain in pieces(reach, zone, start_us, end_us, coarsest):
        if grain == EVENTS:
            found += event_rows(connection, tenant, start, end)
            continue
        t = _SUMS[grain].c
        at = t.quarter_us if grain == QUARTERS else t.start_us
        columns = (at, *(t[column.name] for column in _ROLLUP_COLUMNS[1:]))
        query = (
            select(*columns)
            .where(t.tenant == tenant, at >= start, at < end, t.events > 0)
            .order_by(at, t.key, t.provider, t.model, t.service_tier, t.size_band, t.pooled)
        )
        rows = (_rollup_row(row) for row in connection.execute(query))
        found += rows if grain == QUARTERS else (_spanning(row, grain, zone) for row in rows)
    return found


def _spanning(row: UsageRow, grain: int, zone: str) -> UsageRow:
    unit = unit_of(grain, row.time_us, zone)
    return row._replace(span_us=unit.end_us - unit.start_us)


def rollup_records(
    connection: Connection, tenant: str | None, start_us: int | None, end_us: int | None
) -> Iterator[Mapping[str, Any]]:
    """Rollups as they are, of one tenant or all, for quarters of an hour in [start_us, end_us)."""
    query = select(rollups)
    if tenant is not None:
        query = query.where(_r.tenant == tenant)
    if start_us is not None:
        query = query.where(_r.quarter_us >= start_us)
    if end_us is not None:
        query = query.where(_r.quarter_us < end_us)
    yield from map(dict, connection.execute(query).mappings())


def source_sums(connection: Connection, source: str) -> tuple[int, int, dict[str, int]]:
    """Of one source: events counted, how often they came again, and their counts by class."""
    sums = [func.coalesce(func.sum(events.c[name]), 0) for name in CLASSES]
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(_e.redelivered), 0), *sums).where(
            _e.source == source, _e.state == "counted", _e.kind == "usage"
        )
    ).one()
    return int(row[0]), int(row[1]), {name: int(n) for name, n in zip(CLASSES, row[2:], strict=True)}


class BoundUsage:
    """The ledger as rating's UsageSource, inside a transaction that is already open."""

    def __init__(self, connection: Connection, known: Mapping[str, Reach] | None = None) -> None:
        """known: how far the sums of all tenants in question reach, if that was read in this view."""
        self._connection, self._known = connection, known

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = QUARTER_US) -> Sequence[UsageRow]:
        """See UsageSource.rows."""
        return usage_rows(self._connection, tenant, start_us, end_us, span_max_us, self._known)

    def events(self, tenant: str, start_us: int, end_us: int) -> Sequence[UsageRow]:
        """See UsageSource.events."""
        return event_rows(self._connection, tenant, start_us, end_us)


class LedgerUsage:
    """The ledger as rating's UsageSource."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = QUARTER_US) -> Sequence[UsageRow]:
        """See UsageSource.rows."""
        with reading(self._engine) as connection:
            return usage_rows(connection, tenant, start_us, end_us, span_max_us)

    def events(self, tenant: str, start_us: int, end_us: int) -> Sequence[UsageRow]:
        """See UsageSource.events."""
        with reading(self._engine) as connection:
            return event_rows(connection, tenant, start_us, end_us)

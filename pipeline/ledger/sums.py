"""Usage summed by the database over any stretch of time, grouped as asked, in rows that have one price each.

What decides a price is kept apart (provider, model, service tier, size band, pooled or own, and the time between the
instants at which prices change), so that pricing the few rows that are left gives what pricing event by event gives.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection

from pipeline.context import Context
from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.reach import (
    DAYS,
    EVENTS,
    MONTHS,
    QUARTERS,
    Piece,
    Reach,
    Stretch,
    first_from,
    pieces,
    placed,
    reaches,
    unit_of,
)
from schemas.instants import QUARTER_US
from schemas.periods import local_date
from schemas.tokens import CLASSES, TOKEN_CLASSES, Classes

FAR_US: Final = 2**62
"""Beyond any instant."""
Unit = Literal["", "day", "month"]
"""Local calendar units that usage can be grouped by; empty: not at all."""


class UsageSum(NamedTuple):
    """Usage of one price: `classes` and the rest are sums over [start_us, end_us), or over the part of it in `unit`.

    tenant, key: empty where not grouped by. unit: "2026-10-03", "2026-10" or empty. classes: billable counts. last_us:
    where the last of the stretches begins that were summed up.
    """

    tenant: str
    unit: str
    key: str
    start_us: int
    end_us: int
    provider: str
    model: str
    service_tier: str
    size_band: int
    pooled: bool
    classes: Classes
    requests: int
    errors: int
    last_us: int


class TokenSum(NamedTuple):
    """Tokens of a group; as in UsageSum. model: empty where not grouped by. What was not asked for is 0."""

    tenant: str
    unit: str
    model: str
    tokens: int
    requests: int = 0
    errors: int = 0
    last_us: int = 0


class Bounds(NamedTuple):
    """A tenant's usage lies in [start_us, end_us), whole quarters of an hour."""

    start_us: int
    end_us: int


class Asked(NamedTuple):
    """What to sum. tenant: one of them, None for all. tenants, keys: whether each is a group of its own.

    cuts: instants that no sum reaches across. key: of one provider key alone. coarsest: grain of the longest stretches.
    """

    tenant: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    tenants: bool = True
    keys: bool = False
    unit: Unit = ""
    cuts: tuple[int, ...] = ()
    key: str | None = None
    coarsest: int = MONTHS


def usage_bounds(connection: Connection, tenant: str | None = None) -> dict[str, Bounds]:
    """First and last usage of each tenant: a few looks into the index for each, where DISTINCT would read it all."""
    names = "SELECT tenant FROM t WHERE tenant IS NOT NULL"
    values: tuple[str, ...] = ()
    if tenant is not None:
        names, values = f"SELECT {_mark(connection)} AS tenant", (tenant,)
    rows = connection.exec_driver_sql(
        "WITH RECURSIVE t(tenant) AS (SELECT min(tenant) FROM rollups UNION ALL "
        "SELECT (SELECT min(r.tenant) FROM rollups r WHERE r.tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL) "
        "SELECT n.tenant, (SELECT min(r.quarter_us) FROM rollups r WHERE r.tenant = n.tenant), "
        f"(SELECT max(r.quarter_us) FROM rollups r WHERE r.tenant = n.tenant) FROM ({names}) n",
        values,
    )
    return {name: Bounds(first, last + QUARTER_US) for name, first, last in rows.fetchall() if first is not None}


def usage_sums(connection: Connection, zones: Mapping[str, str], asked: Asked) -> list[UsageSum]:
    """The sums, in no order. zones: time zone by tenant; UTC for one that is not in it."""
    plan = _planned(connection, zones, asked)
    return [row for grain in plan.stretches for row in _read(connection, plan, grain)]


def token_sums(
    connection: Connection, zones: Mapping[str, str], asked: Asked, *, models: bool = False, calls: bool = False
) -> list[TokenSum]:
    """Tokens alone, in no order: a third of the work where nobody asks what they cost. models: each on its own.

    calls: requests, errors and last_us too.
    """
    plan, found = _planned(connection, zones, asked), []
    kinds = ["t.model"] if models else []
    for grain in plan.stretches:
        columns = _columns(grain)
        wanted = [" + ".join(columns[: len(TOKEN_CLASSES)]), *(columns[_N:] if calls else ())]
        sums = [f"sum({column})" for column in wanted] + ([f'max(t."{_TABLES[grain][1]}")'] if calls else [])
        for row in _rows(connection, plan, grain, kinds, *sums):
            group = plan.groups[row[0]]
            unit = plan.label(row[1 + models], group.zone) if plan.by_start(grain) else group.unit
            found.append(TokenSum(group.tenant, unit, row[1] if models else "", *map(int, row[-len(sums) :])))
    return found


def _planned(connection: Connection, zones: Mapping[str, str], asked: Asked) -> "_Plan":
    """What is read for an answer; nothing where there is no usage."""
    known = reaches(connection, asked.tenant)
    bounds = usage_bounds(connection, asked.tenant)
    if not bounds:
        return _Plan(asked, zones, Bounds(0, 0))
    plan = _Plan(asked, zones, Bounds(min(b.start_us for b in bounds.values()), max(b.end_us for b in bounds.values())))
    # Most tenants are alike: of the same zone, with usage from the same month to the same day, summed up as far.
    alike: dict[tuple[Reach | None, str, int, int], list[_Part]] = {}
    for tenant, own in bounds.items():
        zone = plan.zone(tenant)
        # To whole months and days, which may have sums: there is no usage beyond the bounds.
        start_us = max(unit_of(MONTHS, own.start_us, zone).start_us, plan.whole.start_us)
        end_us = min(first_from(DAYS, own.end_us, zone), plan.whole.end_us)
        which = (known.get(tenant), zone, start_us, end_us)
        if which not in alike:
            alike[which] = plan.parts(*which)
        for part in alike[which]:
            plan.put(tenant, zone, part)
    return plan


def priced_sums(connection: Connection, context: Context, asked: Asked) -> list[UsageSum]:
    """The sums in rows that have one price each, the one at their start: read again, cut where a price changes."""
    zones = zones_of(context)
    rows = usage_sums(connection, zones, asked)
    kinds = {(row.provider, row.model, row.service_tier, row.start_us, row.end_us, row.size_band) for row in rows}
    cuts = sorted({cut for kind in kinds for cut in context.prices.changes(*kind)})
    return usage_sums(connection, zones, asked._replace(cuts=tuple(cuts))) if cuts else rows


def zones_of(context: Context) -> dict[str, str]:
    """Time zone by tenant."""
    return {tenant.id: tenant.timezone for tenant in context.catalog.tenants.values()}


class _Part(NamedTuple):
    """[start_us, end_us) of a grain, in the asked unit of this name; its price is that of [since_us, until_us)."""

    grain: int
    start_us: int
    end_us: int
    unit: str
    since_us: int
    until_us: int


class _Group(NamedTuple):
    tenant: str
    zone: str
    unit: str
    start_us: int
    end_us: int


@lru_cache(maxsize=65_536)
def _day(instant_us: int, zone: str) -> str:
    """The local day; tenants share their midnights and quarters of an hour."""
    return local_date(instant_us, zone).isoformat()


class _Plan:
    """Which stretches are read from which sums, and what the number of a stretch's group stands for."""

    def __init__(self, asked: Asked, zones: Mapping[str, str], usage: Bounds) -> None:
        self.asked, self._zones = asked, zones
        self.grain = {"": MONTHS + 1, "month": MONTHS, "day": DAYS}[asked.unit]
        self.coarsest = min(self.grain, asked.coarsest)
        self.stretches: dict[int, list[Stretch]] = {}
        self.groups: list[_Group] = []
        self._numbers: dict[_Group, int] = {}
        start_us = -FAR_US if asked.start_us is None else asked.start_us
        end_us = FAR_US if asked.end_us is None else asked.end_us
        self.whole = Bounds(start_us, end_us)
        self._cuts = [cut for cut in sorted(asked.cuts) if usage.start_us < cut < usage.end_us]
        self._marks = [max(start_us, usage.start_us), *self._cuts, min(end_us, usage.end_us)]

    def zone(self, tenant: str) -> str:
        return self._zones.get(tenant, "UTC")

    def parts(self, reach: Reach | None, zone: str, start_us: int, end_us: int) -> list[_Part]:
        """What a tenant's usage of [start_us, end_us) is read from; none reaches across a cut."""
        marks = [start_us, *(cut for cut in self.asked.cuts if start_us < cut < end_us), end_us]
        return [
            part
            for since_us, until_us in pairwise(marks)
            for piece in pieces(reach, zone, since_us, until_us, self.coarsest)
            for part in self._units(zone, piece)
        ]

    def _units(self, zone: str, piece: Piece) -> Iterator[_Part]:
        """A piece; cut at the asked units' bounds where it is made of finer sums than those."""
        start_us, end_us, grain = piece
        while self.grain <= MONTHS and grain < self.grain and start_us < end_us:
            until_us = min(first_from(self.grain, start_us + 1, zone), end_us)
            yield self._part(start_us, until_us, grain, self.label(start_us, zone))
            start_us = until_us
        if start_us < end_us:
            yield self._part(start_us, end_us, grain, "")

    def _part(self, start_us: int, end_us: int, grain: int, unit: str) -> _Part:
        at = bisect_right(self._cuts, start_us)
        return _Part(grain, start_us, end_us, unit, *self._marks[at : at + 2])

    def label(self, instant_us: int, zone: str) -> str:
        """The asked unit that holds the instant."""
        return _day(instant_us, zone)[: 10 if self.grain == DAYS else 7]

    def by_start(self, grain: int) -> bool:
        """Whether each row of this grain is one asked unit."""
        return grain == self.grain

    def put(self, tenant: str, zone: str, part: _Part) -> None:
        """A part of the tenant's."""
        group = _Group(tenant if self.asked.tenants else "", zone, part.unit, part.since_us, part.until_us)
        number = self._numbers.setdefault(group, len(self.groups))
        if number == len(self.groups):
            self.groups.append(group)
        self.stretches.setdefault(part.grain, []).append(Stretch(number, tenant, part.start_us, part.end_us))


_TABLES: Final = {
    EVENTS: ("events", "time_us"),
    QUARTERS: ("rollups", "quarter_us"),
    DAYS: ("rollup_days", "start_us"),
    MONTHS: ("rollup_months", "start_us"),
}
_SUMS: Final = (*CLASSES, "requests", "errors")
_BILLED: Final = "CASE WHEN t.cache_hit <> 0 OR t.status = 'error' THEN 0 ELSE t.\"{}\" END"
_N: Final = len(CLASSES)


def _columns(grain: int) -> list[str]:
    """What is summed up; of single events, what they count for."""
    if grain != EVENTS:
        return [f't."{name}"' for name in _SUMS]
    return [*(_BILLED.format(name) for name in CLASSES), "t.requests", "CASE WHEN t.status = 'error' THEN 1 ELSE 0 END"]


def _read(connection: Connection, plan: _Plan, grain: int) -> list[UsageSum]:
    kinds = ["t.provider", "t.model", "t.service_tier", "t.size_band", "t.pooled"]
    kinds += ['t."key"'] if plan.asked.keys else []
    sums = [*(f"sum({column})" for column in _columns(grain)), f'max(t."{_TABLES[grain][1]}")']
    return [_sum_of(plan, grain, row) for row in _rows(connection, plan, grain, kinds, *sums)]


def _rows(connection: Connection, plan: _Plan, grain: int, kinds: Sequence[str], *sums: str) -> Sequence[Any]:
    """Rows of the number of the stretch's group, the kinds, the start of the asked unit if the grain has one, sums."""
    table, at = _TABLES[grain]
    apart = ", ".join(["p.n", *kinds, *([f't."{at}"'] if plan.by_start(grain) else [])])
    only = " AND t.state = 'counted' AND t.kind = 'usage'" if grain == EVENTS else ""
    place, values = placed(connection, plan.stretches[grain])
    own: tuple[object, ...] = ()
    if plan.asked.key is not None:
        only, own = f'{only} AND t."key" = {_mark(connection)}', (plan.asked.key,)
    return connection.exec_driver_sql(
        f'SELECT {apart}, {", ".join(sums)} FROM {place} CROSS JOIN "{table}" t '
        f'WHERE t.tenant = p.tenant AND t."{at}" >= p.lo AND t."{at}" < p.hi{only} GROUP BY {apart}',
        (*values, *own),
    ).fetchall()


def _sum_of(plan: _Plan, grain: int, row: Sequence[Any]) -> UsageSum:
    group = plan.groups[int(row[0])]
    provider, model, tier, band, pooled = row[1:6]
    counts = tuple(map(int, row[-1 - len(_SUMS) :]))
    at = 6 + plan.asked.keys
    return UsageSum(
        group.tenant,
        plan.label(int(row[at]), group.zone) if plan.by_start(grain) else group.unit,
        str(row[6]) if plan.asked.keys else "",
        group.start_us,
        group.end_us,
        str(provider),
        str(model),
        str(tier),
        int(band),
        bool(pooled),
        counts[:_N],
        counts[_N],
        counts[_N + 1],
        counts[_N + 2],
    )


def _mark(connection: Connection) -> str:
    """Where a parameter stands; PostgreSQL cannot tell the type of one that is only selected."""
    return "?" if is_sqlite(connection) else "%s::text"

"""Rate a tenant's usage over a period: integers summed first, then priced, exact to the end."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import partial
from typing import Protocol

from pipeline.rating.allowances import NOTHING, Allowances, in_order
from pipeline.rating.conversion import Conversion
from pipeline.rating.pricing import Segment, price_segments
from pipeline.rating.routes import NONE, Route, route
from pipeline.rating.slots import link
from pipeline.rating.spans import Stretch, stretches
from pipeline.rating.terms import Priced, Quantity
from schemas.catalog import Catalog, Charge, PlanVersion
from schemas.instants import QUARTER_US, quarter_of
from schemas.invoice import LinePart
from schemas.money import EXACT
from schemas.periods import Period
from schemas.tokens import CLASSES, Classes
from schemas.usage import ANY_SPAN, UsageRow, UsageSource

Unrated = tuple[str, str]
"""(model, meter): the class that no charge covers or that has no provider price, `cost` where an exchange rate lacks,
`requests` for calls without tokens before the first plan."""


class Cost(Protocol):
    """What the provider charges us for some usage: exact, with the classes that have no price."""

    @property
    def amount(self) -> Decimal: ...
    @property
    def currency(self) -> str: ...
    @property
    def unpriced(self) -> tuple[str, ...]: ...


class CostSource(Protocol):
    """Provider prices."""

    def cost(
        self, provider: str, model: str, service_tier: str, time_us: int, size_band: int, classes: Classes
    ) -> Cost: ...

    def changes(
        self, provider: str, model: str, service_tier: str, start_us: int, end_us: int, size_band: int
    ) -> tuple[int, ...]:
        """The instants inside (start_us, end_us) at which the price changes."""


_Firm = Callable[[UsageRow], bool]


@dataclass(frozen=True, slots=True)
class RatedCharge:
    """One charge of one plan over the period. quantity: what was metered under it, free units included.

    amount is exact. used: whose usage it holds: the `from` of the plan version, the model, the class (or "requests").
    """

    plan: str
    meter: str
    models: str
    model: str
    quantity: Decimal
    amount: Decimal
    parts: tuple[LinePart, ...]
    used: tuple[tuple[int | None, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RatedUsage:
    """Charges in order of plan and rate card; only those with usage. unrated: sorted, each once."""

    charges: tuple[RatedCharge, ...]
    unrated: tuple[Unrated, ...]


@dataclass(slots=True)
class _Tally:
    """One charge under one version: charged and free units, and where they come from."""

    charge: Charge
    charged: Quantity = 0
    free: int = 0
    used: set[tuple[str, str]] = field(default_factory=set)


class _PlanPart:
    """One plan's own part of the period: its versions share slots, tiers and allowances."""

    def __init__(self, plan: str, versions: Sequence[PlanVersion]) -> None:
        self.plan = plan
        self.versions = versions
        self.slots, self.slot_count = link([version.charges for version in versions])
        allowance_slots, allowance_count = link([version.allowances for version in versions])
        used = [0] * allowance_count
        self.allowances = [
            Allowances(version.allowances, slots, used)
            for version, slots in zip(versions, allowance_slots, strict=True)
        ]
        self.tallies = [[_Tally(charge) for charge in version.charges] for version in versions]
        self._routes: dict[tuple[int, str], Route] = {}

    def route(self, version: int, model: str) -> Route:
        found = self._routes.get((version, model))
        if found is None:
            found = route(self.versions[version].charges, model)
            self._routes[version, model] = found
        return found

    def rated(self) -> list[RatedCharge]:
        """Every slot priced over its versions, in order of the rate card (new slots of later versions last)."""
        by_slot: list[list[tuple[PlanVersion, _Tally]]] = [[] for _ in range(self.slot_count)]
        for version, slots, tallies in zip(self.versions, self.slots, self.tallies, strict=True):
            for slot, tally in zip(slots, tallies, strict=True):
                by_slot[slot].append((version, tally))
        return [self._priced(entries) for entries in by_slot if any(t.charged or t.free for _, t in entries)]

    def _priced(self, entries: list[tuple[PlanVersion, _Tally]]) -> RatedCharge:
        priced = price_segments([Segment(tally.charge, tally.charged) for _, tally in entries])
        parts: list[LinePart] = []
        for (version, tally), segment in zip(entries, priced, strict=True):
            models = tuple(sorted({model for model, _ in tally.used}))
            if tally.free:
                parts.append(
                    self._part(version, models, Priced(tally.free, Decimal(0), 1, Decimal(0), note="allowance"))
                )
            parts.extend(self._part(version, models, piece) for piece in segment)
        charge = entries[-1][1].charge
        return RatedCharge(
            plan=self.plan,
            meter=charge.meter,
            models=charge.models,
            model=charge.model,
            quantity=sum((Decimal(tally.charged) + tally.free for _, tally in entries), Decimal(0)),
            amount=sum((part.amount for part in parts), Decimal(0)),
            parts=tuple(parts),
            used=tuple((version.from_us, *use) for version, tally in entries for use in sorted(tally.used)),
        )

    def _part(self, version: PlanVersion, models: tuple[str, ...], piece: Priced) -> LinePart:
        return LinePart(
            quantity=Decimal(piece.quantity),
            unit_price=piece.unit_price,
            per=piece.per,
            amount=piece.amount,
            plan=self.plan,
            version_from_us=version.from_us,
            tier=piece.tier,
            models=models,
            note=piece.note,
        )


def _tally_row(
    part: _PlanPart,
    version: int,
    row: UsageRow,
    prices: CostSource,
    conversion: Conversion,
    unrated: set[Unrated],
) -> None:
    """Book one row under its plan version."""
    allowances = part.allowances[version]
    free, free_requests = allowances.take(row.model, row.classes, row.requests) if allowances.live() else NOTHING
    tallies, way = part.tallies[version], part.route(version, row.model)
    costed = [0] * len(CLASSES)
    for i, units in enumerate(row.classes):
        if not units:
            continue
        charged, position = units - free[i], way.classes[i]
        if position == NONE:
            if charged:
                unrated.add((row.model, CLASSES[i]))
        elif position == way.cost:
            costed[i] = charged
            tallies[position].used.add((row.model, CLASSES[i]))
        else:
            tally = tallies[position]
            tally.charged += charged
            tally.free += free[i]
            tally.used.add((row.model, CLASSES[i]))
    if row.requests and way.requests != NONE:
        tally = tallies[way.requests]
        tally.charged += row.requests - free_requests
        tally.free += free_requests
        tally.used.add((row.model, "requests"))
    if any(costed):
        cost = prices.cost(row.provider, row.model, row.service_tier, row.time_us, row.size_band, tuple(costed))
        unrated.update((row.model, name) for name in cost.unpriced)
        rate = conversion.rate(cost.currency)
        if rate is None:
            unrated.add((row.model, "cost"))
        else:
            tallies[way.cost].charged += cost.amount * rate


def _unplanned(rows: Sequence[UsageRow], unrated: set[Unrated]) -> None:
    """Usage without terms: unrated, class by class; a call without tokens as a request."""
    for row in rows:
        if row.pooled:
            names = [name for name, units in zip(CLASSES, row.classes, strict=True) if units]
            unrated.update((row.model, name) for name in names or (["requests"] if row.requests else []))


def rate_usage(
    catalog: Catalog, prices: CostSource, tenant_id: str, period: Period, source: UsageSource, *, rates_at_us: int
) -> RatedUsage:
    """Everything the tenant used in the period, at the catalog's terms; usage on its own keys is left out.

    rates_at_us: the end of the billing period, for exchange rates (the period given may be cut short of it).
    """
    tenant = catalog.tenants[tenant_id]
    cuts = stretches(tenant, catalog.plans, period)
    plan_ids = list(dict.fromkeys(s.plan for s in cuts if s.version is not None))
    unrated: set[Unrated] = set()
    conversion = Conversion(catalog.exchange_rates, tenant.currency, rates_at_us)
    dates = {price.from_us for price in catalog.provider_prices if price.from_us is not None}
    price_cuts = sorted(date for date in dates if date % QUARTER_US)
    charges: list[RatedCharge] = []
    with localcontext(EXACT):
        for stretch in cuts:
            if stretch.version is None:
                _unplanned(source.rows(tenant_id, stretch.start_us, stretch.end_us, ANY_SPAN), unrated)
        for plan_id in plan_ids:
            own = [s for s in cuts if s.plan == plan_id and s.version is not None]
            versions = list({id(s.version): s.version for s in own if s.version is not None}.values())
            part = _PlanPart(plan_id, versions)
            for stretch in own:
                version = next(i for i, v in enumerate(versions) if v is stretch.version)
                firm = partial(_firm, part, version, prices)
                for start, end in _pieces(stretch, price_cuts):
                    for row in _ordered(source, tenant_id, start, end, part.allowances[version], firm):
                        _tally_row(part, version, row, prices, conversion, unrated)
            charges.extend(part.rated())
    return RatedUsage(tuple(charges), tuple(sorted(unrated)))


def _firm(part: _PlanPart, version: int, prices: CostSource, row: UsageRow) -> bool:
    """Whether the row has one price: no part of it is charged by its cost, or its cost does not change within it."""
    if not row.span_us or part.route(version, row.model).cost == NONE:
        return True
    end_us = row.time_us + row.span_us
    return not prices.changes(row.provider, row.model, row.service_tier, row.time_us, end_us, row.size_band)


def _pieces(stretch: Stretch, price_cuts: Sequence[int]) -> list[tuple[int, int]]:
    """The stretch, cut where a provider price changes inside a quarter of an hour (a sum there has two prices)."""
    inner = [cut for cut in price_cuts if stretch.start_us < cut < stretch.end_us]
    bounds = [stretch.start_us, *inner, stretch.end_us]
    return list(itertools.pairwise(bounds))


def _ordered(
    source: UsageSource, tenant: str, start_us: int, end_us: int, allowances: Allowances, firm: _Firm
) -> Iterable[UsageRow]:
    """Rows on pooled keys, in the longest stretches that the ledger has sums of; where a price changes in one, or an
    allowance runs out, in shorter ones, down to single events."""

    def expand(group: Sequence[UsageRow]) -> list[UsageRow]:
        at_us, span_us = group[0].time_us, group[0].span_us
        if span_us:
            rows = source.rows(tenant, at_us, at_us + span_us, span_us - 1)
        else:
            quarter_us = quarter_of(at_us)
            rows = source.events(tenant, max(quarter_us, start_us), min(quarter_us + QUARTER_US, end_us))
        return [row for row in rows if row.pooled]

    rows = [row for row in source.rows(tenant, start_us, end_us, ANY_SPAN) if row.pooled]
    return in_order(rows, allowances, firm, expand)

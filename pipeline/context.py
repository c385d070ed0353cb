"""What screening, folding and admission need of a catalog, compiled once a version."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Final, NamedTuple

from pipeline.catalog import matches, plan_at, quotas_of
from pipeline.prices import ProviderPrices
from pipeline.rating.routes import NONE, route
from schemas.catalog import Catalog, PlanVersion, Quota
from schemas.periods import Period, window_period
from schemas.tokens import AGGREGATE_METERS, CLASSES, Classes, index_of, total_tokens

COST_SCALE: Final = 10**12
"""Quotas on cost count whole 10**-12 of the currency: exact for prices of up to six places a million tokens."""


class Meterable(NamedTuple):
    """The part of an event that quotas look at."""

    model: str
    classes: Classes
    requests: int
    cost_units: int


class WindowKey(NamedTuple):
    """One quota's window. scope: "tenant:acme" or "key:openai-pool-1"; kind tells changed quotas of a name apart."""

    scope: str
    name: str
    kind: str
    start_us: int
    end_us: int


@dataclass(frozen=True)
class Context:
    """A catalog version, its prices and what is looked up in them for every event."""

    version: int
    catalog: Catalog
    key_states: Mapping[str, str]
    applied_us: int = 0
    """When this version was applied: a quota window that began before may have usage from before the quota."""

    revoked_us: Mapping[str, int] = field(default_factory=dict)
    """Since when a key is revoked; usage from before is no alarm, however late it arrives."""

    throttles: Mapping[tuple[str, str], tuple[Quota, ...]] = field(default_factory=dict)
    """(tenant, key) to the limits that a response to a leak put on that use, over and above the catalog's quotas."""

    @cached_property
    def prices(self) -> ProviderPrices:
        """Provider prices of this version."""
        return ProviderPrices(self.catalog.provider_prices)

    def quotas(self, tenant: str, key: str, at_us: int) -> tuple[tuple[str, Quota, str], ...]:
        """(scope, quota, zone) of every quota that applies to the tenant's use of the key at the instant."""
        stretch = self._stretch(tenant, at_us)
        own = self._own_quotas.get(stretch)
        if own is None:
            owner = self.catalog.tenants.get(tenant)
            zone = owner.timezone if owner else "UTC"
            own = tuple((f"tenant:{tenant}", quota, zone) for quota in quotas_of(self.catalog, tenant, at_us))
            self._own_quotas[stretch] = own
        if self.throttles and (held := self.throttles.get((tenant, key))):
            own = (*own, *((f"tenant:{tenant}", quota, "UTC") for quota in held))
        found = self.catalog.keys.get(key)
        if found is None or not found.quotas:
            return own
        return (*own, *((f"key:{key}", quota, "UTC") for quota in found.quotas))

    def counts_cost(self, tenant: str, key: str) -> bool:
        """Whether a quota on cost applies to the tenant's use of the key at any time."""
        found = self._costed.get((tenant, key))
        if found is None:
            self._stretch(tenant, 0)
            times = (0, *self._cuts[tenant])
            found = any(q.meter == "cost" for at_us in times for _, q, _ in self.quotas(tenant, key, at_us))
            self._costed[tenant, key] = found
        return found

    def uncharged(self, tenant: str, model: str, at_us: int, classes: Classes) -> tuple[str, ...]:
        """Classes with a count that no charge of the tenant's plan covers at the instant: they will be unrated."""
        stretch = self._stretch(tenant, at_us)
        if stretch in self._versions:
            version = self._versions[stretch]
        else:
            version = plan_at(self.catalog, tenant, at_us) if tenant in self.catalog.tenants else None
            self._versions[stretch] = version
        holes = self._holes.get((id(version), model))
        if holes is None:
            charges = version.charges if version is not None else ()
            covered = route(charges, model).classes
            holes = self._holes[id(version), model] = tuple(i for i, at in enumerate(covered) if at == NONE)
        return tuple(CLASSES[i] for i in holes if classes[i]) if holes else ()

    def _stretch(self, tenant: str, at_us: int) -> tuple[str, int]:
        """Name of the stretch of time around the instant in which one version of one plan holds for the tenant."""
        cuts = self._cuts.get(tenant)
        if cuts is None:
            owner = self.catalog.tenants.get(tenant)
            plans = owner.plans if owner else ()
            starts = {one.from_us for one in plans}
            starts |= {version.from_us for one in plans for version in self.catalog.plans[one.plan].versions}
            cuts = self._cuts[tenant] = sorted(start for start in starts if start is not None)
        return tenant, bisect_right(cuts, at_us)

    # What is looked up once a stretch: a catalog has few of them, and a context lives as long as its catalog's version.

    @cached_property
    def uses(self) -> dict[tuple[object, ...], object]:
        """What `pipeline.plain` knows of the events of this version: it alone reads and writes here."""
        return {}

    @cached_property
    def _cuts(self) -> dict[str, list[int]]:
        return {}

    @cached_property
    def _costed(self) -> dict[tuple[str, str], bool]:
        return {}

    @cached_property
    def _own_quotas(self) -> dict[tuple[str, int], tuple[tuple[str, Quota, str], ...]]:
        return {}

    @cached_property
    def _versions(self) -> dict[tuple[str, int], PlanVersion | None]:
        return {}

    @cached_property
    def _holes(self) -> dict[tuple[int, str], tuple[int, ...]]:
        # Versions are parts of this context's catalog and live as long as it does, so their ids stay theirs.
        return {}

    def cost_units(self, row: tuple[str, str, str, int, int, Classes], *, pooled: bool) -> int:
        """The provider's cost of (provider, model, service_tier, time_us, size_band, classes) in 1/COST_SCALE.

        0 on a tenant's own key. What has no price counts nothing here and is listed as unrated by rating.
        """
        if not pooled:
            return 0
        cost = self.prices.cost(*row)
        return int((cost.amount * COST_SCALE).to_integral_value())


_last_periods: Final[dict[tuple[str, str], Period]] = {}
"""The period last asked for, by window and zone: most calls and events of a moment are in it."""


def window_of(scope: str, quota: Quota, zone: str, at_us: int) -> WindowKey:
    """The window of the quota that holds the instant."""
    period = _last_periods.get((quota.window, zone))
    if period is None or at_us not in period:
        period = _last_periods[quota.window, zone] = window_period(quota.window, at_us, zone)
    kind = f"{quota.meter}/{quota.models}/{quota.window}"
    return WindowKey(scope, quota.name, kind, period.start_us, period.end_us)


def measured(quota: Quota, event: Meterable) -> int:
    """Units the event brings to the quota: tokens, requests, or 1/COST_SCALE of cost; 0 for other models."""
    if not matches(quota.models, event.model):
        return 0
    if quota.meter == "cost":
        return event.cost_units
    if quota.meter == "requests":
        return event.requests
    if quota.meter == "tokens":
        return total_tokens(event.classes)
    return event.classes[index_of(quota.meter)]


def limit_units(quota: Quota) -> int | None:
    """The limit in the units of `measured`; None: unlimited."""
    if quota.limit is None:
        return None
    return int(quota.limit * COST_SCALE) if quota.meter == "cost" else int(quota.limit)


def shown(meter: str, units: int) -> Decimal:
    """Units as people read them: cost in the currency, everything else as it is."""
    return Decimal(units) / COST_SCALE if meter == "cost" else Decimal(units)


assert set(AGGREGATE_METERS) == {"tokens", "requests", "cost"}  # `measured` names each of them

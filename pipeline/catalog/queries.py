"""Questions to a catalog: which plan and version holds at an instant, which quotas apply, what a pattern means."""

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from schemas.catalog import Catalog, Plan, PlanVersion, Quota, Tenant


class PlanSpan(NamedTuple):
    """A tenant is on the plan during [start_us, end_us)."""

    plan: str
    start_us: int
    end_us: int


@lru_cache(maxsize=262_144)
def matches(models: str, model: str) -> bool:
    """Whether a pattern of model names (gpt-5*, alternatives divided by |) means the model; case counts."""
    return any(fnmatchcase(model, pattern) for pattern in models.split("|"))


def allowed_model(patterns: tuple[str, ...], model: str) -> bool:
    """Whether a tenant or key with these patterns may use the model."""
    return any(matches(pattern, model) for pattern in patterns)


def plan_id_at(tenant: Tenant, time_us: int) -> str | None:
    """The plan that the tenant is on, None before its first."""
    found = None
    for assignment in tenant.plans:
        if assignment.from_us is not None and assignment.from_us > time_us:
            break
        found = assignment.plan
    return found


def version_at(plan: Plan, time_us: int) -> PlanVersion | None:
    """The terms in force, None before the first version."""
    found = None
    for version in plan.versions:
        if version.from_us is not None and version.from_us > time_us:
            break
        found = version
    return found


def plan_at(catalog: Catalog, tenant_id: str, time_us: int) -> PlanVersion | None:
    """The terms that hold for the tenant at the instant; None without a plan. KeyError for an unknown tenant."""
    plan = plan_id_at(catalog.tenants[tenant_id], time_us)
    return version_at(catalog.plans[plan], time_us) if plan is not None else None


def assignments(catalog: Catalog, tenant_id: str, start_us: int, end_us: int) -> tuple[PlanSpan, ...]:
    """The tenant's plans over [start_us, end_us), in order; consecutive assignments of one plan are one span."""
    spans: list[PlanSpan] = []
    plans = catalog.tenants[tenant_id].plans
    for i, assignment in enumerate(plans):
        following = plans[i + 1].from_us if i + 1 < len(plans) else None
        start = start_us if assignment.from_us is None else max(start_us, assignment.from_us)
        end = end_us if following is None else min(end_us, following)
        if start >= end:
            continue
        if spans and spans[-1].plan == assignment.plan and spans[-1].end_us == start:
            start = spans.pop().start_us
        spans.append(PlanSpan(assignment.plan, start, end))
    return tuple(spans)


def quotas_of(catalog: Catalog, tenant_id: str, time_us: int) -> tuple[Quota, ...]:
    """The tenant's own quotas, then those of its plan's terms in force; of one name, the tenant's own counts."""
    own = catalog.tenants[tenant_id].quotas
    version = plan_at(catalog, tenant_id, time_us)
    if version is None or not version.quotas:
        return own
    names = {quota.name for quota in own}
    return own + tuple(quota for quota in version.quotas if quota.name not in names)

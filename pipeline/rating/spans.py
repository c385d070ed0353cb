"""A tenant's period, cut where terms change: who was on which plan, and under which version of it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.catalog import plan_id_at, version_at
from schemas.catalog import Plan, PlanVersion, Tenant
from schemas.periods import Period


@dataclass(frozen=True, slots=True)
class Stretch:
    """[start_us, end_us) under one version of one plan; version None: no terms in force, so usage is unrated."""

    start_us: int
    end_us: int
    plan: str
    version: PlanVersion | None


def stretches(tenant: Tenant, plans: Mapping[str, Plan], period: Period) -> tuple[Stretch, ...]:
    """The period without gap or overlap, cut at each assignment and at each version of the plan in force."""
    cuts = {period.start_us}
    cuts.update(a.from_us for a in tenant.plans if a.from_us is not None and a.from_us in period)
    for assignment in tenant.plans:
        plan = plans[assignment.plan]
        cuts.update(v.from_us for v in plan.versions if v.from_us is not None and v.from_us in period)
    bounds = [*sorted(cuts), period.end_us]
    found: list[Stretch] = []
    for start, end in itertools.pairwise(bounds):
        plan_id = plan_id_at(tenant, start) or ""
        version = version_at(plans[plan_id], start) if plan_id else None
        last = found[-1] if found else None
        if last is not None and last.plan == plan_id and last.version is version:
            found[-1] = Stretch(last.start_us, end, plan_id, version)
        else:
            found.append(Stretch(start, end, plan_id, version))
    return tuple(found) if period.start_us < period.end_us else ()

"""Local calendar days of a month, by plan and version: the base of fees and minimums (money rule 3).

A day belongs to the plan that the tenant is on at the day's end, so the day of a change is the new plan's. A version's
date is a calendar date (UTC): the fee of a local day is that of the version whose date has come on that day, in every
zone, so a new fee from the 1st is the fee of the month that starts on the 1st.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from schemas.catalog import Plan, PlanVersion, Tenant
from schemas.periods import days_in_month, local_date, parse_month


@dataclass(frozen=True, slots=True)
class PlanDays:
    """A plan's days of the month, by version; at_end: it is the plan of the month's last day."""

    plan: str
    versions: tuple[tuple[PlanVersion, int], ...]
    at_end: bool

    def days(self) -> int:
        """All days of the plan."""
        return sum(days for _, days in self.versions)


def plan_on(tenant: Tenant, day: date) -> str:
    """The plan that owns the local day; "" before the first assignment."""
    found = ""
    for assignment in tenant.plans:
        if assignment.from_us is not None and local_date(assignment.from_us, tenant.timezone) > day:
            break
        found = assignment.plan
    return found


def version_on(plan: Plan, day: date) -> PlanVersion | None:
    """The version whose date has come on the day; None before the first."""
    found = None
    for version in plan.versions:
        if version.from_us is not None and local_date(version.from_us, "UTC") > day:
            break
        found = version
    return found


def plan_days(tenant: Tenant, plans: Mapping[str, Plan], month: str) -> tuple[PlanDays, ...]:
    """The month's days, each once, in order of each plan's first day; days without terms are left out."""
    year, number = parse_month(month)
    counted: dict[str, list[tuple[PlanVersion, int]]] = {}
    last = ""
    for day_number in range(1, days_in_month(month) + 1):
        day = date(year, number, day_number)
        last = plan_on(tenant, day)
        version = version_on(plans[last], day) if last else None
        if version is None:
            continue
        entries = counted.setdefault(last, [])
        if entries and entries[-1][0] is version:
            entries[-1] = (version, entries[-1][1] + 1)
        else:
            entries.append((version, 1))
    return tuple(PlanDays(plan, tuple(entries), plan == last) for plan, entries in counted.items())

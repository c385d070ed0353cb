"""Invoice lines from rated usage and terms: each rounded once, half up (money rule 1)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext

from billing.periods import PlanDays
from pipeline.rating import RatedCharge
from schemas.catalog import PlanVersion
from schemas.invoice import InvoiceLine, LinePart
from schemas.money import EXACT, round_half_up
from schemas.periods import Period

METER_NAMES = {
    "input": "Input tokens",
    "cache_read": "Cached input tokens",
    "cache_write": "Cache write tokens",
    "cache_write_long": "Long cache write tokens",
    "output": "Output tokens",
    "reasoning": "Reasoning tokens",
    "input_audio": "Audio input tokens",
    "output_audio": "Audio output tokens",
    "input_image": "Image input tokens",
    "output_image": "Image output tokens",
    "web_searches": "Web searches",
    "tokens": "Tokens",
    "requests": "Requests",
    "cost": "Provider cost",
}


def total(lines: Iterable[InvoiceLine], *types: str) -> Decimal:
    """Sum of the amounts of the lines of these types."""
    return sum((line.amount for line in lines if line.type in types), Decimal(0))


def usage_lines(charges: Sequence[RatedCharge], period: Period, currency: str) -> list[InvoiceLine]:
    """One line a charge, shown if its quantity or amount is not zero."""
    lines = []
    for charge in charges:
        amount = round_half_up(charge.amount, currency)
        if not charge.quantity and not amount:
            continue
        models = "all models" if charge.models == "*" else charge.models
        lines.append(
            InvoiceLine(
                id=f"usage:{charge.plan}:{charge.meter}:{charge.models}",
                type="usage",
                description=f"{METER_NAMES[charge.meter]}, {models}",
                amount=amount,
                period_start_us=period.start_us,
                period_end_us=period.end_us,
                meter=charge.meter,
                models=charge.models,
                plan=charge.plan,
                quantity=charge.quantity,
                unrounded=charge.amount,
                parts=charge.parts,
            )
        )
    return lines


def _prorated(
    entries: Iterable[tuple[PlanVersion, Decimal, int]], plan: str, month_days: int
) -> tuple[Decimal, tuple[LinePart, ...]]:
    """Sum of amount x days / month_days, divided once at the end: a half cent stays a half cent."""
    numerator = Decimal(0)
    parts = []
    with localcontext(EXACT):
        for version, amount, days in entries:
            numerator += amount * days
            part = LinePart(Decimal(days), amount, month_days, amount * days / month_days)
            parts.append(replace(part, plan=plan, version_from_us=version.from_us, note=f"{days} of {month_days} days"))
        return numerator / month_days, tuple(parts)


def fee_lines(days: Sequence[PlanDays], month_days: int, period: Period, currency: str) -> list[InvoiceLine]:
    """A plan's fee by its days; with proration none the whole fee, of the plan in force at the period's end alone."""
    lines = []
    for part in days:
        terms = part.versions[-1][0].fee
        if terms is not None and terms.proration == "none":
            version = part.versions[-1][0]
            entries = [(version, terms.amount, month_days)] if part.at_end else []
        else:
            entries = [(version, version.fee.amount, n) for version, n in part.versions if version.fee is not None]
        exact, details = _prorated(entries, part.plan, month_days)
        amount = round_half_up(exact, currency)
        if amount:
            lines.append(
                InvoiceLine(
                    id=f"fee:{part.plan}",
                    type="fee",
                    description=f"Monthly fee, plan {part.plan}",
                    amount=amount,
                    period_start_us=period.start_us,
                    period_end_us=period.end_us,
                    plan=part.plan,
                    unrounded=exact,
                    parts=details,
                )
            )
    return lines


def true_up_lines(
    days: Sequence[PlanDays], usage: Sequence[InvoiceLine], month_days: int, period: Period, currency: str
) -> list[InvoiceLine]:
    """For each plan: its minimum by days, rounded, less its rounded usage charges, where that is above zero."""
    lines = []
    for part in days:
        entries = [(version, version.minimum, n) for version, n in part.versions if version.minimum is not None]
        exact, details = _prorated(entries, part.plan, month_days)
        charges = total((line for line in usage if line.plan == part.plan), "usage")
        amount = round_half_up(exact, currency) - charges
        if amount > 0:
            charged = LinePart(Decimal(1), -charges, 1, -charges, plan=part.plan, note="usage charges")
            lines.append(
                InvoiceLine(
                    id=f"true_up:{part.plan}",
                    type="true_up",
                    description=f"True-up to the minimum, plan {part.plan}",
                    amount=amount,
                    period_start_us=period.start_us,
                    period_end_us=period.end_us,
                    plan=part.plan,
                    unrounded=exact - charges,
                    parts=(*details, charged),
                )
            )
    return lines

"""Usage by day for documents and plots."""

from datetime import date

from billing.documents import UsageDay
from pipeline.ledger import Ledger
from schemas.periods import month_period
from schemas.tokens import CLASSES
from tollhouse.usage import totals


def usage_days(ledger: Ledger, tenant: str, month: str) -> list[UsageDay]:
    """The tenant's usage of the month by local day, model and key."""
    zone = ledger.context().catalog.tenants[tenant].timezone
    period = month_period(month, zone)
    found = totals(ledger, ("day", "model", "key"), tenant=tenant, start_us=period.start_us, end_us=period.end_us)
    return [
        UsageDay(
            date=date.fromisoformat(day),
            model=model,
            key=key,
            classes={name: n for name, n in zip(CLASSES, total.classes, strict=True) if n},
            requests=total.requests,
        )
        for (day, model, key), total in found.items()
    ]

"""What a worker needs to tell people about an alert: sinks by the settings, an incident's cost, its picture."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pipeline.alerting import Alert
from pipeline.context import COST_SCALE, Context, shown
from pipeline.ledger import Ledger
from pipeline.ledger.minutes import minutes_since
from pipeline.ledger.sums import Asked, priced_sums
from pipeline.response import split_subject
from schemas.instants import HOUR_US, MINUTE_US
from schemas.money import Money
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.sinks import Sinks
from tollhouse.webhooks import SECRET, Webhooks

if TYPE_CHECKING:
    from billing.plots import Look

BEFORE_US: Final = 6 * HOUR_US
"""How much of the ordinary is drawn before an incident."""
PICTURE_MAX_US: Final = 7 * 24 * HOUR_US


def make_sinks(settings: Settings, ledger: Ledger, now_us: Callable[[], int]) -> Sinks:
    """The sender of this process."""
    try:
        secret = settings.secret(SECRET)
    except UserError:
        secret = ""  # told where a webhook would have gone
    link = f"{settings.base_url.rstrip('/')}/" if settings.base_url else ""
    return Sinks(
        Webhooks(secret, allow_local=bool(settings.allow_local_sinks)),
        link=link,
        plot=lambda alert: incident_plot(ledger, alert, now_us()),
        cost=lambda alert: incident_cost(ledger, alert, now_us()),
    )


def _leak(ledger: Ledger, alert: Alert) -> tuple[Context, str, str, int] | None:
    """(context, tenant, key, first sign) of a leak of a tenant's key; None for every other alert."""
    since_us = alert.facts.get("since_us")
    if alert.kind != "leak" or not isinstance(since_us, int):
        return None
    context = ledger.context()
    parts = split_subject(alert.subject, context.catalog)
    return None if parts is None else (context, *parts, since_us)


def incident_cost(ledger: Ledger, alert: Alert, now_us: int) -> str:
    """What the provider charges for the use of the key since the first sign, in all and an hour; empty if unknown."""
    leak = _leak(ledger, alert)
    if leak is None:
        return ""
    context, tenant, key, since_us = leak
    until_us = max(now_us, alert.at_us + MINUTE_US)
    units = 0
    unpriced = False
    # Summed by the database: in the quarters that the bounds cut, a busy key has hundreds of thousands of events.
    asked = Asked(tenant, since_us, until_us, tenants=False, key=key)
    for row in ledger.read(lambda c: priced_sums(c, context, asked)):
        cost = context.prices.cost(row.provider, row.model, row.service_tier, row.start_us, row.size_band, row.classes)
        units += int(cost.amount * COST_SCALE)
        unpriced |= bool(cost.unpriced)
    # Event time, not the clock: usage that is read late, or a trace that is replayed, costs as much an hour.
    hours_us = max(MINUTE_US, alert.at_us + MINUTE_US - since_us)
    so_far, hourly = (Money(shown("cost", n), "USD").rounded() for n in (units, units * HOUR_US // hours_us))
    more = " (some of its models have no price)" if unpriced else ""
    return f"Its use since then costs {so_far} at the provider, about {hourly} an hour{more}."


def incident_plot(
    ledger: Ledger, alert: Alert, now_us: int, *, look: "Look | None" = None, end_us: int | None = None
) -> bytes | None:
    """The key's minutes before and in the incident, until end_us, as PNG or as the look says; None for what is no leak
    of a tenant's key."""
    leak = _leak(ledger, alert)
    if leak is None:
        return None
    from billing.plots import Mark, Minute, incident  # noqa: PLC0415 - Matplotlib takes a second

    _, tenant, key, since_us = leak
    from_us = max(since_us, now_us - PICTURE_MAX_US) - BEFORE_US
    sums: dict[int, int] = {}
    for minute in ledger.read(lambda c: minutes_since(c, tenant, key, from_us)):
        sums[minute.minute_us] = sums.get(minute.minute_us, 0) + minute.tokens
    usual: Any = alert.facts.get("expected_tokens_60")
    expected = usual / 60 if isinstance(usual, int | float) else None
    minutes = [
        Minute(at_us, tokens, expected)
        for at_us, tokens in sorted(sums.items())
        if at_us < from_us + PICTURE_MAX_US and (end_us is None or at_us <= end_us)
    ]
    return incident(minutes, [Mark(alert.at_us, alert.severity)], f"{alert.subject}: tokens a minute", look=look)

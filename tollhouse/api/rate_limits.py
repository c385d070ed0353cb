"""The RateLimit headers (draft-ietf-httpapi-ratelimit-headers) and the kind of a refusal.

Each limited quota of the tenant is a policy: q its limit, w its window in seconds, r what is left, t seconds to its
end. A token bucket is one too: q what it fills by in w = 60 seconds, t seconds until it is full. Header figures are
whole numbers, so an amount of money is given in ten-thousandths of its currency, cut down.
"""

from decimal import ROUND_FLOOR, Decimal
from typing import Final

from pipeline.admission import Decision
from pipeline.context import Context, window_of
from schemas.instants import SECOND_US

COST_PARTS: Final = 10_000
INTEGER_MAX: Final = 10**15 - 1
"""Largest integer of a structured field (RFC 9651)."""
SHORT: Final = ("minute", "hour")


def decision_headers(decision: Decision, context: Context, now_us: int) -> tuple[dict[str, str], str | None]:
    """The headers, and for a refusal its kind: `rate` (wait a little) or `budget` (spent until its window turns)."""
    policies, states, kind = [], [], None
    if decision.tenant not in context.catalog.tenants:
        return {}, None
    if decision.reason == "rate_limit":
        kind = "rate"
    for _, quota, zone in context.quotas(decision.tenant, decision.key or "", now_us):
        if decision.reason == "quota" and quota.name == decision.quota:
            kind = "rate" if quota.window in SHORT else "budget"
        if quota.limit is None or not quota.name.isascii() or not quota.name.isprintable():
            continue
        window = window_of("", quota, zone, now_us)
        name = '"' + quota.name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        unit = ';qu="cost-0.0001"' if quota.meter == "cost" else f';qu="{quota.meter}"'
        length_s = (window.end_us - window.start_us) // SECOND_US
        policies.append(f"{name};q={_whole(quota.meter, quota.limit)};w={length_s}{unit}")
        if (left := decision.remaining.get(quota.name)) is not None:
            reset_s = -(-(window.end_us - now_us) // SECOND_US)
            states.append(f"{name};r={_whole(quota.meter, Decimal(left))};t={reset_s}")
    for limit in context.catalog.tenants[decision.tenant].rate_limits:
        name = f"rate-{limit.meter}"
        policies.append(f'"{name}";q={limit.per_minute};w=60;qu="{limit.meter}"')
        if (left := decision.remaining.get(name)) is not None:
            states.append(f'"{name}";r={left};t={-(-(limit.burst - int(left)) * 60 // limit.per_minute)}')
    if decision.reason == "quota" and kind is None:
        kind = "budget"  # a quota of the key, or one that a new catalog no longer has
    headers = {}
    if policies:
        headers["RateLimit-Policy"] = ", ".join(policies)
    if states:
        headers["RateLimit"] = ", ".join(states)
    return headers, kind


def _whole(meter: str, amount: Decimal) -> int:
    scaled = amount * COST_PARTS if meter == "cost" else amount
    return min(INTEGER_MAX, int(scaled.to_integral_value(ROUND_FLOOR)))

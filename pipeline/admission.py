"""Admission: may this tenant call this model now, with which key, and what does that hold of its quotas.

Pure: it says what to check and to reserve; the ledger does it with one conditional statement for each window.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, NamedTuple

from pipeline.catalog import allowed_model
from pipeline.context import COST_SCALE, Context, WindowKey, limit_units, shown, window_of
from pipeline.response import tenant_subject
from schemas.catalog import Key, Quota
from schemas.instants import MINUTE_US, SECOND_US, format_instant

REASONS: Final = (
    "ok",
    "quota",
    "model_not_allowed",
    "key_unavailable",
    "rate_limit",
    "token_invalid",
    "token_expired",
    "token_revoked",
    "unknown_tenant",
)
OPEN: Final = ("active", "throttled")
"""States in which calls are admitted; a throttle's limits are quotas like others."""
BUCKET: Final = "rate:"
"""Before the scope of a token bucket."""
BUCKET_END_US: Final = 253_402_300_799_000_000
"""A bucket never ends; this is the last second of the year 9999."""
SECOND_NS: Final = 10**9
MINUTE_NS: Final = 60 * SECOND_NS
DEFAULT_TTL_S: Final = 600
MAX_TTL_S: Final = 86_400
"""A day: longer than any call, short enough that a dead proxy's holds are gone tomorrow."""

ESTIMATE_UNITS_MAX: Final = 2**60
"""More than any call brings (10**18 tokens, a million dollars), and still addable four times within 64 bits."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A proxy asks for one call. estimate: units by meter (cost as a Decimal in the provider's currency)."""

    id: str
    tenant: str
    model: str
    estimate: Mapping[str, Decimal] = field(default_factory=dict)
    ttl_s: int = DEFAULT_TTL_S
    models: tuple[str, ...] = ("*",)
    """What the tenant's token allows, over and above the catalog."""

    def __post_init__(self) -> None:
        """ValueError for what would hold less than nothing, or for ever."""
        for meter, units in self.estimate.items():
            if not units.is_finite() or units < 0:
                raise ValueError(f"estimate.{meter} is {units}: give a number that is not negative")
        if not 1 <= self.ttl_s <= MAX_TTL_S:
            raise ValueError(f"ttl_s is {self.ttl_s}: give 1 to {MAX_TTL_S} seconds")


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. remaining: what is left of each limited quota after the call, as people read it."""

    id: str
    allowed: bool
    reason: str
    tenant: str
    key: str | None = None
    quota: str | None = None
    expires_us: int | None = None
    retry_after_s: int | None = None
    remaining: Mapping[str, str] = field(default_factory=dict)


class Check(NamedTuple):
    """One quota of the ask: reserve `units` in `window` if that stays within `limit`. limit None: nothing to check.

    A token bucket counts in nanoseconds: limit is the time that it takes to fill, units that part of it that the call
    takes, and floor the instant of the ask; see buckets.py of the ledger. per_minute: what it fills by.
    """

    quota: Quota
    window: WindowKey
    units: int
    limit: int | None
    blocks: bool
    floor: int | None = None
    per_minute: int = 0


def decision_json(decision: Decision) -> dict[str, Any]:
    """As the results of simulate and the API show it."""
    return {
        "id": decision.id,
        "allowed": decision.allowed,
        "reason": decision.reason,
        "tenant": decision.tenant,
        "key": decision.key,
        "quota": decision.quota,
        "reservation": decision.id if decision.allowed else None,
        "expires_at": format_instant(decision.expires_us) if decision.expires_us is not None else None,
        "retry_after_s": decision.retry_after_s,
        "remaining": dict(decision.remaining),
    }


def refuse_early(ask: Ask, context: Context) -> str | None:
    """The reason to refuse that needs no counter: an unknown tenant or a model that it may not call."""
    tenant = context.catalog.tenants.get(ask.tenant)
    if tenant is None:
        return "unknown_tenant"
    if not allowed_model(tenant.models, ask.model) or not allowed_model(ask.models, ask.model):
        return "model_not_allowed"
    return None


def candidates(ask: Ask, context: Context, now_us: int) -> list[Key]:
    """Keys that may carry the call: pooled ones for standard tenants, its own for a BYOK tenant; active or throttled
    ones only, and none for a tenant that is suspended.

    Where some key's provider has a price for the model, keys of other providers are left out.
    """
    tenant = context.catalog.tenants[ask.tenant]
    if context.key_states.get(tenant_subject(ask.tenant), "active") not in OPEN:
        return []
    keys = [
        key
        for key in context.catalog.keys.values()
        if context.key_states.get(key.id, "active") in OPEN
        and allowed_model(key.models, ask.model)
        and (key.kind == "pooled" if tenant.tier == "standard" else key.tenant == ask.tenant)
    ]
    priced = [k for k in keys if context.prices.find(k.provider, ask.model, "standard", now_us, 0) is not None]
    return sorted(priced or keys, key=lambda key: key.id)


def estimated(quota: Quota, estimate: Mapping[str, Decimal]) -> int:
    """Units that the estimate brings to the quota, started ones whole; an ask without requests asks for one."""
    given = estimate.get(quota.meter, Decimal(1 if quota.meter == "requests" else 0))
    units = given * COST_SCALE if quota.meter == "cost" else given
    return int(min(units, Decimal(ESTIMATE_UNITS_MAX)).to_integral_value(ROUND_CEILING))


def checks(ask: Ask, key: Key, context: Context, now_us: int) -> list[Check]:
    """All quotas of the tenant, its plan and the key that this ask has to pass, in a fixed order."""
    found = []
    for scope, quota, zone in context.quotas(ask.tenant, key.id, now_us):
        if not allowed_model((quota.models,), ask.model):
            continue
        window = window_of(scope, quota, zone, now_us)
        found.append(
            Check(quota, window, estimated(quota, ask.estimate), limit_units(quota), blocks=quota.action == "block")
        )
    return sorted(found, key=lambda check: check.window)


def key_room(key: Key, now_us: int, estimate: Mapping[str, Decimal]) -> list[Check]:
    """The provider's own limits of the key (requests and tokens a minute) as checks on this minute."""
    found = []
    for meter, limit in (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute)):
        if limit is None:
            continue
        quota = Quota(name=f"provider-{meter}", meter=meter, limit=Decimal(limit), window="minute")
        start = now_us - now_us % MINUTE_US
        window = WindowKey(f"room:{key.id}", quota.name, "reserved", start, start + MINUTE_US)
        found.append(Check(quota, window, estimated(quota, estimate), limit, blocks=True))
    return found


def rate_checks(ask: Ask, key: Key, context: Context, now_us: int) -> list[Check]:
    """The token buckets of the tenant and the key as checks, in a fixed order."""
    found = []
    owners = (
        (f"tenant:{ask.tenant}", context.catalog.tenants[ask.tenant].rate_limits),
        (f"key:{key.id}", key.rate_limits),
    )
    for scope, limits in owners:
        for limit in limits:
            quota = Quota(f"rate-{limit.meter}", limit.meter, Decimal(limit.burst), "minute")
            window = WindowKey(f"{BUCKET}{scope}", quota.name, f"bucket/{limit.meter}", 0, BUCKET_END_US)
            whole_ns = -(-limit.burst * MINUTE_NS // limit.per_minute)
            units_ns = -(-estimated(quota, ask.estimate) * MINUTE_NS // limit.per_minute)
            # A call larger than the bucket takes all of it: it waits for a full one, and not for ever.
            units_ns = min(units_ns, whole_ns)
            found.append(Check(quota, window, units_ns, whole_ns, True, now_us * 1000, limit.per_minute))  # noqa: FBT003 - it blocks
    return sorted(found, key=lambda check: check.window)


def is_bucket(check: Check) -> bool:
    """Whether this is a token bucket."""
    return check.floor is not None


def is_held(check: Check) -> bool:
    """Whether a reservation holds it, and gives it back at its end; a minute passes and a bucket fills by itself."""
    return not is_room(check) and not is_bucket(check)


def is_shown(check: Check) -> bool:
    """Whether the answer says what is left of it: a pooled key's room and buckets are not the tenant's to know."""
    return check.limit is not None and not check.window.scope.startswith(("room:", f"{BUCKET}key:"))


def is_of_tenant(check: Check) -> bool:
    """Whether it is the tenant's limit, on whatever key: then no other key helps."""
    return check.window.scope.startswith(("tenant:", f"{BUCKET}tenant:"))


def left_of(meter: str, limit: int, per_minute: int, taken: int) -> str:
    """What is left of a limit, as people read it. per_minute: of a token bucket (its limit is in nanoseconds), or 0."""
    left = max(0, limit - taken)
    return str(left * per_minute // MINUTE_NS) if per_minute else str(shown(meter, left))


def is_room(check: Check) -> bool:
    """Whether this is a provider's limit of a key: its minute passes by itself, so a reservation does not return it."""
    return check.window.scope.startswith("room:")


def used_share(check: Check, taken: int) -> int:
    """How much of its limit a window has taken, in parts of a million."""
    return taken * 1_000_000 // max(1, check.limit or 1)


def refused(ask: Ask, full: Check, taken: int, remaining: Mapping[str, str], now_us: int) -> Decision:
    """The answer to an ask that a full window or an empty bucket refuses. taken: of it."""
    wait_ns = taken + full.units - (full.limit or 0)
    return Decision(
        ask.id,
        allowed=False,
        reason="quota" if is_held(full) else "rate_limit",
        tenant=ask.tenant,
        quota=full.quota.name,
        retry_after_s=max(1, -(-wait_ns // SECOND_NS)) if is_bucket(full) else retry_after(full.window, now_us),
        remaining=remaining,
    )


def retry_after(window: WindowKey, now_us: int) -> int:
    """Whole seconds until the window turns, at least one."""
    return max(1, -(-(window.end_us - now_us) // SECOND_US))

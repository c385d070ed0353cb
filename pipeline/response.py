"""What a leak of page level sets off: nothing more, a throttle to the usual level, or a suspension. Pure.

A pooled key serves many tenants, so a leaked token of one of them suspends that tenant and not the key; a tenant's own
key is suspended itself, and so is a pooled key that the provider saw in use elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from schemas.catalog import Catalog, Quota

ACTIONS: Final = ("alert", "throttle", "suspend")
BY: Final = "leak-response"
"""The audit log's name for what is done here."""
STATES: Final = {"throttle": "throttled", "suspend": "suspended"}
ROOM: Final = 2
"""A throttle lets twice the usual hour pass: an ordinary swing does, a leak of ten times the level does not."""
THROTTLED_METERS: Final = {"requests": "expected_requests_60", "tokens": "expected_tokens_60"}
"""Meter to the finding's fact that says what was due in an hour."""


@dataclass(frozen=True, slots=True)
class Response:
    """subject: as key_states names it (a key's id, or tenant:NAME). limits: units an hour by meter, for a throttle."""

    subject: str
    action: str
    tenant: str
    key: str
    detail: str
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The state that it brings the subject to."""
        return STATES[self.action]


def tenant_subject(tenant: str) -> str:
    """A tenant's name among the keys of key_states."""
    return f"tenant:{tenant}"


def split_subject(subject: str, catalog: Catalog) -> tuple[str, str] | None:
    """(tenant, key) of a leak's subject "tenant/key"; either may hold a slash itself. None if the catalog has none."""
    parts = subject.split("/")
    for i in range(1, len(parts)):
        tenant, key = "/".join(parts[:i]), "/".join(parts[i:])
        if tenant in catalog.tenants and key in catalog.keys:
            return tenant, key
    return None


def response_to(kind: str, severity: str, subject: str, facts: Mapping[str, Any], catalog: Catalog) -> Response | None:
    """What the catalog's `alerts.on_leak` does about an alert; None: it is told, and that is all."""
    action = catalog.alerts.on_leak
    if severity != "page" or action == "alert":
        return None
    if kind == "residual":
        return _pool(action, subject, catalog)
    if kind != "leak":
        return None
    parts = split_subject(subject, catalog)
    if parts is None:
        return None
    tenant, key = parts
    own = catalog.keys[key].kind == "byok"
    target = key if own else tenant_subject(tenant)
    name = f"key {key}" if own else f"tenant {tenant}"
    if action == "suspend":
        detail = f"{name} is suspended: authorize refuses it until it is released"
        return Response(target, action, tenant, key, detail)
    limits = hourly_limits(facts)
    if not limits:
        return None  # without a baseline there is no level to hold it to
    shown = " and ".join(f"{units:,} {meter}" for meter, units in limits.items())
    return Response(target, action, tenant, key, f"{name} is held to {shown} an hour on key {key}", limits)


def _pool(action: str, subject: str, catalog: Catalog) -> Response | None:
    if action != "suspend" or subject not in catalog.keys:
        return None  # a throttle here would hold back our own tenants and not whoever has the key
    detail = f"key {subject} is suspended here; it still works elsewhere until it is deleted at the provider"
    return Response(subject, action, "", subject, detail)


def hourly_limits(facts: Mapping[str, Any]) -> dict[str, int]:
    """Units an hour by meter: ROOM times what was due; a meter of which nothing was due has no limit."""
    limits = {}
    for meter, name in THROTTLED_METERS.items():
        usual = Decimal(str(facts.get(name, 0)))
        if usual > 0:
            limits[meter] = int((usual * ROOM).to_integral_value(ROUND_CEILING))
    return limits


_THROTTLE: Final = "leak-throttle:"


def throttle_quotas(key: str, limits: Mapping[str, int]) -> tuple[Quota, ...]:
    """The limits as quotas on the tenant's use of the key."""
    return tuple(
        Quota(name=f"{_THROTTLE}{key}:{meter}", meter=meter, limit=Decimal(units), window="hour", action="block")
        for meter, units in limits.items()
    )


def throttled_key(quota: Quota) -> str | None:
    """The key that a throttle's limit is for; None: it is no throttle's, and counts the use of every key."""
    if not quota.name.startswith(_THROTTLE):
        return None
    return quota.name.removeprefix(_THROTTLE).removesuffix(f":{quota.meter}")

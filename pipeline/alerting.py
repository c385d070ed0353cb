"""Alerts as values: one incident, one alert, with an id derived from what it is about."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from pipeline.context import WindowKey, limit_units, shown
from pipeline.screen import Leak
from schemas.catalog import Quota
from schemas.instants import DAY_US, format_instant

KINDS: Final = ("leak", "residual", "quota", "secret_in_event", "revoked_key_used", "unrated", "pipeline")
SEVERITIES: Final = ("page", "ticket")
DEFAULT_ALERT_AT: Final = (Decimal(1),)
"""A quota that says nothing alerts when its limit is reached."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What happened, since when, to whom. id is stable: the same incident told twice is one alert."""

    id: str
    at_us: int
    kind: str
    severity: str
    subject: str
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)


def alert_json(alert: Alert) -> dict[str, Any]:
    """As the `alerts` topic and the results show it."""
    return {
        "id": alert.id,
        "at": format_instant(alert.at_us),
        "kind": alert.kind,
        "severity": alert.severity,
        "subject": alert.subject,
        "detail": alert.detail,
        "facts": alert.facts,
    }


def quota_alerts(window: WindowKey, quota: Quota, before: int, after: int, at_us: int) -> list[Alert]:
    """An alert for each share of the limit that the use has just passed; before and after in the quota's units."""
    limit = limit_units(quota)
    if limit is None or after <= before:
        return []
    alerts = []
    for share in quota.alert_at or DEFAULT_ALERT_AT:
        edge = share * limit
        if before < edge <= after or (limit == 0 and before == 0 < after):
            percent = format((share * 100).normalize(), "f")
            used, most = shown(quota.meter, after), shown(quota.meter, limit)
            alerts.append(
                Alert(
                    id=f"quota:{window.scope}:{window.name}:{window.kind}:{window.start_us}:{percent}",
                    at_us=at_us,
                    kind="quota",
                    severity="ticket",
                    subject=window.scope.partition(":")[2],
                    detail=f"quota {window.name}: {used} of {most} {quota.meter} used, "
                    f"{percent} % of the {quota.window}'s limit",
                    facts={"quota": window.name, "share": str(share), "used": str(used), "limit": str(most)},
                )
            )
    return alerts


def secret_alert(leak: Leak) -> Alert:
    """A secret was sent inside an event; the alert names the fields, never the value."""
    day = leak.arrival_us - leak.arrival_us % DAY_US
    subject = leak.tenant or "unknown"
    return Alert(
        id=f"secret:{subject}:{leak.source}:{','.join(leak.fields)}:{day}",
        at_us=leak.arrival_us,
        kind="secret_in_event",
        severity="page",
        subject=subject,
        detail=f"a secret was cut out of {', '.join(leak.fields)} of an event from {leak.source or 'unknown'}: "
        "rotate it, and stop the proxy from sending it",
        facts={"fields": list(leak.fields), "source": leak.source},
    )


def revoked_alert(key: str, tenant: str, at_us: int) -> Alert:
    """Usage arrived on a key that had been revoked before."""
    return Alert(
        id=f"revoked:{key}:{at_us - at_us % DAY_US}",
        at_us=at_us,
        kind="revoked_key_used",
        severity="page",
        subject=key,
        detail=f"key {key} is revoked and was used for tenant {tenant}: the provider still accepts it, delete it there",
        facts={"tenant": tenant},
    )


def unrated_alert(tenant: str, provider: str, model: str, meters: tuple[str, ...], at_us: int) -> Alert:
    """A model without a provider price was used: metered, but its cost is unknown."""
    return Alert(
        id=f"unrated:{tenant}:{provider}:{model}:{','.join(meters)}",
        at_us=at_us,
        kind="unrated",
        severity="ticket",
        subject=tenant,
        detail=f"model {model} of {provider} has no price for {', '.join(meters)}: add one to provider_prices, "
        "dated back; usage is metered meanwhile",
        facts={"provider": provider, "model": model, "meters": list(meters)},
    )


def uncharged_alert(tenant: str, model: str, meters: tuple[str, ...], at_us: int) -> Alert:
    """A model was used that no charge of the tenant's plan covers: its invoice will not close."""
    return Alert(
        id=f"unrated:{tenant}:plan:{model}:{','.join(meters)}",
        at_us=at_us,
        kind="unrated",
        severity="ticket",
        subject=tenant,
        detail=f"no charge of the tenant's plan covers {', '.join(meters)} of model {model}: add a charge in a dated "
        "version of the plan; usage is metered meanwhile, and the invoice is held",
        facts={"model": model, "meters": list(meters)},
    )

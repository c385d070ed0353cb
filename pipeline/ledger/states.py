"""Everything a proxy needs to decide without a call, as it is now: quota windows, keys, tenants, revoked tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from pipeline.context import Context, WindowKey, window_of
from pipeline.ledger import windows
from pipeline.ledger.key_states import list_key_states
from pipeline.ledger.record import QuotaState
from pipeline.ledger.tables import quota_windows, revoked_tokens
from pipeline.response import tenant_subject
from schemas.catalog import Quota

_w, _t = quota_windows.c, revoked_tokens.c


class Listed(NamedTuple):
    """A quota of the catalog, or of a throttle, in its window of an instant."""

    window: WindowKey
    quota: Quota


def listed(context: Context, now_us: int) -> list[Listed]:
    """Every quota of every tenant and key, in the window that holds the instant."""
    catalog = context.catalog
    found = [
        Listed(window_of(scope, quota, zone, now_us), quota)
        for tenant in catalog.tenants
        for scope, quota, zone in context.quotas(tenant, "", now_us)
    ]
    for key in catalog.keys.values():
        found += [Listed(window_of(f"key:{key.id}", quota, "UTC", now_us), quota) for quota in key.quotas]
    for (tenant, _), held in context.throttles.items():
        found += [Listed(window_of(f"tenant:{tenant}", quota, "UTC", now_us), quota) for quota in held]
    return found


def quota_states(connection: Connection, wanted: Iterable[Listed], now_us: int) -> list[QuotaState]:
    """The windows as they are; one in which nothing happened yet is all zero, with version 0."""
    columns = (_w.scope, _w.name, _w.kind, _w.start_us, _w.used, _w.reserved, _w.version)
    rows = connection.execute(select(*columns).where(_w.end_us > now_us)).all()
    known = {tuple(row[:4]): windows.WindowRow(*map(int, row[4:])) for row in rows}
    nothing = windows.WindowRow(0, 0, 0)
    return [QuotaState(w, quota, *known.get(w[:4], nothing)) for w, quota in wanted]


def make_missing(connection: Connection, states: Sequence[QuotaState], context: Context) -> int:
    """Make the windows of version 0 that began before the catalog did: there may be usage from before; how many."""
    missing = [one for one in states if one.version == 0 and context.applied_us > one.window.start_us]
    return sum(windows.ensure(connection, one.window, one.quota, context) for one in missing)


def subjects(connection: Connection, context: Context) -> list[dict[str, Any]]:
    """Every key and tenant (`tenant:NAME`) with its state and what the catalog says of it, and revoked tokens
    (`jti:ID`); rows as `key_states` has them and more. Keys that the catalog no longer has keep their last state."""
    rows = {row["key"]: row for row in list_key_states(connection)}
    gone = connection.execute(select(_t.kind, _t.value, _t.at_us)).all()
    before = {row.value: int(row.at_us) for row in gone if row.kind == "before"}
    found = []
    for key in context.catalog.keys.values():
        facts: dict[str, Any] = {"provider": key.provider, "kind": key.kind, "tenant": key.tenant}
        facts["models"] = list(key.models)
        facts["requests_per_minute"], facts["tokens_per_minute"] = key.requests_per_minute, key.tokens_per_minute
        facts["rate_limits"] = [asdict(limit) for limit in key.rate_limits]
        found.append(_row(rows.pop(key.id, None), key.id, context, facts))
    for tenant in context.catalog.tenants.values():
        subject = tenant_subject(tenant.id)
        facts = {"tier": tenant.tier, "models": list(tenant.models), "tokens_before_us": before.get(subject)}
        facts["rate_limits"] = [asdict(limit) for limit in tenant.rate_limits]
        found.append(_row(rows.pop(subject, None), subject, context, facts))
    found += [{**row, "catalog": 0} for row in rows.values()]
    for row in gone:
        if row.kind == "jti":
            revoked = {"state": "revoked", "reason": "", "changed_us": int(row.at_us), "changed_by": "", "version": 1}
            found.append({"key": f"jti:{row.value}", "catalog": 0, **revoked})
    return found


def revocations_mark(connection: Connection) -> tuple[int, int]:
    """Another one whenever a token, or all of a subject's, was revoked since."""
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(_t.at_us), 0)).select_from(revoked_tokens)
    ).one()
    return int(row[0]), int(row[1])


def _row(row: Mapping[str, Any] | None, subject: str, context: Context, facts: Mapping[str, Any]) -> dict[str, Any]:
    unset = {
        "key": subject,
        "state": "active",
        "reason": "",
        "changed_us": context.applied_us,
        "changed_by": "catalog",
        "version": 0,
    }
    return {**(row or unset), "catalog": context.version, **facts}

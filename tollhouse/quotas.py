"""Quota windows for people and programs."""

from typing import Any

from pipeline.context import limit_units, shown, window_of
from pipeline.ledger import Ledger, windows
from pipeline.ledger.quota_check import Checked, check_quotas, repair_quotas
from schemas.instants import format_instant
from schemas.money import plain


def quota_rows(ledger: Ledger, now_us: int, tenant: str | None = None) -> list[dict[str, Any]]:
    """Every quota of the tenant, or of all, in the window that holds the instant. Figures as decimal strings."""
    context = ledger.context()
    names = [tenant] if tenant is not None else list(context.catalog.tenants)
    wanted = [
        (name, quota, window_of(scope, quota, zone, now_us))
        for name in names
        if name in context.catalog.tenants
        for scope, quota, zone in context.quotas(name, "", now_us)
    ]
    states = ledger.read(lambda connection: windows.states_of(connection, [window for _, _, window in wanted]))
    found = []
    for name, quota, window in wanted:
        state, limit = states.get(window[:4], windows.WindowRow(0, 0, 0)), limit_units(quota)
        found.append(
            {
                "tenant": name,
                "name": quota.name,
                "meter": quota.meter,
                "window": quota.window,
                "action": quota.action,
                "used": plain(shown(quota.meter, state.used)),
                "reserved": plain(shown(quota.meter, state.reserved)),
                "limit": None if limit is None else plain(shown(quota.meter, limit)),
                "window_start": format_instant(window.start_us),
                "window_end": format_instant(window.end_us),
            }
        )
    return found


def quota_check(ledger: Ledger, now_us: int, who: str, *, repair: bool) -> dict[str, Any]:
    """Every window's counters against the ledger: how many were compared, and a row for each that differs."""
    context = ledger.context()
    checked: Checked
    if repair:
        checked = ledger.write(lambda connection: repair_quotas(connection, context, now_us, who))
    else:
        checked = ledger.read(lambda connection: check_quotas(connection, context))
    drifts = []
    for drift in checked.drifts:
        meter = drift.window.kind.partition("/")[0]
        figures = {"used": drift.used, "counted": drift.counted, "reserved": drift.reserved, "held": drift.held}
        drifts.append(
            {
                "scope": drift.window.scope,
                "name": drift.window.name,
                "meter": meter,
                "window_start": format_instant(drift.window.start_us),
                **{name: plain(shown(meter, units)) for name, units in figures.items()},
            }
        )
    return {"windows": checked.windows, "skipped": checked.skipped, "repaired": repair, "drifts": drifts}

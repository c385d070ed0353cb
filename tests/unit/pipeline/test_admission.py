"""What an ask may have, and what it holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.admission import (
    ESTIMATE_UNITS_MAX,
    MAX_TTL_S,
    Ask,
    Decision,
    candidates,
    checks,
    decision_json,
    estimated,
    key_room,
    refuse_early,
    retry_after,
)
from pipeline.alerting import quota_alerts
from pipeline.context import COST_SCALE, Context, Meterable, WindowKey, limit_units, measured, shown, window_of
from schemas.catalog import Quota
from schemas.tokens import CLASSES
from tests.unit.pipeline.events import TIME_US, catalog, context


def quota(meter: str = "tokens", limit: str | None = "100", **more: Any) -> Quota:
    return Quota("q", meter, None if limit is None else Decimal(limit), "day", **more)


def with_states(**states: str) -> Context:
    return Context(1, catalog(), states)


def names(ask: Ask, ctx: Context) -> list[str]:
    return [key.id for key in candidates(ask, ctx, TIME_US)]


def test_early_reasons() -> None:
    ctx = context(
        tenants={"acme": {"plan": "p", "models": ["m*"]}}, keys={"k1": {"provider": "openai", "kind": "pooled"}}
    )
    assert refuse_early(Ask("a", "nobody", "m"), ctx) == "unknown_tenant"
    assert refuse_early(Ask("a", "acme", "x"), ctx) == "model_not_allowed"
    assert refuse_early(Ask("a", "acme", "m1", models=("m2",)), ctx) == "model_not_allowed"
    assert refuse_early(Ask("a", "acme", "m1", models=("m1",)), ctx) is None


def test_pooled_keys_for_standard_tenants_own_keys_for_their_owner() -> None:
    assert names(Ask("a", "acme", "m"), context()) == ["k1", "k2"]
    assert names(Ask("a", "own", "m"), context()) == ["mine"]


@pytest.mark.parametrize("state", ["suspended", "revoked", "rotating"])
def test_only_active_keys_carry_new_calls(state: str) -> None:
    assert names(Ask("a", "acme", "m"), with_states(k1=state)) == ["k2"]
    assert names(Ask("a", "own", "m"), with_states(mine=state)) == []


@pytest.mark.parametrize(
    ("meter", "estimate", "units"),
    [
        ("tokens", {}, 0),
        ("tokens", {"tokens": Decimal("0.1")}, 1),
        ("tokens", {"tokens": Decimal(7)}, 7),
        ("input", {"tokens": Decimal(7)}, 0),
        ("requests", {}, 1),
        ("requests", {"requests": Decimal(0)}, 0),
        ("cost", {"cost": Decimal("0.02")}, 2 * COST_SCALE // 100),
        ("cost", {"cost": Decimal("1E-13")}, 1),
        ("tokens", {"tokens": Decimal("1E+20")}, ESTIMATE_UNITS_MAX),
    ],
)
def test_what_an_estimate_holds(meter: str, estimate: dict[str, Decimal], units: int) -> None:
    assert estimated(quota(meter), estimate) == units


@pytest.mark.parametrize("bad", [Decimal(-1), Decimal("NaN"), Decimal("Infinity")])
def test_estimates_that_are_none(bad: Decimal) -> None:
    with pytest.raises(ValueError, match=r"estimate\.tokens"):
        Ask("a", "acme", "m", {"tokens": bad})


@pytest.mark.parametrize("ttl_s", [0, -1, MAX_TTL_S + 1])
def test_times_to_live_that_are_none(ttl_s: int) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        Ask("a", "acme", "m", ttl_s=ttl_s)


def test_checks_are_those_of_tenant_plan_and_key_for_the_model() -> None:
    q = {"name": "t", "meter": "tokens", "limit": 5, "window": "day"}
    plan = {"charges": [], "quotas": [{**q, "name": "p"}]}
    ctx = context(
        tenants={"acme": {"plan": "p", "quotas": [q, {**q, "name": "x", "models": "other"}]}},
        plans={"p": plan},
        keys={"k1": {"provider": "openai", "kind": "pooled", "quotas": [{**q, "name": "k"}], "requests_per_minute": 3}},
    )
    found = checks(Ask("a", "acme", "m"), ctx.catalog.keys["k1"], ctx, TIME_US)
    assert [(c.window.scope, c.quota.name) for c in found] == [
        ("key:k1", "k"),
        ("tenant:acme", "p"),
        ("tenant:acme", "t"),
    ]
    ((room),) = key_room(ctx.catalog.keys["k1"], TIME_US, {})
    assert (room.limit, room.units, room.window.start_us % 60_000_000) == (3, 1, 0)


@pytest.mark.parametrize(
    ("before_end_us", "seconds"), [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2), (60_000_000, 60)]
)
def test_retry_after_is_whole_seconds(before_end_us: int, seconds: int) -> None:
    assert retry_after(WindowKey("s", "n", "k", 0, 10**12), 10**12 - before_end_us) == seconds


def test_a_decision_as_json() -> None:
    shown_ = decision_json(Decision("a", allowed=True, reason="ok", tenant="acme", key="k1", expires_us=TIME_US))
    assert shown_["reservation"] == "a"
    assert shown_["expires_at"] == "2026-10-03T10:11:12Z"
    assert decision_json(Decision("a", allowed=False, reason="quota", tenant="acme"))["reservation"] is None


def test_measures_and_limits() -> None:
    classes = tuple(range(1, len(CLASSES) + 1))
    event = Meterable("m", classes, 1, 77)
    assert [measured(quota(meter), event) for meter in ("input", "web_searches", "tokens", "requests", "cost")] == [
        1,
        11,
        55,
        1,
        77,
    ]
    assert measured(quota(models="other-*"), event) == 0
    assert limit_units(quota(limit=None)) is None
    assert limit_units(quota("cost", "20000000.00")) == 2 * 10**19
    assert shown("cost", 3 * COST_SCALE // 2) == Decimal("1.5")
    window = window_of("tenant:beta", quota(), "Asia/Kathmandu", TIME_US)
    assert window.end_us - window.start_us == 86_400_000_000
    assert window.start_us % 86_400_000_000 == 65_700_000_000  # 18:15 UTC


@pytest.mark.parametrize(
    ("before", "after", "shares"),
    [
        (0, 49, []),
        (0, 50, ["50"]),
        (49, 100, ["50", "80", "100"]),
        (50, 79, []),
        (100, 200, []),
        (80, 50, []),
        (79, 80, ["80"]),
    ],
)
def test_thresholds_are_told_when_they_are_reached(before: int, after: int, shares: list[str]) -> None:
    q = quota(alert_at=(Decimal("0.5"), Decimal("0.8"), Decimal(1)))
    found = quota_alerts(window_of("tenant:acme", q, "UTC", TIME_US), q, before, after, TIME_US)
    assert [alert.id.rpartition(":")[2] for alert in found] == shares
    assert {alert.subject for alert in found} <= {"acme"}

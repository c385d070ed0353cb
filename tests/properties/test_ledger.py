"""Laws of the ledger: whatever the order, the batches and the repetitions, the same events make the same ledger."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pipeline.admission import Ask
from pipeline.context import window_of
from pipeline.ledger import Ledger, windows
from pipeline.ledger.tables import events, intake, quota_windows, rejected, reservations, rollups
from schemas.instants import DAY_US, HOUR_US, QUARTER_US
from schemas.tokens import CLASSES, TOKEN_CLASSES
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import TIME_US, catalog, event, ref

QUOTAS: list[dict[str, Any]] = [
    {"name": "t", "meter": "tokens", "limit": 10_000, "window": "day"},
    {"name": "r", "meter": "requests", "limit": 50, "window": "hour"},
    {"name": "c", "meter": "cost", "limit": "1.00", "window": "month"},
    {"name": "i", "meter": "input", "limit": 500, "window": "minute", "models": "m", "action": "alert"},
]
CATALOG = catalog(
    tenants={
        "acme": {"plan": "p", "quotas": QUOTAS},
        "beta": {"plan": "p", "timezone": "Asia/Kathmandu", "quotas": QUOTAS},
        "own": {"plan": "p", "tier": "byok", "quotas": QUOTAS},
    },
    keys={
        "k1": {"provider": "openai", "kind": "pooled", "quotas": [{**QUOTAS[0], "name": "kt"}]},
        "k2": {"provider": "openai", "kind": "pooled"},
        "mine": {"provider": "openai", "kind": "byok", "tenant": "own"},
    },
)
MANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def ledger() -> Ledger:
    """An empty ledger in memory with the catalog; applied before all events, so that no window is counted back."""
    made = Ledger("sqlite://")
    made.create()
    made.apply(CATALOG, TIME_US - 60 * DAY_US, "test")
    return made


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Independent calls, each with corrections that leave nothing to the order of arrival: at most one replacement of
    each event, voids of any of them, one upstream id a call."""
    made: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 6))):
        tenant = draw(st.sampled_from(["acme", "beta", "own"]))
        key = "mine" if tenant == "own" else draw(st.sampled_from(["k1", "k2"]))
        upstream = {"upstream_id": f"u{number}"} if draw(st.booleans()) else {}
        length = draw(st.integers(1, 4))
        for link in range(length):
            status = draw(st.sampled_from(["ok", "ok", "ok", "aborted", "error"]))
            counts = {name: draw(st.integers(0, 400)) for name in draw(st.sets(st.sampled_from(TOKEN_CLASSES[:6])))}
            made.append(
                event(
                    f"e{number}.{link}",
                    subject=tenant,
                    time_us=TIME_US + draw(st.integers(-20, 0)) * 7 * 60_000_000,
                    key=key,
                    model=draw(st.sampled_from(["m", "m", "unpriced"])),
                    tokens={"input": 1, **counts},
                    status=status,
                    cache_hit=draw(st.integers(0, 5)) == 0,
                    **upstream,
                    **({"replaces": ref(f"e{number}.{link - 1}")} if link else {}),
                )
            )
        for void in range(draw(st.integers(0, 2))):
            target = f"e{number}.{draw(st.integers(0, length - 1))}"
            made.append(event(f"v{number}.{void}", subject=tenant, kind="void", voids=ref(target)))
    return made


def take(made: Ledger, batches: list[list[tuple[int, dict[str, Any]]]], arrival_us: int = TIME_US + HOUR_US) -> None:
    """Deliver (offset, event) batches on one partition."""
    for batch in batches:
        made.take(
            [Delivery(json.dumps(e).encode(), arrival_us, Evidence("t", 0, offset, 0)) for offset, e in batch],
            arrival_us,
        )


def shape(made: Ledger) -> dict[str, Any]:
    """All that counts: the events' states, the sums, the quotas' use, what was rejected."""
    return {
        "events": sorted((r["tenant"], r["source"], r["id"], r["state"], r["time_us"]) for r in made.rows(events)),
        "rollups": sorted(
            tuple(r.values())
            for r in made.rows(rollups)
            if any(r[n] for n in (*CLASSES, "requests", "errors", "events"))
        ),
        "quotas": sorted(
            (r["scope"], r["name"], r["kind"], r["start_us"], r["used"], r["reserved"])
            for r in made.rows(quota_windows)
            if r["used"] or r["reserved"]
        ),
        "rejected": sorted((r["id"], r["reason"]) for r in made.rows(rejected)),
    }


def cut(draw: st.DrawFn | Any, stream: list[Any]) -> list[list[Any]]:
    """The stream in batches."""
    bounds = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=6)) | {len(stream)})
    return [stream[a:b] for a, b in zip([0, *bounds[:-1]], bounds, strict=True) if stream[a:b]]


@MANY
@given(calls(), st.data())
def test_order_repetition_and_batches_do_not_matter(made: list[dict[str, Any]], data: st.DataObject) -> None:
    straight = ledger()
    take(straight, [list(enumerate(made))])
    again = data.draw(st.lists(st.sampled_from(made), max_size=8))
    shuffled = data.draw(st.permutations([*made, *again]))
    other = ledger()
    take(other, cut(data.draw, list(enumerate(shuffled))))
    assert shape(other) == shape(straight)
    (row,) = other.rows(intake)
    assert row["received"] == len(shuffled) == row["next_offset"]
    assert row["received"] == row["counted"] + row["duplicates"] + row["rejected"] + row["held"]
    assert row["duplicates"] == len(again)
    assert row["held"] == 0


@MANY
@given(calls(), st.data())
def test_rollups_are_a_linear_fold_over_the_events(made: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(made))
    found = ledger()
    take(found, cut(data.draw, list(enumerate(shuffled))))

    by_name = {e["id"]: e for e in made}
    replaced = {e["data"]["replaces"]["id"] for e in made if "replaces" in e["data"]}
    voided: set[str] = set()
    for e in made:
        if "voids" in e["data"]:
            call, _, link = e["data"]["voids"]["id"][1:].partition(".")
            voided |= {f"e{call}.{n}" for n in range(int(link), 10)}
    sums: Counter[tuple[str, ...]] = Counter()
    for name, e in by_name.items():
        data_ = e["data"]
        if "voids" in data_ or name in replaced or name in voided:
            continue
        first = by_name[f"{name.partition('.')[0]}.0"]
        quarter = _micro(first["time"]) // QUARTER_US * QUARTER_US
        key = (e["subject"], data_["key"], data_["model"], str(quarter))
        billed = data_["status"] != "error" and not data_["cache_hit"]
        for cls, n in data_["tokens"].items():
            sums[*key, cls] += n if billed else 0
        sums[*key, "requests"] += data_["status"] != "error"
        sums[*key, "errors"] += data_["status"] == "error"
    got = {
        (r["tenant"], r["key"], r["model"], str(r["quarter_us"]), name): r[name]
        for r in found.rows(rollups)
        for name in (*CLASSES, "requests", "errors")
        if r[name]
    }
    assert got == {key: n for key, n in sums.items() if n}


def _micro(text: str) -> int:
    from datetime import datetime  # noqa: PLC0415 - on purpose not the product's own parser

    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


@MANY
@given(calls(), st.data())
def test_reading_messages_again_changes_nothing(made: list[dict[str, Any]], data: st.DataObject) -> None:
    found = ledger()
    stream = list(enumerate(made))
    take(found, cut(data.draw, stream))
    before, seen = shape(found), found.rows(intake)
    start = data.draw(st.integers(0, len(stream) - 1))
    take(found, cut(data.draw, stream[start:]))
    assert shape(found) == before
    assert found.rows(intake) == seen
    assert all(r["redelivered"] == 0 for r in found.rows(events))


@MANY
@given(calls(), st.data())
def test_quota_windows_equal_a_recount(made: list[dict[str, Any]], data: st.DataObject) -> None:
    found = ledger()
    take(found, cut(data.draw, list(enumerate(data.draw(st.permutations(made))))))
    context = found.context()
    wanted: Counter[tuple[str, str, int]] = Counter()
    for tenant in CATALOG.tenants:
        for row in found.usage.events(tenant, 0, 2 * TIME_US):
            for scope, quota, zone in context.quotas(tenant, row.key, row.time_us):
                window = window_of(scope, quota, zone, row.time_us)
                price = (row.provider, row.model, row.service_tier, row.time_us, row.size_band, row.classes)
                amount = {
                    "tokens": sum(row.classes[: len(TOKEN_CLASSES)]),
                    "requests": row.requests,
                    "input": row.classes[0] if row.model == "m" else 0,
                    "cost": context.cost_units(price, pooled=row.pooled),
                }[quota.meter]
                wanted[scope, quota.name, window.start_us] += amount
    got = {(r["scope"], r["name"], r["start_us"]): r["used"] for r in found.rows(quota_windows) if r["used"]}
    assert got == {key: n for key, n in wanted.items() if n}


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """(action, which reservation, amount) in order; between two of them time passes."""
    action = st.sampled_from(["ask", "ask", "ask", "settle", "use", "use", "wait", "sweep"])
    return draw(st.lists(st.tuples(action, st.integers(0, 9), st.integers(0, 400)), max_size=40))


@MANY
@given(traffic())
def test_holds_never_leak_and_a_limit_is_never_passed(steps: list[tuple[str, int, int]]) -> None:
    """Estimates are upper bounds here, so used + reserved stays within the limit."""
    made = Ledger("sqlite://")
    made.create()
    quota = {"name": "t", "meter": "tokens", "limit": 1000, "window": "day"}
    made.apply(
        catalog(
            tenants={"acme": {"plan": "p", "quotas": [quota]}}, keys={"k1": {"provider": "openai", "kind": "pooled"}}
        ),
        0,
        "test",
    )
    now_us, offset = TIME_US, 0
    asked: dict[str, int] = {}
    used: set[str] = set()
    for action, which, amount in steps:
        now_us += 1_000_000
        name = f"a{which}"
        if action == "ask":
            answer = made.authorize(Ask(name, "acme", "m", {"tokens": Decimal(amount)}, ttl_s=30), now_us)
            if answer.allowed:
                asked.setdefault(name, amount)
        elif action == "settle":
            made.release("acme", name)
        elif action == "use" and name in asked and name not in used and _open(made, name, now_us):
            used.add(name)
            body = event(f"e{which}", time_us=now_us, input=min(asked[name], amount), reservation=name)
            made.take([Delivery(json.dumps(body).encode(), now_us, Evidence("t", 0, offset, 0))], now_us)
            offset += 1
        elif action == "wait":
            now_us += 20_000_000
        elif action == "sweep":
            made.sweep(now_us)
        holds = sum(asked[r["id"]] for r in made.rows(reservations, reservations.c.state == "open"))
        context = made.context()
        ((scope, found, zone),) = context.quotas("acme", "k1", now_us)
        window = window_of(scope, found, zone, now_us)
        state = made.read(lambda c, w=window: windows.state_of(c, w))
        assert state.reserved == holds
        assert state.used + state.reserved <= 1000
    made.sweep(now_us + HOUR_US)
    assert all(r["reserved"] == 0 for r in made.rows(quota_windows))


def _open(made: Ledger, name: str, now_us: int) -> bool:
    query = select(reservations.c.id).where(
        reservations.c.id == name, reservations.c.state == "open", reservations.c.expires_us > now_us
    )
    return made.read(lambda c: c.execute(query).first()) is not None

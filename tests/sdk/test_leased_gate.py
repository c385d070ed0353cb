"""Leases against the real API, on both databases: held, spent, settled by usage, given back, never passed."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest

from pipeline.admission import Ask
from pipeline.ledger import Ledger
from pipeline.ledger.quota_check import check_quotas
from pipeline.ledger.tables import quota_windows, reservations
from schemas.instants import SECOND_US
from tests.integration.api.kit import House, catalog
from tests.sdk.serving import Served
from tollhouse.tokens.revoked import revoke_jti
from tollhouse_client import GateDecision, GateRefusedError, GateUnavailableError, LeasedGate

MODEL = "gpt-5-mini"
BLOCK = {"tokens": 4000, "requests": 8}


@pytest.fixture
def served(sqlite_url: str, tmp_path: Path) -> Iterator[Served]:
    yield from _served(sqlite_url, tmp_path)


@pytest.fixture
def served_both(database_url: str, tmp_path: Path) -> Iterator[Served]:
    """For what the database decides: once on each kind."""
    yield from _served(database_url, tmp_path)


def _served(url: str, directory: Path) -> Iterator[Served]:
    house = House(url, directory)
    made = Served(house)
    yield made
    made.close()
    house.close()


def window(ledger: Ledger, name: str = "monthly") -> tuple[int, int]:
    """used, reserved"""
    rows = ledger.rows(quota_windows, quota_windows.c.name == name)
    return (int(rows[0]["used"]), int(rows[0]["reserved"])) if rows else (0, 0)


def report(house: House, decision: GateDecision, tokens: int) -> None:
    """The usage of a call, as the worker counts it."""
    house.count(
        house.event(
            uuid.uuid4().hex,
            decision.tenant,
            key=decision.key,
            tokens={"input": tokens},
            reservation=decision.reservation,
        )
    )


def test_a_block_is_held_spent_settled_by_usage_and_given_back(served_both: Served) -> None:
    house, token = served_both.house, served_both.house.token("tenant", "globex")
    gate = served_both.leased_gate(block=BLOCK)
    first = gate.authorize(token, MODEL, {"tokens": 1000})
    assert (first.allowed, first.tenant) == (True, "globex")
    assert window(house.ledger) == (0, 4000)
    second = gate.authorize(token, MODEL, {"tokens": 1000})
    assert second.reservation == first.reservation
    assert gate.outstanding == {"globex": {"tokens": 2000}}
    report(house, first, 300)
    assert window(house.ledger) == (300, 3700)
    gate.settle(first, {"tokens": 300})
    assert gate.outstanding == {"globex": {"tokens": 2700}}
    gate.release(second)
    assert gate.outstanding == {"globex": {"tokens": 3700}}
    gate.close()
    assert window(house.ledger) == (300, 0)
    (row,) = house.ledger.rows(reservations)
    assert row["state"] == "released"


def test_what_runs_at_the_close_stays_held_until_its_usage_arrives(served_both: Served) -> None:
    house, token = served_both.house, served_both.house.token("tenant", "globex")
    gate = served_both.leased_gate(block=BLOCK)
    done = gate.authorize(token, MODEL, {"tokens": 500})
    gate.settle(done, {"tokens": 200})
    running = gate.authorize(token, MODEL, {"tokens": 700})
    gate.close()
    assert window(house.ledger) == (0, 900)
    report(house, running, 650)
    assert window(house.ledger) == (650, 250)
    report(house, done, 200)
    assert window(house.ledger) == (850, 50)  # what the call was held to and did not use
    house.now_us += 700 * SECOND_US
    house.ledger.sweep(house.now_us)
    assert window(house.ledger) == (850, 0)


def test_a_crashed_gates_blocks_go_back_by_themselves(served: Served) -> None:
    house, token = served.house, served.house.token("tenant", "globex")
    gate = served.leased_gate(block=BLOCK, ttl_s=60, call_s=30)
    assert gate.authorize(token, MODEL, {"tokens": 10}).allowed
    assert window(house.ledger) == (0, 4000)
    house.now_us += 89 * SECOND_US
    house.ledger.sweep(house.now_us)
    assert window(house.ledger) == (0, 4000)
    house.now_us += 1 * SECOND_US
    house.ledger.sweep(house.now_us)
    assert window(house.ledger) == (0, 0)


def test_near_the_limit_blocks_are_small_and_the_last_unit_can_be_had(served_both: Served) -> None:
    token = served_both.house.token("tenant", "globex")
    gate = served_both.leased_gate(block={"tokens": 4000})
    admitted = 0
    while (decision := gate.authorize(token, MODEL, {"tokens": 300})).allowed:
        admitted += 1
        assert admitted < 40
    assert admitted == 33
    assert (decision.reason, decision.quota, decision.http_status) == ("quota", "monthly", 402)
    assert gate.authorize(token, MODEL, {"tokens": 100}).allowed
    assert not gate.authorize(token, MODEL, {"tokens": 1}).allowed


def test_small_remainders_of_own_blocks_are_given_up_for_a_larger_call(served: Served) -> None:
    token = served.house.token("tenant", "globex")
    gate = served.leased_gate(block={"tokens": 1000})
    small = gate.authorize(token, MODEL, {"tokens": 100})
    assert gate.authorize(token, MODEL, {"tokens": 9900}).allowed
    assert not gate.authorize(token, MODEL, {"tokens": 9900}).allowed
    gate.release(small)


def test_no_call_begins_after_the_turn_of_the_first_window(served: Served) -> None:
    """A minute's block must not be spent in the next minute, where nothing holds it."""
    house, token = served.house, served.house.token("tenant", "acme")
    house.now_us += 50 * SECOND_US
    gate = served.leased_gate(block={"requests": 5})
    first = gate.authorize(token, MODEL)
    house.now_us += 9 * SECOND_US
    assert gate.authorize(token, MODEL).reservation == first.reservation
    house.now_us += 1 * SECOND_US
    other = gate.authorize(token, MODEL)
    assert other.allowed
    assert other.reservation != first.reservation
    starts = {
        row["start_us"]: int(row["reserved"]) for row in house.ledger.rows(quota_windows) if row["name"] == "burst"
    }
    assert len(starts) == 2
    assert max(starts.values()) <= 5


def test_a_cost_quota_is_leased_and_settled_in_money(served_both: Served) -> None:
    house, token = served_both.house, served_both.house.token("tenant", "acme")
    gate = served_both.leased_gate(block={"cost": "2.50", "requests": 4})
    call = gate.authorize(token, MODEL, {"cost": "0.25"})
    assert gate.outstanding == {"acme": {"cost": Decimal("2.25"), "requests": 3}}
    used, reserved = window(house.ledger, "daily")
    assert (used, reserved) == (0, 2_500_000_000_000)
    report(house, call, 1_000_000)
    used, left = window(house.ledger, "daily")
    assert used > 0
    assert used + left == reserved
    gate.close()


def test_usage_beyond_the_block_counts_and_takes_nothing_from_others(served: Served) -> None:
    house, token = served.house, served.house.token("tenant", "globex")
    gate = served.leased_gate(block={"tokens": 1000})
    other = house.ask("globex", estimate={"tokens": 2000}).json()
    assert other["allowed"]
    call = gate.authorize(token, MODEL, {"tokens": 100})
    report(house, call, 1500)
    assert window(house.ledger) == (1500, 2000)
    gate.close()
    assert window(house.ledger) == (1500, 2000)


def test_corrections_of_leased_usage_leave_no_drift(served_both: Served) -> None:
    house, token = served_both.house, served_both.house.token("tenant", "globex")
    gate = served_both.leased_gate(block={"tokens": 1000})
    call = gate.authorize(token, MODEL, {"tokens": 500})
    data = {"key": call.key, "reservation": call.reservation}
    source = {"source": "proxy/eu-1", "id": "e1"}
    house.count(house.event("e1", "globex", tokens={"input": 300}, **data))
    house.count(house.event("e2", "globex", tokens={"input": 400}, replaces=source, **data))
    assert window(house.ledger) == (400, 600)
    house.count(house.event("e3", "globex", tokens={"input": 50}, replaces={**source, "id": "e2"}, **data))
    used, reserved = window(house.ledger)
    assert used + reserved <= 1000
    gate.settle(call, {"tokens": 400})
    gate.close()
    checked = house.ledger.read(lambda c: check_quotas(c, house.ledger.context()))
    assert checked.drifts == ()
    assert window(house.ledger)[1] == 0


def test_a_suspended_key_and_a_revoked_token_end_it_at_the_next_round(served: Served) -> None:
    house = served.house
    gate = served.leased_gate(block=BLOCK)
    token = house.token("tenant", "globex")
    jti = house_jti(token)
    key = gate.authorize(token, MODEL, {"tokens": 10}).key
    house.ledger.set_key_state(str(key), "suspended", house.now_us, "test")
    gate.tend()
    moved = gate.authorize(token, MODEL, {"tokens": 10})
    assert moved.allowed
    assert moved.key != key
    revoke_jti(house.ledger, jti, house.now_us, "test")
    time.sleep(1.1)  # the API reads revocations at most once a second
    gate.tend()
    refused = gate.authorize(token, MODEL, {"tokens": 10})
    assert (refused.allowed, refused.reason, refused.http_status) == (False, "token_revoked", 401)


def house_jti(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


def test_another_token_of_the_tenant_is_checked_and_shares_the_block(served: Served) -> None:
    house = served.house
    gate = served.leased_gate(block=BLOCK)
    first = gate.authorize(house.token("tenant", "globex"), MODEL, {"tokens": 10})
    second = gate.authorize(house.token("tenant", "globex"), MODEL, {"tokens": 10})
    assert second.reservation == first.reservation
    forged = house.token("tenant", "globex")[:-6] + "AAAAAA"
    assert gate.authorize(forged, MODEL, {"tokens": 10}).reason == "token_invalid"
    narrow = house.token("tenant", "globex", models=("claude-*",))
    assert gate.authorize(narrow, MODEL, {"tokens": 10}).reason == "model_not_allowed"
    capped = house.token("tenant", "globex", limits={"tokens": Decimal(20)})
    assert gate.authorize(capped, MODEL, {"tokens": 20}).allowed
    over = gate.authorize(capped, MODEL, {"tokens": 21})
    assert (over.reason, over.quota) == ("quota", "token:tokens")
    assert len(house.ledger.rows(reservations, reservations.c.state == "open")) == 1


def test_with_the_api_away_blocks_that_are_out_go_on_until_their_time_is_over(served: Served) -> None:
    house, token = served.house, served.house.token("tenant", "globex")
    gate = served.leased_gate(block=BLOCK, ttl_s=60, timeout_s=2.0)
    assert gate.authorize(token, MODEL, {"tokens": 10}).allowed
    served.close()
    gate.tend()
    assert gate.authorize(token, MODEL, {"tokens": 10}).allowed
    house.now_us += 60 * SECOND_US
    with pytest.raises(GateUnavailableError, match="is the API up"):
        gate.authorize(token, MODEL, {"tokens": 10})
    served.open()
    assert gate.authorize(token, MODEL, {"tokens": 10}).allowed


def test_the_next_block_comes_before_a_caller_waits_for_it(served: Served) -> None:
    house, token = served.house, served.house.token("tenant", "globex")
    gate = served.leased_gate(block={"tokens": 1000})
    calls = [gate.authorize(token, MODEL, {"tokens": 100}) for _ in range(6)]
    gate.tend()
    assert len(house.ledger.rows(reservations, reservations.c.state == "open")) == 2
    assert gate.outstanding == {"globex": {"tokens": 1400}}
    for call in calls:
        gate.settle(call, {"tokens": 100})
    house.now_us += 11 * SECOND_US
    gate.tend()  # nothing was asked for a while: all goes back but what was used
    assert gate.outstanding == {}
    assert window(house.ledger) == (0, 600)


def test_a_proxy_whose_own_token_is_bad_is_told_so(served: Served) -> None:
    with (
        LeasedGate(served.url, "not-a-token", background=False) as gate,
        pytest.raises(GateRefusedError, match="401"),
    ):
        gate.authorize(served.house.token("tenant", "acme"), MODEL)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "mine"}, 422),
        ({"amount": {"tokens": 10}, "at_least": {"tokens": 11}}, 422),
        ({"amount": {"apples": 10}}, 422),
        ({"ttl_s": 0}, 422),
        ({"call_s": 86_400}, 422),
        ({"model": " "}, 422),
        ({"token": "x.y.z"}, 401),
        ({"model": "no-such-model", "tenant": "acme"}, 403),
    ],
)
def test_what_is_no_lease_is_refused(served: Served, body: dict[str, Any], status: int) -> None:
    house = served.house
    tenant = body.pop("tenant", "globex")
    whole = {"token": house.token("tenant", tenant), "model": MODEL, "amount": {"tokens": 100}} | body
    assert house.client.post("/v1/leases", json=whole, headers=house.proxy()).status_code == status
    assert house.ledger.rows(reservations) == []


def test_a_repeat_answers_the_same_and_an_ended_lease_is_not_found(served: Served) -> None:
    house = served.house
    token = house.token("tenant", "globex")
    body = {"token": token, "model": MODEL, "amount": {"tokens": 100}, "id": "lease_1"}
    first = house.client.post("/v1/leases", json=body, headers=house.proxy()).json()
    assert house.client.post("/v1/leases", json=body, headers=house.proxy()).json() == first
    assert window(house.ledger) == (0, 100)
    assert first["granted"] == {"tokens": "100"}
    foreign = {"token": house.token("tenant", "acme")}
    assert house.client.post("/v1/leases/lease_1/renew", json=foreign, headers=house.proxy()).status_code == 404
    close = {"tenant": "globex", "spent": {}}
    assert house.client.post("/v1/leases/lease_1/close", json=close, headers=house.proxy()).status_code == 204
    assert house.client.post("/v1/leases/lease_1/close", json=close, headers=house.proxy()).status_code == 404
    again = {"token": token}
    assert house.client.post("/v1/leases/lease_1/renew", json=again, headers=house.proxy()).status_code == 404


def test_a_repeat_whose_first_answer_was_lost_is_granted_what_is_held_and_not_what_is_asked(served: Served) -> None:
    """The first try was admitted on a small block and died before the block became a lease."""
    house = served.house
    small = Ask("lease_2", "globex", MODEL, {"tokens": Decimal(100)}, 660)
    assert house.ledger.authorize(small, house.now_us, remember=False).allowed
    body = {"token": house.token("tenant", "globex"), "model": MODEL, "amount": {"tokens": 5000}, "id": "lease_2"}
    answer = house.client.post("/v1/leases", json=body, headers=house.proxy()).json()
    assert (answer["allowed"], answer["granted"]) == (True, {"tokens": "100"})
    assert window(house.ledger) == (0, 100)
    close = {"tenant": "globex", "spent": {}}
    house.client.post("/v1/leases/lease_2/close", json=close, headers=house.proxy())
    assert house.client.post("/v1/leases", json=body, headers=house.proxy()).status_code == 404


# --- many gates ------------------------------------------------------------------------------------------------------

LIMIT, GATES, THREADS, RUN_S, SEED = 60_000, 4, 4, 4.0, 11


@dataclass
class Seen:
    lock: threading.Lock = field(default_factory=threading.Lock)
    admitted: int = 0
    refused: int = 0
    used: int = 0
    inbox: list[tuple[GateDecision, int]] = field(default_factory=list)
    passed: list[tuple[int, int]] = field(default_factory=list)
    samples: int = 0
    errors: list[BaseException] = field(default_factory=list)


def caller(gate: LeasedGate, token: str, seen: Seen, rng: random.Random, until_s: float) -> None:
    while time.monotonic() < until_s:
        estimate = rng.randint(1, 400)
        decision = gate.authorize(token, MODEL, {"tokens": estimate})
        with seen.lock:
            seen.admitted += decision.allowed
            seen.refused += not decision.allowed
        if not decision.allowed:
            assert decision.reason == "quota", decision
            time.sleep(0.02)
            continue
        time.sleep(rng.expovariate(300))
        end = rng.random()
        if end < 0.1:
            gate.release(decision)
            continue
        tokens = rng.randint(1, estimate)
        with seen.lock:
            seen.inbox.append((decision, tokens))
            seen.used += tokens
        if end < 0.9:  # the others are never settled
            gate.settle(decision, {"tokens": tokens})


def count(house: House, seen: Seen, done: threading.Event) -> None:
    while not (done.is_set() and not seen.inbox):
        with seen.lock:
            batch, seen.inbox = seen.inbox, []
        house.count(
            *(
                house.event(uuid.uuid4().hex, d.tenant, key=d.key, tokens={"input": n}, reservation=d.reservation)
                for d, n in batch
            )
        )
        time.sleep(0.02)


def watch(ledger: Ledger, seen: Seen, done: threading.Event) -> None:
    while not done.is_set():
        used, reserved = window(ledger)
        seen.samples += 1
        if used + reserved > LIMIT:
            seen.passed.append((used, reserved))
        time.sleep(0.005)


@pytest.mark.timeout(120)
def test_several_gates_never_pass_the_quota_and_all_is_accounted_for(served_both: Served) -> None:
    house, seen = served_both.house, Seen()
    quota = {"name": "monthly", "meter": "tokens", "limit": LIMIT, "window": "month"}
    house.ledger.apply(catalog(tenants={"globex": {"plan": "team", "quotas": [quota]}}), house.now_us, "test")
    gates = [served_both.leased_gate(block=BLOCK, background=True, renew_s=0.2, call_s=5) for _ in range(GATES)]
    token, done, until_s = house.token("tenant", "globex"), threading.Event(), time.monotonic() + RUN_S

    def guarded(work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is told below
                seen.errors.append(error)

        return threading.Thread(target=run, daemon=True)

    callers = [
        guarded(caller, gates[n % GATES], token, seen, random.Random(SEED * 100 + n), until_s)
        for n in range(GATES * THREADS)
    ]
    helpers = [guarded(count, house, seen, done), guarded(watch, house.ledger, seen, done)]
    for thread in (*helpers, *callers):
        thread.start()
    for thread in callers:
        thread.join()
    crashed, *others = gates
    crashed._stop.set()
    for gate in others:
        gate.close()
    done.set()
    for thread in helpers:
        thread.join()
    print(f"{seen.admitted} admitted, {seen.refused} refused, {seen.used} used, {seen.samples} samples")
    assert not seen.errors, seen.errors[:2]
    assert seen.passed == []
    assert seen.admitted > 100
    house.now_us += 120 * SECOND_US
    house.ledger.sweep(house.now_us)
    assert window(house.ledger) == (seen.used, 0)
    checked = house.ledger.read(lambda c: check_quotas(c, house.ledger.context()))
    assert (checked.windows, checked.drifts) == (1, ())

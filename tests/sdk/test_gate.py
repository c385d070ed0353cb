"""The gate's client against the real API: answers, repeats, fail modes, connections."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.integration.api.kit import NOW_US, House
from tests.sdk.serving import Served
from tollhouse_client import Gate, GateRefusedError, GateUnavailableError


@pytest.fixture
def served(sqlite_url: str, tmp_path: Path) -> Iterator[Served]:
    house = House(sqlite_url, tmp_path)
    made = Served(house)
    yield made
    made.close()
    house.close()


def test_admitted_with_key_reservation_and_what_is_left(served: Served) -> None:
    with served.gate() as gate:
        decision = gate.authorize(
            served.house.token("tenant", "acme"), "gpt-5-mini", {"tokens": 10, "cost": Decimal("0.5")}
        )
        assert (decision.allowed, decision.http_status, decision.tenant) == (True, 200, "acme")
        assert decision.key in ("openai-pool-1", "openai-pool-2")
        assert decision.remaining == {"daily": "49.5", "burst": "4"}
        assert decision.reservation is not None
        assert gate.extend(decision.reservation, 1200) == "2026-11-01T10:20:00Z"
        assert gate.release(decision.reservation)
        assert not gate.release(decision.reservation)
        assert gate.extend(decision.reservation) is None


def test_a_repeat_with_the_same_id_holds_once(served: Served) -> None:
    with served.gate() as gate:
        token = served.house.token("tenant", "globex")
        first = gate.authorize(token, "gpt-5-mini", {"tokens": 6000}, id="mine")
        assert gate.authorize(token, "gpt-5-mini", {"tokens": 6000}, id="mine") == first
        assert first.reservation == "mine"
        assert first.remaining == {"monthly": "4000"}


def test_a_spent_budget_is_402_and_too_fast_is_429(served: Served) -> None:
    with served.gate() as gate:
        budget = gate.authorize(served.house.token("tenant", "globex"), "gpt-5-mini", {"tokens": 10_001})
        assert (budget.allowed, budget.reason, budget.quota, budget.kind) == (False, "quota", "monthly", "budget")
        assert budget.http_status == 402
        rate = gate.authorize(served.house.token("tenant", "acme"), "gpt-5-mini", {"requests": 6})
        assert (rate.reason, rate.quota, rate.kind, rate.http_status) == ("quota", "burst", "rate", 429)
        assert rate.retry_after_s is not None
        assert 0 < rate.retry_after_s <= 60


@pytest.mark.parametrize(
    ("token", "model", "reason", "status"),
    [("x.y.z", "gpt-5-mini", "token_invalid", 401), (None, "other-model", "model_not_allowed", 403)],
)
def test_refusals_keep_their_reason(served: Served, token: str | None, model: str, reason: str, status: int) -> None:
    with served.gate() as gate:
        decision = gate.authorize(token or served.house.token("tenant", "acme"), model)
        assert (decision.allowed, decision.reason, decision.http_status) == (False, reason, status)


def test_a_provider_key_in_the_tokens_place_is_refused(served: Served) -> None:
    with served.gate() as gate:
        decision = gate.authorize("sk-" + "proj-" + "A1b2C3d4" * 6, "gpt-5-mini")
        assert (decision.allowed, decision.reason) == (False, "token_invalid")
        assert "provider's key" in decision.detail


def test_a_proxy_whose_own_token_is_bad_is_told_so(served: Served) -> None:
    with Gate(f"http://127.0.0.1:{served.port}", "not-a-token") as gate, pytest.raises(GateRefusedError, match="401"):
        gate.authorize(served.house.token("tenant", "acme"), "gpt-5-mini")


def test_fail_closed_refuses_and_recovers_on_the_kept_connection(served: Served) -> None:
    token = served.house.token("tenant", "acme")
    with served.gate() as gate:
        assert gate.authorize(token, "gpt-5-mini").allowed
        served.close()
        with pytest.raises(GateUnavailableError, match="is the API up"):
            gate.authorize(token, "gpt-5-mini")
        served.open()
        assert gate.authorize(token, "gpt-5-mini").allowed


def test_fail_open_admits_known_calls_up_to_the_allowance(served: Served) -> None:
    token = served.house.token("tenant", "acme")
    with served.gate(fail_mode="open:2") as gate:
        key = gate.authorize(token, "gpt-5-mini").key
        served.close()
        for _ in range(2):
            decision = gate.authorize(token, "gpt-5-mini")
            assert (decision.allowed, decision.fail_open, decision.key, decision.reservation) == (True, True, key, None)
        with pytest.raises(GateUnavailableError):
            gate.authorize(token, "gpt-5-mini")
        with pytest.raises(GateUnavailableError):
            gate.authorize(served.house.token("tenant", "acme"), "gpt-5-mini")  # never seen by the gate
        served.open()
        assert not gate.authorize(token, "gpt-5-mini").fail_open
        served.close()
        assert gate.authorize(token, "gpt-5-mini").fail_open  # the allowance is full again


def test_fail_open_does_not_outlive_the_token(served: Served) -> None:
    token = served.house.token("tenant", "acme")
    now = [NOW_US / 1e6]
    with served.gate(fail_mode="open:5", now_s=lambda: now[0]) as gate:
        assert gate.authorize(token, "gpt-5-mini").allowed
        served.close()
        now[0] += 3600
        decision = gate.authorize(token, "gpt-5-mini")
        assert (decision.allowed, decision.reason) == (False, "token_expired")


@pytest.mark.parametrize("mode", ["open", "open:", "open:-1", "ajar"])
def test_a_fail_mode_that_does_not_exist_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="fail_mode"):
        Gate("http://127.0.0.1:1", "x", fail_mode=mode)

"""Authorize over HTTP: every answer of the contract, and what becomes of reservations."""

import threading
from decimal import Decimal
from typing import Any

import pytest

from pipeline.ledger import LedgerUnavailable
from pipeline.ledger.tables import alerts, quota_windows
from tests.integration.api.kit import House


def test_an_admitted_call_gets_a_key_and_a_reservation(house: House) -> None:
    answer = house.ask(estimate={"tokens": 5000, "cost": "0.02"}, ttl_s=600)
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["allowed"], body["reason"], body["tenant"]) == (True, "ok", "acme")
    assert body["key"] in ("openai-pool-1", "openai-pool-2")
    assert body["expires_at"] == "2026-11-01T10:10:00Z"
    assert body["remaining"] == {"daily": "49.98", "burst": "4"}
    assert answer.headers["ratelimit-policy"] == (
        '"daily";q=500000;w=86400;qu="cost-0.0001", "burst";q=5;w=60;qu="requests"'
    )
    assert answer.headers["ratelimit"] == '"daily";r=499800;t=50400, "burst";r=4;t=60'


def test_a_repeat_with_the_same_id_answers_the_same_and_holds_once(house: House) -> None:
    first = house.ask(estimate={"tokens": 10}, id="call-1")
    again = house.ask(estimate={"tokens": 10}, id="call-1")
    assert first.json() == again.json()
    assert first.json()["reservation"] == "call-1"
    held = house.ledger.rows(quota_windows, quota_windows.c.name == "burst")
    assert [row["reserved"] for row in held] == [1]


def test_a_refusal_with_an_id_is_repeated_too(house: House) -> None:
    first = house.ask("globex", estimate={"tokens": 10001}, id="big")
    again = house.ask("globex", estimate={"tokens": 10001}, id="big")
    assert first.status_code == again.status_code == 429
    assert first.json() == again.json()


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"token": "nonsense"}, 401, "token_invalid"),
        ({"model": "gemini-2.5-pro"}, 403, "model_not_allowed"),
        ({"estimate": {"cost": "50.01"}}, 429, "quota"),
    ],
)
def test_a_refusal_says_why(house: House, change: dict[str, Any], status: int, reason: str) -> None:
    answer = house.ask(**change)
    assert (answer.status_code, answer.json()["reason"], answer.json()["allowed"]) == (status, reason, False)
    assert answer.json()["reservation"] is None


def test_reaching_a_limit_exactly_is_allowed(house: House) -> None:
    assert house.ask("globex", estimate={"tokens": 10000}).status_code == 200
    refused = house.ask("globex", estimate={"tokens": 1})
    assert (refused.status_code, refused.json()["quota"], refused.json()["kind"]) == (429, "monthly", "budget")
    assert int(refused.headers["retry-after"]) == refused.json()["retry_after_s"] == (29 * 24 + 14) * 3600


def test_a_spent_minute_is_told_from_a_spent_budget(house: House) -> None:
    for _ in range(5):
        assert house.ask().status_code == 200
    refused = house.ask()
    assert (refused.json()["quota"], refused.json()["kind"], refused.headers["retry-after"]) == ("burst", "rate", "60")


def test_unknown_tenant_and_no_key(house: House) -> None:
    answer = house.ask("nobody")
    assert (answer.status_code, answer.json()["reason"]) == (403, "unknown_tenant")
    for key in ("openai-pool-1", "openai-pool-2"):
        house.ledger.set_key_state(key, "suspended", house.now_us, "test")
    answer = house.ask()
    assert (answer.status_code, answer.json()["reason"]) == (403, "key_unavailable")


def test_a_token_narrows_models_and_the_size_of_a_call(house: House) -> None:

    narrow = house.token("tenant", "acme", models=("claude-*",))
    assert house.ask(token=narrow).json()["reason"] == "model_not_allowed"
    small = house.token("tenant", "acme", limits={"tokens": Decimal(100)})
    assert house.ask(token=small, estimate={"tokens": 100}).status_code == 200
    over = house.ask(token=small, estimate={"tokens": 101})
    assert (over.status_code, over.json()["reason"], over.json()["quota"]) == (429, "quota", "token:tokens")


def test_an_expired_tenant_token_is_told_from_a_bad_proxy_token(house: House) -> None:
    token = house.token("tenant", "acme")
    house.now_us += 3_630_000_000
    answer = house.ask(token=token)
    assert (answer.status_code, answer.json()["reason"]) == (401, "token_expired")
    assert answer.headers["content-type"] == "application/json"
    bare = house.client.post("/v1/authorize", json={"token": token, "model": "m"})
    assert (bare.status_code, bare.headers["content-type"]) == (401, "application/problem+json")


def test_a_providers_key_in_the_tokens_place_is_refused_and_somebody_is_told(house: House) -> None:
    secret = "sk-proj-" + "Ab3" * 14
    answer = house.ask(token=secret)
    assert (answer.status_code, answer.json()["reason"]) == (401, "token_invalid")
    (alert,) = house.ledger.rows(alerts)
    assert (alert["kind"], alert["severity"], alert["subject"]) == ("secret_in_event", "page", "eu-1")
    assert secret not in answer.text + str(alert)


@pytest.mark.parametrize("kind", ["tenant", "operator"])
def test_only_a_proxy_may_ask(house: House, kind: str) -> None:
    headers = house.tenant("acme") if kind == "tenant" else house.operator("admin")
    answer = house.client.post("/v1/authorize", json={"token": "x", "model": "m"}, headers=headers)
    assert answer.status_code == 403
    assert house.client.delete("/v1/reservations/x", headers=headers).status_code == 403


BAD_BODIES = [
        b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"token": 5, "model": "m"}', b'{"token": "t"}',
        b'{"token": "t", "model": "m", "extra": 1}', b'{"token": "t", "model": ""}',
        b'{"token": "t", "model": "m", "ttl_s": 0}', b'{"token": "t", "model": "m", "ttl_s": 86401}',
        b'{"token": "t", "model": "m", "ttl_s": 1e400}', b'{"token": "t", "model": "m", "ttl_s": "600"}',
        b'{"token": "t", "model": "m", "estimate": {"tokens": 1.5}}',
        b'{"token": "t", "model": "m", "estimate": {"tokens": -1}}',
        b'{"token": "t", "model": "m", "estimate": {"tokens": 99999999999999999999}}',
        b'{"token": "t", "model": "m", "estimate": {"cost": "1e9"}}',
        b'{"token": "t", "model": "m", "estimate": {"cost": "1000000.01"}}',
        b'{"token": "t", "model": "m", "estimate": {"dollars": 1}}',
        b'{"token": "t", "model": "m", "estimate": {"tokens": true}}',
        b'{"token": "t", "model": "m\\u0000"}', b'{"token": "t", "model": "m", "id": "\\ud800"}',
        b'{"token": "t", "model": "m", "id": ""}', b"[" * 5000,
]  # fmt: skip


def test_a_bad_body_is_a_problem_and_holds_nothing(house: House) -> None:
    headers = house.proxy() | {"Content-Type": "application/json"}
    for body in BAD_BODIES:
        answer = house.client.post("/v1/authorize", content=body, headers=headers)
        assert answer.status_code in (400, 422), (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) >= {"type", "title", "status", "detail"}
    assert house.ledger.rows(quota_windows) == []


def test_release_gives_back_once(house: House) -> None:
    made = house.ask("globex", estimate={"tokens": 10000}, id="r 1/x").json()
    assert house.ask("globex", estimate={"tokens": 1}).status_code == 429
    address = "/v1/reservations/r%201%2Fx"
    assert made["reservation"] == "r 1/x"
    assert house.client.delete(address, headers=house.proxy()).status_code == 204
    assert house.client.delete(address, headers=house.proxy()).status_code == 404
    assert house.ask("globex", estimate={"tokens": 10000}).status_code == 200


def test_two_tenants_with_one_reservation_id_must_be_told_apart(house: House) -> None:
    house.ask("acme", id="same")
    house.ask("globex", id="same", estimate={"tokens": 5})
    assert house.client.delete("/v1/reservations/same", headers=house.proxy()).status_code == 409
    for tenant in ("acme", "globex"):
        answer = house.client.delete(f"/v1/reservations/same?tenant={tenant}", headers=house.proxy())
        assert answer.status_code == 204


def test_a_reservation_can_be_extended_until_a_day_after_it_was_made(house: House) -> None:
    house.ask("globex", estimate={"tokens": 10000}, ttl_s=60, id="s")
    house.now_us += 59_000_000
    answer = house.client.post("/v1/reservations/s/extend", json={"ttl_s": 600}, headers=house.proxy())
    assert answer.json() == {"reservation": "s", "expires_at": "2026-11-01T10:10:59Z"}
    house.now_us += 599_000_000
    assert house.ask("globex", estimate={"tokens": 1}).status_code == 429
    answer = house.client.post("/v1/reservations/s/extend", json={"ttl_s": 86400}, headers=house.proxy())
    assert answer.json()["expires_at"] == "2026-11-02T10:00:00Z"
    house.now_us += 86_400_000_000
    assert house.client.post("/v1/reservations/s/extend", json={}, headers=house.proxy()).status_code == 404
    assert house.ask("globex", estimate={"tokens": 10000}).status_code == 200


def test_usage_settles_a_reservation(house: House) -> None:
    made = house.ask("globex", estimate={"tokens": 10000}).json()
    house.count(house.event(tenant="globex", reservation=made["reservation"]))
    assert house.client.delete(f"/v1/reservations/{made['reservation']}", headers=house.proxy()).status_code == 404
    answer = house.ask("globex", estimate={"tokens": 8800})
    assert (answer.status_code, answer.json()["remaining"]) == (200, {"monthly": "0"})


def test_concurrent_calls_never_pass_a_quota(house: House) -> None:
    token, proxy, statuses = house.token("tenant", "globex"), house.proxy(), []

    def calls() -> None:
        for _ in range(5):
            body = {"token": token, "model": "gpt-5-mini", "estimate": {"tokens": 700}}
            statuses.append(house.client.post("/v1/authorize", json=body, headers=proxy).status_code)

    threads = [threading.Thread(target=calls) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(statuses)) == [200, 429]
    assert statuses.count(200) == 10000 // 700
    (row,) = house.ledger.rows(quota_windows, quota_windows.c.scope == "tenant:globex")
    assert row["used"] + row["reserved"] == 14 * 700


def _away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_named: object) -> None:
        raise LedgerUnavailable("connection refused")

    monkeypatch.setattr(house.ledger, "authorize", fail)


def test_with_the_database_away_it_fails_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.ask().status_code == 200
    _away(house, monkeypatch)
    answer = house.ask()
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tollhouse:problem:database_unavailable")
    assert answer.headers["retry-after"] == "2"


def test_with_the_database_away_it_can_fail_open_up_to_an_allowance(
    sqlite_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(sqlite_url, tmp_path, fail_mode="open:2")
    assert house.ask().status_code == 200
    with monkeypatch.context() as patch:
        _away(house, patch)
        opened = [house.ask() for _ in range(3)]
        assert [answer.status_code for answer in opened] == [200, 200, 503]
        assert opened[0].json()["fail_open"] is True
        assert house.ask(model="gemini-x").json()["reason"] == "model_not_allowed"
        assert house.ask("globex").status_code == 200
    assert house.ask("globex").status_code == 200
    _away(house, monkeypatch)
    assert house.ask().status_code == 200, "the allowance is full again after the database answered"
    house.close()

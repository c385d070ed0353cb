"""Token buckets of a tenant and of a key: bursts up to what they hold, then as fast as they fill, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.admission import Ask, Decision
from pipeline.catalog import parse_data
from pipeline.ledger import Ledger
from pipeline.ledger.quota_check import check_quotas
from pipeline.ledger.tables import quota_windows
from schemas.catalog import RateLimit
from schemas.instants import MINUTE_US, SECOND_US
from tests.integration.api.kit import House
from tests.integration.api.kit import catalog as api_catalog
from tests.unit.pipeline.events import TIME_US, catalog

KEYS: dict[str, Any] = {
    "a": {"provider": "openai", "kind": "pooled", "rate_limits": [{"meter": "tokens", "per_minute": 6000}]},
    "b": {
        "provider": "openai",
        "kind": "pooled",
        "rate_limits": [{"meter": "tokens", "per_minute": 600, "burst": 100}],
    },
}
QUOTA = {"name": "daily", "meter": "tokens", "limit": 20000, "window": "day"}
TENANTS: dict[str, Any] = {
    "acme": {"plan": "p", "quotas": [QUOTA], "rate_limits": [{"meter": "requests", "per_minute": 30, "burst": 5}]},
    "globex": {"plan": "p", "quotas": [QUOTA]},
}


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    made.create()
    made.apply(catalog(tenants=TENANTS, keys=KEYS), TIME_US - SECOND_US, "test")
    yield made
    context = made.context()
    assert made.read(lambda db: check_quotas(db, context)).drifts == ()
    made.close()


class Asks:
    """Numbered asks at instants."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.n = ledger, 0

    def __call__(self, at_s: float, tenant: str = "acme", tokens: int = 0) -> Decision:
        self.n += 1
        ask = Ask(f"r{self.n}", tenant, "m", {"tokens": Decimal(tokens)})
        return self.ledger.authorize(ask, TIME_US + int(at_s * SECOND_US))


def test_a_tenants_bucket_holds_a_burst_and_fills_at_its_rate(ledger: Ledger) -> None:
    ask = Asks(ledger)
    left = [ask(0).remaining["rate-requests"] for _ in range(5)]
    assert left == ["4", "3", "2", "1", "0"]
    refused = ask(0)
    assert (refused.reason, refused.quota, refused.retry_after_s) == ("rate_limit", "rate-requests", 2)
    assert ask(1.999_999).reason == "rate_limit"
    assert ask(2).allowed, "one request every two seconds: the instant is inclusive"
    assert ask(2).reason == "rate_limit"
    assert [ask(10).allowed for _ in range(5)] == [True] * 4 + [False]
    assert [ask(3600).allowed for _ in range(6)] == [True] * 5 + [False], "a bucket does not hold more than its burst"
    assert ask(3600, "globex").allowed, "another tenant has its own, or none"


def test_a_refusal_draws_nothing(ledger: Ledger) -> None:
    ask = Asks(ledger)
    assert ask(0, tokens=20001).reason == "quota"
    for _ in range(3):
        assert not ask(0, tokens=20001).allowed
    assert ask(0).remaining["rate-requests"] == "4"


def test_a_keys_bucket_sends_the_call_to_another_key_and_then_back(ledger: Ledger) -> None:
    ask = Asks(ledger)
    assert ask(0, "globex", 6000).key == "a"
    assert ask(0, "globex", 100).key == "b"
    refused = ask(0, "globex", 100)
    assert (refused.reason, refused.quota) == ("rate_limit", "rate-tokens")
    assert ask(1, "globex", 100).key == "a", "a hundred tokens a second"


def test_a_call_larger_than_the_bucket_waits_for_a_full_one(ledger: Ledger) -> None:
    ask = Asks(ledger)
    assert ask(0, "globex", 6500).key == "a"
    assert ask(59, "globex", 6500).key == "b"
    assert ask(60, "globex", 6500).key == "a"


def test_a_release_puts_nothing_back_into_a_bucket(ledger: Ledger) -> None:
    ask = Asks(ledger)
    for n in range(1, 6):
        assert ask(0).allowed
        assert ledger.release("acme", f"r{n}")
    assert ask(0).reason == "rate_limit"


def test_at_any_concurrency_a_burst_is_a_burst(ledger: Ledger) -> None:
    def one(n: int) -> bool:
        return ledger.authorize(Ask(f"c{n}", "acme", "m"), TIME_US + MINUTE_US).allowed

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(24))) == 5
    (bucket,) = ledger.rows(quota_windows, quota_windows.c.scope == "rate:tenant:acme")
    assert (bucket["used"], bucket["reserved"]) == ((TIME_US + MINUTE_US) * 1000 + 10 * 10**9, 0)


def test_a_repeat_is_answered_word_for_word(ledger: Ledger) -> None:
    first = ledger.authorize(Ask("same", "acme", "m"), TIME_US)
    assert first.remaining == {"daily": "20000", "rate-requests": "4"}
    assert ledger.authorize(Ask("same", "acme", "m"), TIME_US) == first


def test_headers_say_what_the_bucket_holds(sqlite_url: str, tmp_path: Path) -> None:
    house = House(sqlite_url, tmp_path)
    tenant = {"plan": "team", "rate_limits": [{"meter": "requests", "per_minute": 30, "burst": 2}]}
    house.ledger.apply(api_catalog(tenants={"acme": tenant}), house.now_us, "test")
    answer = house.ask()
    assert answer.headers["ratelimit-policy"] == '"rate-requests";q=30;w=60;qu="requests"'
    assert answer.headers["ratelimit"] == '"rate-requests";r=1;t=2'
    house.ask()
    refused = house.ask()
    assert (refused.status_code, refused.json()["reason"], refused.json()["kind"]) == (429, "rate_limit", "rate")
    assert (refused.headers["retry-after"], refused.headers["ratelimit"]) == ("2", '"rate-requests";r=0;t=4')
    house.close()


@pytest.mark.parametrize(
    ("limit", "wrong"),
    [
        ({"meter": "cost", "per_minute": 5}, "meter"),
        ({"meter": "requests"}, "per_minute"),
        ({"meter": "requests", "per_minute": 0}, "per_minute"),
        ({"meter": "requests", "per_minute": 1.5}, "per_minute"),
        ({"meter": "requests", "per_minute": 5, "burst": 0}, "burst"),
        ({"meter": "requests", "per_minute": 5, "window": "day"}, "window"),
    ],
)
def test_a_catalog_with_a_wrong_limit_is_refused(limit: dict[str, Any], wrong: str) -> None:
    tenants = {"acme": {"rate_limits": [limit]}}
    found = parse_data({"currency": "USD", "tenants": tenants})
    assert isinstance(found, list)
    assert any(wrong in str(error) for error in found)


def test_a_bucket_holds_a_minutes_worth_unless_told() -> None:
    assert catalog(tenants=TENANTS, keys=KEYS).keys["a"].rate_limits == (RateLimit("tokens", 6000, 6000),)

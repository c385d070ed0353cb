"""The one statement that decides on PostgreSQL: it notices itself that what it was asked with is no longer true."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import text

from pipeline.admission import Ask
from pipeline.ledger import Ledger
from pipeline.ledger.direct import CONNECTIONS, Direct
from pipeline.ledger.quota_check import check_quotas
from pipeline.ledger.tables import quota_windows, reservations
from schemas.instants import MINUTE_US, SECOND_US
from tests.unit.pipeline.events import TIME_US, catalog

QUOTAS = [
    {"name": "daily", "meter": "tokens", "limit": 1000, "window": "day"},
    {"name": "burst", "meter": "requests", "limit": 50, "window": "minute"},
]
KEYS = {
    "a": {"provider": "openai", "kind": "pooled", "requests_per_minute": 4},
    "b": {"provider": "openai", "kind": "pooled", "requests_per_minute": 2},
}
CATALOG = catalog(tenants={"acme": {"plan": "p", "quotas": QUOTAS}}, keys=KEYS)


@pytest.fixture
def ledger(postgresql_url: str) -> Iterator[Ledger]:
    made = Ledger(postgresql_url)
    made.create()
    made.apply(CATALOG, TIME_US - SECOND_US, "test")
    assert made.authorize(ask("first", 1), TIME_US - MINUTE_US).allowed
    yield made
    made.close()


def ask(name: str, tokens: int, ttl_s: int = 600) -> Ask:
    return Ask(name, "acme", "m", {"tokens": Decimal(tokens)}, ttl_s)


def direct(ledger: Ledger) -> Direct:
    assert ledger.direct is not None
    return ledger.direct


def test_a_change_by_another_process_is_in_force_with_the_next_ask(ledger: Ledger, postgresql_url: str) -> None:
    other = Ledger(postgresql_url)
    for key in KEYS:
        other.set_key_state(key, "suspended", TIME_US, "test")
    assert ledger.authorize(ask("r1", 1), TIME_US).reason == "key_unavailable"
    other.set_key_state("b", "active", TIME_US, "test")
    assert ledger.authorize(ask("r2", 1), TIME_US).key == "b"
    quotas = [QUOTAS[0] | {"limit": 2}, QUOTAS[1]]
    other.apply(catalog(tenants={"acme": {"plan": "p", "quotas": quotas}}, keys=KEYS), TIME_US, "test")
    assert ledger.authorize(ask("r3", 1), TIME_US).quota == "daily"
    other.close()


def test_all_holds_of_a_call_are_taken_or_none(ledger: Ledger) -> None:
    before = ledger.rows(quota_windows, quota_windows.c.name == "burst")
    refused = ledger.authorize(ask("big", 1001), TIME_US)
    assert (refused.reason, refused.quota, refused.remaining) == ("quota", "daily", {"burst": "50", "daily": "999"})
    after = ledger.rows(quota_windows, quota_windows.c.name == "burst", quota_windows.c.reserved > 0)
    assert after == before
    assert not ledger.rows(reservations, reservations.c.id == "big", reservations.c.state == "open")


def test_the_key_with_the_most_room_comes_first_and_a_full_one_gives_way(ledger: Ledger) -> None:
    keys = [ledger.authorize(ask(f"k{n}", 1), TIME_US).key for n in range(6)]
    assert (keys.count("a"), keys.count("b")) == (4, 2)
    refused = ledger.authorize(ask("k7", 1), TIME_US)
    assert (refused.reason, refused.quota) == ("rate_limit", "provider-requests")
    assert ledger.authorize(ask("k7", 1), TIME_US) == refused
    assert ledger.authorize(ask("k8", 1), TIME_US + MINUTE_US).allowed


def test_an_answer_is_repeated_word_for_word(ledger: Ledger) -> None:
    first = ledger.authorize(ask("same", 10), TIME_US)
    assert first.remaining == {"burst": "49", "daily": "989"}
    assert ledger.authorize(ask("other", 10), TIME_US).remaining["daily"] == "979"
    assert ledger.authorize(ask("same", 10), TIME_US) == first


def test_a_hold_is_over_at_exactly_its_time_to_live(ledger: Ledger) -> None:
    assert ledger.authorize(ask("most", 999, ttl_s=10), TIME_US).allowed
    assert not ledger.authorize(ask("early", 1), TIME_US + 10 * SECOND_US - 1).allowed
    assert ledger.authorize(ask("then", 999), TIME_US + 10 * SECOND_US).allowed


def test_connections_that_the_server_closed_are_replaced(ledger: Ledger) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        assert all(pool.map(lambda n: ledger.authorize(ask(f"w{n}", 1), TIME_US + n * MINUTE_US).allowed, range(40)))
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    killed = ledger.read(
        lambda db: db.execute(text(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}"))
    )
    assert killed.scalar_one() >= 1
    assert ledger.authorize(ask("after", 1), TIME_US).allowed
    context = ledger.context()
    assert ledger.read(lambda db: check_quotas(db, context)).drifts == ()


def test_the_statement_is_not_compiled(ledger: Ledger) -> None:
    """With JIT on, a plan of this form was compiled at each call: six seconds instead of a millisecond."""
    assert direct(ledger).row("SHOW jit", []) == ("off",)
    assert direct(ledger).row("SHOW plan_cache_mode", []) == ("force_generic_plan",)

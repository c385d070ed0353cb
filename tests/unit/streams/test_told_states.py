"""Quota windows, keys, tenants, revoked tokens on their topics: all of them once, then what changes, what is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pipeline.admission import Ask
from pipeline.ledger import Ledger
from schemas.instants import MINUTE_US, format_instant
from schemas.usage_event import Delivery, Evidence
from streams.states import Message, States
from streams.topics import KEY_STATES, QUOTA_STATES
from tests.integration.api.kit import NOW_US, catalog
from tollhouse.tokens.revoked import revoke_before, revoke_jti

PARTITIONS = 2


class Topics:
    """What was sent since the last look, by topic."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.now_us = ledger, NOW_US
        self.sent: dict[str, list[Message]] = {}
        self.states = States(ledger, lambda: self.now_us, self.send, PARTITIONS)

    async def send(self, topic: str, messages: Sequence[Message]) -> None:
        self.sent.setdefault(topic, []).extend(messages)

    def look(self) -> dict[str, dict[str, Any]]:
        """key to value by topic, clocks left out."""
        self.sent = {}
        self.states._keys.next_s = self.states._quotas.next_s = 0.0
        asyncio.run(self.states.look())
        return {
            topic: {key.decode(): json.loads(value) if value else None for key, value, _ in messages if key != b"clock"}
            for topic, messages in self.sent.items()
        }

    def clocks(self, topic: str) -> list[tuple[int | None, dict[str, str]]]:
        return [(place, json.loads(value or b"")) for key, value, place in self.sent[topic] if key == b"clock"]


def used(tenant: str, tokens: int, at_us: int) -> Delivery:
    data = {"key": "openai-pool-1", "provider": "openai", "model": "gpt-5-mini", "tokens": {"input": tokens}}
    event = {"specversion": "1.0", "id": "e1", "source": "s", "type": "com.tollhouse.usage.v1"}
    event |= {"time": format_instant(at_us), "subject": tenant}
    return Delivery(json.dumps({**event, "data": data}).encode(), at_us, Evidence("usage.events", 0, 0, 0))


@pytest.fixture
def told() -> Iterator[Topics]:
    ledger = Ledger("sqlite://")
    ledger.create()
    ledger.apply(catalog(), NOW_US - 86_400_000_000 * 40, "test")
    yield Topics(ledger)
    ledger.close()


def test_the_first_look_tells_everything_and_the_next_only_the_time(told: Topics) -> None:
    first = told.look()
    assert set(first[QUOTA_STATES]) == {"tenant:acme/daily", "tenant:acme/burst", "tenant:globex/monthly"}
    unused = first[QUOTA_STATES]["tenant:globex/monthly"]
    assert (unused["used"], unused["reserved"], unused["limit"], unused["version"]) == ("0", "0", "10000", 0)
    assert set(first[KEY_STATES]) == {
        "openai-pool-1", "openai-pool-2", "tenant:acme", "tenant:globex", "tenant:a/b c"
    }  # fmt: skip
    acme = first[KEY_STATES]["tenant:acme"]
    assert (acme["state"], acme["tier"], acme["models"]) == ("active", "standard", ["gpt-5*", "claude-*"])
    assert first[KEY_STATES]["openai-pool-1"]["provider"] == "openai"
    now = format_instant(NOW_US)
    assert told.clocks(QUOTA_STATES) == [(n, {"clock": now, "full": now, "catalog": 1}) for n in range(PARTITIONS)]
    assert told.clocks(KEY_STATES) == [(0, {"clock": now, "full": now, "catalog": 1})]
    told.now_us += 1_000_000
    assert told.look() == {QUOTA_STATES: {}, KEY_STATES: {}}
    assert told.clocks(KEY_STATES)[0][1] == {"clock": format_instant(told.now_us), "full": now, "catalog": 1}


def test_a_hold_is_told_whoever_made_it(told: Topics) -> None:
    told.look()
    told.ledger.authorize(Ask("a1", "globex", "gpt-5-mini", {"tokens": Decimal(600)}), told.now_us)
    found = told.look()
    assert found[QUOTA_STATES]["tenant:globex/monthly"]["reserved"] == "600"
    assert len(found[QUOTA_STATES]) == 1
    assert found[KEY_STATES] == {}


def test_what_the_meter_told_is_not_told_again(told: Topics) -> None:
    told.look()
    recorded = told.ledger.take([used("globex", 70, told.now_us)], told.now_us)
    (state,) = recorded.quota_states
    told.states.note([state])
    assert told.look()[QUOTA_STATES] == {}
    told.ledger.authorize(Ask("a1", "globex", "gpt-5-mini", {"tokens": Decimal(600)}), told.now_us)
    assert told.look()[QUOTA_STATES]["tenant:globex/monthly"]["reserved"] == "600"


def test_what_the_meter_told_by_another_limit_is_told_again(told: Topics) -> None:
    told.look()
    recorded = told.ledger.take([used("globex", 70, told.now_us)], told.now_us)
    (state,) = recorded.quota_states
    told.states.note([state._replace(quota=replace(state.quota, limit=Decimal(5)))])
    assert told.look()[QUOTA_STATES]["tenant:globex/monthly"]["limit"] == "10000"


def test_of_a_window_that_was_never_told_nothing_is_noted(told: Topics) -> None:
    recorded = told.ledger.take([used("globex", 70, told.now_us)], told.now_us)
    told.states.note(recorded.quota_states)
    assert told.look()[QUOTA_STATES]["tenant:globex/monthly"]["used"] == "70"


def test_a_suspension_and_revoked_tokens_are_told_alone(told: Topics) -> None:
    told.look()
    told.ledger.set_key_state("openai-pool-1", "suspended", told.now_us, "test", "leaked")
    found = told.look()
    assert {key: value["state"] for key, value in found[KEY_STATES].items()} == {"openai-pool-1": "suspended"}
    assert found[QUOTA_STATES] == {}
    revoke_jti(told.ledger, "j-1", told.now_us, "test")
    revoke_before(told.ledger, "tenant:acme", told.now_us, told.now_us, "test")
    found = told.look()
    assert found[KEY_STATES]["jti:j-1"]["state"] == "revoked"
    assert found[KEY_STATES]["tenant:acme"]["tokens_before"] == format_instant(told.now_us)
    assert len(found[KEY_STATES]) == 2


def test_a_window_that_turns_is_told_though_nothing_happened_in_it(told: Topics) -> None:
    told.look()
    told.now_us += MINUTE_US
    found = told.look()
    assert list(found[QUOTA_STATES]) == ["tenant:acme/burst"]
    assert found[QUOTA_STATES]["tenant:acme/burst"]["window_start"] == format_instant(told.now_us)


def test_another_catalog_is_told_whole_and_takes_back_what_is_gone(told: Topics) -> None:
    told.look()
    told.ledger.take([used("globex", 70, told.now_us)], told.now_us)
    told.now_us += 5_000_000
    quotas = [{"name": "yearly", "meter": "tokens", "limit": 99, "window": "month"}]
    told.ledger.apply(catalog(tenants={"globex": {"plan": "team", "quotas": quotas}}), told.now_us, "test")
    found = told.look()
    assert found[QUOTA_STATES].pop("tenant:globex/yearly")["used"] == "70"  # from before the quota was there
    assert found[QUOTA_STATES] == dict.fromkeys(
        ["tenant:acme/daily", "tenant:acme/burst", "tenant:globex/monthly"]
    )  # taken back
    assert found[KEY_STATES]["tenant:acme"] is None
    assert found[KEY_STATES]["openai-pool-1"]["catalog"] == 2
    assert told.clocks(QUOTA_STATES)[0][1]["full"] == format_instant(told.now_us)


def test_a_worker_that_tells_again_begins_with_everything(told: Topics) -> None:
    first = told.look()
    told.states.stop()
    again = told.look()
    assert {topic: set(values) for topic, values in again.items()} == {t: set(v) for t, v in first.items()}


def test_what_the_broker_did_not_take_is_told_with_the_next_look(told: Topics) -> None:
    first = told.look()
    told.ledger.set_key_state("openai-pool-1", "suspended", told.now_us, "test")
    taking = told.send

    async def away(topic: str, messages: Sequence[Message]) -> None:
        raise ConnectionError("nobody answers")

    told.states._send = away
    with pytest.raises(ConnectionError):
        told.look()
    told.states._send = taking
    assert set(told.look()[KEY_STATES]) == {"openai-pool-1"}
    assert first[KEY_STATES]["openai-pool-1"]["state"] == "active"

"""The sending thread, against a producer that fails on command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.fakes import FakeBroker, event
from tollhouse_client import (
    EventTooLargeError,
    InvalidEventError,
    PublisherClosedError,
    SpoolFullError,
    UsagePublisher,
)


def publish_until_full(publisher: UsagePublisher) -> int:
    """The number of events that were accepted before the spool refused one."""
    for number in range(10_000):
        try:
            publisher.publish(event(number))
        except SpoolFullError:
            return number
    raise AssertionError("the spool never was full")


Open = Callable[..., UsagePublisher]


@pytest.fixture
def broker() -> FakeBroker:
    """In the place of the fixture of the same name that needs a real one."""
    return FakeBroker()


@pytest.fixture
def opened(broker: FakeBroker, tmp_path: Path) -> Iterator[Open]:
    """Opens publishers on one spool directory; closes what a test left open."""
    publishers: list[UsagePublisher] = []

    def open_one(**settings: Any) -> UsagePublisher:
        values = {"source": "proxy/test", "spool_dir": tmp_path / "spool", "connect": broker.connect} | settings
        publishers.append(UsagePublisher("unused:1", **values))
        return publishers[-1]

    yield open_one
    for publisher in publishers:
        publisher.close(0)


def wait_until(true: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)


def test_batches_hold_one_tenant_and_at_most_the_limit(opened: Open, broker: FakeBroker) -> None:
    with opened(batch_events=10, linger_s=0.05) as publisher:
        for number in range(100):
            publisher.publish(event(number, "acme"))
            if number % 4 == 0:
                publisher.publish(event(number, "blue"))
        assert publisher.flush(5)
    assert {len(events) for key, events in broker.messages if key == b"acme"} == {10}
    for key, events in broker.messages:
        assert {found["subject"].encode() for found in events} == {key}
        assert len(events) <= 10
    assert broker.ids(b"acme") == [f"acme-{number}" for number in range(100)], "in order, within a tenant"


def test_a_lone_event_goes_after_the_linger(opened: Open, broker: FakeBroker) -> None:
    publisher = opened(linger_s=0.02)
    publisher.publish(event(1))
    wait_until(lambda: broker.ids() == ["acme-1"])
    wait_until(lambda: publisher.stats().pending == 0)
    assert publisher.stats().oldest_unsent_age_s == 0


def test_events_wait_for_a_broker_that_is_away_at_the_start(opened: Open, broker: FakeBroker) -> None:
    broker.away = True
    publisher = opened()
    for number in range(120):
        publisher.publish(event(number))
    assert not publisher.flush(0.3)
    stats = publisher.stats()
    assert (stats.pending, stats.acked, stats.connected) == (120, 0, False)
    assert stats.last_error == "ConnectionError: nobody answers"
    assert stats.oldest_unsent_age_s > 0
    broker.away = False
    assert publisher.flush(10)
    assert broker.ids() == [f"acme-{number}" for number in range(120)]
    assert publisher.stats().pending == 0


def test_what_was_in_flight_when_the_broker_failed_goes_again_in_order(opened: Open, broker: FakeBroker) -> None:
    publisher = opened(batch_events=10)
    broker.hold = True
    for number in range(100):
        publisher.publish(event(number))
    wait_until(lambda: len(broker.held) == 10)
    broker.away = True
    broker.fail_held(ConnectionError("reset by peer"))
    wait_until(lambda: not publisher.stats().connected)
    broker.away = False
    assert publisher.flush(10)
    assert broker.ids() == [f"acme-{number}" for number in range(100)]
    stats = publisher.stats()
    assert (stats.acked, stats.resent, stats.reconnects) == (100, 100, 1)


def test_late_news_of_a_dead_session_counts_nothing_twice(opened: Open, broker: FakeBroker) -> None:
    publisher = opened(batch_events=1)
    broker.hold = True
    publisher.publish(event(1))
    publisher.publish(event(2))
    wait_until(lambda: len(broker.held) == 2)
    late = broker.held.pop()
    broker.fail_held(ConnectionError("reset"))
    wait_until(lambda: publisher.stats().reconnects == 1)
    late[2](None)
    assert publisher.flush(5)
    assert publisher.stats().acked == 2
    assert publisher.stats().pending == 0


def test_a_message_that_the_broker_finds_too_large_is_halved(opened: Open, broker: FakeBroker) -> None:
    broker.message_bytes_max = 1_500
    with opened(batch_events=50) as publisher:
        for number in range(50):
            publisher.publish(event(number))
        assert publisher.flush(5)
        assert publisher.stats().batches_split > 0
    assert sorted(broker.ids()) == sorted(f"acme-{number}" for number in range(50)), "each once, in some order"


def test_one_event_that_the_broker_never_takes_is_kept_aside(opened: Open, broker: FakeBroker, tmp_path: Path) -> None:
    broker.message_bytes_max = 1_000
    with opened() as publisher:
        publisher.publish(event(1))
        publisher.publish(event(2, note="x" * 2_000))
        publisher.publish(event(3))
        assert publisher.flush(5)
        stats = publisher.stats()
    assert broker.ids() == ["acme-1", "acme-3"]
    assert (stats.undeliverable, stats.acked, stats.pending) == (1, 2, 0)
    kept = [json.loads(line) for line in (tmp_path / "spool" / "undeliverable.ndjson").read_text().splitlines()]
    assert [line["event"]["id"] for line in kept] == ["acme-2"]


def test_an_event_too_large_for_a_message_is_the_callers_error(opened: Open) -> None:
    publisher = opened()
    with pytest.raises(EventTooLargeError, match="more than the 899998 of a message"):
        publisher.publish(event(1, note="x" * 1_000_000))
    assert publisher.stats().enqueued == 0


def test_messages_stay_below_the_limit_in_bytes(opened: Open, broker: FakeBroker) -> None:
    with opened(max_message_bytes=5_000) as publisher:
        for number in range(100):
            publisher.publish(event(number, note="y" * 700))
        assert publisher.flush(5)
    sizes = [len(json.dumps(events, separators=(",", ":"))) for _, events in broker.messages]
    assert max(sizes) <= 5_000
    assert len(broker.ids()) == 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": None}, "subject"),
        ({"id": " "}, "id"),
        ({"id": "x" * 257}, "256"),
        ({"source": "a\nb"}, "printable"),
        ({"data": {"at": object()}}, "not JSON"),
        ({"data": {"usage": {"input_tokens": float("nan")}}}, "not JSON"),
        ({"data": {"model": "\ud800"}}, "not JSON"),
    ],
)
def test_what_cannot_be_addressed_or_encoded_is_refused(opened: Open, change: dict[str, Any], words: str) -> None:
    publisher = opened()
    with pytest.raises(InvalidEventError, match=words):
        publisher.publish(event(1) | change)
    assert publisher.stats().pending == 0


def test_a_full_spool_is_the_callers_error_and_passes(opened: Open, broker: FakeBroker) -> None:
    broker.away = True
    publisher = opened(max_spool_bytes=65_536)
    accepted = publish_until_full(publisher)
    broker.away = False
    assert publisher.flush(10)
    assert broker.ids() == [f"acme-{number}" for number in range(accepted)]

    def takes_again() -> bool:
        try:
            publisher.publish(event(accepted))
        except SpoolFullError:
            return False
        return True

    wait_until(takes_again)


def test_close_drains(opened: Open, broker: FakeBroker) -> None:
    publisher = opened(linger_s=30.0)
    for number in range(10):
        publisher.publish(event(number))
    assert publisher.close(5) == 0
    assert len(broker.ids()) == 10
    assert publisher.close() == 0, "twice is once"
    with pytest.raises(PublisherClosedError):
        publisher.publish(event(11))


def test_close_keeps_its_deadline_and_says_how_many_are_left(opened: Open, broker: FakeBroker) -> None:
    broker.away = True
    publisher = opened()
    for number in range(10):
        publisher.publish(event(number))
    started_s = time.monotonic()
    assert publisher.close(0.3) == 10
    assert time.monotonic() - started_s < 2.0
    broker.away = False
    with opened() as successor:
        assert successor.stats().replayed == 10
        assert successor.flush(5)
    assert broker.ids() == [f"acme-{number}" for number in range(10)]


def test_a_wait_sends_at_once_what_would_linger(opened: Open, broker: FakeBroker) -> None:
    publisher = opened(linger_s=30.0)
    position = publisher.publish(event(1))
    assert publisher.wait(position, 5)
    assert broker.ids() == ["acme-1"]


def test_a_wait_is_not_fooled_by_a_younger_event(opened: Open, broker: FakeBroker) -> None:
    publisher = opened(batch_events=1, linger_s=0.01)
    broker.hold = True
    first = publisher.publish(event(1))
    wait_until(lambda: len(broker.held) == 1)
    held = broker.held.pop()
    broker.hold = False
    publisher.publish(event(2, "blue"))
    wait_until(lambda: broker.ids() == ["blue-2"])
    assert not publisher.wait(first, 0.1)
    broker.accept(*held)
    assert publisher.wait(first, 5)


def test_estimate_and_settlement(opened: Open, broker: FakeBroker) -> None:
    call: dict[str, Any] = {"tenant": "acme", "key": "pool-1", "provider": "openai", "model": "gpt-5-mini"}
    with opened() as publisher:
        first = publisher.record_aborted(usage={"input_tokens": 5}, reservation="rsv_1", **call)
        publisher.settle(first, usage={"input_tokens": 7}, **call)
        publisher.void(first, tenant="acme", reason="test call")
    events = [found for _, batch in broker.messages for found in batch]
    assert events[0]["data"] | {"usage": None} == {
        "key": "pool-1",
        "provider": "openai",
        "model": "gpt-5-mini",
        "usage": None,
        "status": "aborted",
        "estimated": True,
        "reservation": "rsv_1",
    }
    assert events[1]["data"]["replaces"] == {"source": "proxy/test", "id": first}
    assert events[1]["data"]["status"] == "aborted"
    assert "estimated" not in events[1]["data"]
    assert events[2]["type"] == "com.tollhouse.usage.void.v1"
    assert events[2]["data"]["voids"] == {"source": "proxy/test", "id": first}


class Ledger:
    """Knows what reached it; can be away."""

    def __init__(self) -> None:
        self.settled: set[tuple[str, str, str]] = set()
        self.away = False

    def confirm(self, identities: Any) -> set[tuple[str, str, str]]:
        if self.away:
            raise ConnectionError("no database")
        return self.settled & set(identities)


def test_a_broker_that_forgets_gets_the_events_again(
    opened: Open, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse_client.spool.IDLE_SEAL_S", 0.05)
    monkeypatch.setattr("tollhouse_client.confirm.ASK_EVERY_S", 0.05)
    ledger = Ledger()
    publisher = opened(confirm=ledger.confirm, confirm_after_s=0.2, linger_s=0.01)
    for number in range(20):
        publisher.publish(event(number))
    assert publisher.flush(5)
    broker.forget()
    ledger.settled = {("acme", "proxy/test", f"acme-{number}") for number in range(5)}  # but these had arrived
    publisher.publish(event(20))
    wait_until(lambda: len(set(broker.ids())) == 16)
    assert set(broker.ids()) == {f"acme-{number}" for number in range(5, 21)}
    ledger.settled |= {("acme", "proxy/test", found) for found in broker.ids()}
    wait_until(lambda: publisher.stats().spooled_bytes < 100)


def test_a_ledger_that_is_only_behind_is_not_sent_everything_again(
    opened: Open, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was: each wait sent the whole backlog once more, and the ledger fell behind further."""
    monkeypatch.setattr("tollhouse_client.spool.IDLE_SEAL_S", 0.05)
    monkeypatch.setattr("tollhouse_client.confirm.ASK_EVERY_S", 0.02)
    ledger = Ledger()
    publisher = opened(confirm=ledger.confirm, confirm_after_s=0.2, linger_s=0.01)
    publisher.publish(event(1))
    time.sleep(1.2)
    assert broker.ids() == ["acme-1"], "the session holds, so nothing is lost"
    wait_until(lambda: len(broker.ids()) == 2)
    time.sleep(1.0)
    assert len(broker.ids()) == 2, "and the next wait is twice as long"


def test_unconfirmed_events_survive_a_restart(opened: Open, broker: FakeBroker) -> None:
    ledger = Ledger()
    ledger.away = True
    first = opened(confirm=ledger.confirm)
    first.publish(event(1))
    assert first.flush(5)
    assert first.close() == 0
    second = opened(confirm=ledger.confirm)
    assert second.stats().replayed == 1
    assert second.flush(5)
    assert broker.ids() == ["acme-1", "acme-1"]


def test_a_sender_that_meets_the_unforeseen_goes_on(opened: Open, broker: FakeBroker) -> None:
    failures = [RuntimeError("a fault of ours")]

    def connect() -> Any:
        if failures:
            raise failures.pop()
        return broker.connect()

    publisher = opened(connect=connect)
    publisher.publish(event(1))
    assert publisher.flush(5)
    assert broker.ids() == ["acme-1"]

"""The bench's load: the broker has all of it, and never is more on its way than fits."""

from __future__ import annotations

import pytest

from tollhouse.bench import load


class Broker:
    """Answers only when it is asked, and remembers how many messages waited for that at most."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.waiting, self.most, self.taken = 0, 0, 0
        self.fails_at, self.closed = fails_at, False

    def send(self, topic: str, value: bytes, key: bytes) -> Answer:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return Answer(self)

    def flush(self, timeout: float) -> None:
        """Nothing: the answers say whether it took them."""

    def close(self, timeout: float) -> None:
        self.closed = True


class Answer:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def get(self, timeout: float) -> None:
        broker = self.broker
        broker.waiting -= 1
        if broker.taken == broker.fails_at:
            raise ConnectionError("nobody answers")
        broker.taken += 1


def fill(broker: Broker, events: int, monkeypatch: pytest.MonkeyPatch) -> load.Sent:
    monkeypatch.setattr(load, "producer", lambda _address: broker)
    monkeypatch.setattr(load, "HANDED_MAX", 10)
    return load.fill("broker.example:9092", "usage.events", events, 5, 1_790_000_000_000_000, tick=lambda _n: None)


def test_no_more_is_on_its_way_than_fits_and_all_of_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    sent = fill(broker, 500, monkeypatch)
    assert sent.events == 500
    assert sent.tokens > 0
    assert (broker.taken, broker.waiting, broker.most) == (100, 0, 11)
    assert broker.closed


@pytest.mark.parametrize("at", [3, 99])
def test_a_message_that_the_broker_did_not_take_ends_the_load(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(fails_at=at)
    with pytest.raises(ConnectionError):
        fill(broker, 500, monkeypatch)
    assert broker.closed

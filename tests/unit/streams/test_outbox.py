"""What is queued with the commit is told until the broker has it: nothing lost, repeats known by number and version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from pipeline.alerting import Alert
from pipeline.ledger import Ledger, outbox
from pipeline.ledger.rejected import insert_rejected
from pipeline.screen import Refused
from schemas.usage_event import Evidence
from streams.outbox import Outbox

NOW_US = 1_800_000_000_000_000


@dataclass
class Producer:
    """Takes messages unless told otherwise; `lost`: keys that the broker does not acknowledge."""

    told: list[tuple[str, bytes, dict[str, object]]] = field(default_factory=list)
    lost: set[bytes] = field(default_factory=set)
    away: bool = False

    async def send(self, topic: str, key: bytes, value: bytes) -> Awaitable[object]:
        if self.away:
            raise ConnectionError("broker away")

        async def acknowledged() -> None:
            if key in self.lost:
                raise TimeoutError("no acknowledgement")
            self.told.append((topic, key, json.loads(value)))

        return acknowledged()

    def numbers(self) -> list[object]:
        return [value["number"] for topic, _, value in self.told if topic == "usage.rejected"]


def refuse(ledger: Ledger, *offsets: int, tenant: str = "acme") -> None:
    """Rejected deliveries, as a batch, the API or a sweep keeps them."""
    refused = [
        Refused(b'{"n":%d}' % n, "malformed", "no id", tenant, None, None, NOW_US, Evidence("usage.events", 0, n, 0))
        for n in offsets
    ]
    ledger.write(lambda c: insert_rejected(c, refused))


def publish(ledger: Ledger, producer: Producer, at_us: int = NOW_US) -> int:
    return asyncio.run(Outbox(ledger, lambda: at_us, producer.send).publish())


def waiting(ledger: Ledger) -> int:
    return ledger.read(outbox.waiting)


def test_everything_is_told_once_and_leaves_the_queue(ledger: Ledger) -> None:
    refuse(ledger, *range(7))
    ledger.raise_alerts([Alert("leak:a", NOW_US, "leak", "ticket", "acme/pool", "more than was due", {"n": 1})])
    producer = Producer()
    assert publish(ledger, producer) == 8
    assert publish(ledger, producer) == 0
    assert producer.numbers() == list(range(1, 8))
    assert [value["event"] for _, _, value in producer.told[:2]] == ['{"n":0}', '{"n":1}']
    topic, key, alert = producer.told[-1]
    assert (topic, key, alert["id"], alert["version"], alert["facts"]) == ("alerts", b"leak:a", "leak:a", 1, {"n": 1})
    assert waiting(ledger) == 0


def test_a_message_that_is_read_again_is_not_told_again(ledger: Ledger) -> None:
    producer = Producer()
    for _ in range(3):  # the worker before was killed after its commit, or a partition moved
        refuse(ledger, 1, 2)
        publish(ledger, producer)
    assert producer.numbers() == [1, 2]


def test_an_alert_is_told_again_when_it_gets_worse_and_not_when_it_is_the_same(ledger: Ledger) -> None:
    producer = Producer()
    for severity in ("ticket", "ticket", "page", "page"):
        ledger.raise_alerts([Alert("leak:a", NOW_US, "leak", severity, "acme/pool", "so it is")])
        publish(ledger, producer)
    assert [(value["version"], value["severity"]) for _, _, value in producer.told] == [(1, "ticket"), (2, "page")]


def test_a_worker_that_died_after_the_commit_leaves_it_to_the_next(ledger: Ledger) -> None:
    refuse(ledger, 1, 2)
    claimed = ledger.write(lambda c: outbox.claim(c, NOW_US))  # and then it was killed
    assert len(claimed) == 2
    producer = Producer()
    assert publish(ledger, producer, NOW_US + outbox.CLAIM_US - 1) == 0
    assert publish(ledger, producer, NOW_US + outbox.CLAIM_US) == 2
    assert producer.numbers() == [1, 2]


def test_a_worker_that_died_after_telling_it_is_repeated_with_the_same_number(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(ledger, 1)
    producer = Producer()

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "finish", die)
        with pytest.raises(Killed):
            publish(ledger, producer)
    publish(ledger, producer, NOW_US + outbox.CLAIM_US)
    assert producer.numbers() == [1, 1]
    assert producer.told[0] == producer.told[1]


def test_what_the_broker_does_not_take_stays_and_holds_nobody_up(ledger: Ledger) -> None:
    refuse(ledger, 1)
    refuse(ledger, 2, tenant="bolt")
    producer = Producer(lost={b"acme"})
    with pytest.raises(TimeoutError):
        publish(ledger, producer)
    assert (producer.numbers(), waiting(ledger)) == ([2], 1)
    producer.lost.clear()
    assert publish(ledger, producer) == 1  # at once: nobody waits for the claim to run out
    assert producer.numbers() == [2, 1]


def test_a_broker_that_is_away_loses_nothing(ledger: Ledger) -> None:
    refuse(ledger, *range(30))
    producer = Producer(away=True)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            publish(ledger, producer)
    producer.away = False
    publish(ledger, producer)
    assert sorted(map(str, producer.numbers())) == sorted(str(n) for n in range(1, 31))


def test_two_workers_share_what_waits(ledger: Ledger) -> None:
    refuse(ledger, *range(10))
    first = ledger.write(lambda c: outbox.claim(c, NOW_US, limit=4))
    second = ledger.write(lambda c: outbox.claim(c, NOW_US))
    assert [one.n for one in first] + [one.n for one in second] == list(range(1, 11))


def test_a_clock_that_is_set_back_does_not_hold_claims_for_ever(ledger: Ledger) -> None:
    refuse(ledger, 1)
    ledger.write(lambda c: outbox.claim(c, NOW_US))
    assert publish(ledger, Producer(), NOW_US - 3_600_000_000) == 1


def test_what_is_gone_from_the_ledger_leaves_the_queue(ledger: Ledger) -> None:
    ledger.write(lambda c: outbox.queue(c, outbox.REJECTED, [("17", 0)]))
    ledger.write(lambda c: outbox.queue(c, outbox.ALERTS, [("no such", 1)]))
    assert publish(ledger, Producer()) == 0
    assert waiting(ledger) == 0


def test_the_loop_tells_what_it_is_poked_for_and_goes_on_after_a_failure(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.outbox.AWAY_S", 0.01)
    monkeypatch.setattr("streams.outbox.POLL_S", 60.0)
    producer = Producer(away=True)

    async def story() -> None:
        box = Outbox(ledger, lambda: NOW_US, producer.send)
        task = asyncio.create_task(box.run())
        refuse(ledger, 1)
        box.look()
        await asyncio.sleep(0.05)
        producer.away = False
        async with asyncio.timeout(20):
            while not producer.told:  # noqa: ASYNC110 - the producer is a plain double
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert producer.numbers() == [1]


@pytest.mark.parametrize("steps", range(8))
def test_the_loop_ends_whenever_it_is_cancelled(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Also in the turn in which it is poked, where asyncio.wait_for lost the cancellation."""
    monkeypatch.setattr("streams.outbox.POLL_S", 60.0)

    async def nothing() -> int:
        return 0

    async def story() -> None:
        box = Outbox(ledger, lambda: NOW_US, Producer().send)
        monkeypatch.setattr(box, "publish", nothing)
        box.look()
        task = asyncio.create_task(box.run())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        task.cancel()
        assert done
        assert task.cancelled()

    asyncio.run(story())

"""The meter with messages of our own: acknowledged only after the commit, in order, and nothing lost or let through."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from pipeline.context import Context
from pipeline.ledger import LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.record import Recorded
from pipeline.plain import Batch
from pipeline.screen import Refused
from schemas.usage_event import Message, split_message
from streams import meter as meter_module
from streams.meter import LOG_APPEND_TIME, Meter, usage_of

NOW_US = 1_800_000_000_000_000


@dataclass
class Bytes:
    """What a Kafka message brings."""

    value: bytes | None
    offset: int
    partition: int = 0
    topic: str = "usage.events"
    timestamp: float = 1_700_000_000.25
    timestamp_type: int = LOG_APPEND_TIME


@dataclass
class Event:
    """A Faust event that writes down its acknowledgement."""

    message: Bytes
    journal: list[tuple[str, object]]

    def ack(self) -> bool:
        self.journal.append(("ack", self.message.offset))
        return True


@dataclass
class LedgerDouble:
    """Writes down what it commits. fails: what the next calls raise, one each. poison: bytes that it cannot take."""

    journal: list[tuple[str, object]]
    fails: list[BaseException] = field(default_factory=list)
    poison: bytes | None = None
    gate: threading.Event | None = None
    refused: list[Refused] = field(default_factory=list)
    batches: list[list[bytes]] = field(default_factory=list)

    def take_messages(self, messages: Sequence[Message], _now_us: int) -> Recorded:
        if self.gate is not None:
            self.gate.wait(10)
        if self.fails:
            raise self.fails.pop(0)
        if self.poison is not None and any(self.poison in m.value for m in messages):
            raise ZeroDivisionError("our own fault")
        self.batches.append([m.value for m in messages])
        self.journal.extend(("commit", m.offset) for m in messages)
        return Recorded(counted=len(messages))

    def screen(self, _messages: Sequence[Message]) -> tuple[Context, Batch]:
        raise LedgerUnavailable("it is screened when it is counted")

    def context(self) -> Context | None:
        return None

    def refuse(self, refused: Refused, _now_us: int) -> Recorded:
        if self.fails:
            raise self.fails.pop(0)
        self.refused.append(refused)
        self.journal.append(("commit", refused.evidence.offset))
        return Recorded(rejected=[refused])


class World:
    """A meter, its ledger, and a journal of commits and acknowledgements in their order."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, after: Callable[[Recorded], Awaitable[None]] | None = None
    ) -> None:
        monkeypatch.setattr(meter_module, "RETRY_S", (0.001,))
        monkeypatch.setattr(meter_module, "LINGER_S", 0.005)
        self.journal: list[tuple[str, object]] = []
        self.ledger = LedgerDouble(self.journal)
        self.published: list[Recorded] = []

        async def publish(recorded: Recorded) -> None:
            self.published.append(recorded)

        self.meter = Meter(self.ledger, lambda: NOW_US, after or publish)  # type: ignore[arg-type]

    def event(self, offset: int, value: bytes | None = b"{}") -> Event:
        return Event(Bytes(value, offset), self.journal)

    @property
    def acked(self) -> list[object]:
        return [what for kind, what in self.journal if kind == "ack"]

    def play(self, events: Sequence[Event], until: Callable[[], bool] | None = None, timeout_s: float = 60.0) -> None:
        """Put the events, run until they are acknowledged (or `until`), cancel."""
        done = until or (lambda: len(self.acked) >= len(events))

        async def story() -> None:
            task = asyncio.create_task(self.meter.run())
            for event in events:
                await self.meter.put(event)
            deadline = time.monotonic() + timeout_s
            while not done() and not task.done():
                assert time.monotonic() < deadline, self.journal
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        try:
            asyncio.run(story())
        finally:
            if self.ledger.gate is not None:
                self.ledger.gate.set()
            self.meter.close()


def test_acknowledges_each_message_after_its_commit_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.play([world.event(n) for n in range(200)])
    assert world.acked == list(range(200))
    for offset in range(200):
        assert world.journal.index(("commit", offset)) < world.journal.index(("ack", offset))
    assert world.meter.state.events == 200
    assert world.meter.state.messages == 200


def test_an_array_is_acknowledged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.play([world.event(7, b'[{"a":1},{"b":2},{"c":3}]')])
    assert world.acked == [7]
    assert world.ledger.batches == [[b'[{"a":1},{"b":2},{"c":3}]']]


@pytest.mark.parametrize("error", [LedgerUnavailable("gone"), NoCatalog(), RuntimeError("odd")])
def test_nothing_is_acknowledged_while_the_ledger_does_not_take_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = World(monkeypatch)
    world.ledger.fails = [error, error, error]
    world.play([world.event(n) for n in range(3)])
    assert [kind for kind, _ in world.journal] == ["commit"] * 3 + ["ack"] * 3
    assert world.meter.state.trouble == ""


def test_says_what_it_waits_for_and_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ledger.fails = [LedgerUnavailable("connection refused")] * 10_000
    world.play([world.event(0)], until=lambda: world.meter.state.trouble != "")
    assert world.meter.state.ready() == (False, "connection refused")
    assert world.acked == []


def test_an_unavailable_ledger_never_makes_a_message_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ledger.fails = [LedgerUnavailable("away")] * 50
    world.play([world.event(0)])
    assert world.ledger.refused == []
    assert world.journal == [("commit", 0), ("ack", 0)]


def test_a_message_that_our_code_cannot_take_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ledger.poison = b"boom"
    world.play([world.event(n, b'{"x":"boom"}' if n == 2 else b"{}") for n in range(5)])
    assert world.acked == [0, 1, 2, 3, 4]
    assert [(r.evidence.offset, r.reason, r.raw) for r in world.ledger.refused] == [(2, "malformed", b'{"x":"boom"}')]
    assert world.meter.state.rejected == 1
    assert world.meter.state.events == 4


def test_a_ledger_that_goes_away_among_single_messages_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found: LedgerUnavailable left `_count_singly` through the retry loop and ended the meter for good."""
    world = World(monkeypatch)
    fault = RuntimeError("odd")
    world.ledger.fails = [fault] * 4 + [LedgerUnavailable("away")]
    world.play([world.event(n) for n in range(3)])
    assert world.acked == [0, 1, 2]
    assert sorted(n for kind, n in world.journal if kind == "commit") == [0, 1, 2]
    assert world.ledger.refused == []


def test_cancelled_in_the_middle_of_a_batch_it_acknowledges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ledger.gate = threading.Event()
    world.play([world.event(n) for n in range(3)], until=lambda: world.meter.state.waiting_since_s is not None)
    assert world.acked == []


def test_a_failed_publish_is_no_reason_to_count_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_recorded: Recorded) -> None:
        raise ConnectionError("broker away")

    world = World(monkeypatch, fail)
    world.play([world.event(n) for n in range(3)])
    assert world.acked == [0, 1, 2]
    assert len([1 for kind, _ in world.journal if kind == "commit"]) == 3


def test_the_next_batch_is_counted_while_one_is_published_and_they_are_acknowledged_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = threading.Event()

    async def slow(_recorded: Recorded) -> None:
        await asyncio.to_thread(waits.wait, 30)

    world = World(monkeypatch, slow)
    monkeypatch.setattr(meter_module, "BATCH_MESSAGES", 1)

    def second_is_in() -> bool:
        commits = [what for kind, what in world.journal if kind == "commit"]
        if commits == [0, 1] and not waits.is_set():
            assert world.acked == []
            assert world.meter.busy
            waits.set()
        return len(world.acked) == 3

    world.play([world.event(n) for n in range(3)], until=second_is_in)
    assert world.acked == [0, 1, 2]
    assert world.meter.state.waiting_since_s is None


def test_a_fault_after_the_commit_ends_the_meter_with_that_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)

    class Broken(Event):
        def ack(self) -> bool:
            raise ZeroDivisionError("our own fault")

    async def story() -> None:
        task = asyncio.create_task(world.meter.run())
        await world.meter.put(Broken(Bytes(b"{}", 0), world.journal))
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(task, 30)

    try:
        asyncio.run(story())
    finally:
        world.meter.close()


def test_a_batch_is_bounded_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    monkeypatch.setattr(meter_module, "BATCH_MESSAGES", 10)
    world.play([world.event(n) for n in range(35)])
    assert all(len(batch) <= 10 for batch in world.ledger.batches)
    assert sum(map(len, world.ledger.batches)) == 35


@pytest.mark.parametrize("value", [b"", None, b"[]", b"  ", b"[", b"null", b"\xff\xfe", b"[[[[[[[[", b"\x00" * 10])
def test_every_message_comes_to_the_ledger_as_at_least_one_delivery_or_holds_none(value: bytes | None) -> None:
    found = usage_of(Bytes(value, 3), NOW_US)
    assert split_message(found.value) == ([] if value == b"[]" else [value or b""])
    assert found[2:5] == ("usage.events", 0, 3)


def test_arrival_is_the_brokers_time_where_it_stamps() -> None:
    assert usage_of(Bytes(b"{}", 0), NOW_US).arrival_us == 1_700_000_000_250_000
    assert usage_of(Bytes(b"{}", 0, timestamp_type=0), NOW_US).arrival_us == NOW_US


def test_what_is_gathered_while_another_batch_is_counted_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter_module, "QUIET_S", 0.0)
    world = World(monkeypatch)
    world.ledger.fails = [LedgerUnavailable("away")] * 10_000
    world.play([world.event(n) for n in range(3)], until=lambda: world.meter.state.trouble != "")
    assert not world.meter.idle
    calm = World(monkeypatch)
    calm.play([calm.event(0)])
    assert calm.meter.idle


def test_a_message_that_comes_twice_in_a_batch_is_counted_once_and_acknowledged_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found: after a rebalance what was on its way came again in the same batch, and was received twice."""
    world = World(monkeypatch)
    world.play([world.event(n) for n in (7, 8, 7, 8, 9)])
    assert world.ledger.batches == [[b"{}"] * 3]
    assert world.acked == [7, 8, 7, 8, 9]


def test_what_is_in_no_batch_yet_can_be_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)

    async def story() -> None:
        for n in range(5):
            await world.meter.put(world.event(n))
        assert world.meter.busy
        world.meter.shed()
        assert not world.meter.busy

    asyncio.run(story())
    assert world.acked == []


def test_a_message_that_waits_for_room_is_let_go_of_with_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted alone it would move the ledger's offset over them: the books of what was received would not add up."""
    monkeypatch.setattr(meter_module, "QUEUE_MESSAGES", 3)
    world = World(monkeypatch)

    async def story() -> None:
        for n in range(3):
            await world.meter.put(world.event(n))
        waiting = asyncio.create_task(world.meter.put(world.event(3)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        world.meter.shed()
        await waiting
        task = asyncio.create_task(world.meter.run())
        await world.meter.put(world.event(0))  # read again
        deadline = time.monotonic() + 30
        while not world.acked and time.monotonic() < deadline:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.001)
        assert not world.meter.busy
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(story())
    finally:
        world.meter.close()
    assert world.journal == [("commit", 0), ("ack", 0)]

"""A topic, workers and crashes in one process: the real meter over the real ledger, on a broker that is a list.

A worker is the production `Meter`. It dies where the seed says: while screening, before any step of the transaction,
after the commit and before the acknowledgement, after the acknowledgement and before the offset is stored. What it
has not stored as its offset, the next owner of the partition reads again, as Kafka has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from pipeline.ledger import Ledger, outbox, record
from pipeline.ledger.record import Recorded
from streams import meter as meter_module
from streams import outbox as outbox_module
from streams.meter import Meter
from streams.outbox import Outbox

STEPS = ("settle", "_add_quotas", "insert_entries", "update_entries", "insert_rejected", "_add_rollups", "_add_intake")


class Killed(BaseException):
    """kill -9: nothing catches it."""


@dataclass
class Stored:
    """A message as the broker has it."""

    value: bytes | None
    partition: int
    offset: int
    timestamp: float
    topic: str = "usage.events"
    timestamp_type: int = 1


@dataclass
class Taken:
    """A message as a worker has it."""

    message: Stored
    worker: Worker

    def ack(self) -> bool:
        self.worker.acked(self.message)
        return True


@dataclass
class Broker:
    """Partitions as lists, and the group's stored offsets."""

    partitions: int
    logs: list[list[Stored]] = field(init=False)
    committed: dict[int, int] = field(default_factory=dict)
    told: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs = [[] for _ in range(self.partitions)]

    def append(self, key: str, value: bytes | None, at_s: float) -> None:
        """Add a message to the partition of its key."""
        number = sum(key.encode()) % len(self.logs)
        self.logs[number].append(Stored(value, number, len(self.logs[number]), at_s))

    async def tell(self, topic: str, _key: bytes, value: bytes) -> Awaitable[None]:
        """What a producer does; acknowledged at once."""

        async def done() -> None:
            self.told.append((topic, value))

        return done()

    def add_partition(self) -> None:
        """One more; keys may move to it, as they do on Kafka."""
        self.logs.append([])

    def lag(self) -> int:
        """Messages that nobody has acknowledged."""
        return sum(len(log) - self.committed.get(n, 0) for n, log in enumerate(self.logs))


class Worker:
    """A meter over partitions that it owns for now. Its offsets are stored only by `store`."""

    def __init__(self, broker: Broker, ledger: Ledger, owned: list[int], now_us: Callable[[], int]) -> None:
        self.broker, self.owned = broker, owned
        self.done: dict[int, int] = {}
        self.states: list[Recorded] = []
        self.at = {n: broker.committed.get(n, 0) for n in owned}

        async def after(recorded: Recorded) -> None:
            self.states.append(recorded)

        self.meter = Meter(ledger, now_us, after)
        self.task = asyncio.create_task(self.meter.run())
        self.outbox = Outbox(ledger, now_us, broker.tell)

    def acked(self, message: Stored) -> None:
        """Acknowledged in order: an offset says that everything before it is done."""
        expected = self.done.get(message.partition, self.broker.committed.get(message.partition, 0))
        assert message.offset >= expected or message.offset < self.at[message.partition]
        self.done[message.partition] = message.offset + 1

    async def tell(self) -> bool:
        """Publish what the outbox holds; False if it was killed over that."""
        try:
            await self.outbox.publish()
        except Killed:
            return False
        except Exception:  # noqa: BLE001 - it is told later
            pass
        return True

    async def feed(self, rng: Random) -> bool:
        """Give it some messages of its partitions; False if there are none left."""
        ready = [n for n in self.owned if self.at[n] < len(self.broker.logs[n])]
        if not ready:
            return False
        number = rng.choice(ready)
        for message in self.broker.logs[number][self.at[number] : self.at[number] + rng.randrange(1, 30)]:
            await self.meter.put(Taken(message, self))
            self.at[number] += 1
        return True

    def rewind(self, number: int) -> None:
        """The partition is read again from its stored offset, with messages of it still on their way."""
        self.at[number] = min(self.at[number], self.broker.committed.get(number, 0))

    def store(self) -> None:
        """Store the acknowledged offsets; a late worker may put an offset back, which only reads twice."""
        self.broker.committed |= self.done

    async def die(self) -> None:
        """Gone, with whatever it had not stored."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.meter.close()


@dataclass
class Faults:
    """What goes wrong, by the seed: kills in a step of the transaction, database failures of every passing kind."""

    rng: Random
    kills: float = 0.0
    failures: float = 0.0
    oddities: float = 0.0
    count: int = 0
    odd_max: int = 3
    """A batch that fails four times for no known reason is taken message by message, and what fails then is refused."""

    def strike(self) -> None:
        """Perhaps raise."""
        chance = self.rng.random()
        if chance < self.kills:
            self.count += 1
            raise Killed
        if chance < self.kills + self.failures:
            self.count += 1
            raise OperationalError(
                "hot path", None, Broken(self.rng.choice(("40001", "40P01", "53300", "53100", "57P01")))
            )
        if chance < self.kills + self.failures + self.oddities and self.odd_max:
            self.count += 1
            self.odd_max -= 1
            raise RuntimeError("a fault of our own")


class Broken(Exception):
    """A driver's error with its state: serialization failure, deadlock, too many connections, disk full, shutdown."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"database is locked ({sqlstate})")
        self.sqlstate = sqlstate


@contextmanager
def struck(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> Iterator[None]:
    """The ledger's transaction with the faults between its steps, before its commit and after it."""

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            faults.strike()
            return function(*arguments, **more)

        return step

    run = record.run_transaction

    def transaction(engine: Any, work: Callable[[Any], Any]) -> Any:
        done = run(engine, work, sleep=lambda _s: None)
        if faults.rng.random() < faults.kills:
            faults.count += 1
            raise Killed  # committed, and nobody knows
        return done

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(record, name, around(getattr(record, name)))
        # Before the claim, between the claim and the broker, between the broker and the end.
        patch.setattr(outbox, "claim", around(outbox.claim))
        patch.setattr(outbox_module, "messages_of", around(outbox_module.messages_of))
        patch.setattr(outbox, "finish", around(outbox.finish))
        patch.setattr(record, "run_transaction", transaction)
        patch.setattr(meter_module, "RETRY_S", (0.0005,))
        patch.setattr(meter_module, "LINGER_S", 0.001)
        yield

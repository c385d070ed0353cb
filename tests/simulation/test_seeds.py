"""Seeded runs: traffic, workers that come, go and die, a database that fails, and an auditor at the end.

SEEDS says how many (24 by default; `python -m bench.soak` runs 200). A failure prints its seed: run it alone with
FIRST_SEED=n SEEDS=1.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from random import Random

import pytest

from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from pipeline.ledger.outbox import ALERTS, CLAIM_US, REJECTED
from streams.outbox import Outbox
from tests.simulation.auditor import audit, audit_told
from tests.simulation.driver import CATALOG, Driver, Sent, poison
from tests.simulation.memory import Broker, Faults, Killed, Worker, struck

FIRST_SEED, SEEDS = int(os.environ.get("FIRST_SEED", "1")), int(os.environ.get("SEEDS", "24"))
NOW = datetime(2026, 10, 20, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
# Poison that costs seconds of hashing or of a megabyte's scan is for the tests with processes.
POISON = [value for _, value in poison() if len(value or b"") < 10_000]


class Story:
    """One seed's run."""

    def __init__(self, seed: int, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seed, self.url, self.monkeypatch = seed, url, monkeypatch
        self.rng = Random(seed)
        self.broker = Broker(self.rng.randrange(1, 5))
        self.sent: list[Sent] = []
        self.poison = 0
        self.workers: list[Worker] = []
        self.clock_us = NOW_US
        self.ledgers: list[Ledger] = []

    def ledger(self) -> Ledger:
        self.ledgers.append(Ledger(self.url))
        return self.ledgers[-1]

    def fill(self) -> None:
        """The seed's traffic, some of it several events a message, with poison in between."""
        rng, traffic = self.rng, Driver(self.seed, NOW).traffic(self.rng.randrange(100, 400))
        waiting: dict[str, list[Sent]] = {}
        for sent in traffic:
            waiting.setdefault(sent.tenant, []).append(sent)
            if rng.random() < 0.3:
                self._flush(waiting, sent.tenant)
            if rng.random() < 0.02:
                self.broker.append(str(rng.random()), rng.choice(POISON), NOW.timestamp())
                self.poison += 1
        for tenant in list(waiting):
            self._flush(waiting, tenant)
        self.sent = traffic

    def _flush(self, waiting: dict[str, list[Sent]], tenant: str) -> None:
        batch = waiting.pop(tenant, [])
        if batch:
            value = batch[0].value if len(batch) == 1 else b"[" + b",".join(s.value for s in batch) + b"]"
            self.broker.append(tenant, value, NOW.timestamp())

    def share_out(self) -> None:
        """Give the partitions to one to four workers; what former ones hold they go on counting, as late workers do."""
        count = self.rng.randrange(1, 5)
        for worker in self.workers:
            worker.store()
        owned: list[list[int]] = [[] for _ in range(count)]
        for number in range(len(self.broker.logs)):
            owned[self.rng.randrange(count)].append(number)
        self.workers += [Worker(self.broker, self.ledger(), part, self.now_us) for part in owned if part]

    def now_us(self) -> int:
        """A clock that steps: forwards, and backwards."""
        if self.rng.random() < 0.1:
            self.clock_us += self.rng.randrange(-3_600_000_000, 3_600_000_000)
        return self.clock_us

    async def run(self, faults: Faults) -> None:
        with struck(self.monkeypatch, faults):
            for _ in range(self.rng.randrange(10, 40)):
                await self.turn()
                if faults.count > 60:
                    break
        faults.kills = faults.failures = faults.oddities = 0.0
        await self.bury(everybody=True)
        if self.rng.random() < 0.3:
            self.broker.committed.clear()  # replayed from offset 0 into a full ledger
        await self.finish()

    async def turn(self) -> None:
        chance = self.rng.random()
        if not self.workers or chance < 0.15:
            self.share_out()
        elif chance < 0.25:
            await self.bury(one=self.rng.choice(self.workers))
        elif chance < 0.30 and len(self.broker.logs) < 6:
            self.broker.add_partition()
        elif chance < 0.5:
            self.rng.choice(self.workers).store()
        elif chance < 0.6:
            worker = self.rng.choice(self.workers)
            worker.rewind(self.rng.choice(worker.owned))
        for worker in list(self.workers):
            await worker.feed(self.rng)
        if self.workers and chance > 0.6:
            worker = self.rng.choice(self.workers)
            if not await worker.tell():
                await self.bury(one=worker)
        await asyncio.sleep(self.rng.random() * 0.004)
        await self.bury()

    async def bury(self, one: Worker | None = None, *, everybody: bool = False) -> None:
        """Workers that were killed, or are now."""
        for worker in list(self.workers):
            if everybody or worker is one or worker.task.done():
                if worker.task.done() and not worker.task.cancelled():
                    assert isinstance(worker.task.exception(), Killed), worker.task.exception()
                await worker.die()
                self.workers.remove(worker)

    async def finish(self) -> None:
        """One healthy worker takes the rest."""
        worker = Worker(self.broker, self.ledger(), list(range(len(self.broker.logs))), lambda: NOW_US)
        deadline = time.monotonic() + 60
        while self.broker.lag():
            assert time.monotonic() < deadline, f"seed {self.seed}: {self.broker.lag()} messages are stuck"
            await worker.feed(self.rng)
            await asyncio.sleep(0.001)
            assert not worker.task.done(), worker.task
            worker.store()
        await worker.die()
        # Later than any claim of those who died.
        last = Outbox(self.ledger(), lambda: NOW_US + 2 * CLAIM_US, self.broker.tell)
        while await last.publish():
            pass


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
def test_totals_are_exact_whatever_happens(seed: int, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(seed, database_url, monkeypatch)
    ledger = story.ledger()
    ledger.create()
    catalog = parse_yaml(CATALOG)
    assert not isinstance(catalog, list)
    ledger.apply(catalog, 0, "test")
    story.fill()
    rng = Random(seed + 1_000_000)
    faults = Faults(rng, kills=rng.random() * 0.05, failures=rng.random() * 0.1, oddities=rng.random() * 0.02)
    try:
        asyncio.run(asyncio.wait_for(story.run(faults), 100))
        audit(database_url, story.sent, poison=story.poison)
        told = story.broker.told
        audit_told(database_url, *([v for t, v in told if t == topic] for topic in (REJECTED, ALERTS)))
    except BaseException:
        print(f"seed {seed}: FIRST_SEED={seed} SEEDS=1 runs it alone")
        raise
    finally:
        for one in story.ledgers:
            one.close()

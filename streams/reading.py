"""The way from the events' topic into the meter: in order and without holes, and to its end when the worker ends."""

import asyncio
from typing import Any, Final

import structlog
from faust.types import TP

from pipeline.ledger import Ledger, LedgerUnavailable
from pipeline.ledger.generations import next_offset
from streams.meter import Meter
from streams.order import Order

log = structlog.get_logger()

DRAIN_S: Final = 5.0
"""How long a worker that is told to end may count what it has in hand: half of what it has in all."""
COMMIT_S: Final = 2.0
LOOK_S: Final = 0.02
AWAY_S: Final = 1.0


class Reading:
    """app: the Faust application. topic: the events'. name: that topic in the ledger (its generation)."""

    def __init__(self, app: Any, meter: Meter, ledger: Ledger, topic: str, name: str) -> None:
        self.topic = topic
        self._app, self._meter, self._ledger, self._name = app, meter, ledger, name
        self._order = Order(self._stands)

    def _stands(self, partition: int) -> int:
        return self._ledger.read(lambda c: next_offset(c, self._name, partition))

    def reset(self) -> None:
        """Partitions moved: where each begins is read from the ledger again."""
        self._order.reset()

    async def follows(self, message: Any) -> bool:
        """Whether a message goes on to the meter; if not, it is read again (see streams.order)."""
        partition = message.partition
        while not self._order.knows(partition) and not self._app.should_stop:
            try:
                await asyncio.to_thread(self._order.expect, partition)
            except LedgerUnavailable as error:
                log.warning("reading.not_begun", partition=partition, reason=str(error))
                await asyncio.sleep(AWAY_S)
        if self._app.should_stop:
            return False  # what comes now may follow something that was dropped
        take, back = self._order.admit(partition, message.offset)
        if back is not None:
            await self._read_again({message.tp: back}, found=message.offset)
        return take

    async def look_behind(self) -> None:
        """Find partitions whose last messages were dropped on their way here, with none after them; called often."""
        if self._meter.busy or self._app.rebalancing:
            return
        ours = {tp.partition: tp for tp in self._app.consumer.assignment() if tp.topic == self.topic}
        try:
            found = {partition: await self._app.consumer.position(tp) for partition, tp in ours.items()}
            behind = await asyncio.to_thread(self._order.behind, {p: at for p, at in found.items() if at})
        except LedgerUnavailable:
            return
        if behind:
            await self._read_again({ours[partition]: offset for partition, offset in behind.items()})

    async def _read_again(self, places: dict[TP, int], **more: Any) -> None:
        said = {f"{tp.topic}/{tp.partition}": offset for tp, offset in places.items()}
        log.warning("reading.again", places=said, **more)
        try:
            await self._app.consumer.seek_wait(places)
        except Exception as error:  # noqa: BLE001 - the partition has moved meanwhile: its next owner reads it
            log.warning("reading.not_again", places=said, error=f"{type(error).__name__}: {error}")

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Let what is in hand be counted and acknowledged, and commit the offsets, before the group is left.

        Nothing more comes by then, and what is in no batch yet is let go of. What is not done in time, or waits for a
        ledger that is away, is read again by whoever has the partition next, and is known there.
        """
        self._meter.shed()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while self._meter.busy and not self._meter.state.trouble and loop.time() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        if self._meter.busy:
            log.warning(
                "reading.not_drained", after_s=within_s, reason=self._meter.state.trouble or "a batch takes longer"
            )
        try:
            async with asyncio.timeout(COMMIT_S):
                # Twice: a commit that is asked for while another is under way only waits for that one, in Faust.
                await self._app.consumer.commit()
                await self._app.consumer.commit()
        except Exception as error:  # noqa: BLE001 - the broker is away: the offsets are in the ledger
            log.warning("reading.not_committed", error=f"{type(error).__name__}: {error}")

"""What the ledger's outbox holds, to its topics: rejected events and alerts, whoever wrote them.

They were queued in the transaction that made them, so none is lost between the commit and the broker; they leave the
queue when the broker has them. A worker that dies in between leaves them to be told again, with the same number
(rejected) or version (alerts).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from pipeline.alerting import Alert
from pipeline.ledger import Connection, Ledger, LedgerUnavailable, outbox
from pipeline.ledger.alerts import find_alert
from pipeline.ledger.outbox import ALERTS, REJECTED, Queued
from pipeline.ledger.rejected import refused_by_number
from streams.publishing import Outgoing, alert_message, rejected_message

log = structlog.get_logger()

POLL_S: Final = 1.0
"""How often what other processes have queued is looked for; what this worker queued goes out at once."""
AWAY_S: Final = 2.0

Send = Callable[[str, bytes, bytes], Awaitable[Awaitable[object]]]
"""Hand (topic, key, value) to the producer; what comes back is done when the broker has it."""


class Outbox:
    """One worker's. send: see Send."""

    def __init__(self, ledger: Ledger, now_us: Callable[[], int], send: Send) -> None:
        self.published = 0
        self._ledger, self._now_us, self._send = ledger, now_us, send
        self._more = asyncio.Event()

    def look(self) -> None:
        """Something was queued."""
        self._more.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                if await self.publish():
                    continue
            except LedgerUnavailable as error:
                log.warning("outbox.waiting", reason=str(error))
                await asyncio.sleep(AWAY_S)
                continue
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: it is told again later
                log.warning("outbox.not_published", error=f"{error}" or type(error).__name__)
                await asyncio.sleep(AWAY_S)
                continue
            # Not wait_for: before Python 3.12 it may swallow a cancellation that comes as the event is set.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._more.wait()
            self._more.clear()

    async def publish(self) -> int:
        """Publish what waits, a batch at most; how many messages the broker has now.

        What the broker did not take stays queued, and the first such failure is raised when the others are through.
        """
        if not await asyncio.to_thread(self._ledger.read, lambda c: outbox.due(c, self._now_us())):
            return 0  # asked first: a look does not keep a batch from its turn to write
        claimed = await asyncio.to_thread(self._ledger.write, lambda c: outbox.claim(c, self._now_us()))
        messages = await asyncio.to_thread(self._ledger.read, lambda c: messages_of(c, claimed))
        failed = await self._hand_over(messages)
        done = [one.n for one in claimed if one.n not in failed]
        await asyncio.to_thread(self._ledger.write, lambda c: outbox.finish(c, done))
        if failed:
            await asyncio.to_thread(self._ledger.write, lambda c: outbox.release(c, sorted(failed)))
            raise next(iter(failed.values()))
        self.published += len(messages)
        return len(messages)

    async def _hand_over(self, messages: Sequence[tuple[int, Outgoing]]) -> dict[int, BaseException]:
        """Which the broker did not take, and why."""

        async def one(message: Outgoing) -> None:
            await (await self._send(*message))

        results = await asyncio.gather(*(one(message) for _, message in messages), return_exceptions=True)
        return {n: error for (n, _), error in zip(messages, results, strict=True) if error is not None}


def messages_of(connection: Connection, queued: Sequence[Queued]) -> list[tuple[int, Outgoing]]:
    """(place in the queue, message) of each; what is gone from the ledger meanwhile has none."""
    refused = refused_by_number(connection, [int(one.ref) for one in queued if one.topic == REJECTED])
    found: list[tuple[int, Outgoing]] = []
    for one in queued:
        if one.topic == REJECTED and int(one.ref) in refused:
            found.append((one.n, (REJECTED, *rejected_message(refused[int(one.ref)], int(one.ref)))))
        elif one.topic == ALERTS and (row := find_alert(connection, one.ref)) is not None:
            alert = Alert(
                row["id"], row["last_us"], row["kind"], row["severity"], row["subject"], row["detail"], row["facts"]
            )
            found.append((one.n, (ALERTS, *alert_message(alert, one.version))))
    return found

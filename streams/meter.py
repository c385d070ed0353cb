"""From the topic to the ledger: batches, one transaction each, acknowledged after the commit.

Faust acknowledges a message even when its handler raised (faust#315, #189, #527), and its `take` acknowledges a batch
when the agent is cancelled in the middle of it. So acknowledgement is taken off the stream (`noack`) and done here,
message by message and in order, once the ledger has the batch; nothing raises out of the loop. While the ledger is
away the batch stays here and is tried again: the queue fills, the stream stops taking, the group membership stays.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import structlog

from pipeline.context import Context
from pipeline.ledger import Ledger, LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.record import Recorded
from pipeline.plain import Batch
from pipeline.redact import redact_bytes
from pipeline.screen import Refused
from schemas import usage_event
from schemas.usage_event import Evidence
from streams.watching import CountedBatch, Watch

log = structlog.get_logger()

BATCH_EVENTS: Final = 5_000
"""Events a transaction: measured flat above it on both databases."""
BATCH_MESSAGES: Final = 1_000
LINGER_S: Final = 0.05
"""How long a batch waits for more: half of what a reader of /v1/usage would notice, and 20 commits a second at most."""
QUIET_S: Final = 10.0
"""No commit for this long, with nothing waiting: the backlog of a start or a rebalance has been read."""
QUEUE_MESSAGES: Final = 1_000
"""As many as a batch takes; Faust's own buffer holds as many again, each up to a megabyte of memory."""
RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
POISON_TRIES: Final = 3
"""A batch that fails this often for another reason than the database is taken message by message."""
LOG_APPEND_TIME: Final = 1


class Message(Protocol):
    """What the meter needs of a Faust event."""

    message: Any

    def ack(self) -> bool:
        """Mark the message as done."""


@dataclass(slots=True)
class MeterState:
    """What the meter did, for metrics and readiness. Times in seconds of the monotonic clock."""

    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    batches: int = 0
    messages: int = 0
    committed_at_s: float = field(default_factory=time.monotonic)
    waiting_since_s: float | None = None
    trouble: str = ""

    def ready(self) -> tuple[bool, str]:
        """Whether usage gets into the ledger, judged by progress and not by being alive."""
        if self.trouble:
            return False, self.trouble
        if self.waiting_since_s is not None and time.monotonic() - self.waiting_since_s > 30:
            return False, "a batch has been waiting for its commit for more than 30 s"
        return True, "ok"


class Prepared(NamedTuple):
    """A batch, and what screening made of it; without a context it was not screened."""

    batch: Sequence[Message]
    context: Context | None
    screened: Batch


class Meter:
    """Takes messages one by one, counts them in batches.

    after: called with what a batch did and the events' tenants, before the batch is acknowledged; it publishes.
    now_us: the clock. topic: the messages' topic as the ledger calls it (its generation); theirs if empty.
    watch: is told of each batch.
    """

    def __init__(
        self,
        ledger: Ledger,
        now_us: Callable[[], int],
        after: Callable[[Recorded], Awaitable[None]],
        topic: str = "",
        watch: Watch | None = None,
    ) -> None:
        self.state = MeterState()
        self.watch = watch or Watch()
        self._topic = topic
        self._ledger, self._now_us, self._after = ledger, now_us, after
        self._queue: asyncio.Queue[tuple[int, Message]] = asyncio.Queue(maxsize=QUEUE_MESSAGES)
        self._shed = 0  # how often the queue was let go of; with each message, what it was when that came
        self._since_s: deque[float] = deque()  # when each batch that is not acknowledged began to wait, oldest first
        self._in_hand = 0  # messages out of the queue and not yet acknowledged
        # One thread: batches of a worker are in order, and the event loop keeps answering the broker meanwhile.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._screener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="screen")

    async def put(self, message: Message) -> None:
        """Add a message; waits while the ledger is behind. One that waits while the queue is shed goes with it: counted
        alone it would move the ledger's offset over those that were before it."""
        await self._queue.put((self._shed, message))

    async def run(self) -> None:
        """Count batches until cancelled. While one is in the database, the next is gathered and screened, and what the
        one before did is published; batches are acknowledged in their order."""
        try:
            async with asyncio.TaskGroup() as group:  # which ends all of it when one part fails, or it is cancelled
                await self._work(group)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None  # the first; the others were cancelled because of it

    async def _work(self, group: asyncio.TaskGroup) -> None:
        ready = await self._prepare()
        ending: asyncio.Task[None] | None = None
        while True:
            following = group.create_task(self._prepare())
            counted = await self._take(ready)
            if ending is not None:
                await ending
            ending = group.create_task(self._end(counted))
            ready = await following

    async def _prepare(self) -> Prepared:
        batch = await self._gather()
        loop = asyncio.get_running_loop()
        try:
            context, screened = await loop.run_in_executor(self._screener, self._screen, batch)
        except Exception:  # noqa: BLE001 - what fails here fails again in the count, and is dealt with there
            return Prepared(batch, None, Batch())
        return Prepared(batch, context, screened)

    async def _take(self, ready: Prepared) -> CountedBatch:
        self._since_s.append(time.monotonic())
        self.state.waiting_since_s, began_ns = self._since_s[0], time.time_ns()
        recorded = await self._record(ready)
        return CountedBatch(ready.batch, recorded, began_ns, time.time_ns())

    async def _end(self, counted: CountedBatch) -> None:
        """Publish what the batch did, then acknowledge it."""
        recorded = counted.recorded
        await self._publish(recorded)
        for message in counted.messages:
            message.ack()
        self._in_hand -= len(counted.messages)
        self._since_s.popleft()
        state = self.state
        state.batches += 1
        state.messages += len(counted.messages)
        state.events += recorded.counted
        state.duplicates += recorded.duplicates
        state.rejected += len(recorded.rejected)
        state.committed_at_s = time.monotonic()
        state.waiting_since_s = self._since_s[0] if self._since_s else None
        self.watch.counted(counted)

    @property
    def idle(self) -> bool:
        """Whether nothing waits: no batch at work or on its way, no message in the queue, none for a while."""
        quiet_s = time.monotonic() - self.state.committed_at_s
        return self._queue.empty() and not self._in_hand and quiet_s > QUIET_S

    @property
    def busy(self) -> bool:
        """Whether messages that were taken from the stream are not counted and acknowledged yet."""
        return bool(self._in_hand) or not self._queue.empty()

    def shed(self) -> None:
        """Let go of what is in no batch yet; whoever has its partition next reads it again."""
        self._shed += 1
        while not self._queue.empty():
            self._queue.get_nowait()

    @property
    def queued(self) -> int:
        """Messages taken from the stream that are in no batch yet."""
        return self._queue.qsize()

    def close(self) -> None:
        """End the threads."""
        self._thread.shutdown(wait=True)
        self._screener.shutdown(wait=True)

    async def _gather(self) -> list[Message]:
        batch = [await self._next()]
        self._in_hand += 1
        size = _weight(batch[0])
        deadline = time.monotonic() + LINGER_S
        while len(batch) < BATCH_MESSAGES and size < BATCH_EVENTS:
            try:
                shed, message = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                try:
                    async with asyncio.timeout(left_s):  # wait_for before Python 3.12 may swallow a cancellation
                        shed, message = await self._queue.get()
                except TimeoutError:
                    break
            if shed != self._shed:
                continue
            batch.append(message)
            self._in_hand += 1
            size += _weight(message)
        return batch

    async def _next(self) -> Message:
        while True:
            shed, message = await self._queue.get()
            if shed == self._shed:
                return message

    async def _record(self, ready: Prepared) -> Recorded:
        loop = asyncio.get_running_loop()
        tries, odd = 0, 0
        while True:
            try:
                if odd <= POISON_TRIES:
                    recorded = await loop.run_in_executor(self._thread, self._count, ready)
                else:
                    recorded = await loop.run_in_executor(self._thread, self._count_singly, ready.batch)
            except (LedgerUnavailable, NoCatalog) as error:
                self._note(str(error))
            except Exception as error:
                odd += 1
                self._note(f"{type(error).__name__}: {error}")
                log.exception("meter.batch_failed", messages=len(ready.batch))
            else:
                if self.state.trouble:
                    log.info("meter.resumed", after=self.state.trouble)
                self.state.trouble = ""
                return recorded
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1

    def _note(self, trouble: str) -> None:
        if trouble != self.state.trouble:
            log.warning("meter.waiting", reason=trouble)
        self.state.trouble = trouble
        self.watch.retried(trouble)

    def _screen(self, batch: Sequence[Message]) -> tuple[Context, Batch]:
        return self._ledger.screen(self._messages(batch, self._now_us()))

    def _count(self, ready: Prepared) -> Recorded:
        if ready.context is not None and ready.context is self._ledger.context():
            return self._ledger.record(ready.screened, ready.context, self._now_us())
        now_us = self._now_us()  # another catalog since, or it could not be screened: from the bytes again
        return self._ledger.take_messages(self._messages(ready.batch, now_us), now_us)

    def _messages(self, batch: Sequence[Message], now_us: int) -> list[usage_event.Message]:
        """Each message once: after a rebalance one that was on its way comes a second time, in the same batch even."""
        places = {(m.message.partition, m.message.offset): m.message for m in batch}
        return [usage_of(message, now_us, self._topic) for message in places.values()]

    def _count_singly(self, batch: Sequence[Message]) -> Recorded:
        """Message by message; one that our code cannot take is refused whole, so that it stops nobody else."""
        total = Recorded()
        for message in batch:
            try:
                one = self._count(Prepared([message], None, Batch()))
            except (LedgerUnavailable, NoCatalog):
                raise  # what is counted already is found again as such when the batch is tried again
            except Exception as error:
                log.exception("meter.poison", partition=message.message.partition, offset=message.message.offset)
                one = self._refuse(message, f"it could not be taken ({type(error).__name__}): report this event")
            total.counted += one.counted
            total.duplicates += one.duplicates
            total.held += one.held
            total.reread += one.reread
            total.rejected += one.rejected
            total.quota_states += one.quota_states
            total.alerts += one.alerts
            total.minutes += one.minutes
        return total

    def _refuse(self, message: Message, detail: str) -> Recorded:
        now_us = self._now_us()
        m = message.message
        raw, _ = redact_bytes(m.value or b"")
        evidence = Evidence(self._topic or m.topic, m.partition, m.offset, 0)
        refused = Refused(raw, "malformed", detail, None, None, None, now_us, evidence)
        return self._ledger.refuse(refused, now_us)

    async def _publish(self, recorded: Recorded) -> None:
        try:
            await self._after(recorded)
        except Exception as error:  # noqa: BLE001 - the ledger has it; states are absolute and go out with the next batch
            log.warning("meter.publish_failed", error=str(error))
            self.watch.unpublished()


def _weight(message: Message) -> int:
    """A cheap guess of how many events a message holds: one for each started 400 bytes."""
    return 1 + len(message.message.value or b"") // 400


def usage_of(message: Any, now_us: int, topic: str = "") -> usage_event.Message:
    """A Kafka message with its arrival: the broker's time where it stamps, otherwise now.

    topic: how the ledger calls the message's topic; its own name if empty.
    """
    arrival_us = now_us
    if message.timestamp_type == LOG_APPEND_TIME and message.timestamp:
        arrival_us = round(message.timestamp * 1000) * 1000  # Faust gives seconds as a float of whole milliseconds
    return usage_event.Message(
        message.value or b"", arrival_us, topic or message.topic, message.partition, message.offset
    )

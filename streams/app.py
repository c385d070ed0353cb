"""The Faust application: topics in, agents, topics out. No arithmetic here."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import faust
import structlog
from faust.types import TP

from pipeline.ledger import Ledger, LedgerUnavailable, books
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.generations import Generation
from pipeline.ledger.record import Recorded
from streams import topics
from streams.committing import commit_truly
from streams.delivery import Deliverer, Sender
from streams.generation import NoTopicId, topic_id
from streams.heap import GIVE_BACK_S, give_back
from streams.leaks import LeakAgent
from streams.meter import BATCH_MESSAGES, Meter
from streams.outbox import Outbox
from streams.publishing import invoice_message, minutes_messages
from streams.reading import Reading
from streams.settings import StreamSettings
from streams.states import LOOK_S, Message, States
from streams.telling import TELL_S, Telling

log = structlog.get_logger()

SWEEP_S = 5.0
"""How often holds and held corrections that are over are ended; admission ends holds by itself before it decides."""

CURSOR = "cursor"
"""Kind of the small documents that say how far something was published."""
METADATA_MS = 5_000
"""How soon partitions that are added to a running topic are noticed; with Kafka's own five minutes they would wait."""
OVERLAP_US = 60_000_000
"""A billing run's transaction is over within a minute of the instant that it writes down."""
BEHIND_S = 5.0
"""How often it is looked whether a partition stands still with messages dropped at its end."""
SAME_TOPIC_S = 10.0
"""How often the events' topic is looked at: whether it is still the one that this worker began with."""
INVOICES_S = 0.5
"""How often changed invoices and what a person said of alerts are looked for."""


class Streams:
    """The application and its parts: `app` for the worker, `meter` and `leaks` for metrics and readiness."""

    def __init__(
        self,
        settings: StreamSettings,
        ledger: Ledger,
        now_us: Callable[[], int],
        send: Sender | None = None,
        release_after_us: int = 0,
        generation: Generation | None = None,
    ) -> None:
        self.settings, self.ledger, self.now_us = settings, ledger, now_us
        self.app = _app(settings)
        commit_truly(self.app)
        self.out = {
            name: self.app.topic(settings.topic_prefix + name, key_serializer="raw", value_serializer="raw")
            for name in (
                topics.USAGE_REJECTED,
                topics.QUOTA_STATES,
                topics.ALERTS,
                topics.KEY_STATES,
                topics.KEY_MINUTES,
                topics.INVOICES,
            )
        }
        self.meter = Meter(ledger, now_us, self._after, generation.name if generation else "")
        self.generation = generation
        topic = settings.topic_prefix + topics.USAGE_EVENTS
        self.reading = Reading(self.app, self.meter, ledger, topic, generation.name if generation else topic)
        self.outbox = Outbox(ledger, now_us, self._hand)
        self.states = States(ledger, now_us, self._send_states, settings.partitions)
        self.telling = Telling(partial(self._send, topics.QUOTA_STATES), now_us, self.states.note)
        self.leaks = LeakAgent(ledger, now_us, lambda _new: self.outbox.look())
        self.deliverer = Deliverer(ledger, now_us, send, release_after_us) if send is not None else None
        self._published_invoices: dict[tuple[str, str, int], int] = {}
        self._agents()
        self._background()

    def _agents(self) -> None:
        usage = self.app.topic(self.reading.topic, key_serializer="raw", value_serializer="raw")

        async def meter(stream: Any) -> None:
            # noack: the meter acknowledges after its commit.
            async for event in stream.noack().events():
                if await self.reading.follows(event.message):
                    await self.meter.put(event)

        async def leaks(stream: Any) -> None:
            async for event in stream.events():
                try:
                    await self.leaks.observe(event.value, event.message.timestamp)
                except Exception:
                    log.exception("leaks.failed", partition=event.message.partition, offset=event.message.offset)

        self.app.agent(usage, name="meter", concurrency=1)(meter)
        self.app.agent(self.out[topics.KEY_MINUTES], name="leaks", concurrency=1)(leaks)

    def _background(self) -> None:
        async def count() -> None:
            try:
                await self.meter.run()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a fault here would leave a worker that is alive and counts nothing
                log.exception("meter.crashed")
                await self.app.crash(error)

        async def sweep() -> None:
            await self.leaks.keep()
            if await asyncio.to_thread(self.sweep):
                self.outbox.look()

        async def deliver() -> None:
            if self.deliverer is not None:
                await self.deliverer.run()

        async def publish() -> None:
            await self.outbox.run()

        async def same_topic() -> None:
            if trouble := await asyncio.to_thread(self.made_anew):
                log.error("worker.topic_made_anew", detail=trouble)
                await self.app.crash(RuntimeError(trouble))

        async def moved(*_arguments: Any, **_more: Any) -> None:
            self.leaks.reassigned()
            self.reading.reset()

        async def assigned(*arguments: Any, **_more: Any) -> None:
            self.reading.reset()
            _, ours = arguments  # the application, and all that it has now
            events = sorted(tp.partition for tp in ours if tp.topic == self.reading.topic)
            log.info("worker.assigned", partitions=events)

        async def ending(*_arguments: Any, **_more: Any) -> None:
            await self.reading.drain()

        self.app.task(count)
        self.app.task(deliver)
        self.app.task(publish)
        self.app.timer(interval=SWEEP_S)(sweep)
        self.app.timer(interval=LOOK_S)(self._tell_states)
        self.app.timer(interval=TELL_S)(self._tell_waiting)
        self.app.timer(interval=INVOICES_S)(self._tell_invoices)
        self.app.timer(interval=SAME_TOPIC_S)(same_topic)
        self.app.timer(interval=GIVE_BACK_S)(give_back)
        self.app.on_partitions_revoked.connect(moved, weak=False)
        self.app.on_partitions_assigned.connect(assigned, weak=False)
        self.app.timer(interval=BEHIND_S)(self.reading.look_behind)
        self.app.on_before_shutdown.connect(ending, weak=False)

    def sweep(self) -> int:
        """What passing time alone ends; how many were rejected by it. None while the ledger is away: then later."""
        try:
            return len(self.ledger.sweep(self.now_us(), corrections=self.meter.idle))
        except LedgerUnavailable as error:
            log.warning("sweep.waiting", reason=str(error))
            return 0

    def made_anew(self) -> str:
        """Why this worker must end and start again: its topic was made anew, and places in it mean other messages."""
        if self.generation is None:
            return ""
        try:
            found = topic_id(self.settings.broker, self.generation.topic, self.settings.security.client())
        except NoTopicId:
            return ""  # away, or deleted: nothing can be read by mistake
        if found == self.generation.topic_id:
            return ""
        return f"topic {self.generation.topic} was made anew while it was read: start the worker again"

    async def _tell_states(self) -> None:
        """By the worker that has partition 0 of the events."""
        if TP(self.settings.topic_prefix + topics.USAGE_EVENTS, 0) not in self.app.consumer.assignment():
            self.states.stop()
            return
        try:
            await self.states.look()
        except NoCatalog:
            return
        except LedgerUnavailable as error:
            log.warning("states.waiting", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a broker that takes nothing now must not end the worker: told later
            log.warning("states.not_told", error=f"{error}" or type(error).__name__)

    async def _tell_waiting(self) -> None:
        """Quota states that waited for more of their windows, and none came."""
        try:
            await self.telling.tell()
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("states.not_told", error=f"{error}" or type(error).__name__)

    async def _tell_invoices(self) -> None:
        try:
            await self.publish_invoices()
            await self.leaks.heed_feedback()
        except LedgerUnavailable as error:
            log.warning("invoices.waiting", reason=str(error))

    async def publish_invoices(self) -> None:
        """Send every invoice that has changed since the last look; each is absolute, so that a repeat is harmless.

        How far this came is kept in the ledger; an overlap covers runs that were writing while we looked.
        """
        kept = await asyncio.to_thread(self.ledger.read, lambda c: books.get(c, CURSOR, topics.INVOICES))
        since_us = int(kept) if kept is not None else 0
        rows = await asyncio.to_thread(self.ledger.read, lambda c: books.changed_invoices(c, since_us - OVERLAP_US))
        marks = {(row["tenant"], row["month"], row["revision"]): row["changed_us"] for row in rows}
        new = [
            row for row, (name, us) in zip(rows, marks.items(), strict=True) if self._published_invoices.get(name) != us
        ]
        if not new:
            return
        await self._send(topics.INVOICES, (invoice_message(row) for row in new))
        self._published_invoices = marks
        newest = str(max(marks.values()))
        await asyncio.to_thread(self.ledger.write, lambda c: books.put(c, CURSOR, topics.INVOICES, newest))

    async def _after(self, recorded: Recorded) -> None:
        if recorded.rejected or recorded.alerts:
            self.outbox.look()  # they are queued there, by the transaction that made them
        await self.telling.add(recorded.quota_states, behind=self.meter.queued > 0)
        await self._send(topics.KEY_MINUTES, minutes_messages(recorded.minutes))

    async def _hand(self, topic: str, key: bytes, value: bytes) -> Awaitable[object]:
        handed: Awaitable[object] = await self.out[topic].send(key=key, value=value)
        return handed

    async def _send_states(self, topic: str, messages: Sequence[Message]) -> None:
        out = self.out[topic]
        sent = [await out.send(key=key, value=value, partition=partition) for key, value, partition in messages]
        for future in sent:
            await future

    async def _send(self, topic: str, messages: Iterable[tuple[bytes, bytes]]) -> None:
        sent = [await self._hand(topic, key, value) for key, value in messages]
        for future in sent:
            await future


def _app(settings: StreamSettings) -> faust.App:
    return faust.App(
        settings.app_id,
        broker=f"kafka://{settings.broker.replace(',', ';kafka://')}",
        store="memory://",
        datadir=str(settings.data_dir),
        processing_guarantee="at_least_once",
        topic_partitions=settings.partitions,
        topic_replication_factor=1,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 3,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_commit_interval=settings.commit_interval_s,
        broker_commit_every=100_000,
        producer_acks=-1,
        producer_linger=0,
        stream_buffer_maxsize=1_000,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        # A fetch is a megabyte a partition as it was sent, ten as it is read: taken at once, it is held as that many
        # objects, and the process keeps the room.
        broker_max_poll_records=BATCH_MESSAGES,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MS,
        web_enabled=False,
        **settings.security.faust(),
    )

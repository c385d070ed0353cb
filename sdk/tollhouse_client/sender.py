"""The background thread: spool to Kafka, in order, until the broker has it.

Records are gathered by key (the tenant) into batches, each one Kafka message. Any failure ends the producer session:
what was not acknowledged is sent again, in order, by a new producer. One rule covers a broker that went away, one
that forgot our producer id, and a delivery timeout. It can send twice; the ledger counts once.
"""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tollhouse_client.producer import Producer, is_too_large
from tollhouse_client.redacting import Redactor
from tollhouse_client.segment import Record
from tollhouse_client.spool import Spool
from tollhouse_client.tracing import Sending, Traces

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
"""A returning broker is found within 5 s, and an absent one costs a connection attempt in 5 s."""
UNSETTLED_EVENTS_MAX: Final = 20_000
"""Events in memory at a time (about 15 MB); the rest waits on disk."""

_log = logging.getLogger("tollhouse_client")


@dataclass(slots=True, eq=False)
class Batch:
    """Records of one key that go as one message."""

    key: bytes
    due_s: float
    records: list[Record] = field(default_factory=list)
    body_bytes: int = 2
    refused_for_size: bool = False
    sending: Sending | None = None

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.body_bytes += len(record.body) + 1

    def message(self) -> bytes:
        """The CloudEvents batch: a JSON array."""
        return b"[" + b",".join([record.body for record in self.records]) + b"]"


@dataclass(slots=True)
class Counters:
    """Since the start of this publisher."""

    sent: int = 0
    acknowledged: int = 0
    resent: int = 0
    reconnects: int = 0
    batches_split: int = 0
    undeliverable: int = 0
    redacted: int = 0
    last_error: str | None = None
    connected: bool = False


class Sender:
    """Moves records from the spool to the broker. `run` is the body of the one thread that may call anything here,
    but for `wake`, `stop`, `flush_before` and the figures."""

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Producer],
        *,
        batch_events: int,
        linger_s: float,
        batch_bytes: int,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.traces = Traces()
        self.counters = Counters()
        self.idle = False
        self.progress = threading.Condition()
        self.settled_through = spool.next_unread_sequence - 1
        """Every record up to this sequence number is with the broker."""
        self.oldest_unsettled_us: int | None = None
        """When the oldest record that the broker does not have was accepted."""
        self._spool = spool
        self._redactor = Redactor()
        self._connect = connect
        self._batch_events = batch_events
        self._linger_s = linger_s
        self._batch_bytes = batch_bytes
        self.tidy: Callable[[], None] = spool.tidy
        """The housekeeping of the spool, done in between."""
        self._monotonic_s = monotonic_s
        self._producer: Producer | None = None
        self.session = 0
        """Grows each time that a connection to the broker was given up."""
        self._retry_at_s = 0.0
        self._backoff_s = BACKOFF_FIRST_S
        self._open: dict[bytes, Batch] = {}
        self._ready: deque[Batch] = deque()
        self._in_flight: dict[int, Batch] = {}  # by id(), in the order of sending
        self._held = 0  # records in the three above
        self._done: deque[tuple[int, Batch, BaseException | None]] = deque()
        self._wake = threading.Event()
        self._stop_at_s: float | None = None
        self._flush_before = 0

    # --- any thread ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to do."""
        self.idle = False
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Drain, but for no longer than this."""
        self._stop_at_s = self._monotonic_s() + timeout_s
        self._wake.set()

    def flush_before(self, sequence: int) -> None:
        """Do not let records up to `sequence` linger for company."""
        self._flush_before = max(self._flush_before, sequence)
        self.wake()

    # --- the thread ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until stopped. Nothing escapes: an unforeseen error is logged, and work goes on with a new session."""
        while not self._finished():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001  the thread must not die with events in the spool
                _log.exception("the sender met an unforeseen error and starts a new session")
                self._end_session(error)
        if self._producer is not None:
            self._producer.close(0.5)
            self._reap()
            self._producer = None
        self._publish_figures()

    def _finished(self) -> bool:
        if self._stop_at_s is None:
            return False
        if self._monotonic_s() >= self._stop_at_s:
            return True
        return self._held == 0 and not self._spool.has_unread

    def _step(self) -> None:
        self._wake.clear()
        self._reap()
        self._fill()
        self._collect_due()
        if self._ready and self._ensure_session():
            self._send_ready()
        self.tidy()
        self._publish_figures()
        self._pause()

    def _pause(self) -> None:
        """Sleep until there is something to do; at most a second, for the housekeeping."""
        now_s = self._monotonic_s()
        if self._held == 0:
            self.idle = True  # before the last look: a caller that appends after it will wake us
            timeout_s = 0.0 if self._spool.has_unread else 1.0
        else:  # callers do not wake a busy sender: that would cost each of them a lock
            timeout_s = max(self._linger_s, 0.005)
        if self._open:
            timeout_s = min(timeout_s, min(batch.due_s for batch in self._open.values()) - now_s)
        if self._ready:
            timeout_s = min(timeout_s, self._retry_at_s - now_s)
        if self._stop_at_s is not None:
            timeout_s = min(timeout_s, 0.02)
        if timeout_s > 0:
            self._wake.wait(timeout_s)
        self.idle = False

    def _fill(self) -> None:
        room = UNSETTLED_EVENTS_MAX - self._held
        if room <= 0:
            return
        due_s = self._monotonic_s() + self._linger_s
        records = self._redactor.clean(self._spool.read(room))
        self.counters.redacted = self._redactor.found
        self._held += len(records)
        for record in records:
            self._gather(record, due_s)

    def _gather(self, record: Record, due_s: float) -> None:
        batch = self._open.get(record.key)
        if batch is not None and batch.body_bytes + len(record.body) + 1 > self._batch_bytes:
            self._ready.append(self._open.pop(record.key))
            batch = None
        if batch is None:
            batch = self._open[record.key] = Batch(record.key, due_s)
        batch.add(record)
        if len(batch.records) >= self._batch_events:
            self._ready.append(self._open.pop(record.key))

    def _collect_due(self) -> None:
        now_s = self._monotonic_s()
        for batch in list(self._open.values()):
            hurried = self._stop_at_s is not None or batch.records[0].sequence <= self._flush_before
            if hurried or batch.due_s <= now_s:
                self._ready.append(self._open.pop(batch.key))

    # --- the session --------------------------------------------------------------------------------------------

    def _ensure_session(self) -> bool:
        if self._producer is not None:
            return True
        if self._monotonic_s() < self._retry_at_s:
            return False
        try:
            self._producer = self._connect()
        except Exception as error:  # noqa: BLE001  whatever it is, the events are safe in the spool
            self._end_session(error)
            return False
        self.counters.reconnects += 1 if self.session else 0
        self.counters.connected = True
        return True

    def _send_ready(self) -> None:
        assert self._producer is not None
        while self._ready:
            batch = self._ready.popleft()
            session = self.session
            self._in_flight[id(batch)] = batch

            def done(error: BaseException | None, batch: Batch = batch, session: int = session) -> None:
                self._done.append((session, batch, error))
                self._wake.set()

            if batch.sending is None:  # one that goes again keeps its place in its trace
                batch.sending = self.traces.sending([record.sequence for record in batch.records], batch.key)
            try:
                self._producer.send(batch.key, batch.message(), done, batch.sending.headers)
            except Exception as error:  # noqa: BLE001  whatever it is, the events are safe in the spool
                if is_too_large(error):
                    done(error)
                    continue
                self._end_session(error)
                return
            self.counters.sent += len(batch.records)

    def _reap(self) -> None:
        failure: BaseException | None = None
        while self._done:
            session, batch, error = self._done.popleft()
            if session != self.session or id(batch) not in self._in_flight:
                continue  # late news of a session that was given up; the batch is being sent again
            if error is None:
                self._settle(batch)
                self._backoff_s = BACKOFF_FIRST_S
            elif is_too_large(error):
                self._shrink(batch, error)
            else:
                failure = error
        if failure is not None:
            self._end_session(failure)

    def _settle(self, batch: Batch) -> None:
        if batch.sending is not None:
            batch.sending.end(None)
        del self._in_flight[id(batch)]
        self._held -= len(batch.records)
        self._spool.acknowledge(batch.records, self.session)
        self.counters.acknowledged += len(batch.records)

    def _publish_figures(self) -> None:
        """Computed here and only read elsewhere, so that no other thread looks at batches on the move."""
        batches = (*self._open.values(), *self._ready, *self._in_flight.values())
        oldest = min((batch.records[0] for batch in batches), default=None)
        settled = (oldest.sequence if oldest else self._spool.next_unread_sequence) - 1
        self.oldest_unsettled_us = oldest.accepted_us if oldest else self._spool.next_unread_accepted_us()
        if settled != self.settled_through:
            with self.progress:
                self.settled_through = settled
                self.progress.notify_all()

    def _end_session(self, error: BaseException) -> None:
        """Give the producer up; everything not acknowledged goes again, oldest first."""
        self._note(error)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(0)
        while self._done:  # what was acknowledged in the meantime need not go again
            session, batch, outcome = self._done.popleft()
            if session == self.session and outcome is None and id(batch) in self._in_flight:
                self._settle(batch)
        again = sorted(self._in_flight.values(), key=lambda batch: batch.records[0].sequence)
        self.counters.resent += sum(len(batch.records) for batch in again)
        self._ready.extendleft(reversed(again))
        self._in_flight.clear()
        self.session += 0 if producer is None else 1  # what the old one still reports no longer counts
        self._retry_at_s = self._monotonic_s() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)

    def _note(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        if self.counters.connected or text != self.counters.last_error:
            _log.warning("events wait in the spool, the broker does not take them: %s", text)
        self.counters.last_error = text
        self.counters.connected = False

    # --- too large ----------------------------------------------------------------------------------------------

    def _shrink(self, batch: Batch, error: BaseException) -> None:
        """Halve a message that the broker finds too large; set a single event aside when it is refused alone."""
        if len(batch.records) > 1:
            middle = len(batch.records) // 2
            for part in (batch.records[middle:], batch.records[:middle]):
                half = Batch(batch.key, 0.0)
                for record in part:
                    half.add(record)
                self._ready.appendleft(half)
            del self._in_flight[id(batch)]
            if batch.sending is not None:
                batch.sending.end(error)
            self.counters.batches_split += 1
            return
        _set_aside(self._spool.directory / "undeliverable.ndjson", batch.records[0], error)
        self._settle(batch)
        self.counters.acknowledged -= 1
        self.counters.undeliverable += 1
        self.counters.last_error = f"{type(error).__name__}: an event is larger than the broker takes"


def _set_aside(path: Path, record: Record, error: BaseException) -> None:
    """Keep an event that no retry can deliver, with the reason, where a person finds it."""
    line = json.dumps({"reason": type(error).__name__, "event": json.loads(record.body)}, ensure_ascii=False)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, line.encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    _log.error(
        "an event is larger than the broker takes; it is kept in %s: raise max.message.bytes, send it again", path
    )

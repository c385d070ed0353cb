"""`UsagePublisher`: what a proxy calls to have its usage metered.

`publish` returns when the event is in the disk spool, and from then on the event reaches the broker: across a broker
that is away, and across the death of this process, once a publisher is opened on the same directory again.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tollhouse_client.confirm import Confirm, ConfirmingTidy, Identity
from tollhouse_client.errors import EventTooLargeError, PublisherClosedError
from tollhouse_client.events import Usage, encode_event, usage_event, void_event
from tollhouse_client.producer import KafkaPythonProducer, Producer
from tollhouse_client.sender import Sender
from tollhouse_client.spool import DEFAULT_MAX_BYTES, DEFAULT_SEGMENT_BYTES, Spool

__all__ = ["DEFAULT_TOPIC", "Confirm", "Identity", "PublisherStats", "UsagePublisher"]

DEFAULT_TOPIC: Final = "usage.events"
MESSAGE_BYTES_MAX: Final = 900_000
"""Kafka's default limit is 1,048,588 bytes a message, of which we leave room for key, headers and framing."""

_log = logging.getLogger("tollhouse_client")


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """A snapshot; all counts are of events since this publisher was opened."""

    enqueued: int
    replayed: int
    """found in the spool at the start"""
    sent: int
    """handed to Kafka, resends included"""
    acked: int
    resent: int
    pending: int
    """accepted, not yet with the broker"""
    spooled_bytes: int
    oldest_unsent_age_s: float
    """0 when nothing waits"""
    reconnects: int
    batches_split: int
    undeliverable: int
    """larger than the broker takes; kept in undeliverable.ndjson in the spool directory"""
    damaged: int
    """records that the disk gave back damaged; the file is kept"""
    redacted: int
    """out of which a secret was cut"""
    connected: bool
    last_error: str | None


class UsagePublisher:
    """Sends usage events to Kafka by way of a disk spool. Thread-safe; one process a spool directory.

    What looks like a secret is cut out before an event goes to the broker. In the spool, which only the process's own
    user can read, it is as it was given.

    bootstrap_servers
        the brokers, `host:port[,host:port]`.
    source
        names this proxy in every event, like `proxy/eu-1`; part of each event's identity.
    spool_dir
        a directory of its own on a local disk. SpoolLockedError when another process holds it.
    batch_events, linger_s
        events of one tenant go together as one Kafka message when there are this many, or after this time.
    max_spool_bytes
        the bound; beyond it `publish` raises SpoolFullError. 4 GiB hold an hour of 1,000 events/s.
    fsync
        force each event to the disk, so that it also survives a power failure; `publish` then takes milliseconds.
    kafka
        more settings of kafka-python's KafkaProducer, such as `security_protocol` and `sasl_*`.
    confirm
        for a broker that forgets (in memory): asked with the identities of acknowledged events, it returns those
        that the ledger has settled. The spool keeps the others, and sends them again `confirm_after_s` after the
        connection to the broker was lost, or ten times that if it was not.

    After `fork` the child must open a publisher of its own on another directory; the inherited one refuses.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        source: str,
        spool_dir: str | Path,
        topic: str = DEFAULT_TOPIC,
        batch_events: int = 50,
        linger_s: float = 0.05,
        max_spool_bytes: int = DEFAULT_MAX_BYTES,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        max_message_bytes: int = MESSAGE_BYTES_MAX,
        fsync: bool = False,
        kafka: Mapping[str, Any] | None = None,
        confirm: Confirm | None = None,
        confirm_after_s: float = 30.0,
        connect: Callable[[], Producer] | None = None,
    ) -> None:
        if not source.strip():
            raise ValueError("a publisher needs the name of its source, like proxy/eu-1")
        if batch_events < 1 or linger_s < 0:
            raise ValueError("batch_events is at least 1 and linger_s at least 0")
        self.source = source
        self._spool = Spool(Path(spool_dir), max_bytes=max_spool_bytes, segment_bytes=segment_bytes, fsync=fsync)
        # A batch of one is the event and two brackets.
        self._event_bytes_max = min(max_message_bytes - 2, self._spool.max_record_bytes - 1024)
        self._keeps_acknowledged = confirm is not None
        client_id = f"tollhouse-client-{os.getpid()}"
        self._sender = Sender(
            self._spool,
            connect or (lambda: KafkaPythonProducer(bootstrap_servers, topic, client_id, kafka or {})),
            batch_events=batch_events,
            linger_s=linger_s,
            batch_bytes=max_message_bytes,
        )
        if confirm is not None:
            self._sender.tidy = ConfirmingTidy(self._spool, confirm, confirm_after_s, lambda: self._sender.session)
        self._enqueued = 0
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._left: int | None = None
        self._thread = threading.Thread(target=self._sender.run, name="tollhouse-publisher", daemon=True)
        self._thread.start()
        _open_publishers.add(self)

    # --- publishing ---------------------------------------------------------------------------------------------

    def publish(self, event: Mapping[str, Any]) -> int:
        """Accept one CloudEvent; returns its position in the spool, for `wait`.

        When this returns, the event survives the death of the process. It never waits for the broker. Raises
        InvalidEventError, EventTooLargeError, SpoolFullError or PublisherClosedError; then nothing was accepted.
        """
        if self._pid != os.getpid():
            raise PublisherClosedError("this publisher belongs to the parent process; open one after the fork")
        key, body = encode_event(event)
        if len(key) + len(body) > self._event_bytes_max:
            raise EventTooLargeError(
                f"event {event['id']!r} has {len(body)} bytes, more than the {self._event_bytes_max} of a message"
            )
        position = self._spool.append(key, body)
        self._sender.traces.note(position)
        self._enqueued += 1
        if self._sender.idle:
            self._sender.wake()
        return position

    def record(self, *, tenant: str, key: str, provider: str, model: str, **fields: Any) -> str:
        """Publish one call, built by `events.usage_event`; returns the id of the event."""
        event = usage_event(source=self.source, tenant=tenant, key=key, provider=provider, model=model, **fields)
        self.publish(event)
        return str(event["id"])

    def record_aborted(self, *, tenant: str, key: str, provider: str, model: str, usage: Usage, **fields: Any) -> str:
        """Publish a stream that was cut short, with the proxy's estimate of its usage; `settle` corrects it later."""
        fields |= {"usage": usage, "status": "aborted", "estimated": True}
        return self.record(tenant=tenant, key=key, provider=provider, model=model, **fields)

    def settle(
        self, original_id: str, *, tenant: str, key: str, provider: str, model: str, usage: Usage, **fields: Any
    ) -> str:
        """Put the true usage in the place of the estimate published as `original_id`; returns the new event's id.

        The call stays one request at its first time. `status` stays `aborted` unless given.
        """
        fields.setdefault("status", "aborted")
        fields |= {
            "usage": usage,
            "replaces": {"source": fields.pop("original_source", self.source), "id": original_id},
        }
        return self.record(tenant=tenant, key=key, provider=provider, model=model, **fields)

    def void(self, original_id: str, *, tenant: str, reason: str, original_source: str | None = None) -> str:
        """Take the event `original_id` back; returns the id of the void event."""
        voids = {"source": original_source or self.source, "id": original_id}
        event = void_event(source=self.source, tenant=tenant, voids=voids, reason=reason)
        self.publish(event)
        return str(event["id"])

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait(self, position: int, timeout_s: float) -> bool:
        """Until the broker has everything up to `position` (from `publish`); False when the time is over first."""
        self._sender.flush_before(position)
        with self._sender.progress:
            return self._sender.progress.wait_for(lambda: self._sender.settled_through >= position, timeout_s)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Until the broker has everything accepted so far; False when the time is over first."""
        return self.wait(self._spool.last_sequence, timeout_s)

    def stats(self) -> PublisherStats:
        """The figures of now, cheap enough for a metrics endpoint."""
        counters, oldest_us = self._sender.counters, self._sender.oldest_unsettled_us
        pending = 0 if self._left == 0 else self._spool.pending
        age_s = max(0.0, time.time() - oldest_us / 1e6) if oldest_us is not None and pending else 0.0
        return PublisherStats(
            enqueued=self._enqueued,
            replayed=self._spool.replayed,
            sent=counters.sent,
            acked=counters.acknowledged,
            resent=counters.resent,
            pending=pending,
            spooled_bytes=self._spool.used_bytes,
            oldest_unsent_age_s=age_s,
            reconnects=counters.reconnects,
            batches_split=counters.batches_split,
            undeliverable=counters.undeliverable,
            damaged=self._spool.damaged_records,
            redacted=counters.redacted,
            connected=counters.connected,
            last_error=counters.last_error,
        )

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self, timeout_s: float = 10.0) -> int:
        """Send what is left, for at most `timeout_s`; the number of events that stay in the spool for the next start.

        Idempotent. Events published while it runs are refused with PublisherClosedError.
        """
        with self._closing:
            if self._left is not None or self._pid != os.getpid():
                return self._left or 0
            self._spool.stop_accepting()
            self._sender.stop(timeout_s)
            self._thread.join(timeout_s + 7.0)  # a connection attempt in progress takes 5 s at most
            self._left = self._spool.close(keep_acknowledged=self._keeps_acknowledged)
            _open_publishers.discard(self)
        if self._left:
            _log.warning("%d events stay in the spool %s for the next start", self._left, self._spool.directory)
        return self._left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def forget_after_fork(self) -> None:
        """In a forked child: leave the directory to the parent. Called for every publisher by itself."""
        self._spool.abandon_after_fork()


_open_publishers: "weakref.WeakSet[UsagePublisher]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for publisher in list(_open_publishers):
        publisher.forget_after_fork()
    _open_publishers.clear()


def _at_exit() -> None:
    for publisher in list(_open_publishers):
        publisher.close(timeout_s=5.0)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)

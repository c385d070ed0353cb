"""The thread that reads compacted topics from their beginning and then follows them, whatever becomes of the broker."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

WAIT_S: Final = (0.2, 0.5, 1.0, 2.0)
"""Between attempts while the broker or the topics are not there."""
POLL_MS: Final = 200
RECORDS: Final = 20
"""Messages at a time: decoding more of them in one go would hold the interpreter from a caller who wants a decision."""
PARTITIONS_S: Final = 30.0
"""How often it is looked whether a topic has got more partitions."""

_log = logging.getLogger("tollhouse_client")

Take = Callable[[str, int, bytes, bytes | None], None]
"""topic, partition, key, value (None: it is gone)."""
Expect = Callable[[frozenset[tuple[str, int]]], None]
"""All (topic, partition) that have to be read."""


class Follower:
    """Reads every partition of the topics, without a group: each gate reads all of it. `run` is a thread's body."""

    def __init__(
        self, bootstrap_servers: str, names: Sequence[str], expect: Expect, take: Take, kafka: Mapping[str, Any]
    ) -> None:
        self._servers, self._names, self._expect, self._take, self._kafka = (
            bootstrap_servers,
            names,
            expect,
            take,
            kafka,
        )
        self._stop = threading.Event()
        self.last_error: str | None = None

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def run(self) -> None:
        """Until stopped. After a failure it reads everything again: each message is absolute."""
        failures = 0
        while not self._stop.is_set():
            try:
                self._follow()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever Kafka's client raises; the gate grows stale, and says so
                text = f"{type(error).__name__}: {error}"
                if text != self.last_error:
                    _log.warning("states cannot be followed: %s", text)
                self.last_error = text
                self._stop.wait(WAIT_S[min(failures, len(WAIT_S) - 1)])
                failures += 1

    def _follow(self) -> None:
        settings: dict[str, Any] = {
            "bootstrap_servers": self._servers,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_poll_records": RECORDS,
            "request_timeout_ms": 15_000,
            "bootstrap_timeout_ms": 5_000,
            "reconnect_backoff_max_ms": 2_000,
            "fetch_max_wait_ms": POLL_MS,
        }
        consumer = KafkaConsumer(**{**settings, **self._kafka})
        try:
            places = self._assign(consumer)
            again_s = time.monotonic() + PARTITIONS_S
            while not self._stop.is_set():
                found = consumer.poll(timeout_ms=POLL_MS)
                self.last_error = None
                for place, messages in found.items():
                    for message in messages:
                        self._one(place, message)
                        time.sleep(0)  # a caller who waits for the interpreter goes first
                if time.monotonic() > again_s:
                    again_s = time.monotonic() + PARTITIONS_S
                    if self._partitions(consumer) != places:
                        return  # begin anew with all of them
        finally:
            consumer.close()

    def _assign(self, consumer: Any) -> set[TopicPartition]:
        places = self._partitions(consumer)
        self._expect(frozenset((place.topic, place.partition) for place in places))
        consumer.assign(list(places))
        consumer.seek_to_beginning(*places)
        return places

    def _partitions(self, consumer: Any) -> set[TopicPartition]:
        places: set[TopicPartition] = set()
        for name in self._names:
            numbers = consumer.partitions_for_topic(name)
            if not numbers:
                raise LookupError(f"there is no topic {name} yet: is the worker running?")
            places |= {TopicPartition(name, number) for number in numbers}
        return places

    def _one(self, place: Any, message: Any) -> None:
        try:
            self._take(place.topic, place.partition, message.key or b"", message.value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("a message of %s at %d is not understood: %r", place.topic, message.offset, error)

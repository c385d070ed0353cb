"""A Kafka producer that a test holds by the strings, and a reader of whole topics."""

from __future__ import annotations

import json
import threading
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import MessageSizeTooLargeError

from tollhouse_client.producer import Completion
from tollhouse_client.tracing import Headers


class FakeBroker:
    """Remembers the messages of all its producers; can be away, fail what is in flight, or hold it back."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, list[dict[str, Any]]]] = []
        self.sessions = 0
        self.generation = 0
        self.away = False
        self.hold = False
        self.message_bytes_max: int | None = None
        self.held: list[tuple[bytes, bytes, Completion]] = []
        self._lock = threading.Lock()

    def connect(self) -> FakeProducer:
        if self.away:
            raise ConnectionError("nobody answers")
        self.sessions += 1
        return FakeProducer(self)

    def accept(self, key: bytes, value: bytes, done: Completion) -> None:
        with self._lock:
            self.messages.append((key, json.loads(value)))
        done(None)

    def forget(self) -> None:
        """Lose the log and every session, as a broker in memory does when it is replaced."""
        self.messages.clear()
        self.generation += 1

    def let_go(self) -> None:
        """Acknowledge what was held back."""
        self.hold = False
        held, self.held = self.held, []
        for key, value, done in held:
            self.accept(key, value, done)

    def fail_held(self, error: BaseException) -> None:
        """Lose what was held back."""
        self.hold = False
        held, self.held = self.held, []
        for _, _, done in held:
            done(error)

    def ids(self, key: bytes | None = None) -> list[str]:
        """The ids in the order of arrival."""
        with self._lock:
            return [event["id"] for at, events in self.messages if key in (None, at) for event in events]


class FakeProducer:
    """One session with a FakeBroker."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._generation = broker.generation
        self.closed = False

    def send(self, key: bytes, value: bytes, done: Completion, headers: Headers = ()) -> None:
        limit = self._broker.message_bytes_max
        if limit is not None and len(value) > limit:
            done(MessageSizeTooLargeError())
        elif self._broker.away or self._generation != self._broker.generation:
            done(ConnectionError("the line is cut"))
        elif self._broker.hold:
            self._broker.held.append((key, value, done))
        else:
            self._broker.accept(key, value, done)

    def close(self, timeout_s: float) -> None:
        self.closed = True


def make_topic(bootstrap: str, topic: str, partitions: int = 4) -> str:
    """Create a topic, as Kafka is set up not to do by itself; its name."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])
    finally:
        admin.close()
    return topic


def read_topic(bootstrap: str, topic: str, *, quiet_s: float = 1.0) -> list[tuple[bytes | None, list[dict[str, Any]]]]:
    """(key, events) of each message of a topic, until nothing comes for `quiet_s`."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=int(quiet_s * 1000)
    )
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        return [(message.key, json.loads(message.value)) for message in consumer]
    finally:
        consumer.close()


def event(number: int, tenant: str = "acme", **data: Any) -> dict[str, Any]:
    """A small valid event whose id tells its number."""
    return {
        "specversion": "1.0",
        "id": f"{tenant}-{number}",
        "source": "proxy/test",
        "type": "com.tollhouse.usage.v1",
        "time": "2026-10-03T10:11:12.345Z",
        "subject": tenant,
        "data": {"key": "pool-1", "provider": "openai", "model": "gpt-5-mini", "usage": {"input_tokens": number}}
        | data,
    }

"""The one place that knows kafka-python."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from tollhouse_client.tracing import Headers

BATCH_HEADERS: Final = [("content-type", b"application/cloudevents-batch+json")]

Completion: TypeAlias = Callable[[BaseException | None], None]
"""Called once, from any thread: None when the broker has the message on all in-sync replicas, else why not."""


class Producer(Protocol):
    """What the sender needs of a Kafka producer."""

    def send(self, key: bytes, value: bytes, done: Completion, headers: Headers = ()) -> None:
        """Hand over one message, headers beside our own; raises when it cannot even be queued."""

    def close(self, timeout_s: float) -> None:
        """Stop; messages still on their way are completed with an error."""


class KafkaPythonProducer:
    """An idempotent kafka-python producer for one topic.

    Raises KafkaError from the constructor when no broker answers within 5 s.
    """

    def __init__(self, bootstrap_servers: str, topic: str, client_id: str, config: Mapping[str, Any]) -> None:
        self._topic = topic
        settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,  # batching is done before, by tenant
            "batch_size": 262_144,  # so that a hundred small messages of one partition go in one request
            "compression_type": "gzip",  # usage events shrink about tenfold, and need no extra library
            "max_request_size": 1_048_576,
            "bootstrap_timeout_ms": 5_000,
            "max_block_ms": 10_000,
            "request_timeout_ms": 15_000,
            "delivery_timeout_ms": 60_000,  # then the session is given up and a new one made; nothing is lost
            "reconnect_backoff_max_ms": 2_000,
        }
        settings.update(config)
        self._producer = KafkaProducer(**settings)
        # Its own exit handler would run before ours, and end the producer while the publisher still drains.
        self._producer._unregister_cleanup()  # noqa: SLF001

    def send(self, key: bytes, value: bytes, done: Completion, headers: Headers = ()) -> None:
        future = self._producer.send(self._topic, value=value, key=key, headers=[*BATCH_HEADERS, *headers])
        future.add_callback(lambda _metadata: done(None))
        future.add_errback(done)

    def close(self, timeout_s: float) -> None:
        try:
            self._producer.close(timeout=timeout_s)
        except KafkaError:
            # kafka-python (3.0.12) leaves close() when its flush times out, with its thread still running and sending
            # to a session that we gave up. What it could not flush is in the spool.
            self._producer._sender.force_close()  # noqa: SLF001
            self._producer._closed = True  # noqa: SLF001  or __del__ flushes once more


def is_too_large(error: BaseException) -> bool:
    """Whether the broker, or the producer on its behalf, refused a message for its size."""
    return isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)

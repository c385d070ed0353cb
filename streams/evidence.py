"""From the evidence of an event (topic, partition, offset) back to its bytes."""

import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from streams.asking import broker_question

POLL_MS: Final = 200
MESSAGE_BYTES: Final = 2 * 2**20


class Gone(Exception):
    """The topic no longer has the message; why, in words that follow a colon."""


@broker_question
async def read_message(
    bootstrap: str,
    topic: str,
    partition: int,
    offset: int,
    *,
    timeout_s: float = 10.0,
    client: Mapping[str, Any] | None = None,
) -> bytes:
    """The message's value. Gone when its topic or partition is not there, or does not reach back or forth so far.

    KafkaError or OSError when the broker does not answer.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=MESSAGE_BYTES,
        **(client or {}),
    )
    place = TopicPartition(topic, partition)
    deadline_s = time.monotonic() + timeout_s
    try:
        await consumer.start()
        if topic not in await consumer.topics():
            raise Gone(f"there is no topic {topic}")
        consumer.assign([place])
        consumer.seek(place, offset)
        while time.monotonic() < deadline_s:
            for message in (await consumer.getmany(place, timeout_ms=POLL_MS)).get(place, []):
                if message.offset == offset:
                    return bytes(message.value or b"")
                if message.offset > offset:
                    raise Gone("it was compacted away")
            if (end := consumer.highwater(place)) is not None and offset >= end:
                raise Gone(f"the partition ends at {end}")
        raise KafkaTimeoutError(f"{topic}/{partition} at {bootstrap} did not answer within {timeout_s:g} s")
    except OffsetOutOfRangeError:
        raise Gone("it is older than what the topic keeps") from None
    finally:
        await consumer.stop()

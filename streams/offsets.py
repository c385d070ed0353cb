"""Where a topic ends, partition by partition, on every broker that we run on.

The embedded broker answers the usual question (ListOffsets) in record batches, not in messages; what it says with each
fetch, the high watermark, is right. So we ask where the end is and then fetch once from there.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError

from streams.asking import broker_question

FETCH_WAIT_MS: Final = 50
"""How long the broker keeps a fetch at the end of a partition before it answers that nothing came."""
POLL_MS: Final = 100
REQUEST_MS: Final = 5_000


@broker_question
async def end_offsets(
    bootstrap: str, topic: str, *, timeout_s: float = 10.0, client: Mapping[str, Any] | None = None
) -> dict[int, int]:
    """Partition to the offset that its next message gets, for every partition that the topic has now; {} without it.

    client: more settings of aiokafka's clients (how the broker is reached).
    KafkaError or OSError when the broker does not answer; KafkaTimeoutError when a partition does not within timeout_s.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=4096,
        request_timeout_ms=int(timeout_s * 1000),
        **(client or {}),
    )
    try:
        await consumer.start()
        if topic not in await consumer.topics():  # asked first: brokers may make a topic that somebody asks about
            return {}
        consumer.subscribe([topic])  # without a group: every partition is ours
        deadline_s = time.monotonic() + timeout_s
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=POLL_MS)
            _hurry(deadline_s, bootstrap, topic)
        places: list[TopicPartition] = sorted(consumer.assignment())
        stated: dict[TopicPartition, int] = await consumer.end_offsets(places)
        for place, offset in stated.items():
            consumer.seek(place, offset)
        while any(consumer.highwater(place) is None for place in places):
            await consumer.getmany(timeout_ms=POLL_MS)
            _hurry(deadline_s, bootstrap, topic)
        return {place.partition: max(stated[place], consumer.highwater(place) or 0) for place in places}
    finally:
        await consumer.stop()


@broker_question
async def group_offsets(
    bootstrap: str, topic: str, group: str, *, client: Mapping[str, Any] | None = None
) -> tuple[dict[int, int], dict[int, int]] | None:
    """By partition what the group acknowledged, and where the topic begins; None without the topic.

    The partitions are taken by hand, so that asking makes no member of the group and disturbs no worker. client: more
    settings of aiokafka's clients. KafkaError or OSError when the broker does not answer.
    """
    more = {"bootstrap_servers": bootstrap, "request_timeout_ms": REQUEST_MS, **(client or {})}
    admin = AIOKafkaAdminClient(**more)
    try:
        await admin.start()
        if topic not in await admin.list_topics():
            return None
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    places = [TopicPartition(topic, int(partition["partition"])) for partition in described["partitions"]]
    consumer = AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **more)
    try:
        await consumer.start()
        consumer.assign(places)
        found = {place.partition: await consumer.committed(place) for place in places}
        begins = await consumer.beginning_offsets(places)
    finally:
        await consumer.stop()
    acknowledged = {partition: offset for partition, offset in found.items() if offset is not None}
    return acknowledged, {place.partition: offset for place, offset in begins.items()}


def _hurry(deadline_s: float, bootstrap: str, topic: str) -> None:
    if time.monotonic() > deadline_s:
        raise KafkaTimeoutError(f"{topic} at {bootstrap} does not tell its end in time")

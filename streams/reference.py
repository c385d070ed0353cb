"""Two other ways to read the topic, to compare the worker with: a bare consumer, and a Faust agent event by event."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition

Row = tuple[str, str, str]
BATCH_EVENTS = 5_000


def read_bare(
    broker: str,
    topic: str,
    partitions: int,
    events: int,
    decode: Callable[[bytes], Sequence[Any]],
    write: Callable[[Sequence[Any]], None],
) -> float:
    """Read `events` events, decode each message, write them in batches; the seconds from the first to the last."""
    return asyncio.run(_read_bare(broker, topic, partitions, events, decode, write))


async def _read_bare(
    broker: str,
    topic: str,
    partitions: int,
    events: int,
    decode: Callable[[bytes], Sequence[Any]],
    write: Callable[[Sequence[Any]], None],
) -> float:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 2**20,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, n) for n in range(partitions)])
        seen, started_s = 0, 0.0
        rows: list[Any] = []
        while seen < events:
            for messages in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
                started_s = started_s or time.perf_counter()
                for message in messages:
                    found = decode(message.value)
                    seen += len(found)
                    rows += found
                if len(rows) >= BATCH_EVENTS or seen >= events:
                    await asyncio.to_thread(write, rows)
                    rows = []
        return time.perf_counter() - started_s
    finally:
        await consumer.stop()


def run_plain(broker: str, topic: str, app_id: str, data_dir: str, insert: Callable[[Row], None]) -> None:
    """The plain way, until SIGTERM: JSON by Faust's agent, one insert an event, acknowledged by the stream."""
    app = faust.App(
        app_id,
        broker=f"kafka://{broker}",
        store="memory://",
        datadir=data_dir,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=6.0,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        web_enabled=False,
    )
    source = app.topic(topic, key_serializer="raw", value_serializer="raw")

    async def plain(stream: Any) -> None:
        async for value in stream:
            event = json.loads(value)
            insert((event["id"], event["subject"], json.dumps(event["data"])))

    app.agent(source, name="plain")(plain)
    faust.Worker(app, loglevel="WARN", redirect_stdouts=False).execute_from_commandline()

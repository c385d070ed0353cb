"""The intake against the broker, on both brokers."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.ledger import Ledger
from schemas.usage_event import Message
from streams.generation import generation_of
from streams.topics import USAGE_EVENTS, topic_specs
from streams.topics_admin import ensure_topics
from tests.unit.pipeline.events import TIME_US, catalog, event
from tollhouse.broker_audit import BrokerAway, broker_differences, compare
from tollhouse.settings import Settings


@pytest.mark.parametrize(
    ("taken", "acknowledged", "begins", "ends", "said"),
    [
        ({0: (5, 9)}, {0: 5}, {0: 0}, {0: 5}, ""),
        ({0: (5, 9)}, {0: 4}, {0: 2}, {0: 8}, ""),
        ({0: (5, 9)}, {}, {0: 0}, {0: 4}, "the ledger has taken up to 5, the topic ends at 4"),
        ({0: (5, 9)}, {0: 6}, {0: 0}, {0: 6}, "acknowledged up to 6, the ledger has taken up to 5"),
        ({}, {1: 3}, {1: 0}, {1: 3}, "acknowledged up to 3, the ledger has taken up to 0"),
        ({}, {1: 3}, {1: 3}, {1: 3}, ""),  # what was there before is gone from the topic
        ({0: (5, 4)}, {0: 5}, {0: 0}, {0: 5}, "received 4 events, of messages that are still there 5"),
        ({0: (5, 4)}, {0: 5}, {0: 1}, {0: 5}, ""),
        ({7: (5, 9)}, {}, {0: 0}, {0: 4}, "the broker does not have it"),
    ],
)
def test_what_contradicts_itself(taken: Any, acknowledged: Any, begins: Any, ends: Any, said: str) -> None:
    found = compare("usage.events", taken, acknowledged, begins, ends)
    assert [said in line for line in found] == ([True] if said else []), found


def test_the_broker_is_asked(broker: str, topic_prefix: str, sqlite_url: str, tmp_path: Path) -> None:
    group, topic = f"{topic_prefix}app", topic_prefix + USAGE_EVENTS
    settings = Settings(dir=tmp_path, broker=broker, topic_prefix=topic_prefix, app_id=group, partitions=1)
    ledger = Ledger(sqlite_url)
    ledger.create()
    ledger.apply(catalog(), TIME_US, "test")

    def differences() -> list[str]:
        return asyncio.run(broker_differences(settings, ledger))

    with pytest.raises(BrokerAway, match="has no topic"):
        differences()
    now_us = int(datetime.now(UTC).timestamp()) * 1_000_000
    when = datetime.now(UTC).isoformat()
    values = [json.dumps({**event(f"e{n}", input=n + 1), "time": when}).encode() for n in range(6)]

    async def fill() -> None:
        await ensure_topics(broker, topic_specs(1, topic_prefix))
        producer = AIOKafkaProducer(bootstrap_servers=broker)
        await producer.start()
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
        await producer.stop()

    async def acknowledge(offset: int) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})
        await consumer.stop()

    asyncio.run(fill())
    name = generation_of(broker, topic, ledger, lambda: now_us).name
    ledger.take_messages([Message(value, now_us, name, 0, n) for n, value in enumerate(values[:4])], now_us)
    asyncio.run(acknowledge(4))
    assert differences() == []
    asyncio.run(acknowledge(6))
    assert [line.partition(": ")[2].partition(",")[0] for line in differences()] == ["acknowledged up to 6"]
    ledger.take_messages([Message(value, now_us, name, 0, n) for n, value in enumerate(values[4:] * 2, 4)], now_us)
    assert [line.partition(": ")[2] for line in differences()] == ["the ledger has taken up to 8, the topic ends at 6"]
    ledger.close()

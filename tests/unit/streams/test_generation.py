"""A topic that is made anew is another one: its messages have places of their own in the ledger."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from kafka import KafkaProducer

from pipeline.ledger import Ledger
from pipeline.ledger.generations import enter, newest, split_name
from streams.embedded_broker import EmbeddedBroker
from streams.generation import NoTopicId, topic_id
from streams.offsets import end_offsets
from streams.topics_admin import ensure_topics


def test_the_first_has_the_topics_own_name_and_later_ones_their_number(ledger: Ledger) -> None:
    assert ledger.read(lambda c: newest(c, "usage.events")).name == "usage.events"
    for topic_id_, name in (
        ("a", "usage.events"),
        ("b", "usage.events~1"),
        ("a", "usage.events"),
        ("c", "usage.events~2"),
    ):
        assert ledger.write(lambda c, i=topic_id_: enter(c, "usage.events", i, 1)).name == name
    assert ledger.write(lambda c: enter(c, "x.usage.events", "d", 1)).name == "x.usage.events"
    assert ledger.read(lambda c: newest(c, "usage.events")).name == "usage.events~2"
    assert split_name("usage.events~12") == ("usage.events", 12)
    assert split_name("usage.events") == ("usage.events", 0)


def test_workers_that_start_at_once_agree(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = [f"id-{n % 3}" for n in range(24)]
        found = list(threads.map(lambda i: ledger.write(lambda c: enter(c, "usage.events", i, 1)), ids))
    assert sorted({one.number for one in found}) == [0, 1, 2]
    assert len({(one.topic_id, one.number) for one in found}) == 3


def test_a_topic_that_is_deleted_and_made_again_has_another_id(broker: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}usage.events"

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        await admin.delete_topics([topic])
        async with asyncio.timeout(30):
            while topic in await admin.list_topics():  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.05)
        await admin.close()

    asyncio.run(ensure_topics(broker, {topic: (1, {})}))
    first = topic_id(broker, topic)
    assert topic_id(broker, topic) == first
    asyncio.run(delete())
    asyncio.run(ensure_topics(broker, {topic: (1, {})}))
    assert topic_id(broker, topic) != first


def test_a_broker_that_forgets_makes_another_topic_and_one_that_is_away_says_so(tmp_path: Path) -> None:
    with EmbeddedBroker(log_path=tmp_path / "broker.log") as broker:
        asyncio.run(ensure_topics(broker.bootstrap, {"usage.events": (1, {})}))
        first = topic_id(broker.bootstrap, "usage.events")
        broker.stop()
        with pytest.raises(NoTopicId, match="no broker answers"):
            topic_id(broker.bootstrap, "usage.events")
        broker.start()
        asyncio.run(ensure_topics(broker.bootstrap, {"usage.events": (1, {})}))
        assert topic_id(broker.bootstrap, "usage.events") != first


def test_the_end_of_a_topic_counts_messages_on_both_brokers(broker: str, topic_prefix: str) -> None:
    """Found: the embedded broker's ListOffsets counts record batches, so that doctor saw no lag there."""
    topic = f"{topic_prefix}usage.events"
    asyncio.run(ensure_topics(broker, {topic: (3, {})}))
    assert asyncio.run(end_offsets(broker, topic)) == {0: 0, 1: 0, 2: 0}
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=200, acks="all")
    for n in range(40):
        producer.send(topic, b"%d" % n, partition=n % 2)
    producer.flush(timeout=30)
    producer.close(timeout=10)
    assert asyncio.run(end_offsets(broker, topic)) == {0: 20, 1: 20, 2: 0}
    assert asyncio.run(end_offsets(broker, f"{topic_prefix}none")) == {}


def test_a_broker_that_does_not_answer_costs_no_thread() -> None:
    """Found in an hour of faults: each question to a broker that was away left one behind."""
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(NoTopicId, match="no broker answers"):
            topic_id("127.0.0.1:1", "usage.events")
    deadline_s = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert threading.active_count() <= before

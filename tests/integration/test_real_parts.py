"""The parts that every integration test stands on, embedded and real: they answer, and they start out empty."""

from __future__ import annotations

import asyncio
import subprocess
import urllib.error
import urllib.request

import pytest
from aiokafka import AIOKafkaConsumer
from kafka import KafkaProducer
from sqlalchemy import create_engine, inspect, text

from streams.topics_admin import TopicsError, ensure_topics


async def _read_as_group(bootstrap: str, topic: str, group: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        rebalance_timeout_ms=6000,
    )
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 40)).value for _ in range(count)]
    finally:
        await consumer.stop()


def test_a_message_passes_through_the_broker_to_a_group(broker: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}events"
    asyncio.run(ensure_topics(broker, {topic: (1, {})}))
    producer = KafkaProducer(bootstrap_servers=broker, acks="all", enable_idempotence=True)
    for value in (b"one", b"two"):
        producer.send(topic, value).get(timeout=20)
    producer.close(timeout=5)
    assert asyncio.run(_read_as_group(broker, topic, f"{topic_prefix}group", 2)) == [b"one", b"two"]


def test_topics_are_made_once(broker: str, topic_prefix: str) -> None:
    wanted = {
        f"{topic_prefix}states": (3, {"cleanup.policy": "compact"}),
        f"{topic_prefix}events": (2, {"retention.ms": "3600000"}),
    }
    assert asyncio.run(ensure_topics(broker, wanted)) == sorted(wanted)
    assert asyncio.run(ensure_topics(broker, wanted)) == []
    assert asyncio.run(ensure_topics(broker, wanted | {f"{topic_prefix}more": (1, {})})) == [f"{topic_prefix}more"]


def test_another_partition_count_is_refused(broker: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}events"
    asyncio.run(ensure_topics(broker, {topic: (2, {})}))
    with pytest.raises(TopicsError, match=f"topic {topic} at {broker} has 2 partitions, 4 are configured"):
        asyncio.run(ensure_topics(broker, {topic: (4, {})}))


def test_another_cleanup_policy_is_refused(broker: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}states"
    asyncio.run(ensure_topics(broker, {topic: (1, {"cleanup.policy": "compact"})}))
    with pytest.raises(TopicsError, match=r"has cleanup\.policy=compact, delete is needed"):
        asyncio.run(ensure_topics(broker, {topic: (1, {"cleanup.policy": "delete"})}))


def test_topics_made_by_several_at_once_are_made_once(broker: str, topic_prefix: str) -> None:
    wanted = {f"{topic_prefix}{name}": (2, {}) for name in ("a", "b", "c")}

    async def together() -> list[list[str]]:
        return await asyncio.gather(*(ensure_topics(broker, wanted) for _ in range(4)))

    created = [name for names in asyncio.run(together()) for name in names]
    assert sorted(created) == sorted(wanted)


def test_a_broker_that_is_away_is_one_clear_line() -> None:
    with pytest.raises(TopicsError, match=r"^no broker answers at 127\.0\.0\.1:9: start it"):
        asyncio.run(ensure_topics("127.0.0.1:9", {"events": (1, {})}))


def test_the_database_is_fresh_and_takes_a_table(database_url: str) -> None:
    engine = create_engine(database_url)
    try:
        assert inspect(engine).get_table_names() == []
        with engine.begin() as connection:
            connection.execute(text("create table probe (word text not null)"))
            connection.execute(text("insert into probe values ('b'), ('a'), ('B')"))
            words = connection.execute(text("select word from probe order by word")).scalars().all()
        assert words == ["B", "a", "b"], "both databases sort text by bytes"
    finally:
        engine.dispose()


def test_chromium_renders_a_page(chromium: str) -> None:
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "data:text/html,<p>1+1=2</p>"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "<p>1+1=2</p>" in done.stdout


def test_stripe_mock_answers_like_stripe(stripe_mock: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{stripe_mock}/v1/customers", timeout=10)
    assert caught.value.code == 401, "a request without a key is refused"
    caught.value.close()

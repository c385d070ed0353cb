"""A topic that the answering broker does not know yet is waited for, and given up with one clear line."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams import topics_admin
from streams.topics_admin import TopicsError, ensure_topics

UNKNOWN_TOPIC = 3
EXISTS = 36


class _Response:
    def __init__(self, code: int, words: str) -> None:
        self.topic_errors = [("events", code, words)]


class SlowCluster:
    """An admin client whose broker hears of a topic only after it was asked `lag` times."""

    lag = 0
    error = 0

    def __init__(self, **_: object) -> None:
        self.asked = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def list_topics(self) -> list[str]:
        return []

    async def create_topics(self, *_: object, **__: object) -> _Response:
        return _Response(self.error or EXISTS, "no more room" if self.error else "exists")

    async def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        self.asked += 1
        code = UNKNOWN_TOPIC if self.asked <= self.lag else 0
        return [{"topic": name, "error_code": code, "partitions": [0, 1]} for name in names]

    async def describe_configs(self, _: object) -> list[Any]:
        return []


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> type[SlowCluster]:
    """The client is replaced: no broker lags on demand."""
    kind = type("Cluster", (SlowCluster,), {})
    monkeypatch.setattr(topics_admin, "AIOKafkaAdminClient", kind)
    monkeypatch.setattr(topics_admin, "POLL_INTERVAL_S", 0.001)
    return kind


def test_a_topic_that_another_process_just_made_is_waited_for(cluster: type[SlowCluster]) -> None:
    """On Apache Kafka, the broker asked did not know the topic that its controller had called existing."""
    cluster.lag = 3
    assert asyncio.run(ensure_topics("kafka.example:9092", {"events": (2, {})})) == []


def test_a_topic_that_never_shows_is_given_up(cluster: type[SlowCluster], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.lag = 1_000_000
    monkeypatch.setattr(topics_admin, "VISIBLE_TIMEOUT_S", 0.02)
    with pytest.raises(TopicsError, match=r"^topic events at kafka\.example:9092 cannot be read back: try again"):
        asyncio.run(ensure_topics("kafka.example:9092", {"events": (2, {})}))


def test_a_refused_creation_says_why(cluster: type[SlowCluster]) -> None:
    cluster.error = 44
    with pytest.raises(TopicsError, match=r"^topic events cannot be created: no more room$"):
        asyncio.run(ensure_topics("kafka.example:9092", {"events": (2, {})}))

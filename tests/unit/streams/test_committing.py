"""What Faust notes as committed is what the broker took, also when partitions moved while it answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import faust
import pytest
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

from streams.committing import TrueConsumer, commit_truly

PLACE = TP("usage.events", 0)


class Producer:
    async def flush(self) -> None:
        """Nothing waits."""


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def made() -> Any:
        app = faust.App("test", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)
        commit_truly(app)
        consumer = app.transport.create_consumer(
            callback=print, on_partitions_revoked=print, on_partitions_assigned=print
        )
        monkeypatch.setattr(app, "producer", Producer())
        monkeypatch.setattr(consumer, "assignment", lambda: {PLACE})
        return consumer

    return asyncio.run(made())


def acknowledge(consumer: Any, *offsets: int) -> None:
    for offset in offsets:
        consumer.ack(Mock(acked=False, tp=PLACE, topic=PLACE.topic, offset=offset))


def answers(consumer: Any, monkeypatch: pytest.MonkeyPatch, rejoined_at: int | None, *, taken: bool) -> list[int]:
    """Let the broker answer one commit so, with the worker in the group again before it does."""
    seen: list[int] = []

    async def commit(_self: Any, offsets: Mapping[TP, int]) -> bool:
        seen.append(offsets[PLACE])
        if rejoined_at is not None:
            consumer._acked.pop(PLACE, None)
            consumer._acked_index.pop(PLACE, None)
            consumer._committed_offset[PLACE] = rejoined_at
        return taken

    monkeypatch.setattr(Consumer, "_commit", commit)
    return seen


def commit(consumer: Any) -> bool:
    offsets = consumer._filter_committable_offsets({PLACE})
    return asyncio.run(consumer._commit_offsets(offsets)) if offsets else False


@pytest.fixture(autouse=True)
def _acks(monkeypatch: pytest.MonkeyPatch, consumer: Any) -> None:
    monkeypatch.setattr(type(consumer.app.topics), "acks_enabled_for", lambda *_: True)


def test_a_refused_commit_leaves_what_the_group_begins_from(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(consumer, TrueConsumer)
    consumer._committed_offset[PLACE] = 10
    acknowledge(consumer, 10, 11, 12)
    answers(consumer, monkeypatch, rejoined_at=10, taken=False)
    assert not commit(consumer)
    acknowledge(consumer, 10, 11, 12)  # they came again
    seen = answers(consumer, monkeypatch, None, taken=True)
    assert commit(consumer)
    assert seen == [13], "with Faust's own note nothing would be committed, and the lag would stay"
    assert consumer._committed_offset[PLACE] == 13


@pytest.mark.parametrize("begun_at", [None, 10])
def test_what_a_refused_commit_let_go_of_is_committed_with_the_next(
    begun_at: int | None, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read again here: Faust waited for 10 to 12 for good, and kept everything after them in a list."""
    consumer._committed_offset[PLACE] = begun_at
    acknowledge(consumer, 10, 11, 12)
    answers(consumer, monkeypatch, None, taken=False)
    assert not commit(consumer)
    assert not commit(consumer)
    seen = answers(consumer, monkeypatch, None, taken=True)
    acknowledge(consumer, 13, 15)
    assert commit(consumer)
    assert seen == [14]
    assert consumer._acked[PLACE] == [15]
    acknowledge(consumer, 14)
    assert commit(consumer)
    assert seen == [14, 16]
    assert (consumer._acked[PLACE], consumer._acked_index[PLACE]) == ([], set())


def test_a_quiet_partition_is_committed_without_another_message(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer._committed_offset[PLACE] = 10
    acknowledge(consumer, 10, 11)
    answers(consumer, monkeypatch, None, taken=False)
    assert not commit(consumer)
    seen = answers(consumer, monkeypatch, None, taken=True)
    assert commit(consumer)
    assert seen == [12]


def test_of_a_partition_that_another_has_by_now_nothing_is_kept(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer._committed_offset[PLACE] = 10
    acknowledge(consumer, 10, 11)

    async def lost(_self: Any, _offsets: Mapping[TP, int]) -> bool:
        for kept in (consumer._acked, consumer._acked_index, consumer._committed_offset):
            kept.pop(PLACE, None)
        monkeypatch.setattr(consumer, "assignment", set)
        return False

    monkeypatch.setattr(Consumer, "_commit", lost)
    assert not commit(consumer)
    assert not consumer._acked[PLACE]
    assert consumer._committed_offset.get(PLACE) is None


def test_a_refused_commit_of_a_partition_without_an_offset(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge(consumer, 0, 1)
    answers(consumer, monkeypatch, None, taken=False)
    assert not commit(consumer)
    assert consumer._committed_offset.get(PLACE) is None


def test_a_commit_that_is_taken_is_noted(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer._committed_offset[PLACE] = 4
    acknowledge(consumer, 4)
    assert answers(consumer, monkeypatch, None, taken=True) == []
    assert commit(consumer)
    acknowledge(consumer, 4)
    assert not commit(consumer), "known"
    assert consumer._committed_offset[PLACE] == 5

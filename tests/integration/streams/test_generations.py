"""Topics that are made anew, and topics that grow: exact, and each event's place leads to its bytes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from streams.embedded_broker import EmbeddedBroker
from streams.topics import topic_specs
from streams.topics_admin import ensure_topics
from tests.simulation.auditor import Books, audit, audit_evidence
from tests.simulation.driver import Driver, Sent
from tests.simulation.world import World
from tests.unit.cli.command import Result, tollhouse

pytestmark = pytest.mark.timeout(240)
ALIKE = [b"null", b"[1]", b"17"]
"""Poison that looks the same in both generations: same bytes, same reason, at the same offsets."""


def traffic(seed: int, count: int) -> list[Sent]:
    return Driver(seed, datetime.now(UTC)).traffic(count)


@contextmanager
def opened(world: World) -> Iterator[World]:
    try:
        yield world
    finally:
        world.close()


def explained(world: World, monkeypatch: pytest.MonkeyPatch, sent: Sent) -> Result:
    """`tollhouse explain --event …`, in the worker's surroundings."""
    for name, value in {
        "TOLLHOUSE_BROKER": world.broker,
        "TOLLHOUSE_DATABASE_URL": world.database_url,
        "TOLLHOUSE_TOPIC_PREFIX": world.prefix,
        "TOLLHOUSE_PARTITIONS": str(world.partitions),
    }.items():
        monkeypatch.setenv(name, value)
    tenant, source, name = sent.name
    return tollhouse("explain", "--event", name, "--tenant", tenant, "--source", source, "--json")


def test_a_broker_that_forgot_begins_a_new_generation(
    sqlite_url: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: offsets began at 0 again, so that what was refused at an old place was taken for what had been there."""
    with (
        EmbeddedBroker(log_path=tmp_path / "broker.log") as broker,
        opened(World(broker.bootstrap, sqlite_url, tmp_path, topic_prefix, partitions=2)) as world,
    ):
        world.publish_raw(ALIKE, partition=0)
        first = traffic(71, 150)
        world.publish(first)
        worker = world.start_worker()
        world.check()
        places = world.places("usage.events", 2)
        assert audit_evidence(sqlite_url, places, world.sent, world.topic) > 100
        worker.kill()
        broker.stop()
        broker.start()
        asyncio.run(ensure_topics(broker.bootstrap, topic_specs(2, topic_prefix)))
        world.publish_raw(ALIKE, partition=0)
        again = traffic(72, 80)
        world.publish([*first[:40], *again])
        world.start_worker()
        # The first generation's counters stay as they are; the second's begin at 0.
        world.settle()
        audit(sqlite_url, world.sent, poison=2 * len(ALIKE))
        books = Books(sqlite_url)
        assert {topic for (topic,) in books.query("SELECT topic FROM intake")} == {world.topic, f"{world.topic}~1"}
        refused = books.query("SELECT topic, \"offset\" FROM rejected WHERE detail NOT LIKE '%no such%' ORDER BY n")
        assert {(f"{world.topic}{mark}", n) for mark in ("", "~1") for n in range(3)} <= set(refused)
        assert audit_evidence(sqlite_url, world.places("usage.events", 2), world.sent, f"{world.topic}~1") > 50
        counted = next(sent for sent in again if not sent.reason and sent.kind == "usage" and sent.target is None)
        (record,) = explained(world, monkeypatch, counted).json()["events"]
        assert (record["generation"], record["bytes"]) == (1, "found")
        assert json.loads(record["event"]) == counted.body
        gone = next(sent for sent in first[40:] if not sent.reason and sent.kind == "usage" and sent.target is None)
        found = explained(world, monkeypatch, gone).json()["events"]
        assert [one["bytes"] for one in found if one["state"] != "rejected"] == ["gone: the topic was made anew since"]


def test_a_topic_deleted_and_made_anew_under_a_worker(
    kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make_anew(world: World) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_topics([world.topic])
        async with asyncio.timeout(30):
            while world.topic in await admin.list_topics():  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.05)
        await admin.close()
        await ensure_topics(kafka, topic_specs(world.partitions, topic_prefix))

    with opened(World(kafka, postgresql_url, tmp_path, topic_prefix, embedded=False)) as world:
        worker = world.start_worker()
        world.publish(traffic(81, 100))
        world.check()
        (sent,) = [one for one in world.sent if not one.reason and one.kind == "usage" and one.target is None][:1]
        (record,) = [r for r in explained(world, monkeypatch, sent).json()["events"] if r["state"] != "rejected"]
        assert json.loads(record["event"]) == sent.body
        asyncio.run(make_anew(world))
        # It ends by itself, with the reason, so that whoever watches it starts it again.
        world.wait_for(lambda: worker.poll() is not None, "the worker's end")
        assert worker.returncode != 0
        assert "was made anew" in world.logs()
        world.publish(traffic(82, 100))
        world.start_worker()
        world.check()
        assert audit_evidence(postgresql_url, world.places("usage.events", 3), world.sent, f"{world.topic}~1") > 50


def test_partitions_added_to_a_running_topic_under_load(
    kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def add(world: World, count: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_partitions({world.topic: NewPartitions(count)})
        await admin.close()

    with opened(World(kafka, postgresql_url, tmp_path, topic_prefix, partitions=2, embedded=False)) as world:
        world.start_worker()
        world.start_worker()
        load = threading.Thread(
            target=lambda: [world.publish(traffic(90 + n, 150), batch_events=5) for n in range(4)], daemon=True
        )
        load.start()
        world.wait_taken(1)
        asyncio.run(add(world, 5))
        load.join(120)
        world.partitions = 5
        world.publish_raw([b"null"] * 5)
        for partition in range(2, 5):  # keys move to them as producers hear of them; these do for certain
            more = traffic(100 + partition, 20)
            world.sent += more
            world.publish_raw([one.value for one in more], poison=False, partition=partition)
        world.check()
        assert set(world.taken()) == set(range(5))
        world.check_told()
        world.check_evidence()
        # One that starts now, with the old setting, reads all of them.
        for one in world.workers:
            one.kill()
        world.start_worker(TOLLHOUSE_PARTITIONS="2")
        world.publish(traffic(110, 100))
        world.check()

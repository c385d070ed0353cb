"""Database and broker that go away, run out of room, or stand still; workers that come and go. Exact again, alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.simulation.driver import Driver
from tests.simulation.own_parts import own_kafka, own_postgres
from tests.simulation.world import World

pytestmark = pytest.mark.timeout(240)


def driver(seed: int) -> Driver:
    return Driver(seed, datetime.now(UTC))


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        world.close()


def test_workers_join_and_leave(
    kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path, worlds: list[World]
) -> None:
    world = World(kafka, postgresql_url, tmp_path, topic_prefix, partitions=6, embedded=False)
    worlds.append(world)
    world.publish(driver(11).traffic(400))
    first = world.start_worker()
    world.wait_taken(1)
    second = world.start_worker()
    world.publish(driver(12).traffic(600))
    third = world.start_worker()
    world.publish(driver(13).traffic(600))
    for worker in (second, third):
        world.wait_member(worker)
    first.kill()
    world.publish(driver(14).traffic(400))
    fourth = world.start_worker()
    second.terminate()
    world.publish(driver(15).traffic(400))
    world.check()
    assert second.wait(20) == 0, world.logs()
    assert third.poll() is None
    assert fourth.poll() is None


def test_a_database_that_stops_crashes_freezes_and_refuses(
    kafka: str, topic_prefix: str, tmp_path: Path, worlds: list[World]
) -> None:
    with own_postgres(settings={"max_connections": "12", "superuser_reserved_connections": "0"}) as server:
        world = World(kafka, server.url, tmp_path, topic_prefix, embedded=False)
        worlds.append(world)
        worker = world.start_worker()
        world.publish(driver(21).traffic(300))
        world.wait_taken(1)
        server.stop()
        world.publish(driver(22).traffic(300))
        time.sleep(2)
        server.start()
        world.settle()
        world.publish(driver(23).traffic(300))
        server.stop(signal.SIGQUIT)
        time.sleep(1)
        server.start()
        server.freeze()
        world.publish(driver(24).traffic(300))
        time.sleep(8)  # longer than the group's session: a worker that waits for its database stays a member
        server.freeze(thaw=True)
        world.settle()
        address = server.url.replace("+psycopg", "")
        crowd = []
        try:
            while True:
                crowd.append(psycopg.connect(address, connect_timeout=5))
        except psycopg.OperationalError:
            pass  # no connection is left
        world.publish(driver(25).traffic(300))
        time.sleep(1)
        for one in crowd:
            one.close()
        world.check()
        assert worker.poll() is None


def test_a_full_disk_is_waited_for(kafka: str, topic_prefix: str, tmp_path: Path, worlds: list[World]) -> None:
    with own_postgres(disk_mib=160) as server:
        world = World(kafka, server.url, tmp_path, topic_prefix, embedded=False)
        worlds.append(world)
        world.start_worker()
        world.publish(driver(31).traffic(200))
        world.settle()
        ballast = server.home / "ballast"
        with ballast.open("wb") as file:  # all of the room that is left
            try:
                while True:
                    file.write(b"\0" * 2**20)
                    file.flush()
            except OSError:
                pass
        world.publish(driver(32).traffic(6000), batch_events=100)
        time.sleep(3)
        ballast.unlink()
        world.check()


def test_a_worker_killed_inside_its_transaction(
    kafka: str, postgresql_url: str, topic_prefix: str, tmp_path: Path, worlds: list[World]
) -> None:
    world = World(kafka, postgresql_url, tmp_path, topic_prefix, embedded=False)
    worlds.append(world)
    address = postgresql_url.replace("+psycopg", "")
    with psycopg.connect(address) as holder:
        # The rollups come after the events in the transaction: the worker stands there with its events written.
        holder.execute("LOCK TABLE rollups IN EXCLUSIVE MODE")
        world.publish(driver(41).traffic(500))
        world.start_worker()
        waiting = (
            "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
            "WHERE c.relname = 'rollups' AND NOT granted"
        )
        with psycopg.connect(address, autocommit=True) as watcher:
            world.wait_for(lambda: watcher.execute(waiting).fetchone() != (0,), "a worker inside its transaction")
        world.workers[0].kill()
    assert world.taken() == {}
    world.start_worker()
    world.check()


def test_a_broker_that_is_killed_and_started_again(
    postgresql_url: str, topic_prefix: str, tmp_path: Path, worlds: list[World]
) -> None:
    with own_kafka(tmp_path / "kafka") as node:
        world = World(node.bootstrap, postgresql_url, tmp_path, topic_prefix, embedded=False)
        worlds.append(world)
        world.start_worker()
        world.publish(driver(51).traffic(300))
        world.wait_taken(1)
        node.kill()
        time.sleep(3)
        node.start()
        world.publish(driver(52).traffic(300))
        world.settle(120)
        world.check()
